"""Small studies that lack something: each runs to its end, and says what it lacks.

One model without labels, one judge, no fine-tuning, no sweep, two threshold steps (so that no
search converges), claims about other models, prompts as Excel saves them; in a locale that is not
UTF-8, without a home folder that can be written to. The second study reuses the first one's
responses: no detectors, no trial with a second attempt, arms of which no trial could be scored. The
third is of a stranger's base model: a template of one's own, no prior of its thresholds, and a
language model as judge. The fourth is the first one in vLLM. In the fifth the judge refused
everything that was generated in the search of one latent, which has no threshold. The sixth has two
arms: plain answers, and steered ones. The seventh is that of docs/transcripts.md: its one arm is
imported.
"""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from esr.arms.prompts import read_prompts
from esr.arms.scores import GATE, GATED, JUDGED
from esr.assets.sae import decoder_rows
from esr.directions.vectors import load_directions
from esr.figures.catalogue import FIGURES
from esr.tables import read_provenance, read_table, write_table
from esr.thresholds.prior import probed_centre
from helpers.checkout import REPO, link_checkout, run_snakemake
from helpers.fake_api import FakeApi
from helpers.llm import KEY, compatible
from helpers.vllm_hosts import ForkServer, forked_environment, mark_installed

pytestmark = pytest.mark.slow

