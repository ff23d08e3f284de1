"""The second-phase sample: which arms it covers, who is drawn, and what the weights estimate."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esr.agreement.arms import sampled_cells
from esr.agreement.compare import compare_judges
from esr.agreement.sample import REST_LEAST, draw_sample, permanent_numbers, strata
from esr.analysis.claims import Region, decide, read_finding
from esr.config import AgreementConfig, Config, StatisticsConfig, load
from esr.config.load import merge
from esr.plain_yaml import load_yaml
from esr.planning.costs import planned_calls
from helpers.checkout import load_script

ROOT = Path(__file__).parents[2]
FAST = StatisticsConfig(bootstrap=200)
LATENTS, PROMPTS = 20, 10
ARMS = ("steered", "ablate-otd")


def arm(name: str, flagged: float, seed: int = 0, model: str = "m") -> pd.DataFrame:
    """Scores of an arm on the trials that all arms share, with this rate of several attempts."""
    n = LATENTS * PROMPTS
    several = np.random.default_rng(seed).random(n) < flagged
    return pd.DataFrame(
        {
            "trial_id": [f"{model}/{name}/{i}" for i in range(n)],
            "model": model,
            "arm": name,
            "latent": pd.array(np.repeat(np.arange(LATENTS), PROMPTS), "Int64"),
            "prompt_id": [f"p{i % PROMPTS}" for i in range(n)],
            "seed": 1000 + np.arange(n),
            "status": "ok",
            "multi_attempt": pd.array(several, "boolean"),
            "restart_detected": pd.array(several, "boolean"),
            "n_attempts": pd.array(np.where(several, 2, 1), "Int64"),
            "first_score": 50.0,
            "last_score": 50.0,
            "score_change": 0.0,
            "improved": pd.array([False] * n, "boolean"),
        }
    )


def two_arms(rate: float = 0.1) -> pd.DataFrame:
    table = pd.concat([arm("steered", rate), arm("ablate-otd", rate / 2, 1)], ignore_index=True)
    return table.assign(stratum=strata(table))


def drawn(table: pd.DataFrame, **sizes: Any) -> pd.DataFrame:
    return draw_sample(table, AgreementConfig(**sizes))


def keys(sample: pd.DataFrame, name: str) -> set[tuple[Any, ...]]:
    mine = sample[sample["arm"].eq(name) & sample["stratum"].eq("rest")]
    return set(zip(mine["latent"], mine["prompt_id"], mine["seed"], strict=True))


# Strata


def test_a_stratum_is_what_judge_and_restart_detector_found() -> None:
    table = arm("steered", 0).iloc[:4].copy()
    table.loc[0, "multi_attempt"] = True
    table.loc[1, "restart_detected"] = True
    table.loc[3, "status"] = "refused"
    table.loc[3, ["multi_attempt", "n_attempts"]] = pd.NA
    assert strata(table).tolist() == ["several", "restart", "rest", "unscored"]


# The draw


def test_arms_that_share_trials_are_sampled_at_the_same_trials() -> None:
    table = two_arms()
    sample = drawn(table, size=150)
    rest = {name: table[table["arm"].eq(name) & table["stratum"].eq("rest")] for name in ARMS}
    common = set.intersection(
        *(set(zip(t["latent"], t["prompt_id"], t["seed"], strict=True)) for t in rest.values())
    )
    first, second = (keys(sample, name) & common for name in ARMS)
    assert first == second
    assert len(first) > 30


def test_a_number_follows_from_the_trial_and_the_seed_of_the_draw() -> None:
    table = two_arms()
    steered, ablated = (permanent_numbers(table[table["arm"].eq(a)], 42) for a in ARMS)
    assert (steered == ablated).all()
    assert (permanent_numbers(arm("steered", 0), 43) != steered).all()
    # uniform: the mean of 200 numbers is within 4 standard errors of a half
    assert abs(steered.mean() - 0.5) < 4 / np.sqrt(12 * len(steered))


@settings(max_examples=25)
@given(st.integers(20, 500), st.integers(1, 100), st.floats(0, 0.9))
def test_the_sample_keeps_to_its_size_and_to_the_caps(size: int, cap: int, rate: float) -> None:
    table = two_arms(rate)
    sample = drawn(table, size=size, per_stratum=cap)
    assert len(sample) <= size
    counts = sample.groupby(["arm", "stratum"]).size()
    assert (counts.drop("rest", level="stratum") <= cap).all()
    if size >= 100:
        least = table[table["stratum"].eq("rest")].groupby("arm").size().clip(upper=REST_LEAST)
        assert (counts.xs("rest", level="stratum") >= least).all()


def test_weights_add_up_to_the_trials_of_every_arm() -> None:
    table = two_arms()
    sample = drawn(table, size=120, per_stratum=15)
    for name in ARMS:
        mine = sample[sample["arm"].eq(name)]
        assert mine["weight"].sum() == pytest.approx(LATENTS * PROMPTS)
        several = mine.loc[mine["stratum"].eq("several"), "weight"].sum()
        all_of = table[table["arm"].eq(name)]
        assert several == pytest.approx(all_of["multi_attempt"].sum())


def test_weighted_rates_of_unflagged_trials_are_unbiased() -> None:
    # Half of the latents have an event that nobody flags: the mean over draws finds their share.
    table = two_arms()
    missed = table["latent"].lt(LATENTS // 2) & table["stratum"].eq("rest")
    truth = missed.mean()
    found = []
    for seed in range(60):
        sample = drawn(table, size=120, per_stratum=15, seed=seed)
        inside = sample["trial_id"].isin(table.loc[missed, "trial_id"])
        found.append(sample.loc[inside, "weight"].sum() / len(table))
    assert np.mean(found) == pytest.approx(truth, abs=4 * np.std(found) / np.sqrt(len(found)))


# Arms


def study(name: str, **changes: Any) -> Config:
    texts = [(ROOT / path).read_text() for path in ("config.yaml", f"studies/{name}.yaml")]
    return load(merge(*map(load_yaml, texts), {"study": name}, changes))


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.usefixtures("claims")
def test_every_arm_that_a_claim_of_the_organism_reads_is_sampled() -> None:
    found = sampled_cells(study("organism"))
    for cell in [
        ("planted", "steered"),
        ("twin", "steered"),
        ("planted", "ablate-otd"),
        ("planted", "ablate-random-2"),
        ("planted", "branch-random-2"),
        ("planted", "meta-self-monitor"),
        ("planted", "boost-sweep"),
        ("twin", "unsteered"),
        ("twin+sc90", "steered"),
    ]:
        assert cell in found
    assert ("planted", "meta-stay-on-topic") not in found
    assert ("planted", "discovery") not in found


@pytest.mark.usefixtures("claims")
def test_a_list_of_arms_overrides_the_claims_and_brings_what_they_replay() -> None:
    found = sampled_cells(study("organism", agreement={"arms": ["ablate-otd"]}))
    assert set(found) == {
        (model, name) for model in ("planted", "twin") for name in ("steered", "ablate-otd")
    }


@pytest.mark.usefixtures("claims")
def test_without_claims_the_steered_arms_are_sampled() -> None:
    assert sampled_cells(study("rebuilt")) == [("planted", "steered"), ("twin", "steered")]


@pytest.mark.usefixtures("claims")
def test_the_estimate_counts_the_sample_of_every_second_judge() -> None:
    config = study("paper")
    sample = {one.judge: one.calls for one in planned_calls(config) if one.rule == "judge_sample"}
    others = set(config.judging.llms) - {config.judging.primary}
    again = [one.calls for one in planned_calls(config) if one.rule == "retest_sample"]
    assert again == [config.agreement.retest]
    assert {judge: sample[judge] for judge in others} == dict.fromkeys(others, 44_000)


# Agreement, arm by arm, and against chance


def graded(sample: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    return table.set_index("trial_id").loc[sample["trial_id"]].reset_index()


def rows_of(table: pd.DataFrame, statistic: str, **where: str) -> pd.DataFrame:
    where = {"quantity": "multi_attempt", "judge_a": "a", "judge_b": "b"} | where
    keep = table["statistic"].eq(statistic) & table["weighting"].eq("population")
    for column, value in where.items():
        keep &= table[column].eq(value)
    return table[keep].set_index("arm")


def test_agreement_is_given_for_every_arm_and_for_all() -> None:
    table = two_arms(0.3)
    sample = drawn(table, size=300)
    scores = graded(sample, table)
    other = scores.copy()
    missed = scores["multi_attempt"] & scores["arm"].eq("ablate-otd")
    other.loc[missed[missed].index[::2], "multi_attempt"] = False
    found = compare_judges(sample, {"a": scores, "b": other}, FAST)
    kappa = rows_of(found, "kappa")["estimate"]
    assert set(kappa.index) == {"all", *ARMS}
    assert kappa["steered"] == pytest.approx(1)
    assert kappa["ablate-otd"] < kappa["all"] < 1
    positive = rows_of(found, "positive_agreement")
    n = int(missed.sum())
    expected = 2 * (n // 2) / (n + n // 2)
    assert positive.loc["ablate-otd", "estimate"] == pytest.approx(expected)
    assert (positive["low"] <= positive["estimate"]).all()


def test_a_random_second_judge_agrees_beyond_chance_in_no_study_of_20() -> None:
    table = two_arms(0.02)
    chance, raw = Region(0.6, np.inf), 0
    for seed in range(20):
        sample = drawn(table, size=200, seed=seed)
        scores = graded(sample, table)
        other = scores.copy()
        flags = np.random.default_rng(seed).random(len(scores)) < 0.02
        other["multi_attempt"] = pd.array(flags, "boolean")
        found = compare_judges(sample, {"a": scores, "b": other}, FAST)
        found = found[found["arm"].eq("all")]
        for name in ("kappa", "positive_agreement"):
            row = rows_of(found, name).reset_index().iloc[0].to_dict()
            verdict, _ = decide(read_finding(row, "estimate", exact=False), chance)
            assert verdict != "confirmed"
        raw += rows_of(found, "agreement")["low"].iloc[0] > 0.9
    assert raw > 10  # what raw agreement confirms in most of them


@pytest.mark.parametrize("answered", [True, False])
def test_an_arm_without_a_response_gives_no_trial(answered: bool) -> None:
    """As that of an ablation without detectors."""
    scores = arm("ablate-otd", 0.1).drop(columns="model")
    plan = scores[["trial_id", "arm", "latent", "prompt_id", "seed"]].assign(model="m")
    responses = scores[["trial_id"]].assign(response="x", status="ok", prefix_end=None)
    if not answered:
        responses["status"] = scores["status"] = "no_detectors"
    trials = load_script("sample_responses").trials_of(plan, responses, scores)
    assert len(trials) == len(scores) * answered
    assert {"trial_id", "stratum", "response"} <= set(trials)
