"""esr.analysis.implicit: recovery by windows of text, and rates at an equal achieved score."""

import numpy as np
import pandas as pd
import pytest

from esr.analysis.implicit import (
    ACHIEVED,
    CHANGE,
    LACKING,
    NOT_WINDOWED,
    QUIET,
    WINDOWS_MISSING,
    achieved_rows,
    others_mean,
    window_rows,
    without_attempts,
)
from esr.analysis.simulation import draw_study
from esr.analysis.specs import ArmSpec, StudySpec
from esr.analysis.statistics.adjusted import fitted_line, mean_at, rate_at, slope_on
from esr.analysis.statistics.crossed import crossed_rate
from esr.analysis.summaries import chance_table, prompt_table
from helpers.checkout import load_script
from helpers.scores import scores_of
from helpers.studies import load_study

AT_MEDIAN = f"{CHANGE}, {QUIET}, at the study's median length"
STUDIES = 150


def steered(seed: int, multi: float = 0.1) -> pd.DataFrame:
    """Scores of an arm of 24 latents with 8 trials each."""
    design = StudySpec(24, 8, 24, {"steered": ArmSpec(multi=multi)}, rho=0.1)
    return draw_study(design, seed)["primary"]["steered"]


def windows_of(scores: pd.DataFrame, seed: int, drift: float = 0.0) -> pd.DataFrame:
    """Windows of wandering responses: on topic or off with the same chance at either end.

    Off-topic ends of short responses come back with the chance `drift`.
    """
    rng = np.random.default_rng(seed)
    n = len(scores)
    chance = np.clip(rng.beta(1, 1, 24)[scores["latent"].to_numpy(int)], 0, 1)
    first, last = (np.where(rng.random(n) < chance, 90.0, 10.0) for _ in range(2))
    last = np.where((last < 50) & (rng.random(n) < drift), 90.0, last)
    words = rng.integers(20, 80, n).astype(float)
    return pd.DataFrame(
        {
            "trial_id": scores["trial_id"],
            "words": words,
            "first_window": first,
            "last_window": last,
        }
    )


def row(table: pd.DataFrame, quantity: str) -> pd.Series:
    (found,) = table[table["quantity"].eq(quantity)].to_dict("records")
    return pd.Series(found)


def test_responses_that_wander_do_not_change() -> None:
    """Regression to the mean makes no change: half of the off-topic starts end on topic here."""
    scores = steered(0)
    outside = 0
    for seed in range(STUDIES):
        found = row(window_rows(scores, windows_of(scores, seed), 40), AT_MEDIAN)
        outside += bool(found["low"] > 0 or found["high"] < 0)
    assert outside <= 0.09 * STUDIES, "nominal: 5 %"


def test_a_planted_change_is_found() -> None:
    scores = steered(0)
    found = row(window_rows(scores, windows_of(scores, 1, drift=0.5), 40), AT_MEDIAN)
    assert found["low"] > 0
    assert found["estimate"] == pytest.approx(80 * 0.5 * 0.5, abs=8)


def test_restarts_count_in_all_responses_alone() -> None:
    scores = scores_of([[20.0, 90.0], [20.0], [20.0], [20.0]] * 4)
    scores.loc[scores.index % 4 == 1, "restart_detected"] = True
    rises = scores.index % 4 < 2
    windows = pd.DataFrame(
        {
            "trial_id": scores["trial_id"],
            "words": 40.0 + scores.index,
            "first_window": 10.0,
            "last_window": np.where(rises, 100.0, 10.0),
        }
    )
    table = window_rows(scores, windows, 45)
    assert row(table, CHANGE)["estimate"] == 45
    quiet = row(table, f"{CHANGE}, {QUIET}")
    assert (quiet["estimate"], quiet["n"]) == (0, 8)


def test_unscored_windows_and_trials_have_no_change() -> None:
    scores = scores_of([[20.0], [20.0], None, [20.0]] * 3)
    windows = windows_of(scores, 0).assign(first_window=10.0, last_window=30.0)
    windows.loc[0, "last_window"] = np.nan
    table = window_rows(scores, windows, 40)
    assert row(table, CHANGE)["n"] == 12 - 3 - 1
    assert row(table, CHANGE)["estimate"] == 20


def test_windows_that_are_missing_where_responses_restart_are_a_status_of_every_row() -> None:
    """Off-topic starts that restart lose their last window: what is left seems to change less."""
    scores = steered(0, multi=0.2)
    restarts = scores["multi_attempt"].to_numpy(bool)
    windows = windows_of(scores, 0)
    windows.loc[restarts, ["first_window", "last_window"]] = 10.0, np.nan
    table = window_rows(scores, windows, 40).set_index("quantity")
    lacking = table.loc[LACKING]
    assert lacking["estimate"] == pytest.approx(100 * restarts.mean())
    assert lacking["low"] < lacking["estimate"] < lacking["high"]
    assert (lacking["n"], lacking["unit"], lacking["status"]) == (len(scores), "percent", "ok")
    others = table.drop(LACKING)
    assert others["status"].eq(WINDOWS_MISSING).all()
    assert others[["estimate", "low", "high"]].notna().all(axis=None), "numbers are kept"