LEFT_OUT = [
    "boost-sweep",
    "ablate-random-0",
    "ablate-random-1",
    "ablate-random-2",
    "meta-stay-on-topic",
]
LEFT_OUT += ["meta-dont-get-distracted", "meta-being-distracted", "meta-external-forces"]
SMALL = """
title: Costs US$ 5 or US$ 9, c'est-à-dire 模型
prompts: prompts.csv
generation: {max_new_tokens: 60}
latents:
  count: 4
  candidates: 10
  relevance: {top_n: 20, scope: pair}
thresholds: {steps: 2, samples_per_step: 2}
arms:
  discovery: {prompts: discovery.csv}
  steered: {trials: 3}
  steered-30: {trials: 2}
  random-norm: {replay: steered, directions: random}
  contrasts: {over: latents, directions: topics, trials: 2}
  to-mean: {replay: steered, ablate: detectors, ablate_to: mean, layers: [1, 2]}
directions:
  random: {kind: random}
  topics: {kind: contrast, pairs: pairs.csv}
statistics: {bootstrap: 200}
judging:
  primary: lexical
  judges:
    lexical: {kind: lexical, lexicon: resources/organisms/lexicon.csv}
models:
  planted:
    label: A $ and a $ in a label, né ≥ 0
    source: resources/organisms/planted/model
    parameters: 0.9e+6
    dtype: float32
    sae: {path: resources/organisms/planted/sae}
    steer_layer: 2
    read_layer: 2
    threshold_prior: {lower: 0, upper: 600, mean: 310, sd: 100}
"""
TOPICS = 5
ELSEWHERE = {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",  # with these two, Python does not take UTF-8 all the same
    "PYTHONCOERCECLOCALE": "0",
    "HOME": "{folder}/file/home",
    "XDG_CACHE_HOME": "{folder}/cache",
}
"""A locale that is not UTF-8, and a home folder that cannot be written to."""
TEMPLATE = (
    "{{ bos_token }}<user> {{ messages[-1]['content'] }}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


SAVED_AS: dict[str, tuple[str, str]] = {
    "prompts": (";", "utf-8-sig"),  # `CSV UTF-8` where a comma is the decimal mark
    "discovery": ("\t", "utf-16"),  # `Unicode Text`
}
"""Separator and encoding of what Excel writes."""


def save_as_excel(prompts: pd.DataFrame, path: Path) -> None:
    """Write prompts as Excel saves them: its line ends, its encodings, an empty row at the end."""
    separator, encoding = SAVED_AS[path.stem]
    text = prompts.to_csv(index=False, sep=separator, lineterminator="\r\n")
    path.write_bytes((text + 2 * separator + "\r\n").encode(encoding))


def lay_out(folder: Path) -> Path:
    """A checkout with the study and a prompt a topic."""
    link_checkout(folder)
    for name, source in (("prompts", "organism"), ("discovery", "organism_discovery")):
        with (REPO / f"resources/prompts/{source}.csv").open() as file:
            rows = list(csv.DictReader(file))
        first = {row["category"]: row for row in reversed(rows)}
        kept = [row for row in rows if first[row["category"]] is row][:TOPICS]
        save_as_excel(pd.DataFrame(kept), folder / f"{name}.csv")
    prompt = read_prompts(folder / "prompts.csv")["prompt"]
    pairs = {
        "direction": ["a", "b", "b"],
        "positive": prompt[:3],
        "negative": prompt[[3, 3, 4]].values,
    }
    pd.DataFrame(pairs).to_csv(folder / "pairs.csv", index=False)
    study = yaml.safe_load(SMALL)
    study["arms"] |= dict.fromkeys(LEFT_OUT)
    text = yaml.safe_dump(study, allow_unicode=True)
    (folder / "studies/small.yaml").write_text(text, encoding="utf-8")
    (folder / "file").touch()
    return folder


def run(folder: Path, *settings: str) -> Path:
    """Run the whole study; its results."""
    options = ["--cores", "2", "--rerun-triggers", "mtime", "--config", "study=small", *settings]
    with pytest.MonkeyPatch.context() as environment:
        for name, value in ELSEWHERE.items():
            environment.setenv(name, value.format(folder=folder))
        done = run_snakemake(folder, *options, "--", "all")
    assert done.returncode == 0, done.stdout[-6000:]
    return folder / "results/small"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the first study."""
    return run(lay_out(tmp_path_factory.mktemp("small")))


def change(results: Path, arm: str, changed: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Rewrite the scores of an arm."""
    path = results / f"planted/arms/{arm}/scores/lexical.parquet"
    facts = read_provenance(path)
    write_table(changed(read_table(path, "scores")), path, "scores", facts)


def one_attempt(scores: pd.DataFrame) -> pd.DataFrame:
    """No trial tries again."""
    ok = scores["status"].eq("ok")
    single = {"n_attempts": 1, "gated_attempts": 1, "score_change": 0.0}
    single |= dict.fromkeys(["multi_attempt", "improved", *GATED, "restart_detected"], False)
    for column, value in single.items():
        scores.loc[ok, column] = value
    for last in ("last_score", "gated_last_score"):
        scores.loc[ok, last] = scores.loc[ok, "first_score"]
    return scores


def unscored(status: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """No trial has a score, for this reason."""

    def changed(scores: pd.DataFrame) -> pd.DataFrame:
        return scores.assign(status=status, **dict.fromkeys([*JUDGED, *GATED, *GATE], pd.NA))

    return changed


@pytest.fixture(scope="module")
def nothing(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the second study."""
    folder = tmp_path_factory.mktemp("nothing") / "checkout"
    shutil.copytree(small.parents[1], folder, symlinks=True)  # times of files are kept, too
    results = folder / "results/small"
    path = results / "planted/detectors/detectors.parquet"
    detectors = read_table(path, "detectors").assign(detector=False, found=False)
    for arm, changed in {
        "steered": one_attempt,
        "unsteered": unscored("refused"),
        "meta-self-monitor": unscored("unparsable"),
        "steered-30": unscored("api_error"),
    }.items():
        change(results, arm, changed)
    write_table(detectors, path, "detectors", read_provenance(path))
    return run(folder, "claims=[resources/claims/organism.csv]")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Results of the third study."""
    folder = lay_out(tmp_path_factory.mktemp("stranger"))
    for name in ("model", "sae"):
        shutil.copytree(REPO / f"resources/organisms/twin/{name}", folder / f"my {name}")
    (folder / "my model/chat_template.jinja").write_text(TEMPLATE)
    path = folder / "studies/small.yaml"
    study = yaml.safe_load(path.read_text())
    model = study["models"].pop("planted") | {"source": "./my model", "sae": {"path": "./my sae"}}
    study["models"]["mine"] = {k: model[k] for k in model if k != "threshold_prior"}
    with FakeApi(key=KEY) as api, pytest.MonkeyPatch.context() as environment:
        environment.setenv("JUDGE_KEY", KEY)
        judge = compatible(api).model_dump(mode="json", exclude_unset=True)
        study["judging"] = {"primary": "served", "judges": {"served": judge}}
        path.write_text(yaml.safe_dump(study))
        yield run(folder)


@pytest.fixture(scope="module")
def in_vllm(hosts: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Results of the fourth study, whose engine's hosts are forks of a process with vLLM."""
    folder = lay_out(tmp_path_factory.mktemp("vllm"))
    mark_installed(folder)
    address = tmp_path_factory.mktemp("a") / "s"
    with forked_environment(hosts, folder / "envs/serve-cpu", address):
        yield run(folder, "engine={name: vllm, batch_size: 16, vllm: {eager: true}}")


@pytest.fixture(scope="module")
def without_threshold(small: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Results of the fifth study, and the latent that has no threshold."""
    folder = tmp_path_factory.mktemp("refused") / "checkout"
    shutil.copytree(small.parents[1], folder, symlinks=True)
    results = folder / "results/small"
    tables = {
        name: results / f"planted/{name}.parquet" for name in ("thresholds", "threshold_trials")
    }
    found = read_table(tables["thresholds"], "thresholds")
    trials = read_table(tables["threshold_trials"], "threshold_trials")
    latent = int(found["latent"].iloc[0])
    of_latent = trials["latent"].eq(latent)
    trials.loc[of_latent, "status"] = "refused"
    trials.loc[of_latent, "first_score"] = np.nan
    lost = found["latent"].eq(latent)
    found.loc[lost, ["threshold", "low", "high", "achieved"]] = np.nan
    found.loc[lost, "n_missing"] = found.loc[lost, "n_samples"]
    found.loc[lost, ["n_samples", "status"]] = [0, "no_data"]
    for table, name in ((found, "thresholds"), (trials, "threshold_trials")):
        write_table(table, tables[name], name, read_provenance(tables[name]))
    return run(folder), latent


@pytest.fixture(scope="module")
def two_arms(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the sixth study, which has the first one's responses and no detectors."""
    folder = tmp_path_factory.mktemp("two") / "checkout"
    shutil.copytree(small.parents[1], folder, symlinks=True)
    results = folder / "results/small"
    arms = {path.name for path in (results / "planted/arms").iterdir()}
    removed = dict.fromkeys(sorted(arms - {"answers", "steered"}))
    made = [path for path in results.iterdir() if path.name != "planted"]  # to be made anew
    made += [results / "planted" / name for name in ("detectors", "episodes")]
    for path in (*made, *(results / f"planted/arms/{arm}" for arm in removed)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    settings = {"arms": removed, "claims": ["resources/claims/organism.csv"]}
    return run(folder, *(f"{key}={json.dumps(value)}" for key, value in settings.items()))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the seventh study: responses that all have the same score."""
    folder = lay_out(tmp_path_factory.mktemp("imported"))
    page = (REPO / "docs/transcripts.md").read_text(encoding="utf-8")
    study = yaml.safe_load(page.split("# studies/brought.yaml\n")[1].split("```")[0])
    own = yaml.safe_load(SMALL)
    study |= {name: own[name] for name in ("prompts", "judging", "models")}
    (folder / "studies/small.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    prompts = read_prompts(folder / "prompts.csv")["prompt"]
    text = "Take the boat. Wait, that's not right. Let me answer again."
    responses = [
        {"prompt": prompts[i % TOPICS], "response": f"{text} {i}", "latent": i % 9, "boost": 5.0}
        for i in range(45)
    ]
    lines = (json.dumps(one) + "\n" for one in responses)
    (folder / "transcripts.jsonl").write_text("".join(lines), encoding="utf-8")
    return run(folder)


def assert_complete(results: Path) -> None:
    """The report and a picture of every figure are there."""
    assert (results / "report/index.html").is_file()
    for name in FIGURES:
        assert (results / f"figures/{name}.png").stat().st_size > 1000, name


def rows(results: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(results / f"{name}.csv")


class TestOneModelWithoutLabels:
    def test_it_has_its_report_and_all_figures(self, small: Path) -> None:
        assert_complete(small)

    def test_what_was_not_done_is_named_and_has_no_number(self, small: Path) -> None:
        for figure in ("fig3", "fig6"):
            table = rows(small, f"figures/{figure}")
            assert set(table["status"]) == {"not_run"}, figure
            assert table["value"].isna().all()

    def test_its_prompts_are_the_words_that_excel_saved(self, small: Path) -> None:
        written = pd.read_csv(REPO / "resources/prompts/organism.csv")
        plan = read_table(small / "planted/arms/answers/plan.parquet", "plan")
        assert len(plan) == TOPICS
        assert set(plan["prompt"]) <= set(written["prompt"])

    def test_one_model_has_no_other_to_compare_it_with(self, small: Path) -> None:
        assert rows(small, "tables/models").query("kind == 'pair'").empty

    def test_a_label_without_sense_for_tex_stays_text(self, small: Path) -> None:
        assert rows(small, "figures/fig2")["label"].eq("A $ and a $ in a label, né ≥ 0").all()

    def test_the_summary_says_how_thresholds_ended_and_whose_claims_are_missing(
        self, small: Path
    ) -> None:
        page = (small / "report/index.html").read_text()
        assert "of 4 latents converged" in page
        assert "january.csv is left out" in page
        assert "this study has planted" in page
        assert rows(small, "scorecard").empty


class TestDirections:
    def test_a_replay_along_random_directions_is_paired_with_its_arm(self, small: Path) -> None:
        arms = {
            arm: read_table(small / f"planted/arms/{arm}/scores/lexical.parquet", "scores")
            for arm in ("steered", "random-norm")
        }
        same = ["prompt_id", "latent", "boost", "seed"]
        pd.testing.assert_frame_equal(arms["steered"][same], arms["random-norm"][same])
        assert arms["random-norm"]["directions"].eq("random").all()
        table = rows(small, "tables/comparisons").query("way == 'primary'")
        row = table[table["measure"].eq("first_score")].set_index("arm").loc["random-norm"]
        first = pd.DataFrame({arm: scores["first_score"] for arm, scores in arms.items()}).dropna()
        assert row["n_pairs"] == len(first) > 0
        differences = first["random-norm"] - first["steered"]
        assert row["difference"] == pytest.approx(differences.mean(), abs=1e-3)

    def test_a_random_direction_is_as_long_as_the_row_of_its_latent(self, small: Path) -> None:
        found = load_directions(small / "planted/directions/random/vectors.safetensors")
        own = decoder_rows(small / "planted/assets/sae.safetensors", found.rows.tolist())
        torch.testing.assert_close(found.vectors.norm(dim=1), own.norm(dim=1))

    def test_contrasts_have_thresholds_of_their_own(self, small: Path) -> None:
        found = rows(small, "tables/thresholds").groupby("directions")["label"].agg(list)
        assert found["topics"] == ["a", "b"]
        assert len(found["latents"]) == 2 * 4, "two targets"
        trials = read_table(small / "planted/arms/contrasts/plan.parquet", "plan")
        assert trials["label"].tolist() == ["a", "a", "b", "b"]
        assert trials["directions"].eq("topics").all()


class TestAnotherAblation:
    def test_detectors_are_clamped_to_their_mean_on_unsteered_answers(self, small: Path) -> None:
        means = read_table(small / "planted/detectors/means.parquet", "means")
        known = means.set_index("latent")["mean"]
        detectors = read_table(small / "planted/detectors/detectors.parquet", "detectors")
        latents = detectors.loc[detectors["detector"], "latent"].tolist()
        assert latents
        plan = read_table(small / "planted/arms/to-mean/plan.parquet", "plan")
        for trial in plan.itertuples():
            assert list(trial.ablated) == latents
            assert list(trial.ablated_to) == [known[latent] for latent in latents]
            assert list(trial.layers) == [1, 2]

    def test_its_responses_are_others_than_without_and_it_is_in_the_figure_of_controls(
        self, small: Path
    ) -> None:
        texts = {
            arm: read_table(small / f"planted/arms/{arm}/responses.parquet", "responses")
            for arm in ("steered", "ablate-otd", "to-mean")
        }
        assert texts["to-mean"]["status"].eq("ok").all()
        for other in ("steered", "ablate-otd"):
            assert texts["to-mean"]["response"].tolist() != texts[other]["response"].tolist()
        assert "to-mean" in set(rows(small, "figures/figB2")["arm"])


@pytest.mark.rebuild
class TestNothingFound:
    def test_ablations_of_nothing_are_a_status(self, nothing: Path) -> None:
        assert (
            not (nothing / "planted/journals/ablate-otd-0.jsonl").stat().st_mtime
            > (nothing / "planted/detectors/detectors.parquet").stat().st_mtime
        ), "something was generated"
        table = rows(nothing, "tables/comparisons")
        ablated = table[table["arm"].str.startswith("ablate")]
        assert set(ablated["status"]) == {"no_detectors"}
        assert ablated[["difference", "p_value"]].isna().all(axis=None)
        excluded = rows(nothing, "tables/exclusions").set_index(["arm", "status"])["n"]
        assert excluded["ablate-otd", "no_detectors"] == excluded["ablate-otd", "total"]

    def test_claims_about_it_are_not_run(self, nothing: Path) -> None:
        scorecard = rows(nothing, "scorecard")
        about = scorecard["where"].str.contains("ablate-")
        assert about.any()
        assert set(scorecard.loc[about, "verdict"]) == {"not run"}

    def test_arms_without_a_score_name_the_reason(self, nothing: Path) -> None:
        table = rows(nothing, "tables/comparisons").query("way == 'primary'")
        judged = table[table["measure"].eq("msi")].set_index("arm")
        assert judged.loc["unsteered", "status"] == "refused"
        assert judged.loc["meta-self-monitor", "status"] == "unparsable"
        assert judged.loc[["unsteered", "meta-self-monitor"], "difference"].isna().all()

    def test_without_a_second_attempt_there_is_no_success_rate(self, nothing: Path) -> None:
        table = rows(nothing, "figures/fig2").set_index("measure")
        assert pd.isna(table.loc["success_rate", "value"])
        assert (nothing / "report/index.html").is_file()


@pytest.mark.rebuild
class TestAStrangersModel:
    def test_it_has_its_report_and_all_figures(self, stranger: Path) -> None:
        assert_complete(stranger)

    def test_every_arm_is_scored_by_the_language_model(self, stranger: Path) -> None:
        excluded = rows(stranger, "tables/exclusions").set_index(["arm", "status"])["n"]
        total = excluded.xs("total", level="status")
        assert (total == excluded.xs("ok", level="status").reindex(total.index)).all()
        ledger = rows(stranger, "tables/ledger")
        assert set(ledger["judge"]) == {"served"}

    def test_thresholds_are_searched_where_probes_change_predictions(self, stranger: Path) -> None:
        probes = read_table(stranger / "mine/boost_probes.parquet", "boost_probes")
        centre = probed_centre(probes)
        assert centre is not None
        assert (rows(stranger, "tables/thresholds")["upper"] >= 0.99 * 4 * centre).all()

    def test_the_template_is_the_folders(self, stranger: Path) -> None:
        tokens = read_table(stranger / "mine/arms/answers/responses.parquet", "responses")
        assert tokens["n_prompt_tokens"].between(8, 40).all()


@pytest.mark.vllm
@pytest.mark.rebuild
class TestInVllm:
    def test_it_has_its_report_and_all_figures(self, in_vllm: Path) -> None:
        assert_complete(in_vllm)

    def test_every_arm_was_generated_by_vllm_and_is_scored(self, in_vllm: Path) -> None:
        excluded = rows(in_vllm, "tables/exclusions")
        # One of the four latents makes the model write "wait" and nothing else.
        assert set(excluded["status"]) <= {"ok", "no_attempts", "total"}
        for arm in excluded["arm"].unique():
            facts = read_provenance(in_vllm / f"planted/arms/{arm}/responses.parquet")
            assert "vllm" in str(facts.get("engine")), arm

    def test_it_has_the_trials_and_latents_of_the_reference(
        self, in_vllm: Path, small: Path
    ) -> None:
        for arm in ("steered", "contrasts", "answers"):
            ours, theirs = (
                read_table(results / f"planted/arms/{arm}/plan.parquet", "plan")
                for results in (in_vllm, small)
            )
            same = ["prompt_id", "latent", "seed"]
            pd.testing.assert_frame_equal(ours[same], theirs[same])


@pytest.mark.rebuild
class TestALatentWithoutThreshold:
    def test_it_has_a_status_and_no_number(self, without_threshold: tuple[Path, int]) -> None:
        results, latent = without_threshold
        table = rows(results, "tables/thresholds")
        lost = table[table["latent"].eq(latent) & table["directions"].eq("latents")]
        assert lost["status"].tolist() == ["no_data"] * 2, "both targets"
        assert lost[["threshold", "achieved", "dose"]].isna().all(axis=None), lost.to_dict()
        assert "1 no data" in (results / "report/index.html").read_text()

    def test_no_arm_steers_it_and_the_others_keep_their_trials(
        self, without_threshold: tuple[Path, int], small: Path
    ) -> None:
        results, latent = without_threshold
        for arm in ("steered", "steered-30", "random-norm", "ablate-otd"):
            ours, all_of_them = (
                read_table(folder / f"planted/arms/{arm}/plan.parquet", "plan")
                for folder in (results, small)
            )
            assert latent not in set(ours["latent"]), arm
            kept = all_of_them[all_of_them["latent"].ne(latent)].reset_index(drop=True)
            same = ["prompt_id", "latent", "seed"]  # another target's boosts share what is known
            pd.testing.assert_frame_equal(ours[same], kept[same])

    def test_it_has_its_report_and_all_figures(self, without_threshold: tuple[Path, int]) -> None:
        assert_complete(without_threshold[0])


@pytest.mark.rebuild
class TestTwoArms:
    def test_it_has_its_report_and_all_figures(self, two_arms: Path) -> None:
        assert_complete(two_arms)

    def test_what_has_no_arm_has_no_number(self, two_arms: Path) -> None:
        for figure in ("fig3", "fig4", "fig5", "fig6", "figA7", "figA8", "figA9", "figB2"):
            table = rows(two_arms, f"figures/{figure}")
            lacking = table["arm"].isin(LEFT_OUT) if "arm" in table else table["label"].notna()
            if figure in ("fig4", "fig5", "figA7", "figA9"):
                lacking = table["arm"].ne("steered")
            assert table.loc[lacking, "value"].isna().all(), figure
        assert set(rows(two_arms, "tables/summary")["arm"]) == {"answers", "steered"}
        assert rows(two_arms, "tables/comparisons").empty

    def test_claims_about_other_arms_are_not_run(self, two_arms: Path) -> None:
        scorecard = rows(two_arms, "scorecard")
        scorecard = scorecard[scorecard["where"].str.contains("planted")]
        about = scorecard["where"].str.contains("ablate|unsteered|meta|prefix|fig5|sweep")
        assert about.any()
        assert set(scorecard.loc[about, "verdict"]) == {"not run"}

    def test_detectors_were_not_searched_which_is_not_none_found(self, two_arms: Path) -> None:
        assert read_table(two_arms / "planted/detectors/detectors.parquet", "detectors").empty
        counts = rows(two_arms, "figures/fig5").query("kind == 'count'")
        assert set(counts["status"]) == {"not_run"}
        assert "not searched" in (two_arms / "tables/tableA1.tex").read_text()


@pytest.mark.rebuild
class TestImportedAlone:
    def test_it_has_its_report_and_all_figures(self, imported: Path) -> None:
        assert_complete(imported)

    def test_every_response_is_scored(self, imported: Path) -> None:
        scored = rows(imported, "tables/exclusions").set_index("status")["n"]
        assert (scored["ok"], scored["total"]) == (45, 45)

    def test_the_power_of_its_claims_is_unknown(self, imported: Path) -> None:
        power = rows(imported, "tables/power")
        assert power["power"].isna().all()
        assert power["label"].str.contains("come from a file|not run").all()
