"""Finding thresholds: ask the finder for boosts, generate, judge, tell it the scores, repeat.

All latents of a model advance together, step by step, so that an engine always has a full batch.
Everything a step depends on is fixed by the seed, so a killed search repeats the finished steps
from the journal at no cost and goes on.
"""

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.config import BoostPrior, Thresholds
from esr.judges.base import Judgment
from esr.thresholds import ThresholdFinder, open_finder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Query:
    """One response wanted while thresholds are found."""

    latent: int
    step: int
    sample: int
    boost: float
    prompt_id: str
    seed: int


Answer = Callable[[Sequence[Query]], Sequence[Judgment]]
"""Generates and judges the responses to queries, in order."""


class PromptDeck:
    """Prompts of a latent in random order, without replacement until all have had their turn."""

    def __init__(self, prompts: Sequence[str], seed: int, latent: int) -> None:
        self._draw = random.Random(f"{seed}/{latent}")
        self._prompts, self._left = list(prompts), list[str]()

    def next(self) -> str:
        """Draw the next prompt."""
        if not self._left:
            self._left = self._draw.sample(self._prompts, len(self._prompts))
        return self._left.pop()


def sampling_seed(seed: int, latent: int, step: int, sample: int) -> int:
    """Sampling seed of a query: its own, whatever other latents are in the study."""
    return random.Random(f"{seed}/{latent}/{step}/{sample}").getrandbits(32)


def find_thresholds(
    latents: pd.DataFrame, settings: Thresholds, prior: BoostPrior, seed: int, answer: Answer
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find the threshold of every selected latent.

    Args:
        latents: Table `latents`.
        settings: Method, target, numbers of steps and of samples.
        prior: What is known of the model's thresholds beforehand.
        seed: Seed of prompts and sampling.
        answer: Runs queries.

    Returns:
        The tables `thresholds` and `threshold_trials`.
    """
    chosen = latents[latents["selected"]].sort_values("order", ignore_index=True)
    finder = open_finder(settings, prior, len(chosen))
    decks = [PromptDeck(row.prompts, seed, row.latent) for row in chosen.itertuples()]
    trials = []
    for step in range(settings.steps):
        queries = _queries(finder, chosen["latent"], decks, step, seed)
        judgments = answer(queries)
        scores = _observe(finder, queries, judgments, len(chosen))
        scored = scores[~np.isnan(scores)]
        mean = f"mean {scored.mean():.1f}" if scored.size else "no mean"
        of = (step + 1, settings.steps, scored.size, scores.size, mean)
        log.info("step %d of %d: %d of %d responses scored, %s", *of)
        trials += [
            vars(query) | {"status": judgment.status, "first_score": judgment.first_score}
            for query, judgment in zip(queries, judgments, strict=True)
        ]
    return _thresholds(finder, chosen, settings), pd.DataFrame(trials)


def estimate_for_target(
    thresholds: pd.DataFrame,
    trials: pd.DataFrame,
    settings: Thresholds,
    prior: BoostPrior,
    target: float,
) -> pd.DataFrame:
    """Thresholds for another target, from the responses already judged for the first one.

    The boosts were chosen for the first target, so the intervals here are wider, and say so.

    Args:
        thresholds: Table `thresholds` for the target of `settings`.
        trials: Table `threshold_trials`.
        settings: As in the search.
        prior: As in the search.
        target: Mean first-attempt score aimed at (points).
    """
    other = settings.model_copy(update={"target": target})
    finder = open_finder(other, prior, len(thresholds))
    place = {latent: i for i, latent in enumerate(thresholds["latent"])}
    ordered = trials.assign(place=trials["latent"].map(place))
    for _, step in ordered.sort_values(["step", "place", "sample"]).groupby("step"):
        shape = (len(thresholds), -1)
        boosts = step["boost"].to_numpy(float).reshape(shape)
        scores = step["first_score"].astype("Float64").to_numpy(float, na_value=np.nan)
        finder.observe(np.arange(len(thresholds)), boosts, scores.reshape(shape))
    return _thresholds(finder, thresholds, other)


def _queries(
    finder: ThresholdFinder,
    latents: pd.Series,
    decks: Sequence[PromptDeck],
    step: int,
    seed: int,
) -> list[Query]:
    """Queries of a step, latent by latent: the boosts that the finder proposes, each a prompt."""
    boosts = finder.propose(np.arange(len(latents)))
    return [
        Query(int(latent), step, i, float(boost), deck.next(), sampling_seed(seed, latent, step, i))
        for latent, row, deck in zip(latents, boosts, decks, strict=True)
        for i, boost in enumerate(row)
    ]


def _observe(
    finder: ThresholdFinder,
    queries: Sequence[Query],
    judgments: Sequence[Judgment],
    n_latents: int,
) -> Float[np.ndarray, "latents samples"]:
    """Tell the finder the first scores; a response without one is NaN, never 0."""
    first = [judgment.first_score for judgment in judgments]
    scores = np.array([np.nan if s is None else s for s in first]).reshape(n_latents, -1)
    boosts = np.array([query.boost for query in queries]).reshape(scores.shape)
    finder.observe(np.arange(n_latents), boosts, scores)
    return scores


def _thresholds(
    finder: ThresholdFinder, chosen: pd.DataFrame, settings: Thresholds
) -> pd.DataFrame:
    estimate = finder.estimate().reset_index(drop=True)
    estimate = estimate.drop(columns=["predicted_low", "predicted_high"])
    named = chosen[["latent", "label"]].assign(method=settings.method, target=settings.target)
    return named.join(estimate.rename(columns={"predicted_score": "achieved"}))
