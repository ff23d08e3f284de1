"""The threshold search: the finder proposes boosts, responses are generated and judged, repeat.

With an engine that computes batch by batch, all latents of a model advance together, step by step,
so that batches are full. The seed then determines every step. A search that is killed takes its
finished steps from the journal, at no cost, and resumes.

With an engine that accepts requests at any time, each latent advances as its own responses are
judged, so that the engine never waits for a judge. Proposals then depend on which scores of other
latents have arrived, so every proposal is logged (`ProposalLog`), and replayed after a kill.
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
    """A response that the threshold search requests."""

    latent: int
    step: int
    sample: int
    boost: float
    prompt_id: str
    seed: int


class QueryExecutor(Protocol):
    """Generates and judges the responses to queries, which are submitted step by step."""

    independent: bool
    """Whether each latent advances on its own, or all latents together."""

    def submit(self, queries: Sequence[Query]) -> None:
        """Submit the queries of a step, of one latent or of all."""
        ...

    def next(self) -> tuple[Sequence[Query], Sequence[Judgment]]:
        """Wait for any submitted step; return its queries and their judgments."""
        ...


class ProposalLog:
    """The boosts proposed for each latent and step, in a journal, if there is one."""

    def __init__(
        self,
        journal: Journal | None = None,
        former: Mapping[str, Any] | None = None,
        **facts: Any,
    ) -> None:
        """Open a log.

        Args:
            journal: The journal; none = proposals are not logged.
            former: The facts as an earlier version had them: what it proposed stands.
            facts: Everything that determines the scores: engine, judge, settings, ...
        """
        self._journal = journal
        self._facts = [facts] if former is None else [facts, former]

    def boosts(
        self, latent: int, step: int, propose: Callable[[], Float[np.ndarray, " samples"]]
    ) -> Float[np.ndarray, " samples"]:
        """Boosts of a step: from the journal, or proposed now and added to it."""
        if self._journal is None:
            return propose()
        where = {"course": latent, "step": step}
        keys = [content_key({**facts, **where}) for facts in self._facts]
        key = next((one for one in keys if one in self._journal), keys[0])
        if key not in self._journal:
            boosts = [float(boost) for boost in propose()]
            self._journal.append([{"key": key, "boosts": boosts}])
        return np.array(self._journal[key]["boosts"])


class PromptSampler:
    """Prompts of a latent in random order, without replacement until all have been drawn."""

    def __init__(self, prompts: Sequence[str], seed: int, latent: int) -> None:
        self._draw = random.Random(f"{seed}/{latent}")
        self._prompts = list(prompts)
        self._left: list[str] = []

    def next(self) -> str:
        """Draw the next prompt."""
        if not self._left:
            self._left = self._draw.sample(self._prompts, len(self._prompts))
        return self._left.pop()


def sampling_seed(seed: int, latent: int, step: int, sample: int) -> int:
    """Sampling seed of a query; it does not depend on the other latents of the study."""
    return random.Random(f"{seed}/{latent}/{step}/{sample}").getrandbits(32)


def find_thresholds(
    latents: pd.DataFrame,
    settings: ThresholdsConfig,
    prior: ThresholdPriorConfig,
    seed: int,
    executor: QueryExecutor,
    proposals: ProposalLog | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find the threshold of every selected latent.

    Args:
        latents: Table `latents`.
        settings: Method, target, numbers of steps and of samples.
        prior: Prior and bounds of the model's thresholds.
        seed: Seed of prompts and sampling.
        executor: Generates and judges responses.
        proposals: Log of the boosts, for an executor whose latents are independent.

    Returns:
        The tables `thresholds` and `threshold_trials`.
    """
    chosen = latents[latents["selected"]].sort_values("order", ignore_index=True)
    search = _Search(chosen, settings, prior, seed, proposals or ProposalLog())
    everyone = list(range(len(chosen)))
    for which in [[i] for i in everyone] if executor.independent else [everyone]:
        executor.submit(search.queries(which, 0))
    with logging_redirect_tqdm():
        bar = tqdm(total=len(chosen) * settings.steps, unit="step", disable=None, leave=False)
        while search.open:
            queries, judgments = executor.next()
            which, step = search.observe(queries, judgments)
            bar.update(len(which))
            if step + 1 < settings.steps:
                executor.submit(search.queries(which, step + 1))
    return search.thresholds(reorder=executor.independent), search.trials()


