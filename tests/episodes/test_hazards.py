"""esr.episodes.hazards: hazard of a restart given the detectors, from traces of a model."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from esr.config import EpisodesConfig, StatisticsConfig
from esr.episodes.hazards import ADJUSTED, HISTORIES, off_topic_tokens, restart_hazards
from esr.episodes.traces import Traces, lead_summary, lead_times
from helpers.checkout import load_script
from helpers.traces import made, many

LENGTH = 40
QUICK = StatisticsConfig(bootstrap=100)


def world(seed: int, effect: float, responses: int = 60) -> Traces:
    """Off-topic responses with high detectors, whose own level moves the log odds of a restart.

    The level persists along a response. On-topic responses have low detectors and no restart.
    """
    rng = np.random.default_rng(seed)
    trials: list[Any] = []
    for _ in range(responses):
        level = rng.normal()
        values = 3 + level + rng.normal(0, 0.5, LENGTH)
        struck = rng.random(LENGTH) < 1 / (1 + np.exp(4 - effect * level))
        start = int(struck[8:].argmax()) + 8 if struck[8:].any() else LENGTH
        if start + 6 > LENGTH:
            trials.append(("unrestarted", "o" * LENGTH, values.tolist()))
            continue
        letters = "o" * start + "ccc" + "n" * (LENGTH - start - 3)
        trials.append(("episode", letters, [*values[: start + 3], *[0.1] * (LENGTH - start - 3)]))
    trials += [("baseline", "n" * LENGTH, [0.1] * LENGTH) for _ in range(10)]
    return made(*trials)


def found(seed: int, effect: float) -> pd.Series:
    """The row that claims read."""
    table = restart_hazards(world(seed, effect), 25, 0.95)
    return table[table["history"].eq("so far") & table["adjusted"].eq("first score")].iloc[0]


def test_a_planted_effect_is_found_with_its_size() -> None:
    rows = [found(seed, effect=0.8) for seed in range(6)]
    assert sum(row["low"] > 1 for row in rows) >= 5
    assert np.median([row["hazard_ratio"] for row in rows]) == pytest.approx(np.exp(0.8), rel=0.25)


def test_detectors_that_are_merely_high_off_topic_announce_nothing() -> None:
    rows = [found(seed, effect=0) for seed in range(20)]
    assert sum(row["p_value"] <= 0.05 for row in rows) <= 4
    assert sum(row["low"] > 1 for row in rows) <= 2


def test_the_lead_that_noise_has_is_no_hazard() -> None:
    # A rise before every correction: what "mean lead above 0" takes for an announcement.
    traces = world(3, effect=0)
    leads = lead_times(traces.tokens("detector"), EpisodesConfig())
    lead = lead_summary(leads, QUICK).set_index("quantity").loc["mean lead"]
    assert lead["low"] > 5
    assert not found(3, effect=0)["low"] > 1


def test_only_off_topic_responses_are_at_risk() -> None:
    traces = world(0, 0.5)
    first = traces.episodes["trial_id"].iloc[0]
    traces.episodes.loc[traces.episodes["trial_id"].eq(first), "first_score"] = 60.0
    groups = off_topic_tokens(traces, "detector", 25)
    assert set(groups["group"]) == {"episode", "unrestarted"}
    assert first not in set(groups["trial_id"])
    table = restart_hazards(traces, 25, 0.95)
    assert table["n"].eq(groups["trial_id"].nunique()).all()
    events = groups[groups["group"].eq("episode")]["trial_id"].nunique()
    assert table["n_events"].eq(events).all()


def test_a_latent_that_drives_detectors_by_itself_is_distinguished() -> None:
    # Activity differs between latents only: nothing is left within them.
    traces = world(1, effect=0.8)
    tokens = traces.activations
    tokens["activation"] = tokens.groupby("trial_id")["activation"].transform("first")
    table = restart_hazards(traces, 25, 0.95).set_index(["history", "adjusted"])
    assert table.loc[("so far", "first score"), "low"] > 1
    assert table.loc[("so far", "first score, latent"), "status"] == "undefined"


def test_every_variant_has_a_row_also_without_restarts() -> None:
    table = restart_hazards(made(("unrestarted", "o" * 20, [1.0] * 20)), 25, 0.95)
    assert len(table) == len(HISTORIES) * len(ADJUSTED)
    assert table["status"].eq("undefined").all()
    assert restart_hazards(made(), 25, 0.95)["n"].eq(0).all()


def test_the_table_has_the_reason_why_a_model_has_no_hazard() -> None:
    script = load_script("tabulate_hazards")

    class Study:
        episodes = EpisodesConfig()
        statistics = QUICK

    table = script.tabulate({"a": many(), "b": made(("baseline", "nn", [1.0, 1.0]))}, Study())
    assert table.groupby("model")["status"].first()["b"] == "no_self-corrections"
    shown = script.printed(table)
    assert shown.loc[shown["model"].eq("b"), "ratio"].eq("n/a").all()
