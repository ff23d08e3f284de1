"""Generation with a journal: run what is missing, keep every response the moment it is there."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from esr.engines.base import Engine, Generation, Request, Sampling
from esr.journal import Journal, content_key

log = logging.getLogger(__name__)


class JournaledStream:
    """A stream of an engine that computes only what is not in the journal.

    Groups of which any member is missing are computed whole, since only then are the bytes those
    of an uninterrupted run; members that the journal has keep their recorded response. What is
    done is in the journal before it is handed on.
    """

    def __init__(self, engine: Engine, sampling: Sampling, journal: Journal) -> None:
        self._stream, self._journal = engine.stream(sampling), journal
        self._facts = {**engine.identity, **asdict(sampling)}
        self._keys: dict[int, list[str]] = {}
        self._recorded: deque[int] = deque()

    @property
    def missing(self) -> int:
        """Groups handed in that are being computed, not read from the journal."""
        return len(self._keys) - len(self._recorded)

    def submit(self, name: int, group: Sequence[Request]) -> None:
        """Hand in a group; see `esr.engines.base.Stream.submit`."""
        keys = [content_key({**self._facts, **request.content()}) for request in group]
        self._keys[name] = keys
        if all(key in self._journal for key in keys):
            self._recorded.append(name)
        else:
            self._stream.submit(name, group)

    def results(self, patience: float | None = None) -> Iterator[tuple[int, list[Generation]]]:
        """Groups as they are done, recorded ones first; see `esr.engines.base.Stream.results`."""
        while self._keys:
            while self._recorded:
                yield self._take(self._recorded.popleft())
            if not self._keys:
                return
            for name, generations in self._stream.results(patience):
                self._journal.append(
                    {"key": key, **asdict(generation)}
                    for key, generation in zip(self._keys[name], generations, strict=True)
                )
                yield self._take(name)
                if self._recorded:
                    break
            else:
                assert patience or not self._keys or self._recorded, "an engine lost groups"
                if not self._recorded:
                    return

    def _take(self, name: int) -> tuple[int, list[Generation]]:
        records = [self._journal[key] for key in self._keys.pop(name)]
        return name, [Generation(tuple(r["tokens"]), r["finish_reason"]) for r in records]


def generate_journaled(
    engine: Engine, requests: Sequence[Request], sampling: Sampling, journal: Journal
) -> list[Generation]:
    """Responses to requests, in order; see `JournaledStream`. Equal requests are computed once."""
    distinct = list(dict.fromkeys(requests))
    groups = engine.partition(distinct)
    stream = JournaledStream(engine, sampling, journal)
    for number, group in enumerate(groups):
        stream.submit(number, [distinct[i] for i in group])
    log.info("%d of %d batches are to be computed", stream.missing, len(groups))
    found: dict[Request, Generation] = {}
    for number, generations in _progress(stream.results(), len(groups)):
        members = (distinct[i] for i in groups[number])
        found |= zip(members, generations, strict=True)
    return [found[request] for request in requests]


def _progress(
    done: Iterator[tuple[int, list[Generation]]], total: int
) -> Iterator[tuple[int, list[Generation]]]:
    """Show progress: a bar on a terminal, about ten log lines elsewhere."""
    every = max(1, total // 10)
    with logging_redirect_tqdm():
        bar = tqdm(done, total=total, unit="batch", disable=None, leave=False)
        for number, one in enumerate(bar, start=1):
            yield one
            if bar.disable and total > 1 and number % every == 0:
                log.info("generated %d of %d batches", number, total)
