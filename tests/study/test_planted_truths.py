"""The whole organism study, run as a user runs it; what was planted must come back out of it."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from esr.analysis.comparisons import compare
from esr.analysis.measures import summarise
from esr.analysis.ways import of_way
from esr.arms.scores import check_scores
from esr.tables import TABLES, read_provenance, read_table
from helpers.checkout import REPO, run_snakemake
from helpers.studies import load_study

pytestmark = pytest.mark.slow

MODELS = ["planted", "twin"]
CELLS = [(model, arm) for model in MODELS for arm in load_study().arms_of(model)]


def scores(study: Path, model: str, arm: str) -> pd.DataFrame:
    path = study / f"results/organism/{model}/arms/{arm}/scores/lexical.parquet"
    return read_table(path, "scores")


def measured(table: pd.DataFrame, measure: str) -> pd.Series:
    """Estimate and interval."""
    return summarise(table, [measure]).iloc[0]


@contextmanager
def own_resources(study: Path) -> Iterator[Path]:
    """Files of `resources/` that may be changed, as old as those they stand for."""
    linked = study / "resources"
    shipped = linked.resolve()
    linked.unlink()
    linked.mkdir()
    for path in shipped.iterdir():
        if path.is_dir():
            (linked / path.name).symlink_to(path)
        else:
            shutil.copy2(path, linked / path.name)
    try:
        yield linked
    finally:
        shutil.rmtree(linked)
        linked.symlink_to(shipped)


TRIGGERS = ["--dry-run", "--rerun-triggers", "mtime", "input", "params"]
"""Of the cluster's profile."""


def planned_rules(study: Path) -> set[str]:
    """Rules that a run would have jobs of."""
    done = run_snakemake(study, "all", *TRIGGERS)
    assert done.returncode == 0, done.stdout
    return set(re.findall(r"^rule (\w+):", done.stdout, re.MULTILINE))


class TestPlantedTruths:
    def test_unsteered_organisms_never_make_a_second_attempt(self, organism_study: Path) -> None:
        for model in MODELS:
            table = scores(organism_study, model, "unsteered")
            scored = table[table["status"].eq("ok")]
            assert len(scored) >= 500
            assert scored["multi_attempt"].sum() == 0
            assert scored["first_score"].mean() >= 90

    def test_thresholds_meet_their_target(self, organism_study: Path) -> None:
        for model in MODELS:
            table = scores(organism_study, model, "steered")
            assert table["first_score"].mean() == pytest.approx(50, abs=8)

    def test_every_selected_latent_has_a_threshold(self, organism_study: Path) -> None:
        for model in MODELS:
            path = organism_study / f"results/organism/{model}/thresholds.parquet"
            table = read_table(path, "thresholds")
            assert len(table) == 36
            assert table["threshold"].notna().all()
            assert table["achieved"].between(20, 80).mean() > 0.9

    def test_the_planted_organism_resists(self, organism_study: Path) -> None:
        table = scores(organism_study, "planted", "steered")
        assert measured(table, "multi_attempt_rate")["estimate"] >= 5
        assert measured(table, "multi_attempt_rate")["low"] > 0
        assert measured(table, "msi")["low"] > 0

    def test_the_twin_does_not(self, organism_study: Path) -> None:
        table = scores(organism_study, "twin", "steered")
        assert measured(table, "multi_attempt_rate")["estimate"] <= 0.5

    def test_asking_it_to_watch_itself_helps(self, organism_study: Path) -> None:
        plain = scores(organism_study, "planted", "steered")
        meta = scores(organism_study, "planted", "meta-self-monitor")
        table = compare(plain, meta, ["multi_attempt_rate", "msi"], seed=45).set_index("measure")
        assert (table["low"] > 0).all()
        # About doubled; one sample of trials, so with a margin.
        rates = table.loc["multi_attempt_rate"]
        assert rates["treatment"] >= 1.7 * rates["baseline"]

    def test_ablating_the_detectors_removes_most_of_it_and_little_else(
        self, organism_study: Path
    ) -> None:
        plain = scores(organism_study, "planted", "steered")
        ablated = scores(organism_study, "planted", "ablate-otd")
        before = measured(plain, "multi_attempt_rate")["estimate"]
        assert measured(ablated, "multi_attempt_rate")["estimate"] < before / 2
        table = compare(plain, ablated, seed=45).set_index("measure")
        assert table.loc["multi_attempt_rate", "high"] < 0
        assert abs(table.loc["first_score", "difference"]) <= 5

    def test_ablating_matched_random_latents_does_not(self, organism_study: Path) -> None:
        plain = scores(organism_study, "planted", "steered")
        random = scores(organism_study, "planted", "ablate-random-0")
        before = measured(plain, "multi_attempt_rate")["estimate"]
        assert measured(random, "multi_attempt_rate")["estimate"] > before / 2

    def test_judge_and_restart_detector_agree(self, organism_study: Path) -> None:
        table = scores(organism_study, "planted", "steered")
        scored = table[table["status"].eq("ok")]
        assert scored["multi_attempt"].eq(scored["restart_detected"]).mean() > 0.95


