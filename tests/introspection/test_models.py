"""Verdicts on tiny models: one reports a direction, one merely says yes, one is untrained."""

import pandas as pd
import pytest

from esr.analysis.claims import read_claims
from esr.analysis.verdicts import score
from esr.introspection.measures import choices, self_reports
from esr.introspection.summary import summarise
from esr.introspection.thresholds import report_thresholds
from helpers.checkout import REPO
from helpers.introspective import Habit, read

CLAIMS = read_claims([REPO / "resources/claims/introspection.csv"])
DETECTS = ["detects", "detects-everywhere", "detects-two-turn"]


def measured(habit: Habit) -> pd.DataFrame:
    """The table of a model, as the stage makes it from its plan."""
    plan, readouts = read(habit)
    reports = self_reports(plan, readouts)
    found = report_thresholds(reports, 1.0, 0.95, 45)
    return summarise(reports, choices(plan, readouts), found, 0.95)


@pytest.fixture(scope="module")
def tables() -> dict[Habit, pd.DataFrame]:
    habits: tuple[Habit, ...] = ("reports", "says yes", "none")
    return {habit: measured(habit) for habit in habits}


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    scored = score(CLAIMS, {"tables/introspection.csv": table}).set_index("claim")
    return scored["verdict"].to_dict()


def overall(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["dose"].eq("all")].set_index(["window", "measure"])


def test_a_model_that_reports_a_direction_is_confirmed_in_every_window(
    tables: dict[Habit, pd.DataFrame],
) -> None:
    found = verdicts(tables["reports"])
    assert [found[name] for name in DETECTS] == ["confirmed"] * 3


def test_a_model_that_says_yes_under_any_injection_is_not(
    tables: dict[Habit, pd.DataFrame],
) -> None:
    table = overall(tables["says yes"])
    pushed = table.xs("off_target_log_odds", level="measure")
    assert (pushed["low"] > 2).all()  # the habit is there, and large
    assert "confirmed" not in verdicts(tables["says yes"]).values()
    assert (table.xs("reported_rate", level="measure")["value"] == 0).all()


def test_random_weights_are_not(tables: dict[Habit, pd.DataFrame]) -> None:
    assert "confirmed" not in verdicts(tables["none"]).values()


def test_no_model_here_was_trained_to_name_a_direction(
    tables: dict[Habit, pd.DataFrame],
) -> None:
    for table in tables.values():
        found = verdicts(table)
        assert "confirmed" not in {found["names"], found["names-injected"]}


def test_without_the_section_no_claim_is_run() -> None:
    scored = score(CLAIMS, {})
    assert scored["verdict"].eq("not run").all()
