"""Agreement of judges: golden values, identities, the stratified sample, what the figures show."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from statsmodels.stats.inter_rater import cohens_kappa

from esr.agreement.compare import QUANTITIES, compare_judges, draw_clusters, rank_models
from esr.agreement.sample import DETECTOR, draw_sample, strata, with_detector
from esr.analysis.statistics import Factor, Resampled
from esr.analysis.statistics import agreement as formulas
from esr.arms.scores import GATED, check_scores
from esr.config import AgreementConfig, StatisticsConfig
from esr.errors import EsrError
from esr.tables import TABLES, write_table
from helpers.checkout import load_script

NAN = float("nan")
FAST = StatisticsConfig(bootstrap=300)
ones = np.ones


def flags(n11: int, n10: int, n01: int, n00: int) -> np.ndarray:
    """Ratings of two judges with these counts."""
    return np.repeat(np.array([[1.0, 1], [1, 0], [0, 1], [0, 0]]), [n11, n10, n01, n00], axis=0)


# Coefficients: published values

FOUR_CODERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T
TWO_CODERS = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]], float).T
SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)


@pytest.mark.parametrize(
    "formula",
    [
        formulas.observed_agreement,
        formulas.cohen_kappa,
        formulas.positive_agreement,
        formulas.krippendorff_alpha,
        formulas.intraclass_correlation,
        formulas.correlation,
    ],
)
def test_resamples_of_clusters_give_what_weights_of_all_units_give(formula: Any) -> None:
    """A large sample has too many units for a matrix of their weights."""
    rng = np.random.default_rng(3)
    ratings = (rng.random((60, 2)) < 0.4).astype(float)
    codes, draws = rng.integers(7, size=60), rng.integers(4, size=(20, 7)).astype(float)
    weights = rng.uniform(1, 5, 60)
    drawn = Resampled(Factor(codes, draws), weights)
    expected = formula(ratings, draws[:, codes] * weights)
    np.testing.assert_allclose(formula(ratings, drawn), expected, rtol=1e-9, atol=1e-12)


def test_krippendorffs_own_examples() -> None:
    assert formulas.krippendorff_alpha(FOUR_CODERS, ones(12)) == pytest.approx(0.849, abs=5e-4)
    assert formulas.krippendorff_alpha(TWO_CODERS, ones(10)) == pytest.approx(0.095, abs=5e-4)


def test_the_intraclass_correlation_of_shrout_and_fleiss() -> None:
    found = formulas.intraclass_correlation(SHROUT_FLEISS, ones(6))
    assert found == pytest.approx(0.29, abs=5e-3)


def test_kappa_is_that_of_statsmodels() -> None:
    ratings = flags(20, 5, 10, 15)
    expected = cohens_kappa(np.array([[20, 5], [10, 15]])).kappa
    assert formulas.cohen_kappa(ratings, ones(50)) == pytest.approx(expected)


def test_rare_events_make_agreement_look_good_and_kappa_low() -> None:
    ratings = flags(0, 2, 2, 96)
    assert formulas.observed_agreement(ratings, ones(100)) == pytest.approx(0.96)
    assert formulas.cohen_kappa(ratings, ones(100)) < 0
    assert formulas.positive_agreement(ratings, ones(100)) == 0
    assert formulas.positive_agreement(flags(3, 1, 2, 94), ones(100)) == pytest.approx(6 / 9)


def test_bland_altman_on_worked_numbers() -> None:
    ratings = np.array([[10.0, 12], [20, 21], [30, 36]])
    low, high = formulas.limits_of_agreement(ratings, ones(3))
    sd = np.std([2, 1, 6], ddof=1)
    assert (low, high) == pytest.approx((3 - 1.96 * sd, 3 + 1.96 * sd))


COEFFICIENTS = [
    formulas.observed_agreement,
    formulas.cohen_kappa,
    formulas.positive_agreement,
    formulas.krippendorff_alpha,
    formulas.intraclass_correlation,
    formulas.correlation,
    formulas.mean_difference,
]


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_only_the_proportions_of_weights_matter(coefficient: Any) -> None:
    ratings, weights = flags(9, 2, 3, 20), np.linspace(1, 5, 34)
    plain = coefficient(ratings, weights)
    assert coefficient(ratings, 7 * weights) == pytest.approx(plain)
    assert coefficient(ratings, np.stack([weights, ones(34)]))[0] == pytest.approx(plain)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_no_units_have_no_agreement(coefficient: Any) -> None:
    assert np.isnan(coefficient(np.empty((0, 2)), np.empty((3, 0)))).all()


@pytest.mark.parametrize(
    "coefficient",
    [
        formulas.cohen_kappa,
        formulas.krippendorff_alpha,
        formulas.intraclass_correlation,
        formulas.correlation,
    ],
)
def test_without_variation_chance_corrected_agreement_is_undefined(coefficient: Any) -> None:
    assert np.isnan(coefficient(np.zeros((20, 2)), ones(20)))


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=3, max_size=30))
def test_a_unit_that_weighs_two_is_a_unit_twice(pairs: list[tuple[int, int]]) -> None:
    ratings = np.array(pairs, float)
    weights = np.array([1.0 + i % 2 for i in range(len(ratings))])
    doubled = np.repeat(ratings, weights.astype(int), axis=0)
    for coefficient in (formulas.cohen_kappa, formulas.correlation, formulas.mean_difference):
        a, b = coefficient(ratings, weights), coefficient(doubled, ones(len(doubled)))
        assert a == pytest.approx(b, abs=1e-6, nan_ok=True)


# The sample


MODELS = {"large": 0.2, "small": 0.02}
PER_LATENT, LATENTS = 10, 30


def scores_of(models: dict[str, float], seed: int = 0) -> pd.DataFrame:
    """Scores of all trials of models that make a second, better attempt with these chances."""
    rng = np.random.default_rng(seed)
    n = LATENTS * PER_LATENT
    parts = []
    for model, rate in models.items():
        several = rng.random(n) < rate
        first = rng.uniform(0, 60, n)
        change = np.where(several, 30.0, 0.0)
        columns = {
            "trial_id": [f"{model}/steered/{i}" for i in range(n)],
            "model": model,
            "arm": "steered",
            "judge": "primary",
            "prompt_id": [f"p{i % PER_LATENT}" for i in range(n)],
            "latent": pd.array(np.repeat(np.arange(LATENTS), PER_LATENT), "Int64"),
            "boost": 1.0,
            "seed": range(n),
            "status": "ok",
            "n_attempts": pd.array(np.where(several, 2, 1), "Int64"),
            "first_score": first,
            "last_score": first + change,
            "score_change": change,
            "multi_attempt": pd.array(several, "boolean"),
            "improved": pd.array(several, "boolean"),
            "gated_multi_attempt": pd.array(several, "boolean"),
            "gated_improved": pd.array(several, "boolean"),
            "restart_detected": pd.array(several, "boolean"),
            "degraded": False,
        }
        parts.append(pd.DataFrame(columns))
    table = pd.concat(parts, ignore_index=True)
    check_scores(table)
    return table


def trials_of(scores: pd.DataFrame) -> pd.DataFrame:
    kept = scores[["trial_id", "model", "arm", "prompt_id", "latent", "seed"]]
    return kept.assign(stratum=strata(scores))


def sampled(
    scores: pd.DataFrame, size: int = 200, least: int = 30
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A sample, and its scores by the judge that the strata come from."""
    sample = draw_sample(trials_of(scores), AgreementConfig(size=size, per_stratum=least))
    return sample, scores.set_index("trial_id").loc[sample["trial_id"]].reset_index()