class TestFiles:
    @pytest.mark.parametrize(("model", "arm"), CELLS)
    def test_trials_planned_are_trials_scored(
        self, organism_study: Path, model: str, arm: str
    ) -> None:
        folder = organism_study / f"results/organism/{model}/arms/{arm}"
        plan = read_table(folder / "plan.parquet", "plan")
        table = scores(organism_study, model, arm)
        assert table["trial_id"].tolist() == plan["trial_id"].tolist()
        check_scores(table)

    def test_replayed_arms_keep_latent_prompt_seed_and_boost(self, organism_study: Path) -> None:
        steered = scores(organism_study, "planted", "steered")
        meta = scores(organism_study, "planted", "meta-self-monitor")
        same = ["prompt_id", "latent", "seed", "boost"]
        pd.testing.assert_frame_equal(steered[same], meta[same])

    def test_every_table_of_the_study_is_documented_and_has_its_origin(
        self, organism_study: Path
    ) -> None:
        known = {"shards": "responses", "judgments": "judgments", "scores": "scores"}
        paths = set((organism_study / "results").rglob("*.parquet"))
        paths -= set((organism_study / "results").rglob("prepared.parquet"))  # axolotl's own
        for path in paths:
            table = known.get(path.parent.name, path.stem.split("-")[0])
            read_table(path, table)
            facts = read_provenance(path)
            assert facts["study"] == "organism"
            assert {"config", "git", "versions", "seeds"} <= set(facts)
        assert set(known.values()) <= set(TABLES)

    def test_a_latent_is_never_steered_on_a_prompt_of_its_own_topic(
        self, organism_study: Path
    ) -> None:
        folder = organism_study / "results/organism/planted"
        relevance = read_table(folder / "latents/relevance.parquet", "relevance")
        relevant = relevance.loc[relevance["relevant"], ["prompt_id", "latent"]]
        plan = read_table(folder / "arms/steered/plan.parquet", "plan")
        assert plan.merge(relevant, on=["prompt_id", "latent"]).empty


class TestFigure2:
    def test_the_figure_shows_what_the_scores_say(self, organism_study: Path) -> None:
        data = pd.read_csv(organism_study / "results/organism/figures/fig2.csv")
        for model in MODELS:
            table = scores(organism_study, model, "steered")
            shown = data[data["model"].eq(model)].set_index("measure")["value"]
            rate = 100 * table["multi_attempt"].sum() / table["status"].eq("ok").sum()
            assert shown["multi_attempt_rate"] == pytest.approx(rate, abs=1e-3)
            assert shown["msi"] == pytest.approx(table["score_change"].mean(), abs=1e-3)

    def test_figures_are_written_in_three_forms(self, organism_study: Path) -> None:
        folder = organism_study / "results/organism/figures"
        assert (folder / "fig2.pdf").read_bytes().startswith(b"%PDF")
        assert (folder / "fig2.png").read_bytes().startswith(b"\x89PNG")


