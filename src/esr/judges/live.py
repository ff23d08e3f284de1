"""Live mode: many calls in flight, each reply on disk as soon as it arrives."""

import asyncio
import heapq
import itertools
import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from esr.errors import EsrError
from esr.judges.clients import CallError, Client, FatalCallError, PassingError
from esr.judges.costs import Budget, max_cost
from esr.judges.level import Level
from esr.judges.replies import Call
from esr.judges.retries import backoff
from esr.judges.sink import ReplySink
from esr.progress import progress

log = logging.getLogger(__name__)

IN_A_ROW = 20
"""Calls without a reply, one after the other, after which the API counts as unreachable."""
SMALL_JOB = 5
"""Least number of calls of which none got a reply that ends a job."""


def call_live(
    client: Client,
    calls: Mapping[str, Call],
    sink: ReplySink,
    level: Level,
    budget: Budget | None = None,
) -> None:
    """Send calls and journal their replies; a call may remain without one.

    Args:
        client: Sends them; closed afterwards.
        calls: By key of the reply.
        sink: Receives the replies.
        level: Number of calls in flight; goes on from where an earlier job left it.
        budget: Cap on the cost; calls in flight count at their maximum.

    Raises:
        EsrError: the API cannot be reached, the key or the model is not accepted, the budget is
            spent, or nearly all replies fail for one reason. Replies in flight are journaled
            first.
    """
    asyncio.run(_call(_Flight(client, calls, sink, level, budget), client, len(calls)))


async def _call(flight: "_Flight", client: Client, total: int) -> None:
    with progress(total, "replies") as advance:
        try:
            while True:
                pause = flight.launch()
                if pause is None and not flight.tasks:
                    break
                advance(await flight.completed(pause))
        finally:
            await client.close()
    flight.report()
    if flight.error is not None:
        raise flight.error
    if flight.failures == total >= SMALL_JOB:
        raise flight.no_replies(total)
    if flight.failures:
        log.warning("%d of %d calls got no reply", flight.failures, total)


class _Sent(NamedTuple):
    """A call in flight, when it was sent (s, clock of the event loop), and its maximum cost."""

    call: Call
    time: float
    cost: float


