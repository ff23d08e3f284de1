"""Finding thresholds: ask the finder for boosts, generate, judge, tell it the scores, repeat.

With an engine that computes batch by batch, all latents of a model advance together, step by step,
so that batches are full. Everything a step depends on is then fixed by the seed, so a killed search
repeats the finished steps from the journal at no cost and goes on.

With an engine that takes requests at any time, each latent advances as its own responses are
judged, so that the engine never waits for a judge. What a latent is asked then depends on which
scores of the others are in by then, so every proposal is logged (`ProposalLog`) and replayed after
a kill.
"""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from esr.config import ThresholdPriorConfig, ThresholdsConfig
from esr.journal import Journal, content_key
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


class QueryExecutor(Protocol):
    """Generates and judges the responses to queries that are handed in step by step."""

    independent: bool
    """Whether latents are best asked one by one, each as soon as it is known what."""

    def ask(self, queries: Sequence[Query]) -> None:
        """Hand in the queries of a step, of one latent or of all."""
        ...

    def next(self) -> tuple[Sequence[Query], Sequence[Judgment]]:
        """Wait for the judgments of queries that were handed in together, any that are ready."""
        ...


class ProposalLog:
    """Boosts that latents were asked, step by step, in a journal; none = written down nowhere."""

    def __init__(self, journal: Journal | None = None, **facts: Any) -> None:
        """Open a course.

        Args:
            journal: Where to write it down.
            facts: What else than the finder's settings determines the scores: engine, judge, ...
        """
        self._journal, self._facts = journal, facts

    def boosts(
        self, latent: int, step: int, propose: Callable[[], Float[np.ndarray, " samples"]]
    ) -> Float[np.ndarray, " samples"]:
        """Boosts of a step: those written down or, the first time, those proposed."""
        if self._journal is None:
            return propose()
        key = content_key({**self._facts, "course": latent, "step": step})
        if key not in self._journal:
            boosts = [float(boost) for boost in propose()]
            self._journal.append([{"key": key, "boosts": boosts}])
        return np.array(self._journal[key]["boosts"])


