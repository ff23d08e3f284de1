"""esr.arms.attempts: which attempts of a judgment count, and gated measures."""

from typing import Any

import pandas as pd
import pytest

from esr.arms.attempts import count_attempts
from esr.judges.base import Attempt, Judgment, judgments_table

FAR = 1000
"""Characters between attempts, so that a restart phrase is near one of them only."""


def counted(attempts: list[tuple[float, str, bool]], status: str = "ok") -> dict[str, Any]:
    """Counts of a trial, given score, `located` and restart phrase of each of its attempts."""
    rows, phrases = [], []
    for i, (score, located, opened) in enumerate(attempts):
        found = located not in ("not_found", "doubled")
        start, end = (FAR * i, FAR * i + 5) if found else (None, None)
        rows.append(Attempt(start, end, score, located))
        phrases += [(FAR * i, FAR * i + 4)] if opened else []
    table = judgments_table(["t"], [Judgment(status, tuple(rows))], "judge", [phrases])
    (row,) = count_attempts(table).to_dict("records")
    return {name: None if pd.isna(value) else value for name, value in row.items()}


Listed = list[tuple[float, str, bool]]


@pytest.mark.parametrize(
    ("attempts", "judgment", "n", "first", "last", "gated", "gated_improved", "counts"),
    [
        ([(20, "exact", False), (90, "exact", True)], "ok", 2, 20, 90, True, True, (2, 90)),
        ([(20, "exact", False), (90, "exact", False)], "ok", 2, 20, 90, False, False, (1, 20)),
        ([(90, "exact", False), (20, "fuzzy", True)], "ok", 2, 90, 20, True, False, (2, 20)),
        ([(20, "exact", False), (90, "not_found", False)], "ok", 1, 20, 20, False, False, (1, 20)),
        ([(20, "exact", False), (90, "doubled", False)], "ok", 1, 20, 20, False, False, (1, 20)),
        ([(90, "not_found", False)], "not_located", 0, None, None, False, False, (0, None)),
        # An attempt that no phrase opens belongs to the one before it.
        (
            [(20, "exact", False), (10, "elided", True), (90, "exact", False)],
            *("ok", 3, 20, 90, True, False, (2, 10)),
        ),
        (
            [(20, "exact", False), (10, "exact", False), (90, "normalised", True)],
            *("ok", 3, 20, 90, True, True, (2, 90)),
        ),
    ],
)
def test_only_attempts_in_the_response_count(
    attempts: Listed,
    judgment: str,
    n: int,
    first: float | None,
    last: float | None,
    gated: bool,
    gated_improved: bool,
    counts: tuple[int, float | None],
) -> None:
    assert counted(attempts) == {
        "trial_id": "t",
        "judgment": judgment,
        "n_attempts": n,
        "first_score": first,
        "last_score": last,
        "gated_multi_attempt": gated,
        "gated_improved": gated_improved,
        "gated_attempts": counts[0],
        "gated_last_score": counts[1],
    }


def test_a_judgment_that_failed_keeps_its_status() -> None:
    assert counted([], "refused")["judgment"] == "refused"
    assert counted([(20, "not_found", False)], "unparsable")["judgment"] == "unparsable"
