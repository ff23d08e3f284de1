"""The search for thresholds, driven with answers from a planted dose-response."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from esr.config import ThresholdPriorConfig, ThresholdsConfig
from esr.errors import EsrError
from esr.journal import Journal
from esr.judges.base import Attempt, Judgment
from esr.tables import write_table
from esr.thresholds.search import (
    PromptSampler,
    ProposalLog,
    Query,
    estimate_for_target,
    find_thresholds,
    sampling_seed,
)
from helpers.fake_executor import Answer, Rounds

PRIOR = ThresholdPriorConfig(lower=0, upper=40, mean=12, sd=8)
PLANTED = {3: 6.0, 8: 12.0, 20: 18.0, 5: 25.0}
"""Boost at which the mean score is 50 points, by latent."""
PROMPTS = [f"p{i}" for i in range(12)]


def latents_table(latents: Sequence[int] = tuple(PLANTED)) -> pd.DataFrame:
    rows = [
        {"latent": k, "order": i, "label": f"thing {k}", "selected": True, "prompts": PROMPTS}
        for i, k in enumerate(latents)
    ]
    unused = {"latent": 99, "order": len(rows), "label": "x", "selected": False, "prompts": []}
    return pd.DataFrame([*rows, unused])


def scored(score: float) -> Judgment:
    return Judgment("ok", (Attempt(0, 1, score),))


def planted(query: Query) -> Judgment:
    """Falls from 100 to 0 points around the latent's threshold; the seed decides the rest."""
    mean = 1 / (1 + np.exp((query.boost - PLANTED[query.latent]) / 1.5))
    return scored(100 * np.random.default_rng(query.seed).beta(6 * mean, 6 * (1 - mean)))


def each(judge: Callable[[Query], Judgment]) -> Answer:
    return lambda queries: [judge(query) for query in queries]


