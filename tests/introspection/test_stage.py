"""The scripts of the stage, one after the other, on the shipped organism."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from esr.assets.sae import decoder_rows
from esr.config import merge
from esr.directions.sources import random_directions
from esr.directions.vectors import load_directions
from esr.engines import open_tokenizer
from esr.errors import EsrError
from esr.plain_yaml import load_yaml
from esr.planning.files import check_files
from esr.planning.readouts import check_readouts
from esr.tables import TABLES, read_table, write_table
from helpers.checkout import REPO, load_script
from helpers.prepared import MODEL, prepare
from helpers.studies import load_study, save_vectors

LATENTS = {435: "fishing", 365: "bread", 81: None}
FOUND = {"threshold": [300.0, 250.0, 280.0], "status": "converged"}
QUESTIONS = """question_id,on_target,off_target
one,Explain how to bake bread,Explain how to frost a sweet cake
two,Explain how to plant a tomato,Explain how to prune a leafy shrub
"""
SECTION = {
    "questions": "questions.csv",
    "latents": 3,
    "doses": [0.5, 1.0],
    "windows": ["question", "first_turn"],
    "affirmed": ["to"],
    "denied": ["the", "i"],
    "choices": 2,
    "letters": ["fish", "bread"],
    "choice_question": "explain how to {options}",
    "first_turn": "explain how to fish",
    "reply": "the water",
}


class Named(SimpleNamespace):
    """Wildcards, inputs or outputs as scripts see them."""

    def items(self) -> Any:
        return vars(self).items()

    def __getitem__(self, name: str | int) -> Any:
        return list(vars(self).values())[name] if isinstance(name, int) else vars(self)[name]


TABULATED = ("introspection", "thresholds")
CSV_AND_TEX = [f"{name}_{kind}" for name in TABULATED for kind in ("csv", "tex")]
MODELS = {MODEL: {"label": "Planted", "parameters": 1.0}}


class Stage:
    """The jobs of a study in a folder."""

    def __init__(self, folder: Path) -> None:
        files = [REPO / "config.yaml", REPO / "studies/organism.yaml"]
        self.config = merge(
            *(load_yaml(file.read_text()) for file in files), {"introspection": SECTION}
        )
        self.folder = folder
        self.here = folder / "introspection"
        self.steered = folder / "latents.parquet"
        self.thresholds = folder / "thresholds.parquet"
        self.vectors = [folder / "vectors.safetensors"]

    def inject(self, name: str, **changes: Any) -> None:
        """Make a set of directions, and random ones in their place, and inject them."""
        section = SECTION | {"directions": name} | changes
        arms = {"along": {"over": "latents", "trials": 1, "directions": name}}  # its thresholds
        self.config = merge(self.config, {"introspection": section, "arms": arms})
        made = {"vectors": self.folder / "mine.safetensors", "table": self.folder / "mine.parquet"}
        inputs = {"latents": self.steered, "sae": self.folder / "assets/sae.safetensors"}
        self.run("prepare_directions", inputs, made, directions=name)
        controls = self.folder / "random.safetensors"
        self.run(
            "match_directions", {"vectors": made["vectors"]}, {"set": controls}, directions="random"
        )
        self.steered, self.vectors = made["table"], [made["vectors"], controls]
        self.thresholds = self.folder / "mine-thresholds.parquet"
        _write(self.thresholds, "thresholds", FOUND | {"latent": range(3)})

    def run(
        self, rule: str, inputs: dict[str, Any], outputs: dict[str, Path], **params: Any
    ) -> None:
        job = SimpleNamespace(
            config=self.config,
            rule=rule,
            wildcards=Named(model=MODEL, directions=params.get("directions")),
            input=Named(**inputs),
            output=Named(**outputs),
            params=Named(**params),
        )
        load_script(rule).main(job)

    def plan(self) -> pd.DataFrame:
        inputs = {
            "latents": self.steered,
            "thresholds": self.thresholds,
            "questions": "questions.csv",
        }
        self.run("plan_introspection", inputs, {"plan": self.here / "plan.parquet"})
        return read_table(self.here / "plan.parquet", "introspection_plan")

    def readouts(self) -> pd.DataFrame:
        assets = self.folder / "assets"
        inputs = {
            "plan": self.here / "plan.parquet",
            "model": assets / "model.json",
            "sae": assets / "sae.safetensors",
            "directions": self.vectors,
        }
        output = {"readouts": self.here / "readouts.parquet"}
        self.run("read_self_reports", inputs, output, journal=self.here / "journal.jsonl")
        return read_table(self.here / "readouts.parquet", "introspection_readouts")

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        inputs = {name: self.here / f"{name}.parquet" for name in ("plan", "readouts")}
        outputs = {name: self.here / f"{name}.parquet" for name in ("self_reports", "choices")}
        self.run("measure_self_reports", inputs, outputs)
        made = {name: [path] for name, path in outputs.items()}
        outputs = {name: self.here / name.replace("_", ".") for name in CSV_AND_TEX}
        known = {MODEL: self.thresholds}
        self.run("tabulate_introspection", made, outputs, models=MODELS, thresholds=known)
        means = pd.read_csv(self.here / "introspection.csv")
        return means, pd.read_csv(self.here / "thresholds.csv")

    def figure(self, folder: Path) -> pd.DataFrame:
        tables = {"table": "introspection.csv", "thresholds": "thresholds.csv"}
        inputs = {name: folder / file for name, file in tables.items()}
        outputs = {kind: folder / f"figI1.{kind}" for kind in ("pdf", "png", "csv")}
        self.run("plot_figI1", inputs, outputs, models=MODELS)
        assert outputs["png"].stat().st_size > 5_000
        return pd.read_csv(outputs["csv"])


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.chdir(prepare(tmp_path))
    Path("questions.csv").write_text(QUESTIONS)
    folder = tmp_path / "results/organism" / MODEL
    numbers = list(LATENTS)
    rows = {"latent": numbers, "order": range(3), "label": list(LATENTS.values())}
    _write(folder / "latents.parquet", "latents", rows | {"selected": True, "prompts": [[]] * 3})
    _write(folder / "thresholds.parquet", "thresholds", FOUND | {"latent": numbers})
    vectors = decoder_rows(folder / "assets/sae.safetensors", numbers)
    random = random_directions("random", numbers, vectors.norm(dim=1), vectors.shape[1], 46)
    random.save(folder / "vectors.safetensors")
    return Stage(folder)


def _write(path: Path, name: str, values: dict[str, Any]) -> None:
    blank = {"string": "x", "int64": 0, "double": 0.0, "bool": False}
    table = pd.DataFrame(values)
    for column, spec in TABLES[name].columns.items():
        if column not in table:
            table[column] = None if spec.optional else blank[str(spec.type)]
    write_table(table, path, name, {})


def test_from_a_plan_to_tables_and_the_figure(stage: Stage) -> None:
    plan = stage.plan()
    yes_no = 2 * 2 * (3 * 2 * 2 + 1)  # questions, windows; latents, doses, with random ones
    counts = {"on_target": yes_no, "off_target": yes_no, "choice": 2 * 2 * 2 * (2 * 2 + 1)}
    assert plan["kind"].value_counts().to_dict() == counts
    readouts = stage.readouts()
    assert readouts["status"].eq("ok").all()
    assert set(readouts["trial_id"]) == set(plan["trial_id"])
    means, thresholds = stage.tables()
    assert means["n_missing"].eq(0).all()
    assert means.loc[means["measure"].eq("excess_log_odds"), "value"].abs().max() > 0.05
    assert thresholds["behaviour"].dropna().tolist() == [300.0, 250.0, 280.0] * 2

    journal = (stage.here / "journal.jsonl").read_bytes()
    pd.testing.assert_frame_equal(stage.readouts(), readouts)
    assert (stage.here / "journal.jsonl").read_bytes() == journal

    drawn = stage.figure(stage.here)
    assert drawn.groupby("kind").size().to_dict() == {"curve": 8, "threshold": 12}


def test_vectors_of_a_file_are_named_in_tables_and_figure(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_vectors(path, ["wool & $x_{%", "iron", "bees, l'été/α"])
    stage.config = merge(
        stage.config, {"directions": {"mine": {"kind": "file", "path": str(path)}}}
    )
    stage.inject("mine", windows=["question"], doses=[1.0])
    mine, controls = (load_directions(one) for one in stage.vectors)
    assert controls.name == "random"
    torch.testing.assert_close(controls.vectors.norm(dim=1), mine.vectors.norm(dim=1))
    assert (stage.plan()["boost"].drop_duplicates() == [0, 300, 250, 280]).all()
    assert stage.readouts()["status"].eq("ok").all()
    means, thresholds = stage.tables()
    assert means["n_missing"].eq(0).all()
    concepts = thresholds[~thresholds["is_random"]]
    assert concepts["label"].tolist() == ["bees, l'été/α", "iron", "wool & $x_{%"]
    assert concepts["behaviour"].tolist() == [300.0, 250.0, 280.0]
    printed = (stage.here / "thresholds.tex").read_text()
    escaped = ["bees, l'été/α", "iron", r"wool \& \$x\_\{\%"]
    assert all(f"mine {row} & {name} &" in printed for row, name in enumerate(escaped))
    drawn = stage.figure(stage.here)
    drawn = drawn[drawn["kind"].eq("threshold") & drawn["measure"].eq("self_report")]
    assert drawn["direction"].tolist() == ["mine 0", "mine 1", "mine 2"]
    assert drawn["name"].tolist() == concepts["label"].tolist()


def test_a_study_without_the_section_has_an_empty_table_and_a_figure_that_says_so(
    stage: Stage,
) -> None:
    stage.config = {**stage.config, "introspection": None}
    outputs = {name: stage.folder / name.replace("_", ".") for name in CSV_AND_TEX}
    nothing: dict[str, Any] = {"self_reports": [], "choices": []}
    stage.run("tabulate_introspection", nothing, outputs, models={}, thresholds={})
    assert pd.read_csv(stage.folder / "introspection.csv").empty
    assert stage.figure(stage.folder)["status"].eq("not_run").all()


def section(**changes: Any) -> dict[str, Any]:
    return {"introspection": SECTION | changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"doses": [1, 0.5]}, "smallest first"),
        ({"doses": [0, 1]}, "positive numbers"),
        ({"controls": ["topics"]}, "'topics' is no set of random directions"),
        ({"directions": "mine"}, r"there is no set 'mine' \(there is: random"),
        ({"directions": "random"}, "'random' is random, so there is no concept to report"),
        ({"unit": "threshold", "behaviour": False}, "unit: decoder"),
        ({"choices": 1}, "leaves nothing to choose"),
        ({"choice_question": "which?"}, "must hold {options} once"),
        ({"affirmed": ["to"], "denied": ["to"]}, r"share \['to'\]"),
        ({"windows": ["whole", "whole"]}, "name each window once"),
        ({"questionz": "x"}, "introspection.questionz: unknown key"),
    ],
)
def test_a_wrong_key_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EsrError, match=message):
        load_study(section(**changes))


@pytest.mark.parametrize(
    ("changes", "others", "message"),
    [
        (
            {"controls": ["random", "again"]},
            {"directions": {"again": {"kind": "random"}}},
            "'random' and 'again' have the seed 46",
        ),
        (
            {"latents": None, "choices": 0},
            {"latents": {"count": 1}},
            r"latents\.count is 1, and a mean over directions needs two",
        ),
    ],
)
def test_equal_controls_and_a_single_latent_are_refused(
    changes: dict[str, Any], others: dict[str, Any], message: str
) -> None:
    with pytest.raises(EsrError, match=message):
        load_study(section(**changes), others)


def test_too_few_random_directions_are_named() -> None:
    few = {"directions": {"few": {"kind": "random", "latents": 2}}}
    with pytest.raises(EsrError, match="has directions for 2 latents, but 3 are injected"):
        load_study(section(controls=["few"]), few)


def test_behaviour_needs_an_arm_with_thresholds() -> None:
    arms = {name: None for name, arm in load_study().arms.items() if arm.over == "latents"}
    arms |= {name: None for name, arm in load_study().arms.items() if arm.source is not None}
    episodes = {"episodes": {"arm": "answers"}, "finetune": {"models": []}}
    with pytest.raises(EsrError, match="no arm steers along latents"):
        load_study(section(), {"arms": arms}, episodes)


def test_questions_and_answers_are_checked_before_any_job(stage: Stage) -> None:
    assert not check_files(load_study(section()))
    assert "none.csv does not exist" in check_files(load_study(section(questions="none.csv")))[0]
    source = str(REPO / "resources/organisms/planted/model")
    words = open_tokenizer({"source": source, "revision": None})
    check_readouts(load_study(section()), MODEL, words)
    for changes, message in (
        ({"affirmed": ["off-topic"]}, "introspection.affirmed: 'off-topic'"),
        ({"reply": "zyzzyva"}, "does not know a word"),
    ):
        with pytest.raises(EsrError, match=message):
            check_readouts(load_study(section(**changes)), MODEL, words)