def test_weights_give_back_the_rates_of_all_trials() -> None:
    scores = scores_of(MODELS)
    sample, graded = sampled(scores)
    assert len(sample) == 200
    assert sample["weight"].sum() == pytest.approx(len(scores))
    for model in MODELS:
        mine, all_of = sample["model"].eq(model), scores[scores["model"].eq(model)]
        rate = np.average(graded.loc[mine, "multi_attempt"], weights=sample.loc[mine, "weight"])
        assert rate == pytest.approx(all_of["multi_attempt"].mean())


def test_the_draw_depends_on_the_seed_and_not_on_the_order_of_files() -> None:
    trials = trials_of(scores_of(MODELS))
    drawn = draw_sample(trials, AgreementConfig(size=100))["trial_id"]
    mixed = draw_sample(trials.sample(frac=1, random_state=1), AgreementConfig(size=100))[
        "trial_id"
    ]
    other = draw_sample(trials, AgreementConfig(size=100, seed=1))["trial_id"]
    assert set(drawn) == set(mixed)
    assert set(drawn) != set(other)


def test_trials_that_the_primary_judge_could_not_score_are_a_stratum() -> None:
    scores = scores_of({"large": 0.2}).astype({"first_score": "Float64"})
    scores.loc[:9, "status"] = "refused"
    scores.loc[:9, ["n_attempts", "multi_attempt"]] = pd.NA
    sample = draw_sample(trials_of(scores), AgreementConfig(size=60, per_stratum=20))
    assert sample["stratum"].value_counts()["unscored"] == 10
    assert set(sample["stratum"]) == {"several", "rest", "unscored"}


