"""Requests to Anthropic's Message Batches, repeated until they work or clearly cannot.

Results are read as raw lines, not through the SDK's models, so that one line that cannot be read
costs no other.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import anthropic
import httpx2
from tenacity import (
    RetryCallState,
    Retrying,
    retry_base,
    retry_if_exception,
    retry_if_result,
    retry_never,
    wait_fixed,
)

from esr.certificates import trusted
from esr.errors import EsrError
from esr.judges.anthropic_client import AnthropicClient
from esr.judges.bodies import UnusableReplyError, parse_body
from esr.judges.clients import FATAL_STATUSES

log = logging.getLogger(__name__)

TRIES = 10
"""How often a batch is looked at, or its results are read, until it works."""
NOT_FOUND_TRIES = 20
"""The same for HTTP 404: with a minute between them, the API has 20 minutes to find a batch."""
SLACK = 3600
"""Seconds by which the time of a batch may differ from the time at which it was planned."""
UNKNOWN_CLOCK = 25 * 3600
"""The same if the API does not send its time: our clock may be wrong by a day."""
PORTION = 100
"""Results journaled at a time."""
BROKEN = (anthropic.APIError, httpx2.HTTPError, ValueError)
CUSTOM_ID = re.compile(r'"custom_id"\s*:\s*"([\w-]+)"')


class BatchNotFoundError(Exception):
    """The API does not find a batch that it has created."""


class BatchResult(NamedTuple):
    """Result of one request of a batch.

    Attributes:
        custom_id: Id of the request.
        type: `succeeded`, `errored`, `canceled`, `expired`, or `unreadable`: nested too deep.
        raw: The line as it came.
        error_type: Type of the error; empty without one.
        error_message: Its message.
    """

    custom_id: str
    type: str
    raw: str
    error_type: str = ""
    error_message: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether there is a reply; one that cannot be read was paid for all the same."""
        return self.type in ("succeeded", "unreadable")


