"""Judging as a stream: inputs go in at any time, and judgments come out in any order."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from esr.judges.base import Judge, JudgeInput, Judgment

Ticket = int
"""Number of an input and of its judgment."""


class JudgingStream(Protocol):
    """Inputs that are being judged."""

    one_by_one: bool
    """Whether each input is judged at once. Otherwise many at a time are faster than a few."""

    @property
    def pending(self) -> bool:
        """Whether a judgment is to come."""
        ...

    def start(self) -> None:
        """Start what takes long to start. Called when inputs are sure to come.

        Raises:
            EsrError: it did not start.
        """
        ...

    def submit(self, inputs: Mapping[Ticket, JudgeInput]) -> None:
        """Submit inputs, without waiting for their judgments.

        Raises:
            EsrError: nothing can be judged.
        """
        ...

    def results(self, timeout: float) -> list[tuple[Ticket, Judgment]]:
        """Wait for judgments, at most so long (s) where the judge works one by one.

        Raises:
            EsrError: nothing can be judged, or nearly all inputs fail for one reason.
        """
        ...


@runtime_checkable
class Streaming(Protocol):
    """A judge that may have a stream of its own."""

    def open_stream(self) -> JudgingStream | None:
        """Its stream; None if it judges many inputs at a time."""
        ...


class TogetherStream:
    """A stream of a judge that judges all inputs so far in one call."""

    one_by_one = False

    def __init__(self, judge: Judge) -> None:
        """Open a stream of a judge."""
        self._judge = judge
        self._inputs: dict[Ticket, JudgeInput] = {}

    @property
    def pending(self) -> bool:
        """Whether a judgment is to come."""
        return bool(self._inputs)

    def start(self) -> None:
        """Start nothing: the judge starts with its first call."""

    def submit(self, inputs: Mapping[Ticket, JudgeInput]) -> None:
        """Keep inputs for the next call; see `JudgingStream.submit`."""
        self._inputs |= inputs

    def results(self, timeout: float) -> list[tuple[Ticket, Judgment]]:
        """Judgments of all inputs; see `JudgingStream.results`."""
        inputs, self._inputs = self._inputs, {}
        return list(zip(inputs, self._judge.judge(list(inputs.values())), strict=True))


def open_stream(judge: Judge) -> JudgingStream:
    """The stream of any judge."""
    found = judge.open_stream() if isinstance(judge, Streaming) else None
    return found or TogetherStream(judge)