class PromptSampler:
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
    latents: pd.DataFrame,
    settings: ThresholdsConfig,
    prior: ThresholdPriorConfig,
    seed: int,
    answers: QueryExecutor,
    course: ProposalLog | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find the threshold of every selected latent.

    Args:
        latents: Table `latents`.
        settings: Method, target, numbers of steps and of samples.
        prior: What is known of the model's thresholds beforehand.
        seed: Seed of prompts and sampling.
        answers: Runs queries.
        course: Where boosts are written down, for answers that are independent.

    Returns:
        The tables `thresholds` and `threshold_trials`.
    """
    chosen = latents[latents["selected"]].sort_values("order", ignore_index=True)
    search = _Search(chosen, settings, prior, seed, course or ProposalLog())
    everyone = list(range(len(chosen)))
    for which in [[i] for i in everyone] if answers.independent else [everyone]:
        answers.ask(search.queries(which, 0))
    with logging_redirect_tqdm():
        bar = tqdm(total=len(chosen) * settings.steps, unit="step", disable=None, leave=False)
        while search.open:
            queries, judgments = answers.next()
            which, step = search.observe(queries, judgments)
            bar.update(len(which))
            if step + 1 < settings.steps:
                answers.ask(search.queries(which, step + 1))
    return search.thresholds(answers.independent), search.trials()


class _Search:
    """The finder, and what it was told so far."""

    def __init__(
        self,
        chosen: pd.DataFrame,
        settings: ThresholdsConfig,
        prior: ThresholdPriorConfig,
        seed: int,
        course: ProposalLog,
    ) -> None:
        self._chosen, self._settings, self._prior, self._seed = chosen, settings, prior, seed
        self._finder, self._course = open_finder(settings, prior, len(chosen)), course
        self._decks = [PromptSampler(row.prompts, seed, row.latent) for row in chosen.itertuples()]
        self._place = {int(latent): i for i, latent in enumerate(chosen["latent"])}
        self._rows: list[dict[str, Any]] = []
        self.open = len(chosen) * settings.steps
        """Steps of latents that are not judged yet."""

    def queries(self, which: Sequence[int], step: int) -> list[Query]:
        """Queries of a step of these latents: boosts that the finder proposes, each a prompt."""
        proposed: Float[np.ndarray, "m samples"] | None = None

        def propose(row: int) -> Float[np.ndarray, " samples"]:
            nonlocal proposed
            if proposed is None:
                proposed = self._finder.propose(np.array(which))
            return proposed[row]

        queries = []
        for row, place in enumerate(which):
            latent = int(self._chosen["latent"].iloc[place])
            for i, boost in enumerate(self._course.boosts(latent, step, partial(propose, row))):
                prompt = self._decks[place].next()
                seed = sampling_seed(self._seed, latent, step, i)
                queries.append(Query(latent, step, i, float(boost), prompt, seed))
        return queries

    def observe(
        self, queries: Sequence[Query], judgments: Sequence[Judgment]
    ) -> tuple[list[int], int]:
        """Tell the finder the first scores (none is NaN, never 0); the latents and their step."""
        which = list(dict.fromkeys(self._place[query.latent] for query in queries))
        first = [judgment.first_score for judgment in judgments]
        scores = np.array([np.nan if s is None else s for s in first]).reshape(len(which), -1)
        boosts = np.array([query.boost for query in queries]).reshape(scores.shape)
        self._finder.observe(np.array(which), boosts, scores)
        self._rows += [
            vars(query) | {"status": judgment.status, "first_score": judgment.first_score}
            for query, judgment in zip(queries, judgments, strict=True)
        ]
        step = queries[0].step
        self.open -= len(which)
        self._report(step, scores)
        return which, step

    def _report(self, step: int, scores: Float[np.ndarray, "m samples"]) -> None:
        if len(scores) < len(self._chosen):
            return
        scored = scores[~np.isnan(scores)]
        mean = f"mean {scored.mean():.1f}" if scored.size else "no mean"
        of = (step + 1, self._settings.steps, scored.size, scores.size, mean)
        log.info("step %d of %d: %d of %d responses scored, %s", *of)

    def trials(self) -> pd.DataFrame:
        """Table `threshold_trials`, in an order that does not tell when what was judged."""
        rows = sorted(self._rows, key=lambda r: (r["step"], self._place[r["latent"]], r["sample"]))
        return pd.DataFrame(rows)

    def thresholds(self, anew: bool) -> pd.DataFrame:
        """Table `thresholds`; `anew`, told everything again in the order of the table `trials`."""
        finder = self._finder
        if anew:
            finder = open_finder(self._settings, self._prior, len(self._chosen))
            _tell(finder, self.trials(), self._place)
        return _thresholds(finder, self._chosen, self._settings)


def estimate_for_target(
    thresholds: pd.DataFrame,
    trials: pd.DataFrame,
    settings: ThresholdsConfig,
    prior: ThresholdPriorConfig,
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
    _tell(finder, trials, {latent: i for i, latent in enumerate(thresholds["latent"])})
    return _thresholds(finder, thresholds, other)


def _tell(finder: ThresholdFinder, trials: pd.DataFrame, place: Mapping[int, int]) -> None:
    """Tell a finder all that was observed, step by step."""
    ordered = trials.assign(place=trials["latent"].map(place))
    for _, step in ordered.sort_values(["step", "place", "sample"]).groupby("step"):
        shape = (len(place), -1)
        boosts = step["boost"].to_numpy(float).reshape(shape)
        scores = step["first_score"].astype("Float64").to_numpy(float, na_value=np.nan)
        finder.observe(np.arange(len(place)), boosts, scores.reshape(shape))


def _thresholds(
    finder: ThresholdFinder, chosen: pd.DataFrame, settings: ThresholdsConfig
) -> pd.DataFrame:
    estimate = finder.estimate().reset_index(drop=True)
    estimate = estimate.drop(columns=["predicted_low", "predicted_high"])
    named = chosen[["latent", "label"]].assign(method=settings.method, target=settings.target)
    return named.join(estimate.rename(columns={"predicted_score": "achieved"}))