def test_arms_without_any_response_are_an_error() -> None:
    with pytest.raises(EsrError, match="no trial"):
        draw_sample(trials_of(scores_of(MODELS))[:0], AgreementConfig())


def test_latents_are_drawn_within_models() -> None:
    sample, _ = sampled(scores_of(MODELS))
    factor = draw_clusters(sample, 50, seed=0)
    for model in MODELS:
        mine = np.unique(factor.codes[sample["model"].eq(model)])
        assert (factor.weights[:, mine].sum(axis=1) == len(mine)).all()


# Judges compared


def flipped(scores: pd.DataFrame, rows: Any) -> pd.DataFrame:
    """A judge that misses the second attempts of these rows."""
    other = scores.copy()
    other.loc[rows, "n_attempts"] = 1
    other.loc[rows, ["multi_attempt", "improved", *GATED]] = False
    other.loc[rows, "score_change"] = 0.0
    other.loc[rows, "last_score"] = other.loc[rows, "first_score"]
    return other


def found(table: pd.DataFrame, quantity: str, statistic: str, **where: Any) -> pd.Series:
    """The row of a pair in the population (of all judges if no pair is named)."""
    where = {"arm": "all", "judge_a": None, "judge_b": None, "weighting": "population"} | where
    rows = table[table["quantity"].eq(quantity) & table["statistic"].eq(statistic)]
    for column, value in where.items():
        rows = rows[rows[column].isna() if value is None else rows[column].eq(value)]
    (_, row), *rest = rows.iterrows()
    assert not rest
    return row


def test_a_planted_disagreement_is_found_with_its_weights(tmp_path: Path) -> None:
    sample, graded = sampled(scores_of(MODELS))
    missed = graded.index[graded["multi_attempt"] & sample["model"].eq("large")][:8]
    table = compare_judges(sample, {"a": graded, "b": flipped(graded, missed)}, FAST)
    write_table(table, tmp_path / "agreement.parquet", "agreement", {})
    pair = {"judge_a": "a", "judge_b": "b"}
    lost = sample.loc[missed, "weight"].sum() / sample["weight"].sum()
    both = found(table, "multi_attempt", "agreement", **pair)
    assert both["estimate"] == pytest.approx(1 - lost)
    assert both["low"] <= both["estimate"] <= both["high"]
    plain = found(table, "multi_attempt", "agreement", weighting="sample", **pair)
    assert plain["estimate"] == pytest.approx(1 - 8 / len(sample))
    assert found(table, "multi_attempt", "positive_agreement", **pair)["n"] == int(
        graded["multi_attempt"].sum()
    )
    same = found(table, "multi_attempt", "kappa", judge_a="a", judge_b=DETECTOR)
    assert same["estimate"] == pytest.approx(1)
    assert found(table, "multi_attempt", "alpha")["estimate"] < 1
    assert found(table, "direction", "agreement", **pair)["n"] == graded["multi_attempt"].sum() - 8