def parse_result(line: bytes) -> BatchResult | None:
    """A result from its line; None if the line is not a result."""
    raw = line.decode("utf-8", "surrogateescape")
    found = CUSTOM_ID.search(raw)
    if found is None:
        return None
    try:
        body = parse_body(raw)
    except RecursionError:
        return BatchResult(found[1], "unreadable", raw)
    except UnusableReplyError as why:
        log.warning("result of %s: %s", found[1], why)
        return None
    result = _mapping(_mapping(body).get("result"))
    error = _mapping(_mapping(result.get("error")).get("error"))
    name = _mapping(body).get("custom_id")
    if not isinstance(name, str):
        return None
    return BatchResult(
        name,
        str(result.get("type")),
        raw,
        str(error.get("type") or "no type"),
        str(error.get("message") or "no message"),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


class BatchApi:
    """The batches of one account."""

    def __init__(self, client: AnthropicClient) -> None:
        """Use a client's settings and key."""
        self._client, self._poll = client, client.settings.poll
        http = anthropic.DefaultHttpxClient(
            verify=trusted(), timeout=client.settings.timeout, follow_redirects=False
        )
        sdk = anthropic.Anthropic(
            max_retries=client.settings.retries, http_client=http, **client.options
        )
        self._batches = sdk.messages.batches
        # Creating again after a lost response would make a second batch.
        self._once = sdk.with_options(max_retries=0).messages.batches

    def create(self, requests: list[Any]) -> str:
        """Create a batch, trying once; its id."""
        return self._once.create(requests=requests).id

    def wait(self, batch: str) -> None:
        """Wait until a batch has ended; short failures of the API are waited for as well.

        Raises:
            BatchNotFoundError: the API does not find it.
            EsrError: its results are at another host, to which the key would go.
        """
        retrying = self._retrying(f"looking at batch {batch}")
        while True:
            found = self._run(batch, retrying, self._batches.retrieve, batch)
            if found.processing_status == "ended":
                break
            time.sleep(self._poll)
        base = self._client.settings.base_url
        if found.results_url and urlsplit(found.results_url).netloc != urlsplit(base).netloc:
            raise EsrError(
                f"batch {batch} has its results at {found.results_url}, where no key is sent: "
                f"that is another host than {base}. If it is the API, name it (base_url)"
            )

    def cancel(self, batch: str) -> None:
        """Cancel a batch, unless it has ended; requests that are done keep their results.

        Raises:
            BatchNotFoundError: the API does not find it.
        """
        retrying = self._retrying(f"looking at batch {batch}")
        found = self._run(batch, retrying, self._batches.retrieve, batch)
        if found.processing_status == "in_progress":
            cancelling = self._retrying(f"cancelling batch {batch}")
            self._run(batch, cancelling, self._batches.cancel, batch)

    def find(self, name: str, size: int, planned: float, known: set[str]) -> str | None:
        """Id of a batch by its name; None if it is not in the API's list.

        The requests of a batch show only in its results. So one that may be ours (made since it
        was planned, of its size, unknown to the manifest) is waited for.

        Args:
            name: With which the ids of its requests begin.
            size: Number of its requests.
            planned: When it was planned, by our clock (s since 1970).
            known: Ids of batches that are others.
        """
        response = self._batches.with_raw_response.list(limit=100)
        earliest = planned + _clock_difference(response.headers.get("date"))
        for batch in response.parse():
            if batch.created_at.timestamp() < earliest:
                break
            counts = batch.request_counts
            total = counts.processing + counts.succeeded + counts.errored
            total += counts.canceled + counts.expired
            if batch.id in known or total != size:
                continue
            log.info("batch %s may be %s, whose id was lost; waiting for it", batch.id, name)
            self.wait(batch.id)
            first = self._run(
                batch.id, self._retrying(f"results of batch {batch.id}"), self._first, batch.id
            )
            if first is not None and first.custom_id.startswith(f"{name}-"):
                return batch.id
        return None

    def _first(self, batch: str) -> BatchResult | None:
        return next(self._results(batch), None)

    def read(
        self, batch: str, wanted: set[str], keep: Callable[[Sequence[BatchResult]], None]
    ) -> set[str]:
        """Read the results of a batch, again and again until none is missing.

        Args:
            batch: Its id.
            wanted: Ids of its requests.
            keep: Receives every result once, in portions, before any later one is read.

        Returns:
            Ids of requests that have no result although the API sent its results completely.

        Raises:
            EsrError: the connection broke each time.
            BatchNotFoundError: the API does not find the batch.
        """
        seen: set[str] = set()

        def read_once() -> bool:
            for portion in _portions(self._results(batch)):
                news = {one.custom_id: one for one in portion if one.custom_id in wanted - seen}
                keep(list(news.values()))
                seen.update(news)
            return seen >= wanted

        what = f"results of batch {batch}"
        until_whole = retry_if_result(lambda whole: not whole)
        try:
            self._run(batch, self._retrying(what, until_whole), read_once)
        except BROKEN as error:
            if getattr(error, "status_code", None) in FATAL_STATUSES:
                raise
            raise EsrError(
                f"{what}: {len(seen)} of {len(wanted)} in {TRIES} tries; those are kept, run again "
                f"({self._client.explain(error)})"
            ) from None
        return wanted - seen

    def _results(self, batch: str) -> Iterator[BatchResult]:
        """Results of a batch, as its lines arrive."""
        with self._batches.with_streaming_response.results(batch) as response:
            rest = b""
            for content in response.iter_bytes():
                *lines, rest = (rest + content).split(b"\n")
                yield from filter(None, map(parse_result, lines))
            if rest.strip():  # the API need not end its last line
                yield from filter(None, [parse_result(rest)])

    def _retrying(self, what: str, also: retry_base = retry_never) -> Retrying:
        """Repeat a request after failures that may pass, and after results that `also` names."""

        def warn(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            why = (
                self._client.explain(error, missing="not found")
                if isinstance(error, Exception)
                else "incomplete"
            )
            log.warning("%s: %s; trying again", what, why)

        return Retrying(
            stop=_is_last_try,
            wait=wait_fixed(self._poll),
            retry=retry_if_exception(_may_pass) | also,
            before_sleep=warn,
            retry_error_callback=_outcome,
        )

    def _run(self, batch: str, retrying: Retrying, function: Any, *arguments: Any) -> Any:
        try:
            return retrying(function, *arguments)
        except anthropic.APIStatusError as error:
            if error.status_code != 404:
                raise
            what = f"the API does not find batch {batch}"
            raise BatchNotFoundError(str(self._client.explain(error, missing=what))) from None


def _outcome(state: RetryCallState) -> Any:
    """The last result, or the last failure as it was."""
    return state.outcome.result() if state.outcome else None


def _may_pass(error: BaseException) -> bool:
    """Whether a failure may pass: 404 is no proof that a batch does not exist."""
    status = getattr(error, "status_code", None)
    return isinstance(error, BROKEN) and (status == 404 or status not in FATAL_STATUSES)


def _is_last_try(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    tries = NOT_FOUND_TRIES if getattr(error, "status_code", None) == 404 else TRIES
    return state.attempt_number >= tries


def _clock_difference(date: str | None) -> float:
    """Earliest time of creation, minus the time of planning: the API's clock, ours, and slack."""
    if date is None:
        return -UNKNOWN_CLOCK
    return parsedate_to_datetime(date).timestamp() - time.time() - SLACK


def _portions(results: Iterator[BatchResult]) -> Iterator[list[BatchResult]]:
    """Results in portions; those read before the connection breaks come before the error."""
    portion: list[BatchResult] = []
    try:
        for one in results:
            portion.append(one)
            if len(portion) == PORTION:
                yield portion
                portion = []
    except BROKEN:
        yield portion
        raise
    yield portion
