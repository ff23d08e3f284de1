"""Off-topic detectors: latents that separate mismatched from matched prompts and responses.

Responses to discovery prompts are encoded twice: after their own prompt (matched) and after another
prompt (mismatched). A latent that is high on mismatched and low on matched pairs detects that a
response is off topic (paper 2.3). Some pairs are held out of the search to check the detectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, comb, sqrt

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.stats import norm, rankdata

from esr.analysis.statistics import bootstrap_weights, cluster_codes, percentile_interval
from esr.analysis.statistics.crossed import FEW_CLUSTERS
from esr.config import DetectorsConfig, StatisticsConfig
from esr.errors import EsrError

EXCHANGES = 20
"""Random exchanges tried per member of a derangement."""
BLOCK = 4096
"""Latents ranked at a time: ranks take eight bytes per pair and latent."""


@dataclass(frozen=True)
class Pairs:
    """Pooled activations of every latent on matched and on mismatched pairs, in one order.

    Pair i is prompt i with its own response (matched) or with that of prompt `partner[i]`.
    """

    matched: Float[np.ndarray, "pairs d_sae"]
    mismatched: Float[np.ndarray, "pairs d_sae"]
    held_out: Bool[np.ndarray, " pairs"]
    prompts: Sequence[str]
    partner: Int[np.ndarray, " pairs"]


def hold_out(
    prompts: Sequence[str], categories: Sequence[str], share: float, seed: int
) -> Bool[np.ndarray, " pairs"]:
    """Keep a share of the prompts, spread evenly over categories, out of the search.

    All responses to a prompt are on the same side, so that the check uses no data of the search.

    Args:
        prompts: Prompt of each pair.
        categories: Category of each pair's prompt.
        share: Share of the prompts to hold out.
        seed: Seed of the draw.
    """
    _, first, codes = np.unique(
        np.asarray(prompts, dtype=str), return_index=True, return_inverse=True
    )
    rng = np.random.default_rng([seed, 1])
    order = _by_category(np.asarray(categories, dtype=str)[first], rng)
    kept = np.zeros(len(order), dtype=bool)
    kept[order] = np.diff(np.floor(share * np.arange(len(order) + 1) + 0.5)) > 0
    return kept[codes]


def assign_mismatched(
    categories: Sequence[str], held_out: Bool[np.ndarray, " n"], seed: int
) -> Int[np.ndarray, " n"]:
    """Give every prompt the response of another one, from the same side of the split.

    Raises:
        EsrError: see `derange`.
    """
    names = np.asarray(categories, dtype=str)
    partner = np.empty(len(held_out), dtype=int)
    for side in (False, True):
        rows = np.flatnonzero(held_out == side)
        if len(rows):
            partner[rows] = rows[derange(names[rows].tolist(), [seed, 2 + side])]
    return partner


def derange(categories: Sequence[str], seed: int | list[int]) -> Int[np.ndarray, " n"]:
    """Random permutation that maps no member to its own category (so none to itself).

    Members are ordered by category and rotated by the size of the largest category, which gives a
    valid permutation. Random exchanges that keep it valid then mix the pairs.

    Raises:
        EsrError: a category holds more than half of the members, so no valid permutation exists.
    """
    names = np.asarray(categories, dtype=str)
    rng = np.random.default_rng(seed)
    order = _by_category(names, rng)
    largest = int(np.unique(names, return_counts=True)[1].max())
    if 2 * largest > len(names):
        raise EsrError(
            f"{largest} of {len(names)} discovery responses are of one category, so not all have a "
            "partner of another category; add prompts or give each its own category"
        )
    partner = np.empty(len(names), dtype=int)
    partner[order] = np.roll(order, largest)
    for i, j in rng.integers(len(names), size=(EXCHANGES * len(names), 2)):
        if names[i] != names[partner[j]] and names[j] != names[partner[i]]:
            partner[[i, j]] = partner[[j, i]]
    return partner


def _by_category(names: np.ndarray, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Order members by category, shuffled within and among categories."""
    found, codes = np.unique(names, return_inverse=True)
    shuffled = rng.permutation(len(names))
    return shuffled[np.argsort(rng.permutation(len(found))[codes[shuffled]], kind="stable")]


def auroc(
    matched: Float[np.ndarray, "n latents"], mismatched: Float[np.ndarray, "m latents"]
) -> Float[np.ndarray, " latents"]:
    """Probability that a mismatched pair is higher than a matched one, ties counting half.

    The Mann-Whitney U of each latent over n x m (Hanley and McNeil 1982).
    """
    n = len(matched)
    m = len(mismatched)
    found = np.empty(matched.shape[1])
    for begin in range(0, len(found), BLOCK):
        block = np.s_[:, begin : begin + BLOCK]
        ranks = rankdata(np.concatenate([matched[block], mismatched[block]]), axis=0)
        found[begin : begin + BLOCK] = ranks[n:].sum(axis=0) - m * (m + 1) / 2
    return found / (n * m)


