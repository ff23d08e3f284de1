"""Batch mode: Anthropic's Message Batches, at half the price; none is lost or paid for twice.

A batch is written to the manifest with its calls before it is created, with its id once that is
known, and closed when all of its results are journaled. The API has no idempotency key, so creation
is never repeated blindly: after a lost response, or a kill, the batches at the API are searched for
the one with our calls. Results come in any order, and the connection may break. They are journaled
as they are read, and read again until complete.

The API is eventually consistent. A batch that it has just created may not be found, or not be in
the list, for some minutes; so "not found" is only believed after a while.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import anthropic
from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, wait_fixed

from esr.errors import EsrError
from esr.gate import MINIMUM, NEARLY_ALL
from esr.judges.anthropic_client import AnthropicClient
from esr.judges.batch_api import BROKEN, BatchApi, BatchNotFoundError, BatchResult
from esr.judges.clients import FATAL_STATUSES
from esr.judges.costs import Budget, max_cost
from esr.judges.live import SMALL_JOB
from esr.judges.manifest import BatchManifest
from esr.judges.replies import Call
from esr.judges.sink import ReplySink

log = logging.getLogger(__name__)

ROUNDS = 3
"""How often calls are submitted that expired or failed without a fault of their own."""
TRIES = 10
"""How often the creation of a batch is tried."""
LOOKS = 5
"""How often the list of batches is read before a batch counts as never created."""
SETTLED = 600
"""Seconds after which the list of batches is complete, so that one look is enough."""
REFUSED = (*FATAL_STATUSES, 400, 413, 422)
FATAL_TYPES = {"authentication_error", "permission_error", "billing_error", "not_found_error"}
"""Errors of a request that every other request of the job would meet."""


def call_in_batches(
    client: AnthropicClient,
    calls: Mapping[str, Call],
    sink: ReplySink,
    manifest: BatchManifest,
    budget: Budget | None = None,
) -> None:
    """Send calls in batches and journal their replies; a call may remain without one.

    Batches that an earlier run left open are collected first.

    Raises:
        EsrError: the API refuses a batch, cannot be reached, or (nearly) all requests of a batch
            failed; or the budget is spent. Open batches stay in the manifest for the next run.
    """
    work = _Batches(client, calls, sink, manifest, budget)
    try:
        work.collect()
        for _ in range(ROUNDS):
            work.submit()
            work.collect()
    except KeyboardInterrupt:
        work.warn_of_open()
        raise
    except BROKEN as error:
        raise EsrError(f"{client.explain(error)}; open batches are kept, run again") from None
    missing = [key for key in calls if key not in sink]
    if missing:
        log.warning("%d of %d calls got no reply", len(missing), len(calls))


def collect_open_batches(client: AnthropicClient, sink: ReplySink, manifest: BatchManifest) -> None:
    """Journal the replies of batches that an earlier run in batch mode left open.

    Raises:
        EsrError: as `call_in_batches`.
    """
    try:
        _Batches(client, {}, sink, manifest, None).collect()
    except BROKEN as error:
        raise EsrError(f"{client.explain(error)}; open batches are kept, run again") from None


def cancel_open_batches(client: AnthropicClient, sink: ReplySink, manifest: BatchManifest) -> int:
    """Cancel batches that an earlier run left open, and journal the replies that they have.

    Returns:
        Number of batches that were cancelled, or had ended already.

    Raises:
        EsrError: as `call_in_batches`.
    """
    try:
        return _Batches(client, {}, sink, manifest, None).cancel()
    except BROKEN as error:
        raise EsrError(f"{client.explain(error)}; open batches are kept, run again") from None


class _Batches:
    """Batches of one job."""

    def __init__(
        self,
        client: AnthropicClient,
        calls: Mapping[str, Call],
        sink: ReplySink,
        manifest: BatchManifest,
        budget: Budget | None,
    ) -> None:
        self._client, self._settings = client, client.settings
        self._api = BatchApi(client)
        self._calls, self._sink, self._manifest = calls, sink, manifest
        self._budget = budget
        self._price = budget.price(self._settings.model) if budget else None
        self._given_up: set[str] = set()

    # Submitting

    def submit(self) -> None:
        """Put all calls without a reply into batches, as many at a time as the budget allows."""
        waiting = [k for k in self._calls if k not in self._sink and k not in self._given_up]
        while waiting:
            chunk = self._affordable(waiting[: self._settings.batch_size])
            if not chunk and self._manifest.open:
                self.collect()  # costs less than its maximum: there may be room afterwards
                continue
            if not chunk:
                assert self._budget is not None
                raise self._budget.exceeded(self._max_cost(waiting[0]))
            waiting = waiting[len(chunk) :]
            facts = {"identity": self._client.identity, "temperature": self._client.temperature}
            self._create(self._manifest.plan(chunk, facts))

    def _affordable(self, keys: Sequence[str]) -> list[str]:
        """The first calls whose maximum cost is within what is left of the budget."""
        if self._budget is None:
            return list(keys)
        open_keys = [
            k for name in self._manifest.open for k in self._manifest.planned(name)["calls"]
        ]
        left = self._budget.limit - self._budget.spent - sum(map(self._max_cost, open_keys))
        chosen = []
        for key in keys:
            left -= self._max_cost(key)
            if left < 0:
                break
            chosen.append(key)
        return chosen

    def _max_cost(self, key: str) -> float:
        """Maximum cost of a call in a batch, in dollars."""
        if self._price is None or key not in self._calls or key in self._sink:
            return 0.0
        live = max_cost(self._calls[key], self._settings.max_tokens, self._price)
        return live * max(
            self._price.batch_input / self._price.input if self._price.input else 1,
            self._price.batch_output / self._price.output if self._price.output else 1,
        )

    def _create(self, name: str) -> None:
        """Create a planned batch, unless the API has it already, and note its id."""
        planned = self._manifest.planned(name)
        requests: list[Any] = [
            {
                "custom_id": f"{name}-{key}",
                "params": self._client.params(self._calls[key], planned["temperature"]),
            }
            for key in planned["calls"]
        ]
        retrying = Retrying(
            stop=stop_after_attempt(TRIES),
            wait=wait_fixed(self._settings.poll),
            retry=retry_if_result(lambda done: not done),
            retry_error_callback=lambda state: False,
        )
        if not retrying(self._try_to_create, name, requests):
            raise EsrError(f"batch {name} could not be created in {TRIES} tries; run again later")

    def _try_to_create(self, name: str, requests: list[Any]) -> bool:
        """Create a batch; whether that is settled, one way or the other."""
        try:
            self._manifest.created(name, self._api.create(requests))
            return True
        except anthropic.APIStatusError as error:
            if error.status_code in REFUSED:
                self._manifest.close(name, "refused by the API")
                if self._is_about_temperature(name, str(error)):
                    return True  # the next round sends none
                raise EsrError(
                    f"creating a batch of {len(requests)}: {self._client.explain(error)}"
                ) from None
            log.warning("creating batch %s: HTTP %d", name, error.status_code)
            if error.status_code == 429:  # certainly not created
                return False
        except anthropic.APIConnectionError as error:
            log.warning("creating batch %s: %s", name, self._client.explain(error))
        time.sleep(self._settings.poll)
        found = self._find(name)
        if found is not None:
            self._manifest.created(name, found)
        return found is not None

    def _find(self, name: str) -> str | None:
        """Id of a batch whose id was lost; None if the API does not have it."""
        planned = self._manifest.planned(name)
        looks = 1 if time.time() - planned["time"] > SETTLED else LOOKS
        retrying = Retrying(
            stop=stop_after_attempt(looks),
            wait=wait_fixed(self._settings.poll),
            retry=retry_if_result(lambda found: found is None),
            retry_error_callback=_result,
        )
        found: str | None = retrying(
            self._api.find, name, len(planned["calls"]), planned["time"], self._manifest.known_ids
        )
        return found

    # Collecting

    def collect(self) -> None:
        """Journal the results of all open batches; wait for them to end."""
        for name in self._manifest.open:
            batch = self._manifest.id_of(name) or self._find(name)
            if batch is None:
                self._manifest.close(name, "never created")
                continue
            if self._manifest.id_of(name) is None:
                self._manifest.created(name, batch)
            try:
                self._api.wait(batch)
                self._read(name, batch)
            except BatchNotFoundError as error:
                self._lose(name, batch, error)
            self._sink.check()

    def cancel(self) -> int:
        """Cancel all open batches, and journal the results that they have; their number."""
        for name in self._manifest.open:
            batch = self._manifest.id_of(name)
            if batch is not None:
                self._api.cancel(batch)
            else:
                log.warning(
                    "batch %s of %d calls may not have been created; looking for it among the "
                    "batches of the account, and waiting for those that may be it",
                    name,
                    len(self._manifest.planned(name)["calls"]),
                )
        count = len(self._manifest.open)
        self.collect()
        return count

    def warn_of_open(self) -> None:
        """Log which batches go on without this process."""
        known = [batch for name in self._manifest.open if (batch := self._manifest.id_of(name))]
        if known:
            log.warning(
                "interrupted: %s at the API will be finished and billed all the same. Run again to "
                "collect the replies, or cancel with `snakemake cancel_batches`",
                ", ".join(known),
            )

    def _lose(self, name: str, batch: str, error: BatchNotFoundError) -> None:
        """Stop at a batch that is not found; in the next run, submit its calls again."""
        size = len(self._manifest.planned(name)["calls"])
        if not self._manifest.was_not_found(name):
            raise EsrError(
                f"{error}. It may have expired or been deleted, or belong to another workspace. If "
                f"the key is of another workspace, change it. The next run that does not find the "
                f"batch sends its {size} calls again, and they are paid again"
            )
        log.warning(
            "batch %s is not found in a second run: sending its %d calls again", batch, size
        )
        self._manifest.close(name, "not found")

    def _read(self, name: str, batch: str) -> None:
        """Journal the results of a batch, then close it; stop if its requests failed."""
        wanted = {f"{name}-{key}" for key in self._manifest.planned(name)["calls"]}
        errors: dict[str, list[str]] = {}

        def keep(results: Sequence[BatchResult]) -> None:
            records = [self._record(one, name, batch) for one in results if one.succeeded]
            self._sink.keep(records)
            for one in results:
                if one.type == "canceled":
                    self._given_up.add(one.custom_id[len(name) + 1 :])
                if one.type == "errored" and self._is_failure(one, name):
                    errors.setdefault(one.error_type, []).append(one.error_message)

        lacking = self._api.read(batch, wanted, keep)
        if lacking:
            log.warning("batch %s has no result for %d of its calls", batch, len(lacking))
        self._manifest.close(name, "collected")
        self._stop_if_failed(batch, len(wanted), errors)

    def _record(self, one: BatchResult, name: str, batch: str) -> dict[str, Any]:
        """The raw reply in a result."""
        planned = self._manifest.planned(name)
        return {
            "key": one.custom_id[len(name) + 1 :],
            "identity": planned["identity"],
            "temperature": planned["temperature"],
            "batch": batch,
            "request_id": f"{batch}/{one.custom_id}",
            "raw": one.raw,
        }

    def _is_failure(self, one: BatchResult, name: str) -> bool:
        """Whether an error is one of its request, and not of the temperature that was sent."""
        if one.error_type != "invalid_request_error":
            return True
        if self._is_about_temperature(name, one.error_message):
            return False
        self._given_up.add(one.custom_id[len(name) + 1 :])
        return True

    def _stop_if_failed(self, batch: str, size: int, errors: Mapping[str, Sequence[str]]) -> None:
        """End the job if its requests failed for a reason that will not pass by itself."""
        for kind, messages in errors.items():
            count = len(messages)
            message = self._client.redact(messages[0])
            line = f"batch {batch}: {count} of {size} requests errored: {kind}: {message}"
            systematic = count == size >= SMALL_JOB or count >= max(MINIMUM, NEARLY_ALL * size)
            if kind in FATAL_TYPES or systematic:
                raise EsrError(
                    f"{line}. Errored requests cost nothing; remove the cause and run again"
                )
            log.warning("%s", line)

    def _is_about_temperature(self, name: str, message: str) -> bool:
        """Whether a refusal is about the temperature that a batch was sent with."""
        sent = self._manifest.planned(name)["temperature"] is not None
        return sent and self._client.refuses_temperature(message)


def _result(state: RetryCallState) -> Any:
    """The last result, when there are no more tries."""
    return state.outcome.result() if state.outcome else None