def test_judges_that_never_differ_are_not_certain_to_agree() -> None:
    sample, graded = sampled(scores_of(MODELS))
    table = compare_judges(sample, {"a": graded, "b": graded}, FAST)
    row = found(table, "multi_attempt", "agreement", judge_a="a", judge_b="b")
    assert row["status"] == "no_variation"
    assert (row["estimate"], row["high"]) == pytest.approx((1, 1))
    assert 0.8 < row["low"] < 1


def test_the_restart_detector_rates_multi_attempt_alone() -> None:
    sample, graded = sampled(scores_of(MODELS))
    table = compare_judges(sample, {"a": graded}, FAST)
    rated = table[table["judge_a"].eq(DETECTOR) | table["judge_b"].eq(DETECTOR)]
    assert set(rated["quantity"]) == {"multi_attempt"}
    assert set(table["quantity"]) == set(QUANTITIES)
    check_scores(graded)
    assert with_detector({"a": graded})[DETECTOR]["first_score"].isna().all()


def test_a_judge_that_could_not_score_a_trial_is_not_counted_as_disagreeing() -> None:
    sample, graded = sampled(scores_of(MODELS))
    silent = graded.copy()
    silent.loc[:19, "status"] = "unparsable"
    table = compare_judges(sample, {"a": graded, "b": silent}, FAST)
    row = found(table, "multi_attempt", "agreement", judge_a="a", judge_b="b")
    assert (row["estimate"], row["n"]) == pytest.approx((1, len(sample) - 20))


def test_scores_of_another_sample_are_refused() -> None:
    sample, graded = sampled(scores_of(MODELS))
    with pytest.raises(EsrError, match="judge it again"):
        compare_judges(sample, {"a": graded.iloc[::-1]}, FAST)


def test_there_is_no_row_of_direction_without_multi_attempt() -> None:
    sample, graded = sampled(scores_of({"large": 0.0}))
    table = compare_judges(sample, {"a": graded, "b": graded}, FAST)
    row = found(table, "direction", "agreement", judge_a="a", judge_b="b")
    assert np.isnan(row["estimate"])
    assert (row["n"], row["status"]) == (0, "undefined")
    assert found(table, "multi_attempt", "kappa", judge_a="a", judge_b="b")["status"] == "undefined"


# Ranking of models


def test_every_judge_ranks_the_planted_model_first_and_rates_are_those_of_all_trials() -> None:
    scores = scores_of(MODELS)
    sample, graded = sampled(scores)
    table = rank_models(sample, {"a": graded}, ["multi_attempt_rate", "msi"], FAST)
    rates = table[table["measure"].eq("multi_attempt_rate")].set_index(["judge", "model"])
    for judge in ("a", DETECTOR):
        assert rates.loc[(judge, "large"), "rank"] == 1
        assert rates.loc[(judge, "large"), "rank_high"] == 1
        expected = 100 * scores.loc[scores["model"].eq("large"), "multi_attempt"].mean()
        assert rates.loc[(judge, "large"), "value"] == pytest.approx(expected)
    msi = table[table["measure"].eq("msi")].set_index(["judge", "model"])
    assert msi.loc[(DETECTOR, "large"), "status"] == "not_rated"
    assert np.isnan(msi.loc[(DETECTOR, "large"), "value"])


def test_similar_models_share_a_rank_or_have_a_range_of_ranks() -> None:
    sample, graded = sampled(scores_of({"x": 0.2, "y": 0.2}))
    table = rank_models(sample, {"a": graded}, ["multi_attempt_rate"], FAST)
    assert (table["rank_high"] - table["rank_low"]).max() == 1
    sample, graded = sampled(scores_of({"x": 0.0, "y": 0.0}))
    table = rank_models(sample, {"a": graded}, ["multi_attempt_rate"], FAST)
    assert (table["rank"] == 1).all()


