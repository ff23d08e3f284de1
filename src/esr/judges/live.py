"""Live mode: many calls in flight, each reply on disk as soon as it arrives."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from esr.errors import EsrError
from esr.judges.clients import CallError, Client, FatalCallError
from esr.judges.costs import Budget, max_cost
from esr.judges.replies import Call
from esr.judges.sink import ReplySink

log = logging.getLogger(__name__)

IN_A_ROW = 20
"""Calls without a reply, one after the other, after which the API counts as unreachable."""
SMALL_JOB = 5
"""Least number of calls of which none got a reply that ends a job."""


def call_live(
    client: Client, calls: Mapping[str, Call], sink: ReplySink, budget: Budget | None = None
) -> None:
    """Send calls and journal their replies; a call may remain without one.

    Args:
        client: Sends them; closed afterwards.
        calls: By key of the reply.
        sink: Receives the replies.
        budget: Cap on the cost; calls in flight count at their maximum.

    Raises:
        EsrError: the API cannot be reached, the key or the model is not accepted, the budget is
            spent, or nearly all replies fail for one reason. Replies in flight are journaled
            first.
    """
    asyncio.run(_call(client, calls, sink, budget))


async def _call(
    client: Client, calls: Mapping[str, Call], sink: ReplySink, budget: Budget | None
) -> None:
    flight = _InFlight(client, sink, budget)
    waiting = list(calls.values())[::-1]
    done = 0
    with (
        logging_redirect_tqdm(),
        tqdm(total=len(calls), unit="reply", disable=None, leave=False) as bar,
    ):
        try:
            while waiting or flight.tasks:
                while waiting and flight.can_launch(waiting[-1]):
                    flight.launch(waiting.pop())
                if not flight.tasks:
                    break
                replies = await flight.completed()
                bar.update(replies)
                before, done = done, done + replies
                if bar.disable and 10 * done // len(calls) > 10 * before // len(calls):
                    log.info("%d of %d replies", done, len(calls))
        finally:
            await client.close()
    if flight.error is not None:
        raise flight.error
    if flight.failures == len(calls) >= SMALL_JOB:
        raise flight.no_replies(len(calls))
    if flight.failures:
        log.warning("%d of %d calls got no reply", flight.failures, len(calls))


class _InFlight:
    """Calls in flight."""

    def __init__(self, client: Client, sink: ReplySink, budget: Budget | None) -> None:
        self.tasks: set[asyncio.Task[dict[str, Any]]] = set()
        self.failures = 0
        self.error: EsrError | None = None
        """Why no further call is launched."""
        self._client, self._sink, self._budget = client, sink, budget
        self._in_a_row, self._last_failure = 0, ""
        self._max_costs: dict[asyncio.Task[dict[str, Any]], float] = {}
        self._price = budget.price(client.settings.model) if budget else None

    def can_launch(self, call: Call) -> bool:
        """Whether a call may be sent now; sets `error` if none may be sent any more."""
        if self.error is not None or len(self.tasks) >= self._client.settings.concurrency:
            return False
        if self._budget is None:
            return True
        cost = self._max_cost(call) + sum(self._max_costs.values())
        if self._budget.allows(cost):
            return True
        if not self.tasks:  # calls in flight will cost less than their maximum: wait for them
            self.error = self._budget.exceeded(cost)
        return False

    def launch(self, call: Call) -> None:
        """Send a call."""
        task = asyncio.ensure_future(self._client.send(call, self._sink.keep_unusable))
        self.tasks.add(task)
        self._max_costs[task] = self._max_cost(call)

    def _max_cost(self, call: Call) -> float:
        if self._price is None:
            return 0.0
        return max_cost(call, self._client.settings.max_tokens, self._price)

    async def completed(self) -> int:
        """Wait for some calls, and journal their replies one by one; the number of replies."""
        done, self.tasks = await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
        return sum(self._finish(task) for task in done)

    def _finish(self, task: "asyncio.Task[dict[str, Any]]") -> bool:
        """Journal the reply of one call, so that no other call can lose it; whether it has one."""
        del self._max_costs[task]
        try:
            self._sink.keep([task.result()])
            self._in_a_row = 0
            self._sink.check()
        except FatalCallError as error:
            self.error = error
        except EsrError as error:
            self.error = self.error or error
        except CallError as error:
            self._count_failure(str(error))
        except Exception as error:  # a fault in one reply must not end the job of all others
            self._count_failure(self._client.redact(f"{type(error).__name__}: {error}"))
        else:
            return True
        return False

    def _count_failure(self, why: str) -> None:
        log.warning("call without a reply: %s", why)
        self.failures += 1
        self._in_a_row += 1
        self._last_failure = why
        if self.error is None and self._in_a_row >= IN_A_ROW:
            self.error = self.no_replies(self._in_a_row)

    def no_replies(self, count: int) -> EsrError:
        """The error that ends a job without replies."""
        return EsrError(
            f"{count} calls in a row got no reply, the last: {self._last_failure}; "
            "the replies so far are kept, run again when the API is back"
        )
