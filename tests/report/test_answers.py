"""Sentences of the summary, and tracks of the forest plot: what the numbers allow to be written."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from esr.report.answers import Answer, answers
from esr.report.forest import PAD, WIDTH, figure_of, track, transcripts_of

WAYS = {"primary": "primary", "gated": "gated", "second": "second judge", "judge_free": "phrases"}
RATES = ["esr_rate", "success_rate", "multi_attempt_rate"]


def table(**values: Any) -> pd.DataFrame:
    row = {"way": "primary", "model": "m", "arm": "steered", "status": "ok", "n": 100}
    return pd.DataFrame([row | values])


def summary(way: str = "primary", **ends: tuple[float, float, float]) -> pd.DataFrame:
    parts = [
        table(way=way, measure=name, **dict(zip(("estimate", "low", "high"), three, strict=True)))
        for name, three in ends.items()
    ]
    return pd.concat(parts)


def ablation(low: float, high: float, **changes: Any) -> pd.DataFrame:
    row = {"arm": "ablate-otd", "measure": "multi_attempt_rate", "low": low, "high": high}
    return table(**row | {"difference": (low + high) / 2} | changes)


def control(low: float, high: float) -> pd.DataFrame:
    row = {"arm": "ablate-random - ablate-otd", "kind": "sets", "measure": "multi_attempt_rate"}
    return table(**row, value=(low + high) / 2, low=low, high=high)


PLAIN = summary(esr_rate=(8.7, 5.6, 13.2), success_rate=(74.6, 58.9, 85.8))


def only(**tables: pd.DataFrame) -> Answer:
    (found,) = answers({"summary": PLAIN, **tables}, {"m": "Model", "absent": "Absent"}, WAYS)
    return found


def test_a_rate_has_its_interval_and_its_size() -> None:
    found = only()
    assert found.rate == (
        "restarts and improves its score in 8.7 % [5.6, 13.2] of 100 steered responses"
    )
    assert found.recovery == "of its 100 restarts 74.6 % [58.9, 85.8] improve the score"


def test_a_rate_is_named_beside_that_of_a_new_draw() -> None:
    null = table(measure="esr_rate", null=16.6, excess=-12.8, low=-15.9, high=-10.0)
    assert only(recovery=null).rate.endswith(
        "; with a new draw in place of the last attempt it would in 16.6 % (less than chance)"
    )
    few = null.assign(status="few_clusters")
    assert only(recovery=few).rate.endswith("(not comparable: few_clusters)")


def test_what_was_not_measured_is_not_answered() -> None:
    found = only()
    assert found.detectors == "not measured"
    assert found.grading == "not known, no independent way measured it"
    assert found.details == ()
    none = summary(esr_rate=(np.nan,) * 3, success_rate=(np.nan,) * 3)
    assert only(summary=none).rate == "has no steered response that was scored"
    assert only(summary=none).recovery == "its restarts are not known"
    assert answers({}, {"m": "Model"}, WAYS) == []


def test_a_value_without_an_interval_is_shown_with_the_reason() -> None:
    few = summary(esr_rate=(1.0, np.nan, np.nan), success_rate=(75.0, np.nan, np.nan))
    found = only(summary=few.assign(status="too_few", n=4))
    assert "in 1.0 % (no interval: too_few) of 4 steered" in found.rate
    assert found.recovery == "of its 4 restarts 75.0 % (no interval: too_few) improve the score"


def test_no_second_attempt_is_what_the_judge_found_and_no_more() -> None:
    zero = summary(esr_rate=(0.0, 0.0, 3.3), success_rate=(np.nan,) * 3)
    zero.loc[zero["measure"].eq("success_rate"), "n"] = 0
    assert only(summary=zero).recovery == "the primary judge finds no second attempt"


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (-0.3, 28.9, "not distinguishable from chance"),
        (0.3, 28.9, "more than chance"),
        (-28.9, -0.3, "less than chance"),
    ],
)
def test_recovery_is_more_than_chance_only_if_its_interval_is(
    low: float, high: float, shown: str
) -> None:
    null = table(measure="success_rate", null=60.3, excess=(low + high) / 2, low=low, high=high)
    assert only(recovery=null).details[0].endswith(f"{shown}.")


@pytest.mark.parametrize(
    ("change", "random", "word"),
    [
        ((-12.0, -5.0), (0.1, 30.0), "yes"),
        ((-12.0, -5.0), (-0.1, 30.0), "not shown"),
        ((-12.0, -5.0), None, "not shown"),
        ((-12.0, 0.5), (0.1, 30.0), "not shown"),
        ((0.5, 12.0), (-30.0, -0.1), "no"),
    ],
)
def test_detectors_contribute_if_their_ablation_matters_more_than_that_of_random_latents(
    change: tuple[float, float], random: tuple[float, float] | None, word: str
) -> None:
    tables = {"comparisons": by_both(ablation(*change))}
    if random is not None:
        tables["contrasts"] = by_both(control(*random))
    assert only(**tables).detectors == word


def by_both(found: pd.DataFrame, second: pd.DataFrame | None = None) -> pd.DataFrame:
    """A row by the primary judge, and the same or another one by the second."""
    return pd.concat([found, (found if second is None else second).assign(way="second")])


@pytest.mark.parametrize(
    ("change", "random", "word"),
    [
        ((-12.0, 1.0), (0.1, 30.0), "by the primary judge alone"),
        ((2.0, 12.0), (-10.0, -4.0), "depends on the way of grading (not by second judge)"),
    ],
)
def test_one_judge_does_not_make_detectors_contribute(
    change: tuple[float, float], random: tuple[float, float], word: str
) -> None:
    tables = {
        "comparisons": by_both(ablation(-12.0, -5.0), ablation(*change)),
        "contrasts": by_both(control(0.1, 30.0), control(*random)),
    }
    assert only(**tables).detectors == word
    alone = {name: found[found["way"].eq("primary")] for name, found in tables.items()}
    assert only(**alone).detectors == "by the primary judge alone"


@pytest.mark.parametrize(
    ("second", "word"),
    [
        (None, "yes"),
        (ablation(-12.0, -5.0), "yes"),
        (ablation(-12.0, 1.0), "not shown by second judge"),
        (ablation(-12.0, -5.0, status="few_clusters"), "not shown by second judge"),
    ],
)
def test_phrases_do_not_stand_in_for_a_second_judge_that_measures_it(
    second: pd.DataFrame | None, word: str
) -> None:
    """The primary judge may look for the same phrases."""
    free = ablation(-12.0, -5.0, way="judge_free")
    kept = [] if second is None else [second.assign(way="second")]
    ways = ["primary", "judge_free", "second"]
    tables = {
        "comparisons": pd.concat([ablation(-12.0, -5.0), free, *kept]),
        "contrasts": pd.concat([control(0.1, 30.0).assign(way=way) for way in ways]),
    }
    assert only(**tables).detectors == word


def test_an_unreliable_interval_shows_nothing_about_detectors() -> None:
    sparse = ablation(-12, -5, status="sparse")
    assert only(comparisons=sparse, contrasts=control(1, 2)).detectors == "not measured"


@pytest.mark.parametrize(
    ("way", "second", "status", "word"),
    [
        ("second", (9.0, 8.0, 10.0), "ok", "yes (second judge)"),
        ("second", (9.0, 6.5, 12.0), "ok", "not shown"),
        ("second", (9.0, 8.0, 10.0), "few_clusters", "not known, no independent way measured it"),
        ("judge_free", (9.0, 8.0, 10.0), "ok", "yes (phrases)"),
        ("gated", (9.0, 8.0, 10.0), "ok", "not known, no independent way measured it"),
    ],
)
def test_it_depends_on_the_way_of_grading_if_intervals_are_apart(
    way: str, second: tuple[float, float, float], status: str, word: str
) -> None:
    both = [
        PLAIN,
        summary(multi_attempt_rate=(6.0, 5.0, 7.0)),
        summary(way, multi_attempt_rate=second).assign(status=status),
    ]
    found = only(summary=pd.concat(both))
    assert found.grading == word
    if not word.startswith("not known"):
        assert f"primary 6.0 [5.0, 7.0], {WAYS[way]} 9.0" in found.details[0]


def claim(**values: Any) -> dict[str, Any]:
    row = dict.fromkeys(["lower", "upper", "low", "high", "measured", "null"], np.nan)
    return row | {"verdict": "confirmed", "experiment": "Figure 2", "where": ""} | values


def test_a_track_holds_interval_region_and_null_in_order() -> None:
    found = track(claim(lower=0.0, null=0.0, low=6.0, high=16.0, measured=11.0), ["fig2"], [])
    assert found.null == PAD
    assert found.region == (PAD, WIDTH), "an open end reaches the border"
    assert found.interval is not None
    assert found.mark is not None
    assert PAD < found.interval[0] < found.mark < found.interval[1] == WIDTH - PAD
    assert found.ends == ((PAD, 0.0),)
    assert found.arrows == (False, False)


def test_a_position_lies_inside_the_region_exactly_if_its_value_does() -> None:
    for value in (-7.0, -5.0, 0.0, 4.9, 5.0, 5.1):
        found = track(claim(lower=-5.0, upper=5.0, null=20.0, measured=value), [], [])
        assert found.mark is not None
        inside = found.region[0] <= found.mark <= found.region[1]
        assert inside == (-5 <= value <= 5)


def test_an_infinite_end_is_an_arrow_and_a_missing_measurement_no_interval() -> None:
    found = track(claim(upper=0.0, null=3.0, low=-100.0, high=np.inf), [], [])
    assert found.arrows == (False, True)
    assert found.mark is None, "the middle of an infinite interval is no value"
    empty = track(claim(upper=0.0, null=3.0, verdict="not run"), [], [])
    assert (empty.interval, empty.mark, empty.shape) == (None, None, "bar")


@pytest.mark.parametrize(
    ("row", "address"),
    [
        ({"experiment": "Figure A2", "table": "figures/figA2.csv"}, "figures.html#figA2"),
        ({"experiment": "Thresholds", "table": "tables/summary.csv"}, "tables.html#summary"),
        ({"experiment": "Figure 99", "table": "figures/figA2.csv"}, "figures.html#figA2"),
        ({"experiment": "Table A1", "table": "tables/tableA1.csv"}, "tables.html#tableA1"),
    ],
)
def test_a_claim_leads_to_its_figure_or_table(row: dict[str, str], address: str) -> None:
    assert figure_of(row, ["fig2", "figA2"]) == address


@pytest.mark.parametrize(
    ("where", "state"),
    [
        ("model=m; arm=ablate-otd; measure=esr_rate", "model=m&arm=ablate-otd&change=up"),
        ("kind=sweep; model=m|n; measure=first_score", "model=m&arm=boost-sweep"),
        ("kind=pair; model=n; measure=mean_attempts", "model=n&arm=steered&attempts=2%2B"),
        ("arm=steered - unsteered; model=m", "model=m&arm=steered"),
        ("arm=ablate-random - ablate-otd; model=m", "model=m&arm=ablate-otd"),
    ],
)
def test_a_claim_leads_to_transcripts_of_its_model_arm_and_measure(where: str, state: str) -> None:
    assert transcripts_of(where, ["m", "n"]) == f"transcripts.html#{state}"
    assert transcripts_of("model!=m; arm=steered", ["m"]) == ""
    assert transcripts_of("", ["m"]) == ""
