"""Live mode: many calls in flight at a time, every reply on disk as soon as it is there."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from esr.errors import EsrError
from esr.judges.clients import CallError, Client, FatalCallError
from esr.judges.costs import Budget, max_cost
from esr.judges.replies import Call, Replies

log = logging.getLogger(__name__)

IN_A_ROW = 20
"""So many calls without a reply, one after the other: the API is not there."""


def ask_live(
    client: Client, calls: Mapping[str, Call], replies: Replies, budget: Budget | None = None
) -> None:
    """Ask for the replies to calls and write them down; a call may end up without one.

    Args:
        client: To ask through; closed afterwards.
        calls: By key of the reply.
        replies: Where they go.
        budget: Cap on what may be spent; the dearest that is in flight counts as spent.

    Raises:
        EsrError: nothing answers, the key or the model is not accepted, or the budget is spent.
            Replies that were under way are waited for and written down first.
    """
    asyncio.run(_ask(client, calls, replies, budget))


async def _ask(
    client: Client, calls: Mapping[str, Call], replies: Replies, budget: Budget | None
) -> None:
    flight = _InFlight(client, budget)
    waiting, done = list(calls.items())[::-1], 0
    with (
        logging_redirect_tqdm(),
        tqdm(total=len(calls), unit="reply", disable=None, leave=False) as bar,
    ):
        try:
            while waiting or flight.tasks:
                while waiting and flight.has_room(waiting[-1][1]):
                    flight.launch(waiting.pop()[1])
                if not flight.tasks:
                    break
                records = await flight.landed()
                replies.add(records, calls)
                bar.update(len(records))
                before, done = done, done + len(records)
                if bar.disable and 10 * done // len(calls) > 10 * before // len(calls):
                    log.info("%d of %d replies", done, len(calls))
        finally:
            await client.close()
    if flight.ended is not None:
        raise flight.ended
    if flight.failures:
        log.warning("%d of %d calls got no reply", flight.failures, len(calls))


class _InFlight:
    """Calls under way."""

    def __init__(self, client: Client, budget: Budget | None) -> None:
        self.tasks: set[asyncio.Task[dict[str, Any]]] = set()
        self.failures = 0
        self.ended: EsrError | None = None
        self._client, self._budget, self._in_a_row = client, budget, 0
        self._bounds: dict[asyncio.Task[dict[str, Any]], float] = {}
        self._price = budget.price(client.settings.model) if budget else None

    def has_room(self, call: Call) -> bool:
        """Whether a call may set out now; sets `ended` where none will any more."""
        if self.ended is not None or len(self.tasks) >= self._client.settings.concurrency:
            return False
        if self._budget is None:
            return True
        wanted = self._bound(call) + sum(self._bounds.values())
        if self._budget.allows(wanted):
            return True
        if not self.tasks:  # what is in flight will cost less than it may: wait for it first
            self.ended = self._budget.exceeded(wanted)
        return False

    def launch(self, call: Call) -> None:
        """Send a call."""
        task = asyncio.ensure_future(self._client.send(call))
        self.tasks.add(task)
        self._bounds[task] = self._bound(call)

    def _bound(self, call: Call) -> float:
        if self._price is None:
            return 0.0
        return max_cost(call, self._client.settings.max_tokens, self._price)

    async def landed(self) -> list[dict[str, Any]]:
        """Wait for some calls; the raw replies of those that got one."""
        done, self.tasks = await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
        records = []
        for task in done:
            del self._bounds[task]
            try:
                records.append(task.result())
                self._in_a_row = 0
            except CallError as error:
                log.warning("a call without reply: %s", error)
                self.failures += 1
                self._in_a_row += 1
                if self._in_a_row >= IN_A_ROW and self.ended is None:
                    self.ended = EsrError(
                        f"{IN_A_ROW} calls in a row got no reply, the last: {error}; "
                        "what was answered is kept, run again when the API is back"
                    )
            except FatalCallError as error:
                self.ended = error
        return records
