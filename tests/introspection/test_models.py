"""Verdicts on tiny models: one reports a direction, one merely says yes, one is untrained."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from esr.analysis.claims import read_claims
from esr.analysis.verdicts import score
from esr.introspection.measures import choices, self_reports
from esr.introspection.summary import summarise
from esr.introspection.thresholds import report_thresholds
from helpers.checkout import REPO
from helpers.introspective import LABELS, WIDTH, Habit, read, rows, vectors_of_file

CLAIMS = read_claims([REPO / "resources/claims/introspection.csv"])
DETECTS = ["detects", "detects-everywhere", "detects-two-turn"]


def tables_of(plan: pd.DataFrame, readouts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means and thresholds of a model, as the stage makes them from plan and readouts."""
    reports = self_reports(plan, readouts)
    found = report_thresholds(reports, 1.0, 0.95, 45)
    return summarise(reports, choices(plan, readouts), found, 0.95), found


def measured(habit: Habit) -> pd.DataFrame:
    """The table of a model whose latents are injected."""
    return tables_of(*read(habit))[0]


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


def along(
    habit: Habit, vectors: Float[Tensor, "n width"], folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables of a model into whose question the vectors of a file are injected."""
    mine = vectors_of_file(folder / "mine.safetensors", vectors)
    return tables_of(*read(habit, mine))


def test_vectors_of_a_file_that_the_model_reports_are_confirmed_at_any_length(
    tables: dict[Habit, pd.DataFrame], tmp_path: Path
) -> None:
    lengths = torch.linspace(0.01, 90, len(LABELS))[:, None]
    table, found = along("reports", lengths * rows().flip(0), tmp_path)
    assert verdicts(table)["detects"] == "confirmed"
    concepts = found[~found["is_random"]]
    assert concepts["directions"].eq("mine").all()
    assert concepts["label"].tolist() == sorted(LABELS)
    assert concepts["status"].eq("reached").all()
    # They are decoder rows, and scaled to the rows' norm: the same boosts give the same answers.
    same = overall(tables["reports"]).loc[("question", "shift_log_odds"), "value"]
    assert overall(table).loc[("question", "shift_log_odds"), "value"] == pytest.approx(same)


def test_vectors_that_the_model_does_not_know_are_not(tmp_path: Path) -> None:
    drawn = torch.randn(len(LABELS), WIDTH, generator=torch.Generator().manual_seed(9))
    table, _ = along("reports", drawn, tmp_path)
    assert "confirmed" not in verdicts(table).values()


def test_a_model_that_says_yes_under_any_vector_of_a_file_is_not(tmp_path: Path) -> None:
    table, _ = along("says yes", rows(), tmp_path)
    assert overall(table).loc[("question", "off_target_log_odds"), "low"] > 2
    assert "confirmed" not in verdicts(table).values()


def test_without_the_section_no_claim_is_run() -> None:
    scored = score(CLAIMS, {})
    assert scored["verdict"].eq("not run").all()
