"""The thread in which a threshold search judges, while the engine generates."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from queue import Empty, SimpleQueue
from types import MappingProxyType

from esr.judges.base import Judge, JudgeInput, Judgment
from esr.judges.stream import Ticket, open_stream

POLL_SECONDS = 0.05
"""How long to wait for replies before further inputs are sent to the judge."""
START: Mapping[Ticket, JudgeInput] = MappingProxyType({})
"""In place of inputs: start the judge."""


class JudgeThread:
    """A judge in a thread of its own. It accepts inputs and returns judgments at any time."""

    def __init__(self, judge: Judge) -> None:
        """Start the thread. Until `close`, only the thread may use the judge."""
        self._stream = open_stream(judge)
        self.one_by_one = self._stream.one_by_one
        """Whether each input is judged at once; see `JudgingStream`."""
        self.pending = 0
        """Inputs whose judgments have not been taken."""
        self._inbox: SimpleQueue[Mapping[Ticket, JudgeInput] | None] = SimpleQueue()
        self._outbox: SimpleQueue[tuple[Ticket, Judgment] | BaseException] = SimpleQueue()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="judge", daemon=True)
        self._thread.start()

    def start(self) -> None:
        """Let the thread start the judge, if that takes long; returns at once.

        Inputs are sure to come. If the judge does not start, `take` raises once there are some.
        """
        self._inbox.put(START)

    def submit(self, inputs: Mapping[Ticket, JudgeInput]) -> None:
        """Submit inputs, each with a number of its own."""
        self.pending += len(inputs)
        self._inbox.put(inputs)

    def take(self, wait: bool) -> Iterator[tuple[Ticket, Judgment]]:
        """Yield the judgments that are there; wait for the first one if `wait`.

        Raises:
            EsrError: the judge failed.
        """
        if self._failure is not None:
            raise self._failure
        with contextlib.suppress(Empty):
            while self.pending:
                found = self._outbox.get(block=wait)
                if isinstance(found, BaseException):
                    self._failure = found
                    raise found
                wait = False
                self.pending -= 1
                yield found

    def close(self) -> None:
        """End the thread; a call in progress ends first."""
        self._inbox.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            while (inputs := self._arrived()) is not None:
                if inputs:
                    self._stream.submit(inputs)
                for judged in self._stream.results(POLL_SECONDS):
                    self._outbox.put(judged)
        except BaseException as error:  # raised by `take`
            self._outbox.put(error)

    def _arrived(self) -> dict[Ticket, JudgeInput] | None:
        """Inputs since the last time; None at the end. Waits for some if none is being judged."""
        found: dict[Ticket, JudgeInput] = {}
        wait = not self._stream.pending
        with contextlib.suppress(Empty):
            while True:
                inputs = self._inbox.get(block=wait)
                if inputs is None:
                    return None
                if inputs is START:
                    self._stream.start()
                    continue
                found |= inputs
                wait = False
        return found