class _Search:
    """The finder, its proposals, and the trials so far."""

    def __init__(
        self,
        chosen: pd.DataFrame,
        settings: ThresholdsConfig,
        prior: ThresholdPriorConfig,
        seed: int,
        proposals: ProposalLog,
    ) -> None:
        self._chosen = chosen
        self._settings = settings
        self._prior = prior
        self._seed = seed
        self._proposals = proposals
        self._finder = open_finder(settings, prior, len(chosen))
        self._samplers = [
            PromptSampler(row.prompts, seed, row.latent) for row in chosen.itertuples()
        ]
        self._place = {int(latent): i for i, latent in enumerate(chosen["latent"])}
        self._rows: list[dict[str, Any]] = []
        self.open = len(chosen) * settings.steps
        """Number of steps, over all latents, that are not judged yet."""

    def queries(self, which: Sequence[int], step: int) -> list[Query]:
        """Queries of a step of some latents, each with a proposed boost and a prompt."""
        # The finder proposes for all of them at once, and only if one is not in the log.
        proposed: Float[np.ndarray, "m samples"] | None = None

        def propose(row: int) -> Float[np.ndarray, " samples"]:
            nonlocal proposed
            if proposed is None:
                proposed = self._finder.propose(np.array(which))
            return proposed[row]

        queries = []
        for row, place in enumerate(which):
            latent = int(self._chosen["latent"].iloc[place])
            for i, boost in enumerate(self._proposals.boosts(latent, step, partial(propose, row))):
                prompt = self._samplers[place].next()
                seed = sampling_seed(self._seed, latent, step, i)
                queries.append(Query(latent, step, i, float(boost), prompt, seed))
        return queries

    def observe(
        self, queries: Sequence[Query], judgments: Sequence[Judgment]
    ) -> tuple[list[int], int]:
        """Pass first scores to the finder (a missing one as NaN, never 0).

        Returns:
            Positions of the latents, and their step.
        """
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
        """Table `threshold_trials`, in an order independent of when responses were judged."""
        rows = sorted(self._rows, key=lambda r: (r["step"], self._place[r["latent"]], r["sample"]))
        return pd.DataFrame(rows)

    def thresholds(self, reorder: bool) -> pd.DataFrame:
        """Table `thresholds`.

        Args:
            reorder: Whether a new finder observes all trials in the order of their table, so that
                the estimates do not depend on when responses were judged.
        """
        finder = self._finder
        if reorder:
            finder = open_finder(self._settings, self._prior, len(self._chosen))
            _observe_all(finder, self.trials(), self._place)
        return _thresholds(finder, self._chosen, self._settings)


def estimate_for_target(
    thresholds: pd.DataFrame,
    trials: pd.DataFrame,
    settings: ThresholdsConfig,
    prior: ThresholdPriorConfig,
    target: float,
) -> pd.DataFrame:
    """Estimate thresholds for another target from the responses of a search.

    The boosts were chosen for the first target, so these intervals are wider.

    Args:
        thresholds: Table `thresholds` for the target of `settings`.
        trials: Table `threshold_trials`.
        settings: As in the search.
        prior: As in the search.
        target: Mean first-attempt score aimed at (points).
    """
    other = settings.model_copy(update={"target": target})
    finder = open_finder(other, prior, len(thresholds))
    _observe_all(finder, trials, {latent: i for i, latent in enumerate(thresholds["latent"])})
    return _thresholds(finder, thresholds, other)


def _observe_all(finder: ThresholdFinder, trials: pd.DataFrame, place: Mapping[int, int]) -> None:
    """Pass all trials to a finder, step by step."""
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