class _Flight:
    """Calls that wait, that are in flight, and that failed and are due again."""

    def __init__(
        self,
        client: Client,
        calls: Mapping[str, Call],
        sink: ReplySink,
        level: Level,
        budget: Budget | None,
    ) -> None:
        self.tasks: dict[asyncio.Task[dict[str, Any]], _Sent] = {}
        self.failures = 0
        self.error: EsrError | None = None
        """Why no further call is launched."""
        self._client, self._sink, self._level, self._budget = client, sink, level, budget
        self._waiting = deque(calls.values())
        self._due: list[tuple[float, int, Call]] = []
        """Calls to send again: when, a running number, the call."""
        self._numbers = itertools.count()
        self._tries: Counter[int] = Counter()
        """Failures that may pass, by the id of the call."""
        self._launched, self._refused = 0, 0
        self._in_a_row, self._last_failure = 0, ""
        self._price = budget.price(client.settings.model) if budget else None
        self._done: list[tuple[asyncio.Task[dict[str, Any]], float]] = []
        self._wake = asyncio.Event()

    def launch(self) -> float | None:
        """Send what may be sent now.

        Returns:
            Seconds until more may be sent; None if that takes a call in flight to end, or if
            nothing is left.
        """
        now = asyncio.get_running_loop().time()
        while self.error is None:
            # A call that is due again keeps its place, so that a service that fails is not sent
            # all other calls in the meantime.
            again = bool(self._due) and self._due[0][0] <= now
            if not again and not self._waiting:
                return self._due[0][0] - now if self._due else None
            taken = len(self.tasks) + (0 if again else len(self._due))
            wait = self._level.wait(now, taken)
            if wait is None and self._due and not again:
                return self._due[0][0] - now
            if wait is None or wait > 0:
                return wait
            call = self._due[0][2] if again else self._waiting[0]
            if not self._is_affordable(call):
                return None
            if again:
                heapq.heappop(self._due)
            else:
                self._waiting.popleft()
            self._send(call, now)
        return None

    def _is_affordable(self, call: Call) -> bool:
        """Whether the budget allows a call; sets `error` if it allows none any more."""
        if self._budget is None:
            return True
        cost = self._max_cost(call) + sum(one.cost for one in self.tasks.values())
        if self._budget.allows(cost):
            return True
        if not self.tasks:  # calls in flight will cost less than their maximum: wait for them
            self.error = self._budget.exceeded(cost)
        return False

    def _send(self, call: Call, now: float) -> None:
        task = asyncio.ensure_future(self._client.send(call, self._sink.keep_unusable))
        task.add_done_callback(self._note)
        self.tasks[task] = _Sent(call, now, self._max_cost(call))
        self._level.sent(now)
        self._launched += 1

    def _note(self, task: "asyncio.Task[dict[str, Any]]") -> None:
        self._done.append((task, asyncio.get_running_loop().time()))
        self._wake.set()

    def _max_cost(self, call: Call) -> float:
        if self._price is None:
            return 0.0
        return max_cost(call, self._client.settings.max_tokens, self._price)

    async def completed(self, timeout: float | None) -> int:
        """Wait for some calls, at most so long (s), and journal their replies; their number."""
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            return 0
        self._wake.clear()
        done, self._done = self._done, []
        records = [found for one in done if (found := self._finish(*one)) is not None]
        return self._keep(records)

    def _finish(self, task: "asyncio.Task[dict[str, Any]]", now: float) -> dict[str, Any] | None:
        """The reply of one call, so that no other call can lose it; None if it has none."""
        in_flight = len(self.tasks)
        sent = self.tasks.pop(task)
        try:
            record = task.result()
        except FatalCallError as error:
            self.error = error
        except PassingError as error:
            if error.again.refused:
                self._refused += 1
                self._level.refused(now, sent.time, in_flight - 1, error.again.pause or 0.0)
            self._send_again(sent.call, now, error)
        except CallError as error:
            self._count_failure(str(error))
        except Exception as error:  # a fault in one reply must not end the job of all others
            self._count_failure(self._client.redact(f"{type(error).__name__}: {error}"))
        else:
            self._level.replied(now, sent.time, in_flight)
            return record
        return None

    def _send_again(self, call: Call, now: float, error: PassingError) -> None:
        self._tries[id(call)] += 1
        failures = self._tries[id(call)]
        if failures > self._client.settings.retries:
            self._count_failure(str(error))
            return
        pause = backoff(failures) if error.again.pause is None else error.again.pause
        log.debug("%s; sending the call again in %.1f s", error, pause)
        heapq.heappush(self._due, (now + pause, next(self._numbers), call))

    def _keep(self, records: Sequence[Mapping[str, Any]]) -> int:
        """Journal replies, together, and then see whether they are of use; their number."""
        if not records:
            return 0
        self._in_a_row = 0
        try:
            self._sink.keep(records)
            self._sink.check()
        except EsrError as error:
            self.error = self.error or error
        except Exception as error:  # as above
            if len(records) > 1:
                return sum(self._keep([one]) for one in records)
            self._count_failure(self._client.redact(f"{type(error).__name__}: {error}"))
            return 0
        return len(records)

    def _count_failure(self, why: str) -> None:
        log.warning("call without a reply: %s", why)
        self.failures += 1
        self._in_a_row += 1
        self._last_failure = why
        if self.error is None and self._in_a_row >= IN_A_ROW:
            self.error = self.no_replies(self._in_a_row)

    def report(self) -> None:
        """Log the level that was found."""
        if not self._level.is_fixed and self._launched:
            log.info(
                "about %.0f calls in flight at the end; %d of %d were refused as too many",
                self._level.window,
                self._refused,
                self._launched,
            )

    def no_replies(self, count: int) -> EsrError:
        """The error that ends a job without replies."""
        return EsrError(
            f"{count} calls in a row got no reply, the last: {self._last_failure}; "
            "the replies so far are kept, run again when the API is back"
        )
