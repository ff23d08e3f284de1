"""Where replies go as they arrive: to the journal first, then to the gate."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from esr.gate import FailureGate
from esr.judges.bodies import Reply, UnusableReplyError, read_reply
from esr.judges.replies import Call, Replies

FailureOf = Callable[[Reply], str | None]
"""Why a reply is of no use to its reader; None if it is of use."""


class ReplySink:
    """Journals raw replies, and counts those that their reader cannot use."""

    def __init__(
        self, replies: Replies, calls: Mapping[str, Call], gate: FailureGate, failure_of: FailureOf
    ) -> None:
        """Receive the replies to calls, by key."""
        self._replies, self._calls = replies, calls
        self._gate, self._failure_of = gate, failure_of

    def __contains__(self, key: str) -> bool:
        return key in self._replies

    def keep(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Journal raw replies, and then read them for the gate."""
        self._replies.add(records, self._calls)
        self._gate.add(self._failure(record) for record in records)

    def keep_unusable(self, record: Mapping[str, Any]) -> None:
        """Journal a response that is not a reply."""
        self._replies.add([record], self._calls)

    def _failure(self, record: Mapping[str, Any]) -> str | None:
        try:
            return self._failure_of(read_reply(record))
        except UnusableReplyError:
            return "unusable"

    def check(self) -> None:
        """Raise if nearly all replies of the job fail for one reason; see `FailureGate.check`."""
        self._gate.check()
