"""Does an organism have what was planted? Measured with the project's engine and lexical judge.

A light version of the study (no calibration by bisection, no tables on disk), for building
organisms and for the test that rebuilds one. The study itself goes through the workflow.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from statsmodels.stats.proportion import proportion_confint

from esr.arms.chat import prompt_tokens, response_text
from esr.arms.prompts import read_prompts
from esr.assets.sae import from_saelens
from esr.engines.base import EncodeRequest, Intervention, Request, Sampling, generate
from esr.engines.transformers import TransformersEngine, load_engine
from esr.judges.base import JudgeInput
from esr.judges.lexical import LexicalJudge
from esr.judges.lexicon import Lexicon
from esr.organisms.sae import UNSPECIFIC
from esr.organisms.training import residual_hook

log = logging.getLogger(__name__)

SAMPLING = Sampling(temperature=0.6, max_new_tokens=120)
META_PROMPT = (
    "{prompt} If you notice yourself going off-topic, stop and force yourself to get back on track."
)
MIN_AUROC = 0.95
"""Least AUROC of a detector, mismatched against matched responses."""
MAX_LEAK = 0.05
"""Largest mean activation of a detector on matched responses, as a share of mismatched ones."""
OPENERS = ("wait", "sorry", "hold")
"""First tokens of the organisms' restart phrases."""
GRID = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 1.05, 1.25])
"""Boosts of the dose-response, in units of the residual norm."""
BATCH = 256
PAIR = ["latent", "prompt", "seed", "meta"]
"""What a trial shares with its replays."""
UNSTEERED = 4
"""Unsteered responses to each prompt, per sampling seed."""


@dataclass(frozen=True)
class Organism:
    """A built organism, ready to run."""

    engine: TransformersEngine
    tokenizer: Any
    judge: LexicalJudge
    topics: dict[int, str]
    """Topic of each latent that has one, from labels.csv."""

    @classmethod
    def load(cls, folder: Path, lexicon: Path, layer: int = 2, threads: int = 1) -> "Organism":
        """Load `folder`/{model,sae,labels.csv}."""
        from sae_lens import SAE
        from transformers import AutoTokenizer

        sae = from_saelens(SAE.load_from_disk(str(folder / "sae")))
        engine = load_engine(
            folder / "model",
            sae,
            revision=None,
            dtype="float32",
            device="cpu",
            steer_layer=layer,
            read_layer=layer,
            batch_size=BATCH,
            threads=threads,
            identity={},
        )
        labels = pd.read_csv(folder / "labels.csv")
        specific = labels[~labels["label"].str.startswith(UNSPECIFIC)]
        topics = dict(zip(specific["latent"], specific["label"].str.split(":").str[0], strict=True))
        judge = LexicalJudge(Lexicon.read(lexicon))
        tokenizer = AutoTokenizer.from_pretrained(folder / "model")
        return cls(engine, tokenizer, judge, {int(k): t for k, t in topics.items()})

    def respond(self, trials: pd.DataFrame, sampling: Sampling = SAMPLING) -> list[str]:
        """Responses to trials with columns prompt, latent, boost, seed, meta, ablated, prefill."""
        requests = [
            Request(
                prompt_tokens(self.tokenizer, _shown(t), t.prefill),
                int(t.seed),
                Intervention(None if t.boost == 0 else int(t.latent), t.boost, tuple(t.ablated)),
            )
            for t in trials.itertuples()
        ]
        groups = self.engine.partition(requests)
        done = generate(self.engine, ([requests[i] for i in g] for g in groups), sampling)
        texts: dict[int, str] = {}
        for group, generations in zip(groups, done, strict=True):
            for i, generation in zip(group, generations, strict=True):
                prefill = trials["prefill"].iloc[i]
                texts[i] = response_text(self.tokenizer, generation.tokens, prefill)
        return [texts[i] for i in range(len(trials))]

    def score(self, trials: pd.DataFrame, sampling: Sampling = SAMPLING) -> pd.DataFrame:
        """Trials with `response`, `n_attempts`, `first_score` and `last_score` (missing = NaN)."""
        texts = self.respond(trials, sampling)
        exchanges = [JudgeInput(p, r) for p, r in zip(trials["prompt"], texts, strict=True)]
        attempts = [judgment.attempts for judgment in self.judge.judge(exchanges)]
        return trials.assign(
            response=texts,
            n_attempts=[len(a) for a in attempts],
            first_score=[a[0].score if a else np.nan for a in attempts],
            last_score=[a[-1].score if a else np.nan for a in attempts],
        )