# Figures


@pytest.mark.parametrize(
    ("models", "judges"),
    [
        (MODELS, 1),
        (MODELS, 2),
        (MODELS, 5),
        ({"large": 0.2}, 1),
        ({"large": 0.2}, 2),
        ({"large": 0.0}, 1),
        ({"large": 0.0}, 2),
    ],
)
def test_the_figures_can_be_drawn_of_whatever_there_is(
    models: dict[str, float], judges: int
) -> None:
    sample, graded = sampled(scores_of(models))
    scores = {f"judge-{i}": flipped(graded, graded.index[:: 7 + i]) for i in range(judges)}
    agreement = compare_judges(sample, scores, FAST)
    labels = {name: {"label": name, "parameters": i + 1.0} for i, name in enumerate(models)}
    a2, a3, a4 = (load_script(f"plot_fig{name}") for name in ("A2", "A3", "A4"))
    tables = [
        (a2, a2.figure_table(agreement)),
        (a3, a3.figure_table(sample, scores, labels, FAST)),
        (a4, a4.figure_table(scores, agreement)),
    ]
    for script, table in tables:
        figure = script.draw(table, "A study", 0.95)
        figure.draw_without_rendering()
        plt.close(figure)
    assert {"n", "status"} <= set(tables[0][1]) & set(tables[1][1]) & set(tables[2][1])


@pytest.mark.parametrize("lost", [["low", "high"], ["estimate", "low", "high"]])
def test_figure_a2_can_be_drawn_of_what_is_undefined_in_a_table(lost: list[str]) -> None:
    # As read from a file: a sample of a few equal trials has no interval, or no kappa.
    sample, graded = sampled(scores_of(MODELS))
    scores = {"a": graded, "b": flipped(graded, graded.index[::7])}
    agreement = compare_judges(sample, scores, FAST)
    table = agreement.assign(**dict.fromkeys(lost, pd.NA))
    table = table.astype(dict.fromkeys(["estimate", "low", "high"], "Float64"))
    script = load_script("plot_figA2")
    figure = script.draw(script.figure_table(table), "A study", 0.95)
    figure.draw_without_rendering()
    shown = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert "[" not in shown
    assert "n/a" in shown or "estimate" not in lost
    plt.close(figure)


def test_figure_a4_counts_every_trial_once() -> None:
    sample, graded = sampled(scores_of(MODELS))
    scores = {"a": graded, "b": flipped(graded, graded.index[::3])}
    script = load_script("plot_figA4")
    table = script.figure_table(scores, compare_judges(sample, scores, FAST))
    marks = table[table["part"].ne("statistic")]
    for _, part in marks.groupby(["part", "judge_a", "judge_b"]):
        assert part["n"].sum() == len(sample)


def test_figure_a4_shows_no_interval_where_all_scores_are_equal() -> None:
    sample, graded = sampled(scores_of(MODELS))
    equal = graded.assign(first_score=0.0)
    script = load_script("plot_figA4")
    agreement = compare_judges(sample, {"a": equal}, FAST)
    agreement = agreement.astype(dict.fromkeys(["estimate", "low", "high"], "Float64"))
    table = script.figure_table({"a": equal}, agreement)
    means = table[table["statistic"].eq("first_score:mean")]
    assert means["low"].isna().all()
    figure = script.draw(table, "A study", 0.95)
    titles = [axes.get_title() for axes in figure.axes]
    assert any(title.startswith("mean 0.0\n") for title in titles), titles
    plt.close(figure)


def test_the_sample_table_holds_what_judging_needs() -> None:
    tokens = {"prefix"}  # a judge reads text, and where the continuation begins
    needed = set(TABLES["plan"].columns) - tokens | {"response", "prefix_end", "weight", "stratum"}
    assert needed <= set(TABLES["sample"].columns)
