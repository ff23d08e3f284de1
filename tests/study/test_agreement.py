"""The whole organism study: judges agree about it, whichever of them grades."""

from pathlib import Path

import pandas as pd
import pytest

from esr.agreement.retest import without_retest
from esr.agreement.sample import DETECTOR
from esr.arms.scores import check_scores
from esr.tables import read_table

pytestmark = pytest.mark.slow

FOLDER = "results/organism/agreement"
JUDGES = ["lexical", "sentences"]


@pytest.fixture(scope="module")
def sample(organism_study: Path) -> pd.DataFrame:
    return read_table(organism_study / FOLDER / "sample.parquet", "sample")


@pytest.fixture(scope="module")
def population(organism_study: Path) -> pd.DataFrame:
    """The table `agreement`, as estimated for all trials of all arms."""
    table = read_table(organism_study / FOLDER / "agreement.parquet", "agreement")
    return without_retest(table[table["weighting"].eq("population") & table["arm"].eq("all")])


def test_a_judge_without_chance_agrees_with_itself(organism_study: Path) -> None:
    table = read_table(organism_study / FOLDER / "agreement.parquet", "agreement")
    again = table[table["judge_b"].eq("lexical again")]
    shares = again[again["statistic"].isin(["agreement", "kappa", "icc"])]
    assert len(shares) > 0
    assert shares["estimate"].dropna().to_numpy(float) == pytest.approx(1)


def test_the_sample_stands_for_the_arms_it_is_drawn_from(
    organism_study: Path, sample: pd.DataFrame
) -> None:
    assert len(sample) <= 16040
    cells = sample.groupby(["model", "arm"])
    assert {("planted", "ablate-otd"), ("twin", "unsteered")} <= set(cells.groups)
    for (model, arm), trials in cells:
        path = organism_study / f"results/organism/{model}/arms/{arm}/scores/lexical.parquet"
        scores = read_table(path, "scores")
        several = trials["stratum"].eq("several")
        rate = trials.loc[several, "weight"].sum() / trials["weight"].sum()
        assert trials["weight"].sum() == pytest.approx(len(scores))
        assert rate == pytest.approx(scores["multi_attempt"].sum() / len(scores))


def test_every_judge_grades_every_trial_of_the_sample(
    organism_study: Path, sample: pd.DataFrame
) -> None:
    for judge in JUDGES:
        scores = read_table(organism_study / FOLDER / f"scores/{judge}.parquet", "scores")
        assert scores["trial_id"].tolist() == sample["trial_id"].tolist()
        assert scores["status"].isin(["ok", "no_attempts"]).all()
        assert scores["status"].eq("ok").mean() > 0.98
        check_scores(scores)


def test_the_primary_judge_says_of_the_sample_what_it_said_of_the_arms(
    organism_study: Path, sample: pd.DataFrame
) -> None:
    scores = read_table(organism_study / FOLDER / "scores/lexical.parquet", "scores")
    assert scores["multi_attempt"].fillna(False).eq(sample["stratum"].eq("several")).all()


def test_judges_agree_on_multi_attempt_calls_beyond_chance(
    population: pd.DataFrame,
) -> None:
    pairs = population[
        population["quantity"].eq("multi_attempt") & population["judge_a"].ne(population["judge_b"])
    ].set_index("statistic")
    assert set(pairs["judge_b"].dropna()) == {"sentences", DETECTOR}
    # Over ablated and fine-tuned arms, too, where the judges differ most.
    assert (pairs.loc["kappa", "low"] > 0.4).all()
    assert (pairs.loc["positive_agreement", "low"] > 0.4).all()


def test_judges_that_score_differently_agree_on_scores(
    organism_study: Path, population: pd.DataFrame
) -> None:
    first = [
        read_table(organism_study / FOLDER / f"scores/{judge}.parquet", "scores")["first_score"]
        for judge in JUDGES
    ]
    assert (first[0] != first[1]).mean() > 0.05
    rows = population[population["quantity"].eq("first_score")].set_index("statistic")
    assert rows.loc["icc", "low"] > 0.9


def test_every_judge_ranks_the_planted_organism_above_its_twin(organism_study: Path) -> None:
    table = pd.read_csv(organism_study / "results/organism/figures/figA3.csv")
    rated = table[table["status"].ne("not_rated")].set_index("model")
    assert set(rated["judge"]) == {*JUDGES, DETECTOR}
    assert (rated.loc["planted", "rank"] == 1).all()
    assert (rated.loc["planted", "rank_high"] == 1).all()
    assert (rated.loc["twin", "rank"] == 2).all()


def test_the_figures_plot_what_the_table_says(
    organism_study: Path, population: pd.DataFrame
) -> None:
    shown = pd.read_csv(organism_study / "results/organism/figures/figA2.csv")
    key = ["quantity", "judge_a", "judge_b", "statistic"]
    both = shown.merge(population, on=key, validate="one_to_one")
    assert len(both) == len(shown)
    assert both["estimate_x"].to_numpy() == pytest.approx(
        both["estimate_y"].to_numpy(float), rel=1e-4, nan_ok=True
    )
