"""Batch mode: Anthropic's Message Batches, at half the price, without losing or doubling one.

Beside the journal of replies lies a manifest. A batch is written there with its calls before it is
created, with its id as soon as that is known, and closed when all of its results are in. Creating
is never repeated blindly: the API has no idempotency key, so after a reply was lost, or the job
killed, the batches that the API has are looked through for the one with our calls. Results may come
in any order and break off; they are written down as they are read, and read again until whole.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import anthropic
import httpx2

from esr.errors import EsrError
from esr.journal import Journal, content_key
from esr.judges.clients import FATAL_STATUSES, AnthropicClient
from esr.judges.costs import Budget, max_cost
from esr.judges.replies import Call, Replies, read_reply

log = logging.getLogger(__name__)

ROUNDS = 3
"""How often calls are submitted that expired or failed for no fault of their own."""
TRIES = 10
"""How often a batch is created, or its results are read, until it works."""
SLACK = 3600
"""Seconds by which the API's clock may differ from ours."""
TOGETHER = 100
"""Results written down at a time."""
REFUSED = (*FATAL_STATUSES, 400, 413, 422)
BROKEN = (anthropic.APIError, httpx2.HTTPError, ValueError)


def ask_in_batches(
    client: AnthropicClient,
    calls: Mapping[str, Call],
    replies: Replies,
    manifest: Journal,
    budget: Budget | None = None,
) -> None:
    """Ask for the replies to calls and write them down; a call may end up without one.

    Batches that an earlier run left open are finished first, whatever was in them.

    Raises:
        EsrError: the API does not take batches from us, does not answer, or the budget is spent.
            What is open stays in the manifest, for the next run.
    """
    work = _Batches(client, calls, replies, manifest, budget)
    try:
        work.collect()
        for _ in range(ROUNDS):
            work.submit()
            work.collect()
    except BROKEN as error:
        raise EsrError(f"{client.explain(error)}; open batches are kept, run again") from None
    missing = [key for key in calls if key not in replies]
    if missing:
        log.warning("%d of %d calls got no reply", len(missing), len(calls))


