"""Generation with a journal: compute what is missing, record each response when it finishes."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from esr.engines.base import Engine, Generation, Request, Sampling
from esr.gate import FailureGate
from esr.journal import Journal, content_key
from esr.progress import progress

log = logging.getLogger(__name__)

NOT_FINITE = "activations that are not finite"
OVERFLOW = (
    "With dtype float16, set the model's dtype to bfloat16; else the boost is far too high: lower "
    "it, or the threshold_prior. Responses of another dtype or boost are computed anew"
)
"""Remedy where nearly all responses fail."""


class JournaledStream:
    """A stream of an engine that computes only what the journal lacks.

    The id of a request is its key in the journal. A group with a missing member is computed in
    full, since only then does it yield the bytes of an uninterrupted run. Its other members keep
    their recorded response. A response is on disk before it is returned.
    """

    def __init__(
        self,
        engine: Engine,
        sampling: Sampling,
        journal: Journal,
        before_first: Callable[[], None] = lambda: None,
    ) -> None:
        """Open a stream.

        Args:
            engine: Generates what is missing.
            sampling: Sampling settings.
            journal: Holds the responses of earlier runs; new ones are appended.
            before_first: Called before the engine, which may start now, gets its first group.
        """
        self._before_first = before_first
        self._stream = engine.stream(sampling)
        self._journal = journal
        self._determining = {**engine.identity, **asdict(sampling)}
        self._recorded: deque[str] = deque()
        """Ids whose responses are in the journal and have not been returned yet."""
        self._computing: set[str] = set()
        self.n_computed_groups = 0
        """Groups passed on to the engine. The others are in the journal."""

    def submit(self, group: Sequence[Request]) -> list[str]:
        """Queue a group of the engine's partition.

        Returns:
            The id of each request.

        Raises:
            EsrError: an intervention is invalid. Raised at once, before the group is computed.
        """
        ids = [self._key(request) for request in group]
        requests = dict(zip(ids, group, strict=True))
        if all(id_ in self._journal for id_ in requests):
            self._recorded += requests
        elif not self._computing >= requests.keys():
            if not self.n_computed_groups:
                self._before_first()
            self._stream.submit(requests)
            self._computing |= requests.keys()
            self.n_computed_groups += 1
        return ids

    def results(self, timeout: float | None = None) -> Iterator[tuple[str, Generation]]:
        """Yield (id, response) as responses finish; recorded ones come first.

        Args:
            timeout: Seconds without a response after which to stop, if the engine supports it.
        """
        while self._recorded or self._computing:
            while self._recorded:
                id_ = self._recorded.popleft()
                # From the journal even if just computed: the first record of a request stands.
                record = self._journal[id_]
                yield id_, Generation(tuple(record["tokens"]), record["finish_reason"])
            if not self._computing:
                return
            finished = next(self._stream.results(timeout), None)
            if finished is None:
                if timeout is None:
                    raise RuntimeError(f"{len(self._computing)} requests have no response")
                return
            self._journal.append({"key": id_} | vars(g) for id_, g in finished.items())
            self._computing -= finished.keys()
            self._recorded += finished

    def _key(self, request: Request) -> str:
        return content_key({**self._determining, **request.content()})


def generate_journaled(
    engine: Engine, requests: Sequence[Request], sampling: Sampling, journal: Journal
) -> list[Generation]:
    """Return responses in the order of the requests; equal requests are computed once.

    See `JournaledStream`.

    Raises:
        EsrError: nearly all responses so far failed (`esr.gate`), as in a dtype that overflows.
    """
    gate = FailureGate("responses", OVERFLOW)
    distinct = list(dict.fromkeys(requests))
    groups = engine.partition(distinct)
    stream = JournaledStream(engine, sampling, journal)
    ids: dict[Request, str] = {}
    for group in groups:
        members = [distinct[i] for i in group]
        ids |= zip(members, stream.submit(members), strict=True)
    log.info("%d of %d batches are to be computed", stream.n_computed_groups, len(groups))
    found = {}
    with progress(len(distinct), "responses") as advance:
        for id_, response in stream.results():
            advance(1)
            found[id_] = response
            gate.add([NOT_FINITE if response.finish_reason == "error" else None])
            gate.check()
    return [found[ids[request]] for request in requests]