@pytest.mark.parametrize(("lost", "status"), [(5, "ok"), (6, WINDOWS_MISSING)])
def test_up_to_five_percent_of_windows_may_be_missing(lost: int, status: str) -> None:
    scores = scores_of([[20.0]] * 100, per_latent=5)
    windows = windows_of(scores, 0)
    windows.loc[: lost - 1, "first_window"] = np.nan
    found = row(window_rows(scores, windows, 40), CHANGE)
    assert (found["n"], found["status"]) == (100 - lost, status)


def test_unscored_trials_are_not_missing_windows() -> None:
    scores = scores_of([[20.0], None] * 40, per_latent=4)
    windows = windows_of(scores, 0)
    windows.loc[scores["status"].ne("ok"), "last_window"] = np.nan
    found = row(window_rows(scores, windows, 40), LACKING)
    assert (found["estimate"], found["n"], found["status"]) == (0, 40, "no_variation")
    assert found["high"] > 5, "none of 40 does not exclude one in twenty"


def test_a_judge_that_needs_a_call_has_a_status_and_no_number() -> None:
    robustness = load_script("tabulate_robustness")
    scores = steered(0).assign(model="m")
    table = without_attempts(scores, None, 50)
    windows = table[table["check"].ne(ACHIEVED)]
    assert windows["status"].tolist() == [NOT_WINDOWED]
    assert windows[["estimate", "low", "high"]].isna().all(axis=None)
    robustness.printed(table)


def test_arms_of_another_target_are_checks_and_controls_of_the_steering_are_none() -> None:
    """`steered-random` is no steering at a target called `random`."""
    config = load_study({"arms": {"steered-twice": {"over": "latents", "trials": 1}}})
    assert config.other_targets == {"steered-30": 30}
    arms = ("steered", "steered-30", "steered-random", "steered-twice")
    trials = steered(0).astype({"status": object})  # the simulation's has its own categories
    scores = pd.concat([trials.assign(model="m", arm=arm) for arm in arms])
    robustness = load_script("tabulate_robustness").robustness
    table = robustness(scores, config.statistics, config.other_targets)
    assert {check for check in table["check"] if "target" in check} == {"target 30"}


def test_an_aa_arm_has_its_differences_in_the_table() -> None:
    config = load_study({"models": {"twin": None}, "finetune": {"models": []}})
    arms = [steered(seed).assign(model="planted") for seed in (0, 1)]
    again = arms[1].assign(arm="other-seeds", seed=arms[1]["seed"] + 10_000)
    again["prompt_id"], again["latent"] = arms[0]["prompt_id"], arms[0]["latent"]
    again = again[again["latent"].astype(int) < 12]
    table = chance_table(pd.concat([arms[0], again], ignore_index=True), config, ["first_score"])
    assert set(table["check"]) == {"other seeds (A/A)"}
    found = row(table, "first_score")
    assert found["n"] == 12 * 8
    assert found["low"] < 0 < found["high"]
    assert found["unit"] == "points"


def test_what_the_steered_prompt_adds_has_its_differences_in_the_table() -> None:
    config = load_study({"models": {"twin": None}, "finetune": {"models": []}})
    assert config.response_arms == ["steered-response"], "`steer-then-stop` steers the prompt"
    base, other = (steered(seed).assign(model="planted") for seed in (0, 1))
    bare = other.assign(arm="steered-response")
    bare[["prompt_id", "latent"]] = base[["prompt_id", "latent"]]
    table = prompt_table(pd.concat([base, bare], ignore_index=True), config, ["first_score"])
    assert set(table["check"]) == {"generated tokens alone steered"}
    found = row(table, "first_score")
    change = bare["first_score"].mean() - base["first_score"].mean()
    assert found["estimate"] == pytest.approx(change)
    assert found["n"] == len(base)


def test_the_line_is_that_of_least_squares() -> None:
    rng = np.random.default_rng(3)
    z, x = rng.normal(size=(2, 60))
    x[5], z[9] = np.nan, np.nan
    line = fitted_line(x, z, 0.7)
    assert line is not None
    slope, level = np.polyfit((z - 0.7)[line_used(x, z)], x[line_used(x, z)], 1)
    assert np.nanmean(line.level) == pytest.approx(level)
    assert np.nanmean(line.slope) == pytest.approx(slope)