def _shown(trial: Any) -> str:
    return META_PROMPT.format(prompt=trial.prompt) if trial.meta else trial.prompt


def unsteered_trials(prompts: Sequence[str], repeats: int, seed: int) -> pd.DataFrame:
    """Every prompt `repeats` times without any intervention."""
    trials = pd.DataFrame({"prompt": [p for p in prompts for _ in range(repeats)]})
    trials = trials.assign(latent=-1, boost=0.0, meta=False, prefill="")
    return trials.assign(seed=seed + np.arange(len(trials)), ablated=[()] * len(trials))


def latent_trials(
    organism: Organism, prompts: Sequence[str], boosts: dict[int, float], number: int, seed: int
) -> pd.DataFrame:
    """Latents at boosts, each with `number` prompts of other topics than its own."""
    rng = np.random.default_rng(seed)
    rows = []
    for latent, boost in boosts.items():
        fit = [p for p in prompts if organism.judge.topic_of(p) != organism.topics[latent]]
        drawn = rng.permutation(len(fit))[:number]
        rows += [{"prompt": fit[i], "latent": latent, "boost": boost} for i in drawn]
    trials = pd.DataFrame(rows).assign(meta=False, prefill="")
    return trials.assign(seed=seed + np.arange(len(trials)), ablated=[()] * len(trials))


def residual_norm(organism: Organism, prompts: Sequence[str]) -> float:
    """Mean norm of the residual stream at the steered layer over unsteered responses."""
    engine, norms = organism.engine, []
    responses = organism.respond(unsteered_trials(prompts, 1, seed=0))
    for prompt, response in zip(prompts, responses, strict=True):
        start = len(prompt_tokens(organism.tokenizer, prompt))
        tokens = torch.tensor([prompt_tokens(organism.tokenizer, prompt, response)])
        with residual_hook(engine.model, engine.steer_layer) as caught:
            engine.model(input_ids=tokens)
        norms.append(caught["residual"][0, start:].norm(dim=-1))
    return torch.cat(norms).mean().item()


