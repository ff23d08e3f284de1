"""Checks and their outcomes: one that fails, or cannot run, never stops the others."""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from esr.errors import EsrError

log = logging.getLogger(__name__)

Check = Callable[[], str]
"""A check: it returns what it found, and raises `EsrError` or `NotRun`."""


class NotRun(Exception):  # noqa: N818 (no error: the machine lacks what the check needs)
    """A check that cannot run here; the message names what it lacks."""


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    Attributes:
        check: Name of the check.
        status: Whether it passed, failed, or could not run.
        found: What it measured, or why it failed or could not run.
        seconds: Time it took.
    """

    check: str
    status: Literal["ok", "failed", "not run"]
    found: str
    seconds: float


def run_checks(checks: Mapping[str, Check]) -> list[Outcome]:
    """Run all checks, in order; an exception of any kind is a failed check."""
    outcomes = []
    for name, check in checks.items():
        log.info("%s ...", name)
        begin = time.monotonic()
        try:
            status, found = "ok", check()
        except NotRun as reason:
            status, found = "not run", str(reason)
        except EsrError as error:
            status, found = "failed", str(error)
        except Exception as error:  # a bug of esr or of a library is what an issue is about
            log.exception("%s", name)
            status, found = "failed", f"{type(error).__name__}: {error}"
        seconds = round(time.monotonic() - begin, 1)
        log.info("%s: %s: %s", name, status, found)
        outcomes.append(Outcome(name, status, " ".join(found.split()), seconds))
    return outcomes


def write_record(outcomes: Iterable[Outcome], facts: Mapping[str, Any], path: Path) -> None:
    """Write outcomes and facts about the machine as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"machine": dict(facts), "checks": [asdict(outcome) for outcome in outcomes]}
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def counts(outcomes: Iterable[Outcome]) -> str:
    """How many checks passed, failed and did not run, in words."""
    found = Counter(outcome.status for outcome in outcomes)
    return ", ".join(f"{found[s]} {s}" for s in ("ok", "failed", "not run") if found[s])
