"""Liveness: whether a direction changes what the model predicts first.

For a direction at boost b, its threshold (or, without one, the highest boost that was tried), over
prompts x:

    KL = mean over x of  sum over v of p_0(v | x) log(p_0(v | x) / p_b(v | x))             nats

v runs over the tokens of a prompt (`first_tokens`) and one class of all others. To merge tokens can
only lower a divergence, so this is a lower bound of that over the vocabulary. p_0 is unsteered.

A direction is inert if it changes none of these log-probabilities by more than unsteered passes
over the same prompts change among themselves, by rounding: as many passes as there are directions,
and at least `NEGLIGIBLE`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.engines.base import Engine, Intervention, Request, Sampling
from esr.engines.journaled import generate_journaled
from esr.engines.readouts import LogProbs, ReadoutRequest, read_journaled
from esr.journal import Journal
from esr.thresholds.finder import Status

PROMPTS = 4
"""Prompts, evenly spaced in their file."""
SAMPLES = 16
"""First tokens sampled a prompt, without steering."""
SPREAD = 16
"""Further tokens, evenly spaced in the vocabulary. A first token that is nearly certain has a
log-probability of 0 with and without steering; that of an unlikely one moves with any logit."""
NEGLIGIBLE = 1e-4
"""Change of a log-probability (nats) that float32 rounding alone explains."""
SMALLEST = 1e-12
"""Least probability of the class of all other tokens."""
NUMBERS = ["threshold", "low", "high", "achieved"]
"""Columns of `thresholds` that an inert direction does not have."""


class Prompt(NamedTuple):
    """Tokens of a prompt, and the tokens whose probability after it is read."""

    tokens: tuple[int, ...]
    targets: tuple[int, ...]


def first_tokens(
    engine: Engine,
    prompts: Sequence[tuple[int, ...]],
    vocabulary: int,
    sampling: Sampling,
    journal: Journal,
) -> list[Prompt]:
    """Prompts with the tokens that the unsteered model samples first, and some others.

    Args:
        engine: The engine.
        prompts: Token ids of prompts; `PROMPTS` of them are used.
        vocabulary: Number of tokens of the tokenizer.
        sampling: Sampling of the study.
        journal: Holds what was generated before.
    """
    places = np.unique(np.linspace(0, len(prompts) - 1, PROMPTS).round().astype(int))
    chosen = [prompts[place] for place in places]
    requests = [Request(prompt, seed) for prompt in chosen for seed in range(SAMPLES)]
    done = generate_journaled(engine, requests, replace(sampling, max_new_tokens=1), journal)
    spread = np.unique(np.linspace(0, vocabulary - 1, SPREAD).round().astype(int)).tolist()
    found = []
    for number, prompt in enumerate(chosen):
        mine = done[number * SAMPLES : (number + 1) * SAMPLES]
        sampled = {token for one in mine for token in one.tokens}
        found.append(Prompt(prompt, tuple(sorted(sampled | set(spread)))))
    return found


def measure_liveness(
    engine: Engine,
    latents: Sequence[int],
    boosts: Sequence[float],
    directions: str | None,
    prompts: Sequence[Prompt],
    journal: Journal,
) -> pd.DataFrame:
    """Measure how each direction moves the first token.

    Args:
        engine: The engine.
        latents: Latents, or rows of `directions`.
        boosts: Boost of each (decoder units).
        directions: Set of directions; None = decoder rows.
        prompts: Prompts and their tokens.
        journal: Holds what was read before.

    Returns:
        One row a direction, indexed by latent: kl (nats; missing where the logits are not finite)
        and inert.
    """
    # Rounding depends on the shape of a batch, so every direction has an unsteered twin beside it.
    every = [Intervention()]
    for latent, boost in zip(latents, boosts, strict=True):
        every += [
            Intervention(latent, directions=directions),
            Intervention(latent, boost, directions=directions),
        ]
    requests = [ReadoutRequest(p.tokens, p.targets, what) for what in every for p in prompts]
    read = read_journaled(engine, requests, journal)
    unsteered, *rows = (read[i : i + len(prompts)] for i in range(0, len(read), len(prompts)))
    twins, steered = rows[::2], rows[1::2]
    noise = max([NEGLIGIBLE, *(_largest_change(unsteered, row) for row in twins)])
    found = [
        {"kl": _divergence(unsteered, row), "inert": _largest_change(unsteered, row) <= noise}
        for row in steered
    ]
    index = pd.Index(latents, name="latent")
    return pd.DataFrame(found, index=index, columns=["kl", "inert"])


def _largest_change(before: Sequence[LogProbs | None], after: Sequence[LogProbs | None]) -> float:
    """Largest change of any log-probability; infinite if one is missing."""
    changes = [
        np.inf if a is None or b is None else float(np.abs(a - b).max())
        for a, b in zip(before, after, strict=True)
    ]
    return max(changes, default=np.inf)


def _divergence(before: Sequence[LogProbs | None], after: Sequence[LogProbs | None]) -> float:
    """Mean divergence over prompts (nats); NaN if a log-probability is missing."""
    found = [
        np.nan if a is None or b is None else float(np.sum(np.exp(p) * (p - q)))
        for a, b in zip(before, after, strict=True)
        for p, q in [(_with_rest(a), _with_rest(b))]
    ]
    return float(np.mean(found))


def _with_rest(log_probs: LogProbs | None) -> Float[np.ndarray, " classes"]:
    """Log-probabilities with that of all other tokens."""
    if log_probs is None:
        return np.array([np.nan])
    named = np.asarray(log_probs, float)
    rest = max(1 - float(np.exp(named).sum()), SMALLEST)
    return np.append(named, np.log(rest))


def with_liveness(thresholds: pd.DataFrame, liveness: pd.DataFrame) -> pd.DataFrame:
    """Thresholds with the column `kl`; inert directions have that status and no threshold.

    Args:
        thresholds: Table `thresholds`, without `kl`.
        liveness: From `measure_liveness`.
    """
    inert = thresholds["latent"].map(liveness["inert"]).eq(True)
    table = thresholds.assign(kl=thresholds["latent"].map(liveness["kl"]))
    table.loc[inert, "status"] = str(Status.INERT)
    table.loc[inert, NUMBERS] = np.nan
    return table


def probed_boosts(thresholds: pd.DataFrame, trials: pd.DataFrame) -> list[float]:
    """Boost of each direction at which liveness is measured (decoder units).

    Args:
        thresholds: Table `thresholds`.
        trials: Table `threshold_trials`.
    """
    highest = thresholds["latent"].map(trials.groupby("latent")["boost"].max())
    found = thresholds["threshold"].astype(float).fillna(highest.astype(float))
    return [float(boost) for boost in found.fillna(thresholds["upper"].astype(float))]