def find(
    answer: Answer, latents: Sequence[int] = tuple(PLANTED), seed: int = 43, **settings: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    chosen = ThresholdsConfig.model_validate({"steps": 15} | settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return find_thresholds(latents_table(latents), chosen, PRIOR, seed, Rounds(answer))


@pytest.mark.parametrize("method", ["logistic", "bisection"])
def test_a_planted_dose_response_is_recovered(method: str) -> None:
    thresholds, _ = find(each(planted), method=method)
    assert thresholds["latent"].tolist() == list(PLANTED)
    error = thresholds["threshold"] - list(PLANTED.values())
    assert error.abs().max() < 1.5
    assert thresholds["status"].eq("converged").all()
    assert (thresholds["achieved"] - 50).abs().max() < 15


def test_another_target_is_found_on_the_other_side() -> None:
    lower, upper = (
        find(each(planted), target=target, method="bisection")[0]["threshold"]
        for target in (80, 20)
    )
    assert (lower < upper).all()


def test_the_tables_are_those_of_a_study(tmp_path: Path) -> None:
    thresholds, trials = find(each(planted), steps=3)
    write_table(thresholds.assign(norm=1.0, kl=0.1), tmp_path / "t.parquet", "thresholds", {})
    write_table(trials, tmp_path / "q.parquet", "threshold_trials", {})
    assert len(trials) == 3 * 2 * len(PLANTED)
    assert set(trials["latent"]) == set(PLANTED)
    assert thresholds["n_samples"].tolist() == [6] * 4


def test_all_latents_advance_together_a_step_at_a_time() -> None:
    batches = []

    def answer(queries: Sequence[Query]) -> list[Judgment]:
        batches.append([(query.step, query.latent, query.sample) for query in queries])
        return [planted(query) for query in queries]

    find(answer, steps=2, samples_per_step=3)
    assert batches == [[(s, k, i) for k in PLANTED for i in range(3)] for s in range(2)]


# A missing score is not 0


def refusing(query: Query) -> Judgment:
    """Answers every other sample only; a 0 in place of the rest would halve all thresholds."""
    return planted(query) if query.sample == 0 else Judgment("no_attempts")


def test_responses_without_score_move_no_threshold_and_are_counted() -> None:
    thresholds, trials = find(each(refusing))
    assert (thresholds["threshold"] - list(PLANTED.values())).abs().max() < 2.5
    assert thresholds["n_samples"].tolist() == [15] * 4
    assert thresholds["n_missing"].tolist() == [15] * 4
    missing = trials[trials["sample"] == 1]
    assert missing["first_score"].isna().all()
    assert missing["status"].eq("no_attempts").all()


def test_a_latent_without_any_score_has_a_status_and_no_threshold(tmp_path: Path) -> None:
    def answer(query: Query) -> Judgment:
        return Judgment("refused") if query.latent == 8 else planted(query)

    thresholds, _ = find(each(answer), steps=10)
    silent = thresholds.set_index("latent").loc[8]
    assert silent["status"] == "no_data"
    assert pd.isna(silent["threshold"])
    assert thresholds["status"].tolist().count("converged") == 3
    write_table(thresholds.assign(norm=1.0, kl=0.1), tmp_path / "t.parquet", "thresholds", {})


def test_a_step_without_any_score_is_survived() -> None:
    thresholds, _ = find(each(lambda query: Judgment("api_error")), steps=2)
    assert thresholds["status"].eq("no_data").all()


def test_zero_is_a_score() -> None:
    thresholds, _ = find(each(lambda query: scored(0)), steps=4)
    assert thresholds["n_missing"].eq(0).all()
    assert thresholds["n_samples"].eq(8).all()


def test_answers_that_do_not_match_the_queries_are_an_error() -> None:
    with pytest.raises((EsrError, ValueError)):
        find(lambda queries: [planted(query) for query in queries[:-1]])


# Prompts and seeds


def test_a_latent_meets_every_prompt_once_before_any_twice() -> None:
    _, trials = find(each(planted), steps=12, samples_per_step=2, method="bisection")
    for _, own in trials.groupby("latent"):
        drawn = own.sort_values(["step", "sample"])["prompt_id"].tolist()
        assert sorted(drawn[:12]) == sorted(PROMPTS)
        assert sorted(drawn[12:]) == sorted(PROMPTS)
        assert drawn[:12] != drawn[12:]


def test_decks_differ_between_latents_and_between_seeds() -> None:
    def deck(seed: int, latent: int) -> list[str]:
        cards = PromptSampler(PROMPTS, seed, latent)
        return [cards.next() for _ in PROMPTS]

    assert deck(43, 3) == deck(43, 3)
    assert len({tuple(deck(s, k)) for s in (43, 44) for k in (3, 8)}) == 4


def test_a_search_repeats_itself() -> None:
    first, second = find(each(planted), steps=4), find(each(planted), steps=4)
    pd.testing.assert_frame_equal(first[0], second[0])
    pd.testing.assert_frame_equal(first[1], second[1])


def test_another_seed_gives_other_queries() -> None:
    first, second = (find(each(planted), seed=seed, steps=1)[1] for seed in (43, 44))
    assert first["prompt_id"].tolist() != second["prompt_id"].tolist()
    assert set(first["seed"]).isdisjoint(second["seed"])


@pytest.mark.parametrize(
    ("method", "same"),
    [
        ("bisection", ["step", "sample", "prompt_id", "seed", "boost"]),
        # The logistic method learns how steep curves are from all latents, so boosts may differ.
        ("logistic", ["step", "sample", "prompt_id", "seed"]),
    ],
)
def test_another_latent_in_the_study_changes_no_prompt_or_seed_of_the_others(
    method: str, same: list[str]
) -> None:
    _, alone = find(each(planted), latents=[20, 3], method=method, steps=6)
    _, together = find(each(planted), latents=[8, 3, 5, 20], method=method, steps=6)
    for latent in (3, 20):
        of_latent = [trials[trials["latent"] == latent] for trials in (alone, together)]
        pd.testing.assert_frame_equal(
            *(trials[same].reset_index(drop=True) for trials in of_latent)
        )


def test_sampling_seeds_are_these_and_all_their_own() -> None:
    seeds = {sampling_seed(43, k, s, i) for k in range(20) for s in range(10) for i in range(2)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert sampling_seed(43, 3, 0, 0) == 3948493598


class TestIndependentLatents:
    """Each latent is queried as soon as its own last step is judged, in any order."""

    def test_what_is_planted_is_recovered_and_tables_do_not_show_the_order(self) -> None:
        settings = ThresholdsConfig(steps=15)
        table = latents_table()
        thresholds, trials = find_thresholds(
            table, settings, PRIOR, 43, Rounds(each(planted), independent=True)
        )
        assert thresholds["latent"].tolist() == list(PLANTED)
        assert (thresholds["threshold"] - list(PLANTED.values())).abs().max() < 1.5
        places = [list(PLANTED).index(latent) for latent in trials["latent"]]
        order = list(zip(trials["step"], places, trials["sample"], strict=True))
        assert order == sorted(order)

    def test_the_estimate_is_that_of_the_observations_in_order(self) -> None:
        settings = ThresholdsConfig(steps=6)
        independent = Rounds(each(planted), independent=True)
        thresholds, trials = find_thresholds(latents_table(), settings, PRIOR, 43, independent)
        again = estimate_for_target(thresholds, trials, settings, PRIOR, settings.target)
        pd.testing.assert_frame_equal(thresholds, again)

    def test_a_search_that_was_killed_repeats_its_queries(self, tmp_path: Path) -> None:
        queries: list[Query] = []

        def note(query: Query) -> Judgment:
            if len(queries) == stop:
                raise KeyboardInterrupt
            queries.append(query)
            return planted(query)

        def search(independent: bool) -> pd.DataFrame:
            with Journal(tmp_path / "journal.jsonl") as journal:
                rounds = Rounds(each(note), independent)
                course = ProposalLog(journal, judge="planted")
                return find_thresholds(
                    latents_table(), ThresholdsConfig(steps=6), PRIOR, 43, rounds, course
                )[1]

        stop = 17
        with pytest.raises(KeyboardInterrupt):
            search(independent=True)
        before, stop = {(q.latent, q.step, q.sample): q for q in queries}, 10**6
        queries.clear()
        # In another order now, so that proposals would differ: recorded queries are repeated.
        search(independent=False)
        again = {(q.latent, q.step, q.sample): q for q in queries}
        assert len(before) == 17
        assert before.items() <= again.items()

    def test_a_course_is_that_of_an_engine_and_a_judge(self, tmp_path: Path) -> None:
        with Journal(tmp_path / "journal.jsonl") as journal:
            first = ProposalLog(journal, judge="a").boosts(3, 0, lambda: np.array([1.0]))
            assert (
                ProposalLog(journal, judge="a").boosts(3, 0, lambda: np.array([2.0])) == first == 1
            )
            assert ProposalLog(journal, judge="b").boosts(3, 0, lambda: np.array([2.0])) == 2
            assert ProposalLog(journal, judge="a").boosts(3, 1, lambda: np.array([2.0])) == 2

    def test_what_an_earlier_version_proposed_stands(self, tmp_path: Path) -> None:
        with Journal(tmp_path / "journal.jsonl") as journal:
            ProposalLog(journal, judge="with its batch size").boosts(3, 0, lambda: np.array([1.0]))
            now = ProposalLog(journal, {"judge": "with its batch size"}, judge="a")
            assert now.boosts(3, 0, lambda: np.array([2.0])) == 1
            assert now.boosts(4, 0, lambda: np.array([2.0])) == 2
            # What is proposed now has the key of now.
            assert ProposalLog(journal, judge="a").boosts(4, 0, lambda: np.array([3.0])) == 2