def line_used(*columns: np.ndarray) -> np.ndarray:
    return np.asarray(~np.isnan(columns).any(axis=0))


def test_a_target_that_no_latent_reaches_has_no_number() -> None:
    z = np.linspace(10, 30, 40)
    codes = np.repeat(np.arange(10), 4)
    found = mean_at(z, z, 50, [codes])
    assert (np.isnan(found.value), found.estimate.status) == (True, "outside_range")
    assert slope_on(z, np.full(40, 3.0), [codes]).estimate.status == "undefined"


def test_a_rate_without_events_keeps_its_interval() -> None:
    scores = steered(1, multi=0.0)
    table = achieved_rows(scores, 50)
    assert row(table, "multi_attempt_rate")["status"] == "no_variation"
    assert row(table, "multi_attempt_rate")["high"] > 2


@pytest.mark.parametrize(("holding", "status"), [(9, "sparse"), (10, "ok")])
def test_an_adjusted_mean_that_few_latents_carry_has_no_interval(holding: int, status: str) -> None:
    """Student's interval around a mean of zeros and few rises is too narrow."""
    scores = scores_of([[40.0 + i % 7] for i in range(160)], per_latent=8)
    rises = np.arange(0, 8 * holding, 8)
    scores.loc[rises, "score_change"] = 30.0
    scores.loc[rises, "last_score"] += 30.0
    scores.loc[rises, ["multi_attempt", "improved"]] = True
    scores.loc[rises, "n_attempts"] = 2
    found = row(achieved_rows(scores, 43), "msi")
    assert (found["status"], bool(np.isnan(found["low"]))) == (status, status == "sparse")
    assert found["estimate"] == pytest.approx(30 * holding / 160, rel=0.1)


def test_an_adjusted_rate_has_the_least_correlation_of_other_rates() -> None:
    """One event in each of four latents: no cluster is seen, and a correlation is assumed."""
    latents = np.repeat(np.arange(20), 10)
    events = np.zeros(200)
    events[[0, 10, 20, 30]] = 1
    level = np.tile(np.linspace(-1, 1, 10), 20)  # no slope of the events' own trials matters here
    level[[0, 10, 20, 30]] = [-0.1, 0.1, -0.1, 0.1]
    adjusted = rate_at(events, level, float(level.mean()), [latents])
    plain = crossed_rate(events, [latents])
    assert adjusted.value == pytest.approx(0.02)
    assert adjusted.estimate.interval.low == pytest.approx(plain.interval.low, rel=0.02)
    assert adjusted.estimate.interval.high == pytest.approx(plain.interval.high, rel=0.02)


def test_rates_at_one_achieved_score_agree_where_raw_rates_differ() -> None:
    """Two models that miss the target to either side, and restart more when they are lower."""
    raw, adjusted = [], []
    for seed, shift in ((1, -12.0), (2, 12.0)):
        rng = np.random.default_rng(seed)
        latents, trials = 60, 20
        level = np.repeat(np.clip(rng.normal(50 + shift, 12, latents), 5, 95), trials)
        attempts = [
            [first, 95.0] if chance < (90 - mean) / 100 else [first]
            for first, chance, mean in zip(
                np.clip(rng.normal(level, 10), 0, 94), rng.random(len(level)), level, strict=True
            )
        ]
        scores = scores_of(attempts, per_latent=trials)
        raw.append(100 * float(scores["multi_attempt"].mean()))
        adjusted.append(row(achieved_rows(scores, 50), "multi_attempt_rate"))
    assert raw[0] - raw[1] > 18
    assert abs(adjusted[0]["estimate"] - adjusted[1]["estimate"]) < 7
    for found in adjusted:
        assert found["low"] < 40 < found["high"]


def test_the_interval_of_an_adjusted_rate_holds_the_truth() -> None:
    inside = 0
    for seed in range(STUDIES):
        rng = np.random.default_rng(seed)
        latents = np.repeat(np.arange(30), 10)
        z = np.repeat(rng.normal(0, 1, 30), 10)
        own = np.repeat(rng.normal(0, 0.03, 30), 10)
        events = (rng.random(300) < np.clip(0.15 + 0.05 * z + own, 0, 1)).astype(float)
        low, high = rate_at(events, z, 0.0, [latents]).estimate.interval
        inside += low <= 0.15 <= high
    assert inside >= 0.91 * STUDIES, "nominal: 95 %"


def test_the_achieved_score_leaves_out_the_trial_itself() -> None:
    scores = scores_of([[10.0], [20.0], [60.0], [0.0], None, [50.0]], per_latent=3)
    expected = [40.0, 35.0, 15.0, 50.0, 25.0, 0.0]
    assert others_mean(scores).tolist() == expected
