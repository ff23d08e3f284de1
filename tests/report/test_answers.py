"""Sentences of the summary, and tracks of the forest plot: what the numbers allow to be written."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from esr.report.answers import Answer, answers
from esr.report.forest import PAD, WIDTH, figure_of, track, transcripts_of

WAYS = {"primary": "primary", "gated": "gated", "second": "second judge"}
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
    assert found.rate == "corrects itself in 8.7 % [5.6, 13.2] of 100 steered responses"
    assert found.recovery == "of its 100 restarts 74.6 % [58.9, 85.8] improve the score"


def test_what_was_not_measured_is_not_answered() -> None:
    found = only()
    assert found.detectors == "not measured"
    assert found.judges == "not known, there is one way of grading"
    assert found.details == ()
    none = summary(esr_rate=(np.nan,) * 3, success_rate=(np.nan,) * 3)
    assert only(summary=none).rate == "has no steered response that was scored"
    assert only(summary=none).recovery == "it makes no second attempt"
    assert answers({}, {"m": "Model"}, WAYS) == []


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
    ("change", "random", "needed"),
    [
        ((-12.0, -5.0), (0.1, 30.0), "yes"),
        ((-12.0, -5.0), (-0.1, 30.0), "not shown"),
        ((-12.0, -5.0), None, "not shown"),
        ((-12.0, 0.5), (0.1, 30.0), "not shown"),
        ((0.5, 12.0), (-30.0, -0.1), "no"),
    ],
)
def test_detectors_are_needed_if_their_ablation_matters_more_than_that_of_random_latents(
    change: tuple[float, float], random: tuple[float, float] | None, needed: str
) -> None:
    tables = {"comparisons": ablation(*change)}
    if random is not None:
        tables["contrasts"] = control(*random)
    assert only(**tables).detectors == needed


def test_an_unreliable_interval_shows_nothing_about_detectors() -> None:
    sparse = ablation(-12, -5, status="sparse")
    assert only(comparisons=sparse, contrasts=control(1, 2)).detectors == "not measured"


@pytest.mark.parametrize(
    ("second", "depends"), [((9.0, 8.0, 10.0), "yes"), ((9.0, 6.5, 12.0), "not shown")]
)
def test_it_depends_on_the_judge_if_intervals_are_apart(
    second: tuple[float, float, float], depends: str
) -> None:
    both = [
        PLAIN,
        summary(multi_attempt_rate=(6.0, 5.0, 7.0)),
        summary("second", multi_attempt_rate=second),
    ]
    found = only(summary=pd.concat(both))
    assert found.judges == depends
    assert "primary 6.0 [5.0, 7.0], second judge 9.0" in found.details[0]


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