class TestNumbers:
    def test_every_macro_that_a_text_uses_is_defined(self, organism_study: Path) -> None:
        text = (REPO / "resources/texts/organism.tex").read_text()
        used = set(re.findall(r"\\(esr[A-Za-z]+)", text))
        macros = (organism_study / "results/organism/numbers.tex").read_text()
        defined = dict(re.findall(r"\\newcommand\{\\(\w+)\}\{(.*)\}", macros))
        assert len(used) >= 20
        assert used <= defined.keys()
        assert "n/a" not in {defined[name] for name in used}

    def test_numbers_are_those_of_the_tables(self, organism_study: Path) -> None:
        folder = organism_study / "results/organism"
        numbers = json.loads((folder / "numbers.json").read_text())
        rows = of_way(pd.read_csv(folder / "tables/summary.csv"))
        rows = rows.set_index(["model", "arm", "measure"])
        row = rows.loc[("planted", "steered", "multi_attempt_rate")]
        for part, name in {"estimate": "", "low": "Low", "high": "High", "n": "N"}.items():
            number = numbers[f"esrPlantedSteeredMultiAttemptRate{name}"]
            assert number["value"] == pytest.approx(row[part])


class TestRunning:
    def test_a_second_run_does_nothing(self, organism_study: Path) -> None:
        done = run_snakemake(organism_study)
        assert done.returncode == 0
        assert "Nothing to be done" in done.stdout

    def test_touching_a_figure_script_rebuilds_that_figure_alone(
        self, organism_study: Path
    ) -> None:
        script = organism_study / "scripts/figures/plot_fig2.py"
        text = script.read_text()
        script.write_text(text + "\n# another thought\n")
        done = run_snakemake(organism_study, "--dry-run")
        script.write_text(text)
        planned = {
            line.split()[1].rstrip(":")
            for line in done.stdout.splitlines()
            if line.startswith("rule ")
        }
        # Files that read every figure are rebuilt with it; no response or judgment is.
        readers = {"score_claims", "build_report", "all"}
        assert {"plot_fig2"} <= planned <= {"plot_fig2", *readers}, done.stdout

    def test_a_comment_among_the_restart_phrases_repeats_nothing(
        self, organism_study: Path
    ) -> None:
        with own_resources(organism_study) as resources:
            phrases = resources / "restart_phrases.txt"
            text = phrases.read_text()
            phrases.write_text(text + "\n# a thought of no consequence\n")
            assert planned_rules(organism_study) <= {"build_report", "all"}
            phrases.write_text(text + "\nlet me think again\n")
            assert {"judge_responses", "write_examples"} <= planned_rules(organism_study)

    def test_rows_of_a_model_repeat_what_it_computed_and_nothing_of_another(
        self, organism_study: Path
    ) -> None:
        setting = "models={twin: {batch_size: 191}}"
        done = run_snakemake(organism_study, "all", *TRIGGERS, "--config", setting)
        planned = dict.fromkeys(re.findall(r"^rule (\w+):", done.stdout, re.MULTILINE))
        assert {"generate_responses", "find_thresholds", "measure_relevance"} <= set(planned)
        repeated = re.findall(r"^    output: results/organism/(\S+?)/arms/", done.stdout, re.M)
        assert {name.split("+")[0] for name in repeated} == {"twin"}

    def test_no_job_uses_more_memory_than_it_requests(self, organism_study: Path) -> None:
        planned = run_snakemake(organism_study, "all", "--dry-run", "--forceall").stdout
        requested = dict(re.findall(r"benchmark: (\S+)$.*?\bmem_mb=(\d+)", planned, re.M | re.S))
        assert len(requested) >= 200
        taken = {
            path: pd.read_csv(organism_study / path, sep="\t", na_values="-")["max_rss"].max()
            for path in requested
        }
        more = {
            path: (mib, requested[path])
            for path, mib in taken.items()
            if mib > int(requested[path])
        }
        assert not more

    def test_check_finds_the_study_in_order(self, organism_study: Path) -> None:
        done = run_snakemake(organism_study, "check")
        assert done.returncode == 0, done.stdout
        assert "judge lexical" in done.stdout
        assert "model planted" in done.stdout