def detector_table(
    pairs: Pairs, labels: pd.DataFrame, settings: DetectorsConfig, given: Sequence[int]
) -> pd.DataFrame:
    """Select the detectors among the latents: the table `detectors`, most frequent ones first.

    Args:
        pairs: Activations, pooled as in `settings`.
        labels: Table `labels`.
        settings: Section `detectors`.
        given: Latents that the configuration lists for the model.
    """
    searched = ~pairs.held_out
    table = detector_statistics(pairs.matched[searched], pairs.mismatched[searched])
    table = table.join(_held_out(pairs))
    table["found"] = meets(table, settings)
    table["given"] = table["latent"].isin(given)
    table["detector"] = table["given" if settings.use == "given" and given else "found"]
    active = table["frequency_matched"].gt(0) | table["frequency_mismatched"].gt(0)
    table = table[active | table["given"]].merge(
        labels[["latent", "label"]], on="latent", how="left"
    )
    by = ["detector", "frequency_mismatched", "mean_mismatched"]
    return table.sort_values(by, ascending=False, ignore_index=True, kind="stable")


def _held_out(pairs: Pairs) -> pd.DataFrame:
    columns = ["held_out_matched", "held_out_mismatched", "held_out_auroc"]
    if not pairs.held_out.any():
        return pd.DataFrame(np.nan, index=range(pairs.matched.shape[1]), columns=columns)
    found = detector_statistics(pairs.matched[pairs.held_out], pairs.mismatched[pairs.held_out])
    return found[["mean_matched", "mean_mismatched", "auroc"]].set_axis(columns, axis=1)


def detector_statistics(
    matched: Float[np.ndarray, "n latents"], mismatched: Float[np.ndarray, "n latents"]
) -> pd.DataFrame:
    """Means, frequencies (share of pairs with any activation), AUROC and margin of each latent."""
    return pd.DataFrame(
        {
            "latent": np.arange(matched.shape[1]),
            "mean_matched": matched.mean(axis=0),
            "mean_mismatched": mismatched.mean(axis=0),
            "frequency_matched": (matched > 0).mean(axis=0),
            "frequency_mismatched": (mismatched > 0).mean(axis=0),
            "auroc": auroc(matched, mismatched),
            "margin": mismatched.min(axis=0) - matched.max(axis=0),
        }
    )


def meets(table: pd.DataFrame, settings: DetectorsConfig) -> pd.Series:
    """Whether the statistics of each latent meet the criterion."""
    if settings.criterion == "separable":
        return table["margin"].gt(0)
    if settings.criterion == "zero_then_frequent":
        silent = table["frequency_matched"].eq(0)
        return silent & table["frequency_mismatched"].ge(max(settings.min_frequency, 1e-12))
    quiet = table["mean_matched"].le(settings.max_leak * table["mean_mismatched"])
    return quiet & table["mean_mismatched"].gt(0) & table["auroc"].ge(settings.min_auroc)


def chance_of_passing(prompts: int, settings: DetectorsConfig) -> float:
    """Probability that a latent that sees no mismatch meets the criterion on so many prompts.

    Responses to a prompt count once. `separable`: 1 / C(2m, m), all orders of m matched and m
    mismatched prompts being equally likely. `graded`: that, or more, of an AUROC by the normal
    approximation of Mann and Whitney (1947). `zero_then_frequent`: that k of the 2m prompts are
    active, k the least number allowed, and all of them mismatched. 1 without prompts.
    """
    if prompts < 1:
        return 1.0
    if settings.criterion == "zero_then_frequent":
        least = max(ceil(settings.min_frequency * prompts), 1)
        return comb(prompts, least) / comb(2 * prompts, least)
    apart = 1 / comb(2 * prompts, prompts)
    if settings.criterion == "separable":
        return apart
    spread = sqrt((2 * prompts + 1) / (12 * prompts**2))
    return max(apart, float(norm.sf((settings.min_auroc - 0.5) / spread)))


