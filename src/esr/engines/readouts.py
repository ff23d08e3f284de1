"""Readouts: log-probabilities of named tokens at the first position after a sequence.

Spellings of one answer, such as "Yes" and " yes", are summed under one name. Each must be a single
token of the model's tokenizer, since a token is what one position holds.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from esr.engines.base import Engine, Intervention, Reach
from esr.engines.intervention import UNCHANGED
from esr.engines.journaled import NOT_FINITE, OVERFLOW
from esr.errors import EsrError
from esr.gate import FailureGate
from esr.journal import Journal, content_key
from esr.progress import progress

log = logging.getLogger(__name__)

LogProbs = Float[np.ndarray, " targets"]
"""Log-probabilities (nats) of the targets of a request, in their order."""
MAX_TARGETS = 128
"""Most tokens that vLLM reads at one position."""
TOGETHER = 512
"""Requests between two writes of the journal, with an engine that forms its own batches."""


@dataclass(frozen=True)
class ReadoutRequest:
    """One sequence, the tokens whose log-probability after it is read, and its intervention."""

    tokens: tuple[int, ...]
    targets: tuple[int, ...]
    intervention: Intervention = UNCHANGED

    def check(self, reach: Reach) -> None:
        """Raise if sequence, targets or intervention are invalid; before any compute."""
        if not self.tokens:
            raise EsrError("a readout after no token: give the sequence that comes before it")
        if not 0 < len(self.targets) <= MAX_TARGETS:
            raise EsrError(
                f"a readout of {len(self.targets)} tokens: name at least one token, and at most "
                f"{MAX_TARGETS}"
            )
        if len(set(self.targets)) < len(self.targets) or min(self.targets) < 0:
            raise EsrError(f"a readout of tokens {list(self.targets)}: name each token id once")
        self.intervention.check(reach)

    def content(self) -> dict[str, Any]:
        """Return what determines the readout, besides model, SAE and layers."""
        self.intervention.check_values()
        return vars(self) | {"intervention": self.intervention.content()}


def named_tokens(
    tokenizer: Any, names: Mapping[str, Sequence[str]], where: str
) -> dict[str, tuple[int, ...]]:
    """Ids of the tokens that each name stands for, without repetition.

    Args:
        tokenizer: A transformers tokenizer.
        names: Spellings by name.
        where: The configuration key that lists them, for messages.

    Raises:
        EsrError: a spelling is not a single token, or two names share a token.
    """
    found = {
        name: tuple(dict.fromkeys(_single(tokenizer, text, f"{where}.{name}") for text in texts))
        for name, texts in names.items()
    }
    owner: dict[int, str] = {}
    for name, ids in found.items():
        for token in ids:
            if owner.setdefault(token, name) != name:
                raise EsrError(
                    f"{where}: {owner[token]} and {name} share the token "
                    f"{tokenizer.decode([token])!r}; give it to one of them"
                )
    return found


def _single(tokenizer: Any, text: str, where: str) -> int:
    ids = tokenizer.encode(text, add_special_tokens=False)
    unknown = len(ids) == 1 and ids[0] == tokenizer.unk_token_id
    if len(ids) != 1 or unknown:
        parts = "the unknown token" if unknown else str([tokenizer.decode([i]) for i in ids])
        raise EsrError(
            f"{where}: {text!r} is not a single token of this tokenizer, which makes it {parts}; "
            "name a spelling that is one, or leave this one out"
        )
    return int(ids[0])


def summed(
    log_probs: LogProbs | None, targets: Sequence[int], names: Mapping[str, Sequence[int]]
) -> dict[str, float]:
    """Log-probability (nats) of each name: log of the summed probabilities of its tokens.

    Args:
        log_probs: Those of a request's targets; None where the logits were not finite.
        targets: Token ids of the request.
        names: Token ids by name, all among the targets.

    Returns:
        NaN for every name where there are no log-probabilities.
    """
    if log_probs is None:
        return dict.fromkeys(names, np.nan)
    by_token = dict(zip(targets, np.asarray(log_probs, float), strict=True))
    return {
        name: float(np.logaddexp.reduce([by_token[token] for token in ids]))
        for name, ids in names.items()
    }


def read_journaled(
    engine: Engine, requests: Sequence[ReadoutRequest], journal: Journal
) -> list[LogProbs | None]:
    """Return readouts in the order of the requests; equal requests are computed once.

    Groups are those of the engine's partition. A group with a missing member is computed in full,
    and its other members keep what is recorded.

    Returns:
        One array a request; None where the logits were not finite.

    Raises:
        EsrError: a request is invalid, or nearly all readouts so far failed (`esr.gate`).
    """
    gate = FailureGate("readouts", OVERFLOW)
    keys = {r: content_key({**engine.identity, **r.content()}) for r in requests}
    distinct = list(keys)
    with progress(len(distinct), "readouts") as advance:
        for group in _missing(engine, distinct, keys, journal):
            done = zip(group, engine.log_probs(group), strict=True)
            journal.append(
                {"key": keys[request], "log_probs": None if found is None else found.tolist()}
                for request, found in done
            )
            advance(len(group))
            reasons = (journal[keys[request]]["log_probs"] for request in group)
            gate.add(NOT_FINITE if found is None else None for found in reasons)
            gate.check()
    records = (journal[keys[request]]["log_probs"] for request in requests)
    return [None if found is None else np.array(found) for found in records]


def _missing(
    engine: Engine,
    requests: Sequence[ReadoutRequest],
    keys: Mapping[ReadoutRequest, str],
    journal: Journal,
) -> Iterator[list[ReadoutRequest]]:
    """Groups of requests to compute, in the order of the engine's partition."""
    groups = [[requests[i] for i in group] for group in engine.partition(requests)]
    missing = [group for group in groups if any(keys[one] not in journal for one in group)]
    log.info("%d of %d batches are to be computed", len(missing), len(groups))
    if not engine.independent:
        yield from missing
        return
    single = [request for group in missing for request in group]
    for begin in range(0, len(single), TOGETHER):
        yield single[begin : begin + TOGETHER]
