"""Readouts of an arm: what `read_tokens` writes, and what is refused before anything runs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from esr.arms.plan import COLUMNS, apply_condition, new_trials
from esr.config import ArmConfig, merge
from esr.engines import open_tokenizer
from esr.errors import EsrError
from esr.plain_yaml import load_yaml
from esr.planning.readouts import check_readouts
from esr.tables import read_table, write_table
from helpers.checkout import REPO, load_script
from helpers.prepared import LATENT, MODEL, THRESHOLD, prepare
from helpers.studies import load_study

WORDS = {"first": ["to", "the"], "second": ["i"]}


class Named(SimpleNamespace):
    """Wildcards or inputs as scripts see them."""

    def get(self, name: str, default: Any) -> Any:
        return getattr(self, name, default)

    def items(self) -> Any:
        return vars(self).items()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(prepare(tmp_path))
    return tmp_path / "results/organism" / MODEL


def plan_of(**changes: Any) -> pd.DataFrame:
    trials = pd.DataFrame(
        {
            "prompt_id": ["a", "a", "b"],
            "prompt": ["explain how to fish", "explain how to fish", "explain how to bake bread"],
            "latent": LATENT,
            "label": None,
            "boost": [0.0, THRESHOLD, THRESHOLD],
        }
    )
    arm = ArmConfig(over="latents", trials=1, **changes)
    plan = apply_condition(new_trials(trials, 44), arm)[COLUMNS]
    return plan.assign(model=MODEL, arm="steered")


def run(folder: Path, plan: pd.DataFrame, tokens: dict[str, list[str]] = WORDS) -> pd.DataFrame:
    """Run the script of the rule on a plan; its table."""
    files = [REPO / "config.yaml", REPO / "studies/organism.yaml"]
    readouts = {"readouts": {"steered": {"tokens": tokens}}}
    config = merge(*(load_yaml(file.read_text()) for file in files), readouts)
    write_table(plan, folder / "plan.parquet", "plan", {})
    assets = folder / "assets"
    job = SimpleNamespace(
        config=config,
        rule="read_tokens",
        wildcards=Named(model=MODEL, arm="steered"),
        input=Named(
            plan=folder / "plan.parquet",
            sae=assets / "sae.safetensors",
            model=assets / "model.json",
        ),
        output=[folder / "readouts.parquet"],
        params=SimpleNamespace(journal=folder / "readouts.jsonl"),
    )
    load_script("read_tokens").main(job)
    return read_table(folder / "readouts.parquet", "readouts")


def test_it_reads_the_first_generated_token_of_each_trial(folder: Path) -> None:
    plan = plan_of()
    table = run(folder, plan)
    assert table["trial_id"].tolist() == np.repeat(plan["trial_id"], 2).tolist()
    assert table["name"].tolist() == ["first", "second"] * 3
    assert table["status"].eq("ok").all()
    values = table["log_prob"].to_numpy(float).reshape(3, 2)
    assert (values < 0).all()
    assert np.abs(values[0] - values[1]).max() > 0.5  # the same prompt, steered

    before = (folder / "readouts.jsonl").read_bytes()
    pd.testing.assert_frame_equal(run(folder, plan), table)
    assert (folder / "readouts.jsonl").read_bytes() == before  # from the journal


def test_logits_that_are_not_finite_are_a_status(folder: Path) -> None:
    plan = plan_of()
    plan["boost"] = [0.0, 1e39, 1e39]
    table = run(folder, plan)
    assert table["status"].tolist() == ["ok", "ok", *["engine_error"] * 4]
    assert table["log_prob"].isna().tolist() == [False, False, *[True] * 4]


def test_an_arm_without_detectors_is_not_read(folder: Path) -> None:
    plan = plan_of()
    script = load_script("read_tokens")
    table = script.not_read(plan["trial_id"].tolist(), list(WORDS), "no_detectors")
    write_table(table, folder / "none.parquet", "readouts", {})
    assert read_table(folder / "none.parquet", "readouts")["status"].eq("no_detectors").all()


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ({"first": ["off-topic"]}, r"readouts.steered.tokens.first: 'off-topic' .*'off', '-'"),
        ({"first": ["zyzzyva"]}, "the unknown token"),
    ],
)
def test_a_spelling_of_several_tokens_is_refused_by_the_check_and_the_job(
    folder: Path, tokens: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(EsrError, match=message):
        run(folder, plan_of(), tokens)
    config = load_study({"readouts": {"steered": {"tokens": tokens}}})
    source = {"source": str(REPO / "resources/organisms/planted/model"), "revision": None}
    with pytest.raises(EsrError, match=message):
        check_readouts(config, MODEL, open_tokenizer(source))


@pytest.mark.parametrize(
    ("readouts", "message"),
    [
        ({"steerd": {"tokens": WORDS}}, "readouts.steerd: there is no such arm"),
        ({"steered": {"tokens": {}}}, "readouts.steered.tokens"),
        ({"steered": {"tokens": {"first": []}}}, "readouts.steered.tokens.first"),
        ({"steered": {"tokens": {"first": ["i", "i"]}}}, "give each once"),
        ({"steered": {"tokens": {"yes": ["i"]}}}, "choose a name with a word in it"),
    ],
)
def test_a_wrong_key_is_named(readouts: dict[str, Any], message: str) -> None:
    with pytest.raises(EsrError, match=message):
        load_study({"readouts": readouts})