class _Batches:
    """Batches of one job."""

    def __init__(
        self,
        client: AnthropicClient,
        calls: Mapping[str, Call],
        replies: Replies,
        manifest: Journal,
        budget: Budget | None,
    ) -> None:
        self._client, self._settings = client, client.settings
        self._sdk = anthropic.Anthropic(max_retries=self._settings.retries, **client.options)
        self._calls, self._replies, self._manifest = calls, replies, manifest
        self._budget = budget
        self._price = budget.price(self._settings.model) if budget else None
        self._given_up: set[str] = set()

    # Submitting

    def submit(self) -> None:
        """Put all calls without a reply into batches, as many at a time as the budget allows."""
        waiting = [k for k in self._calls if k not in self._replies and k not in self._given_up]
        while waiting:
            chunk = self._affordable(waiting[: self._settings.batch_size])
            if not chunk and self._open():
                self.collect()  # costs less than it may have: there may be room then
                continue
            if not chunk:
                assert self._budget is not None
                raise self._budget.exceeded(self._bound(waiting[0]))
            waiting = waiting[len(chunk) :]
            number = sum(key.endswith("/planned") for key in self._manifest)
            name = content_key({"calls": chunk, "number": number})[:12]
            record = {
                "key": f"{name}/planned",
                "calls": chunk,
                "identity": self._client.identity,
                "temperature": self._client.temperature,
                "time": time.time(),
            }
            self._manifest.append([record])
            self._create(name)

    def _affordable(self, keys: Sequence[str]) -> list[str]:
        """As many of the first calls as may cost what is left of the budget."""
        if self._budget is None:
            return list(keys)
        open_keys = [key for name in self._open() for key in self._planned(name)["calls"]]
        left = self._budget.limit - self._budget.spent - sum(map(self._bound, open_keys))
        chosen = []
        for key in keys:
            left -= self._bound(key)
            if left < 0:
                break
            chosen.append(key)
        return chosen

    def _bound(self, key: str) -> float:
        """Most that a call of a batch may cost, in dollars."""
        if self._price is None or key not in self._calls or key in self._replies:
            return 0.0
        call = self._calls[key]
        dear = max_cost(call, self._settings.max_tokens, self._price)
        return dear * max(
            self._price.batch_input / self._price.input if self._price.input else 1,
            self._price.batch_output / self._price.output if self._price.output else 1,
        )

    def _create(self, name: str) -> None:
        """Create a planned batch, unless the API has it already, and write its id down."""
        planned = self._planned(name)
        requests: list[Any] = [
            {
                "custom_id": f"{name}-{key}",
                "params": self._client.params(self._calls[key], planned["temperature"]),
            }
            for key in planned["calls"]
        ]
        sdk = self._sdk.with_options(max_retries=0)
        for _ in range(TRIES):
            try:
                self._created(name, sdk.messages.batches.create(requests=requests).id)
                return
            except anthropic.APIStatusError as error:
                if error.status_code in REFUSED:
                    self._close(name, "refused by the API")
                    if self._of_temperature(name, str(error)):
                        return  # the next round sends none
                    raise EsrError(
                        f"creating a batch of {len(requests)}: {self._client.explain(error)}"
                    ) from None
                log.warning("creating batch %s: HTTP %d", name, error.status_code)
                if error.status_code == 429:  # certainly not created
                    time.sleep(self._settings.poll)
                    continue
            except anthropic.APIConnectionError as error:
                log.warning("creating batch %s: %s", name, self._client.explain(error))
            time.sleep(self._settings.poll)
            found = self._find(name)
            if found is not None:
                self._created(name, found)
                return
        raise EsrError(f"batch {name} could not be created in {TRIES} tries; run again later")

    def _created(self, name: str, batch: str) -> None:
        self._manifest.append([{"key": f"{name}/created", "id": batch}])
        log.info("batch %s of %d calls is %s", name, len(self._planned(name)["calls"]), batch)

    def _find(self, name: str) -> str | None:
        """Id of a batch whose id we do not know, if the API has it.

        What is in a batch shows only in its results, so one that may be ours (made since, of our
        size, unknown to the manifest) is waited for.
        """
        planned = self._planned(name)
        known = {self._manifest[key]["id"] for key in self._manifest if key.endswith("/created")}
        for batch in self._sdk.messages.batches.list(limit=100):
            if batch.created_at.timestamp() < planned["time"] - SLACK:
                break
            counts = batch.request_counts
            size = counts.processing + counts.succeeded + counts.errored
            size += counts.canceled + counts.expired
            if batch.id in known or size != len(planned["calls"]):
                continue
            log.info(
                "batch %s may be %s, whose id was lost; waiting for its results", batch.id, name
            )
            self._wait(batch.id)
            if any(one.custom_id.startswith(f"{name}-") for one in self._first(batch.id)):
                return batch.id
        return None

    def _first(self, batch: str) -> list[Any]:
        """First result of a batch."""
        for _ in range(TRIES):
            try:
                return list(islice(self._sdk.messages.batches.results(batch), 1))
            except BROKEN as error:
                log.warning("results of batch %s: %s", batch, self._client.explain(error))
        raise EsrError(f"results of batch {batch} cannot be read; run again later")

    # Collecting

    def collect(self) -> None:
        """Bring in the results of all open batches, waiting for them."""
        for name in self._open():
            if f"{name}/created" not in self._manifest:
                found = self._find(name)
                if found is None:
                    self._close(name, "never created")
                    continue
                self._created(name, found)
            batch = self._manifest[f"{name}/created"]["id"]
            self._wait(batch)
            self._read(name, batch)
            self._close(name, "collected")

    def _wait(self, batch: str) -> None:
        """Wait for a batch to end; an API that is away for a while is waited for as well."""
        failures = 0
        while True:
            try:
                if self._sdk.messages.batches.retrieve(batch).processing_status == "ended":
                    return
                failures = 0
            except BROKEN as error:
                failures += 1
                if failures >= TRIES or getattr(error, "status_code", None) in FATAL_STATUSES:
                    raise
                log.warning("looking at batch %s: %s", batch, self._client.explain(error))
            time.sleep(self._settings.poll)

    def _read(self, name: str, batch: str) -> None:
        """Write the results of a batch down, reading them again until none is missing."""
        wanted = {f"{name}-{key}" for key in self._planned(name)["calls"]}
        seen: set[str] = set()
        for _ in range(TRIES):
            try:
                for results in _portions(self._sdk.messages.batches.results(batch)):
                    news = [one for one in results if one.custom_id in wanted - seen]
                    records = [self._record(one, name, batch) for one in news]
                    self._replies.add([r for r in records if r is not None], self._calls)
                    seen |= {one.custom_id for one in news}
            except BROKEN as error:
                log.warning("results of %s broke off: %s", batch, self._client.explain(error))
            if seen >= wanted:
                return
            log.warning("%d of %d results of %s; reading again", len(seen), len(wanted), batch)
        raise EsrError(
            f"results of batch {batch}: {len(seen)} of {len(wanted)} in {TRIES} tries; those are "
            "kept, run again"
        )

    def _record(self, one: Any, name: str, batch: str) -> dict[str, Any] | None:
        """The raw reply in a result; None for one without, which may be submitted again."""
        key, result, planned = one.custom_id[len(name) + 1 :], one.result, self._planned(name)
        if result.type == "succeeded":
            record = {
                "key": key,
                "identity": planned["identity"],
                "temperature": planned["temperature"],
                "batch": batch,
                "request_id": f"{batch}/{one.custom_id}",
                "body": result.message.to_dict(mode="json"),
            }
            try:
                read_reply(record)
            except (KeyError, TypeError, ValueError) as error:
                log.warning("%s: a reply that is none: %s", one.custom_id, error)
                return None
            return record
        if result.type == "canceled":
            self._given_up.add(key)
        if result.type == "errored":
            problem = result.error.error
            log.warning("%s: %s", one.custom_id, self._client.cleaned(problem.message))
            if problem.type == "invalid_request_error" and not self._of_temperature(
                name, problem.message
            ):
                self._given_up.add(key)
        return None

    def _of_temperature(self, name: str, message: str) -> bool:
        """Whether a refusal is of the temperature that a batch was sent with."""
        sent = self._planned(name)["temperature"] is not None
        return sent and self._client.refuses_temperature(message)

    # The manifest

    def _open(self) -> list[str]:
        """Batches planned and not closed, in order."""
        names = [key.removesuffix("/planned") for key in self._manifest if key.endswith("/planned")]
        return [name for name in names if f"{name}/closed" not in self._manifest]

    def _planned(self, name: str) -> dict[str, Any]:
        return self._manifest[f"{name}/planned"]

    def _close(self, name: str, why: str) -> None:
        self._manifest.append([{"key": f"{name}/closed", "why": why}])
        log.info("batch %s: %s", name, why)


def _portions(results: Iterator[Any]) -> Iterator[list[Any]]:
    """Results in portions; what was read before a stream breaks off comes before the error."""
    portion: list[Any] = []
    try:
        for one in results:
            portion.append(one)
            if len(portion) == TOGETHER:
                yield portion
                portion = []
    except BROKEN:
        yield portion
        raise
    yield portion