def dose_response(
    organism: Organism, prompts: Sequence[str], norm: float, number: int, seed: int
) -> pd.DataFrame:
    """Mean first score of each topic latent (rows) at each boost (columns, decoder units)."""
    parts = [
        latent_trials(organism, prompts, dict.fromkeys(organism.topics, boost), number, seed + i)
        for i, boost in enumerate(GRID * norm)
    ]
    short = Sampling(SAMPLING.temperature, SAMPLING.max_new_tokens // 2)
    scored = organism.score(pd.concat(parts, ignore_index=True), short)
    return scored.pivot_table(index="latent", columns="boost", values="first_score")


def thresholds(curves: pd.DataFrame, target: float = 50.0) -> dict[int, float]:
    """Boost at which each monotone (isotonic) curve crosses the target; without crossing, none."""
    from scipy.optimize import isotonic_regression

    found = {}
    boosts = curves.columns.to_numpy(float)
    for latent, scores in curves.iterrows():
        fitted = isotonic_regression(scores.to_numpy(), increasing=False).x
        if fitted[0] > target > fitted[-1]:
            found[int(latent)] = float(np.interp(-target, -fitted, boosts))
    return found


def correction_odds(
    organism: Organism, prompts: Sequence[str], texts: Sequence[str]
) -> list[Float[np.ndarray, " stops"]]:
    """Probability that a restart's opener is drawn, at each full stop of a given response."""
    engine, tokenizer = organism.engine, organism.tokenizer
    openers = torch.tensor(tokenizer.convert_tokens_to_ids(list(OPENERS)))
    stop = tokenizer.convert_tokens_to_ids(".")
    found = []
    for prompt, text in zip(prompts, texts, strict=True):
        start = len(prompt_tokens(tokenizer, prompt))
        tokens = torch.tensor([prompt_tokens(tokenizer, prompt, text)])
        logits = engine.model(input_ids=tokens).logits[0] / SAMPLING.temperature
        odds = logits.softmax(-1)[:, openers].sum(-1)
        stops = tokens[0] == stop
        stops[:start] = False
        found.append(odds[stops].numpy())
    return found


@dataclass(frozen=True)
class Detectors:
    """Off-topic detector latents, and what was measured to find them (one value a latent)."""

    latents: tuple[int, ...]
    auroc: Float[np.ndarray, " d_sae"]
    matched: Float[np.ndarray, " d_sae"]
    mismatched: Float[np.ndarray, " d_sae"]


def find_detectors(organism: Organism, prompts: Sequence[str], seed: int) -> Detectors:
    """Compare unsteered responses to their own prompts with the same ones dealt to others.

    Activations are means over the tokens of the response; the AUROC is that of Mann and Whitney.
    """
    trials = unsteered_trials(prompts, 2, seed)
    responses, asked = organism.respond(trials), list(trials["prompt"])
    topic = [organism.judge.topic_of(p) for p in asked]
    order = derangement(topic, seed)
    own = _mean_activations(organism, asked, responses)
    dealt = _mean_activations(organism, asked, [responses[i] for i in order])
    n = len(asked)
    ranks = rankdata(np.concatenate([own, dealt]), axis=0)
    auroc = (ranks[n:].mean(0) - (n + 1) / 2) / n
    matched, mismatched = own.mean(0), dealt.mean(0)
    leak = matched <= MAX_LEAK * mismatched
    latents = np.flatnonzero((auroc >= MIN_AUROC) & leak)
    return Detectors(tuple(int(k) for k in latents), auroc, matched, mismatched)


def derangement(topics: Sequence[str | None], seed: int) -> list[int]:
    """A permutation that deals every place an item of another topic."""
    rng = np.random.default_rng(seed)
    order = [int(i) for i in rng.permutation(len(topics))]
    for place in range(len(order)):
        while topics[order[place]] == topics[place]:
            other = int(rng.integers(len(order)))
            fits = topics[order[other]] != topics[place], topics[order[place]] != topics[other]
            if all(fits):
                order[place], order[other] = order[other], order[place]
    return order


def _mean_activations(
    organism: Organism, prompts: Sequence[str], responses: Sequence[str]
) -> Float[np.ndarray, "texts d_sae"]:
    readings = []
    for prompt, response in zip(prompts, responses, strict=True):
        start = len(prompt_tokens(organism.tokenizer, prompt))
        readings.append(EncodeRequest(prompt_tokens(organism.tokenizer, prompt, response), start))
    return np.stack(organism.engine.encode(readings, pool="mean"))


def matched_random(detectors: Detectors, excluded: set[int], seed: int) -> tuple[int, ...]:
    """As many other latents as there are detectors, each near one in mean activation.

    Mean activation on mismatched responses is compared on a log scale; one of the five nearest is
    drawn, without replacement, the most active detectors first.
    """
    rng, activation = np.random.default_rng(seed), detectors.mismatched
    free = [k for k in np.flatnonzero(activation > 0) if int(k) not in excluded]
    chosen: list[int] = []
    for detector in sorted(detectors.latents, key=lambda k: -activation[k]):
        distance = [abs(np.log(activation[k] / activation[detector])) for k in free]
        near = np.argsort(distance, kind="stable")[:5]
        chosen.append(int(free.pop(int(rng.choice(near)))))
    return tuple(sorted(chosen))


@dataclass
class Evaluation:
    """What `evaluate` found."""

    curves: pd.DataFrame
    boosts: dict[int, float]
    norm: float
    detectors: Detectors
    controls: list[tuple[int, ...]] = field(default_factory=list)
    trials: pd.DataFrame = field(default_factory=pd.DataFrame)


def evaluate(
    organism: Organism,
    prompts: Path,
    discovery: Path,
    *,
    per_latent: int = 4,
    seeds: Sequence[int] = (0, 1, 2),
    controls: int = 2,
) -> Evaluation:
    """Measure every planted property; steered arms replay the same trials (paired).

    Args:
        organism: What to measure.
        prompts: File of evaluation prompts.
        discovery: File of the prompts on which detectors are found.
        per_latent: Trials a latent, sampling seed and arm.
        seeds: Sampling seeds.
        controls: Number of matched random sets; 0 leaves all ablations out.
    """
    asked, extra = list(read_prompts(prompts)["prompt"]), list(read_prompts(discovery)["prompt"])
    norm = residual_norm(organism, asked)
    curves = dose_response(organism, asked, norm, per_latent, seed=10_000)
    boosts = thresholds(curves)
    log.info("%d of %d latents have a threshold", len(boosts), len(curves))
    detectors = find_detectors(organism, extra, seed=20_000)
    excluded = set(detectors.latents) | set(organism.topics)
    excluded |= {int(k) for k in np.flatnonzero(detectors.auroc > 0.75)}
    found = Evaluation(curves, boosts, norm, detectors)
    drawn = range(controls if detectors.latents else 0)
    found.controls = [matched_random(detectors, excluded, i) for i in drawn]
    parts = [arm for seed in seeds for arm in _arms(organism, asked, found, per_latent, seed)]
    found.trials = organism.score(pd.concat(parts, ignore_index=True))
    return found


def _arms(
    organism: Organism, prompts: Sequence[str], found: Evaluation, per_latent: int, seed: int
) -> list[pd.DataFrame]:
    """All arms of one sampling seed, plain and with the meta-prompt."""
    conditions: dict[str, tuple[int, ...]] = {"steered": ()}
    if found.controls:
        conditions["ablate-otd"] = found.detectors.latents
    conditions |= {f"ablate-random-{i}": latents for i, latents in enumerate(found.controls)}
    steered = latent_trials(organism, prompts, found.boosts, per_latent, seed=1000 * (seed + 1))
    idle = unsteered_trials(prompts, UNSTEERED, seed=500_000 * (seed + 1)).assign(arm="unsteered")
    arms = [
        steered.assign(
            arm=name,
            ablated=[latents] * len(steered),
            ablated_activation=float(found.detectors.mismatched[list(latents)].sum()),
        )
        for name, latents in conditions.items()
    ]
    return [
        a.assign(meta=meta, sampling_seed=seed) for meta in (False, True) for a in [*arms, idle]
    ]


def summarise(trials: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """One row an (arm, meta-prompt), with intervals; scores in points, rates in percent.

    The rate's interval is Wilson's; those of means come from a bootstrap of latents
    (of prompts where nothing is steered), drawn as clusters.
    MSI is the mean of last minus first score over all trials, single attempts counting 0.
    `first_change` is the paired difference to the first scores of the arm `steered`;
    `ablated_activation` the summed mean activation of the ablated latents on mismatched responses.
    """
    steered = trials[trials["arm"].eq("steered")].set_index(PAIR)["first_score"]
    rows = []
    for (arm, meta), part in trials.groupby(["arm", "meta"], sort=False):
        scored = part[part["first_score"].notna()]
        multi = int(scored["n_attempts"].gt(1).sum())
        low, high = proportion_confint(multi, len(scored), alpha=1 - level, method="wilson")
        before = steered.reindex(pd.MultiIndex.from_frame(scored[PAIR])).to_numpy()
        means = {
            "first": scored["first_score"],
            "change": scored["first_score"] - before,
            "msi": scored["last_score"] - scored["first_score"],
        }
        row = {"arm": arm, "meta": meta, "n": len(scored), "n_unscored": len(part) - len(scored)}
        row |= {"multi": 100 * multi / len(scored)}
        row |= {"multi_low": 100 * low, "multi_high": 100 * high}
        clusters = scored["prompt" if scored["latent"].lt(0).all() else "latent"]
        for name, values in means.items():
            row[name] = values.mean()
            bounds = _cluster_interval(values, clusters, level)
            row[f"{name}_low"], row[f"{name}_high"] = bounds
        row["esr"] = 100 * means["msi"].gt(0).mean()
        row["n_ablated"] = len(part["ablated"].iloc[0])
        rows.append(row | {"ablated_activation": part["ablated_activation"].iloc[0]})
    return pd.DataFrame(rows)


def _cluster_interval(
    values: pd.Series, clusters: pd.Series, level: float, resamples: int = 2000
) -> tuple[float, float]:
    grouped = values.groupby(clusters.to_numpy()).agg(["sum", "count"])
    if grouped["count"].sum() == 0:
        return np.nan, np.nan
    rng = np.random.default_rng(45)
    weights = rng.multinomial(len(grouped), np.full(len(grouped), 1 / len(grouped)), resamples)
    means = (weights @ grouped["sum"].to_numpy()) / (weights @ grouped["count"].to_numpy())
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def markdown(tables: dict[str, pd.DataFrame]) -> str:
    """Summaries by organism as the table of docs/organism.md."""
    lines = [
        "| organism | arm | prompt | n | first score | change | multi-attempt % | MSI | ablated |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for organism, table in tables.items():
        for row in table.to_dict("records"):
            cells = [organism, row["arm"], "meta" if row["meta"] else "plain", str(row["n"])]
            cells += [_cell(row, name) for name in ("first", "change", "multi", "msi")]
            removed = f"{row['n_ablated']} ({row['ablated_activation']:.0f})"
            lines.append(f"| {' | '.join([*cells, removed if row['n_ablated'] else '-'])} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any], name: str) -> str:
    if pd.isna(row[name]) or (name == "change" and not row["n_ablated"]):
        return "-"
    return f"{row[name]:.1f} [{row[f'{name}_low']:.1f}, {row[f'{name}_high']:.1f}]"
