"""Calls in flight at a model that the job runs: each reply is journaled as it ends."""

from collections.abc import Iterable, Mapping

from esr.errors import EsrError
from esr.judges.local import LocalModel
from esr.judges.replies import Call
from esr.judges.sink import ReplySink
from esr.progress import progress


class LocalCalls:
    """Calls in flight, each with the sink of its reply.

    Further calls may be sent while others are in flight. The model then writes the replies to all
    of them at the same time.
    """

    def __init__(self, model: LocalModel) -> None:
        """Send calls to a model."""
        self.model = model
        self._sinks: dict[str, ReplySink] = {}
        self._ended: list[str] = []
        """Keys of calls that ended and were not returned yet."""

    def __contains__(self, key: str) -> bool:
        return key in self._sinks

    def __bool__(self) -> bool:
        return bool(self._sinks)

    def send(self, calls: Mapping[str, Call], sink: ReplySink) -> set[str]:
        """Send calls that are not in flight.

        Args:
            calls: By key of the reply.
            sink: Receives the replies.

        Returns:
            Keys of the calls that were sent (`LocalModel.send`).
        """
        sent = self.model.send({key: call for key, call in calls.items() if key not in self})
        self._sinks |= dict.fromkeys(sent, sink)
        return set(sent)

    def end(self, keys: Iterable[str]) -> None:
        """Let `receive` return those of the keys that are not in flight."""
        self._ended += [key for key in keys if key not in self]

    def receive(self, timeout: float) -> list[str]:
        """Wait for replies, at most so long (s), and journal them.

        Returns:
            Keys of the calls that ended since the last time.

        Raises:
            EsrError: the host failed, or nearly all replies fail for one reason.
        """
        key = self._next(0 if self._ended else timeout)
        while key is not None:
            self._ended.append(key)
            key = self._next(0)
        ended, self._ended = self._ended, []
        return ended

    def wait(self, calls: Mapping[str, Call], sink: ReplySink) -> None:
        """Send calls and wait until all of them have ended. Others go on meanwhile.

        Args:
            calls: By key of the reply; they may be in flight already.
            sink: Receives the replies to those that are not.

        Raises:
            EsrError: as `receive`.
        """
        sent = self.send(calls, sink)
        waiting = {key for key in calls if key in self}
        with progress(len(waiting), "replies") as advance:
            while waiting and (key := self._next(None)) is not None:
                if key in waiting:
                    waiting.remove(key)
                    advance(1)
                if key not in sent:
                    self._ended.append(key)

    def _next(self, timeout: float | None) -> str | None:
        """Journal the next reply; its key, or None if none ended in time or none is to come."""
        try:
            while (record := self.model.receive(timeout)) is not None:
                key = str(record["key"])
                if (sink := self._sinks.pop(key, None)) is None:
                    continue  # the call was given up
                sink.keep([record])
                sink.check()
                return key
        except EsrError:
            self._sinks.clear()  # no reply is kept after a failure
            raise
        return None
