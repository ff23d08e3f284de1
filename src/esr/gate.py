"""A gate that stops a job of which nearly every unit fails for the same reason.

Total failure is not data: a judge whose replies cannot be read, or an account that cannot pay, is
found after a few calls and before all of them are paid for.
"""

from collections import Counter
from collections.abc import Iterable

from esr.errors import EsrError

MINIMUM = 20
"""Units before the gate decides."""
NEARLY_ALL = 0.95
"""Share of units with one reason at which a job stops."""


class FailureGate:
    """Counts outcomes of a job's units; stops the job when nearly all fail for one reason."""

    def __init__(self, unit: str, remedy: str) -> None:
        """Start counting.

        Args:
            unit: What is counted, in the plural, for the message ("replies of claude").
            remedy: What to do about it.
        """
        self._unit, self._remedy = unit, remedy
        self._reasons: Counter[str] = Counter()
        self._total = 0

    def add(self, reasons: Iterable[str | None]) -> None:
        """Count outcomes: the reason of a failure, or None for a success."""
        for reason in reasons:
            self._total += 1
            if reason is not None:
                self._reasons[reason] += 1

    def check(self) -> None:
        """Stop if nearly all units so far failed for the same reason.

        Raises:
            EsrError: they did; with the reason and the count.
        """
        if self._total < MINIMUM or not self._reasons:
            return
        ((reason, count),) = self._reasons.most_common(1)
        if count >= NEARLY_ALL * self._total:
            raise EsrError(
                f"{count} of {self._total} {self._unit} failed for the same reason: {reason}. "
                f"{self._remedy}"
            )