def pair_table(pairs: Pairs, latents: Sequence[int]) -> pd.DataFrame:
    """Activations of some latents on every pair: the table `detector_pairs`."""
    prompts = np.asarray(pairs.prompts, dtype=object)
    frame = {"pair": np.arange(len(prompts)), "prompt_id": prompts, "held_out": pairs.held_out}
    parts = [
        pd.DataFrame(
            frame
            | {"latent": latent, "matched": matched, "response_of": answered}
            | {"activation": acts[:, latent].astype(float)}
        )
        for latent in latents
        for matched, answered, acts in (
            (True, prompts, pairs.matched),
            (False, prompts[pairs.partner], pairs.mismatched),
        )
    ]
    columns = ["latent", "pair", "matched", "prompt_id", "response_of", "held_out", "activation"]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def check_table(pairs: pd.DataFrame, settings: StatisticsConfig) -> pd.DataFrame:
    """Statistics of detectors on pairs that were not searched, one row a latent.

    Without held-out pairs the statistics are of the pairs of the search, where they are biased in
    the detector's favour. Columns: those of `detector_statistics`, d, low, high (`effect_sizes`),
    status, pairs (`held_out` or `search`), n_pairs, n_prompts.

    Args:
        pairs: Table `detector_pairs`.
        settings: Level, resamples and seed of the intervals.
    """
    side = "held_out" if pairs["held_out"].any() else "search"
    shown = pairs[pairs["held_out"].eq(side == "held_out")]
    by_pair = shown.astype({"activation": float}).pivot_table(
        index="pair", columns=["matched", "latent"], values="activation", sort=False
    )
    if shown.empty:
        names = ["latent", "d", "low", "high", "status", "pairs", "n_pairs", "n_prompts"]
        return pd.DataFrame(columns=names)
    latents = list(dict.fromkeys(shown["latent"]))
    matched, mismatched = (by_pair[own][latents].to_numpy() for own in (True, False))
    prompts = shown.drop_duplicates("pair").set_index("pair")["prompt_id"].loc[by_pair.index]
    table = detector_statistics(matched, mismatched).assign(latent=latents)
    found = effect_sizes(matched, mismatched, prompts.tolist(), settings)
    counts = {"pairs": side, "n_pairs": len(by_pair), "n_prompts": prompts.nunique()}
    return table.join(found).assign(**counts)


def effect_sizes(
    matched: Float[np.ndarray, "pairs latents"],
    mismatched: Float[np.ndarray, "pairs latents"],
    prompts: Sequence[str],
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Standardised mean difference of each latent: columns d, low, high, status.

    d = (mean mismatched - mean matched) / sqrt((var matched + var mismatched) / 2), which, unlike
    the mean over the sd of differences, does not grow with the correlation within pairs (Cumming
    2012, chapter 11). Intervals: percentile bootstrap of whole prompts, with the status
    `few_clusters` below 8 of them. Without spread on either side d is undefined.
    """
    codes, count = cluster_codes(list(prompts))
    sums = np.zeros((count, 4, matched.shape[1]))
    for row, moment in enumerate((matched, matched**2, mismatched, mismatched**2)):
        np.add.at(sums[:, row], codes, moment)
    sizes = np.bincount(codes, minlength=count).astype(float)
    rng = np.random.default_rng(settings.seed)
    weights = bootstrap_weights(count, settings.bootstrap, rng)
    drawn = np.tensordot(weights, sums, axes=1)
    replicates = _standardised(drawn, (weights @ sizes)[:, None])
    point = _standardised(sums.sum(axis=0)[None], np.array([[sizes.sum()]]))[0]
    ends = [percentile_interval(column, settings.level) for column in replicates.T]
    status = "few_clusters" if count < FEW_CLUSTERS else "ok"
    table = pd.DataFrame(ends, columns=["low", "high"]).assign(d=point, status=status)
    table.loc[table["low"].isna() | (count < 2), ["low", "high", "status"]] = (
        np.nan,
        np.nan,
        "too_few",
    )
    table.loc[table["d"].isna(), ["low", "high", "status"]] = np.nan, np.nan, "undefined"
    return table[["d", "low", "high", "status"]]


def _standardised(
    sums: Float[np.ndarray, "boot 4 latents"], n: Float[np.ndarray, "boot 1"]
) -> Float[np.ndarray, "boot latents"]:
    """Difference of means over the pooled sd, from sums of values and of squares."""
    low, low_squares, high, high_squares = np.moveaxis(sums, 1, 0)
    degrees = np.maximum(n - 1, 1)
    variance = (low_squares - low**2 / n + high_squares - high**2 / n) / (2 * degrees)
    # Without spread, rounding leaves a tiny variance.
    scale = (low_squares + high_squares) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (high - low) / n / np.sqrt(np.maximum(variance, 0))
    return np.where(variance > 1e-12 * scale, found, np.nan)
