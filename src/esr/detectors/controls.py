"""Random sets of latents, matched to the detectors by their activation on steered text."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from esr.errors import EsrError

Matching = Literal["activation", "number", "random"]

COLUMNS = ["set", "latent", "detector"]
NEGLIGIBLE = 0.02
"""Share of the detectors' activation that a set may lack, or have in excess."""
REACH = 0.1
"""Distance in log mean and log frequency over which a latent's chance falls by a factor e."""
SUMMARY = ["set", "detectors", "latents", "mean", "detector_mean", "mean_share"]
SUMMARY += ["frequency", "detector_frequency", "frequency_share"]


def match_controls(
    detectors: Sequence[int],
    frequency: Float[np.ndarray, " d_sae"],
    mean: Float[np.ndarray, " d_sae"],
    sets: int,
    nearest: int,
    seed: int,
    excluded: Sequence[int] = (),
    matching: Matching = "activation",
) -> pd.DataFrame:
    """Random sets that stand for the detectors in an ablation: table `controls`.

    `number`: every detector has a pool of `nearest` latents, and no latent is in two pools. The
    pools minimise the summed distance in standardised log frequency and log mean (assignment
    problem). Each set takes one latent from every pool, so sets share none until pools run out.
    `activation`: likewise; then a set that carries less activation than the detectors gets more
    latents, for the detectors whose latents fall short most, until it carries as much in sum.
    `random`: latents drawn evenly from all but the detectors, dead ones included (released code).

    Chance is a number that every latent of the SAE has in a set, its lot. It follows from the seed
    and the set, not from statistics. So a statistic that another CPU rounds otherwise hardly
    changes which other latents are drawn (permanent random numbers, Ohlsson 1995).

    Args:
        detectors: Latents to match.
        frequency: Share of tokens of steered text on which each latent is active.
        mean: Mean activation of each latent on these tokens.
        sets: Number of sets.
        nearest: Size of a pool; smaller if there are too few latents for pools of this size.
        seed: Seed of the draws.
        excluded: Other latents not to draw, such as detectors known but not in use.
        matching: How sets are drawn.

    Raises:
        EsrError: too few eligible latents for one set, or for sets that differ.
    """
    barred = np.asarray([*detectors, *excluded], dtype=int)
    candidates = np.arange(len(mean)) if matching == "random" else np.flatnonzero(frequency > 0)
    eligible = np.setdiff1d(candidates, barred)
    _check_enough(len(detectors), len(eligible), sets)
    order = np.array(sorted(detectors, key=lambda k: -mean[k]), dtype=int)
    pools: list[Int[np.ndarray, " pool"]] = []
    if len(order) and matching != "random":
        pools = _pools(order, eligible, frequency, mean, nearest)
    decks: list[list[int]] = [[] for _ in pools]
    rows: list[tuple[int, int, int]] = []
    for number in range(sets if len(order) else 0):
        rng = np.random.default_rng([seed, 2, number])
        lots, lots_of_more = rng.random(len(mean)), rng.gumbel(size=len(mean))
        if matching == "random":
            chosen = eligible[np.argsort(lots[eligible])[: len(order)]].tolist()
        else:
            chosen = [_deal(deck, pool, lots) for deck, pool in zip(decks, pools, strict=True)]
        pairs = list(zip(chosen, order.tolist(), strict=True))
        if matching == "activation":
            pairs += _filled(pairs, eligible, frequency, mean, lots_of_more)
        rows += [(number, *pair) for pair in pairs]
    return _with_activity(rows, frequency, mean)


def _with_activity(
    rows: Sequence[tuple[int, int, int]],
    frequency: Float[np.ndarray, " d_sae"],
    mean: Float[np.ndarray, " d_sae"],
) -> pd.DataFrame:
    """Table of set, latent and detector, with the activity of both."""
    table = pd.DataFrame(rows, columns=COLUMNS).astype(int)
    for name, values in (("frequency", frequency), ("mean", mean)):
        table[name] = values[table["latent"].to_numpy(int)]
        table[f"detector_{name}"] = values[table["detector"].to_numpy(int)]
    return table


def summarise_sets(controls: pd.DataFrame) -> pd.DataFrame:
    """Sums over each set beside those over the detectors: one row a set, columns `SUMMARY`.

    A detector that several latents stand for counts once. Shares are percent of the detectors'.
    """
    rows = []
    for number, one in controls.groupby("set"):
        row = {"set": number, "latents": len(one), "detectors": one["detector"].nunique()}
        for name in ("mean", "frequency"):
            each = one.drop_duplicates("detector")[f"detector_{name}"]
            row |= {name: one[name].sum(), f"detector_{name}": each.sum()}
        rows.append(row)
    table = pd.DataFrame(rows, columns=SUMMARY)
    for name in ("mean", "frequency"):
        table[f"{name}_share"] = (
            100 * table[name] / table[f"detector_{name}"].where(lambda x: x > 0)
        )
    return table


def _check_enough(detectors: int, eligible: int, sets: int) -> None:
    """Raise unless there are latents for one set, or for two if several sets are drawn."""
    if not detectors or eligible >= detectors * min(max(sets, 1), 2):
        return
    wanted = "no random set can be matched" if eligible < detectors else "random sets cannot differ"
    raise EsrError(
        f"{detectors} detectors, but only {eligible} other latents are active on steered text: "
        f"{wanted}; tighten detectors.criterion, or disable the arms that ablate random sets "
        "(`<arm>: null`)"
    )


def _pools(
    detectors: Int[np.ndarray, " detectors"],
    eligible: Int[np.ndarray, " eligible"],
    frequency: Float[np.ndarray, " d_sae"],
    mean: Float[np.ndarray, " d_sae"],
    nearest: int,
) -> list[Int[np.ndarray, " pool"]]:
    """Pool of each detector, without overlap, at the least summed distance."""
    place = np.stack([np.log(frequency + 1e-6), np.log(mean + 1e-6)], axis=1)
    place /= place[eligible].std(axis=0) + 1e-12
    size = min(nearest, len(eligible) // len(detectors))
    distance = np.linalg.norm(place[detectors][:, None] - place[eligible], axis=2)
    # The least sum needs no latent beyond those nearest to some detector.
    reach = np.argsort(distance, axis=1, kind="stable")[:, : size * len(detectors)]
    near = np.unique(reach)
    _, column = linear_sum_assignment(np.repeat(distance[:, near], size, axis=0))
    return list(eligible[near[column]].reshape(len(detectors), size))


def _deal(
    deck: list[int], pool: Int[np.ndarray, " pool"], lots: Float[np.ndarray, " d_sae"]
) -> int:
    """Take the latent with the lowest lot from a deck; an empty one is the whole pool again."""
    deck.extend(pool.tolist() if not deck else [])
    latent = min(deck, key=lambda k: lots[k])
    deck.remove(latent)
    return latent


def _filled(
    pairs: Sequence[tuple[int, int]],
    eligible: Int[np.ndarray, " eligible"],
    frequency: Float[np.ndarray, " d_sae"],
    mean: Float[np.ndarray, " d_sae"],
    lots: Float[np.ndarray, " d_sae"],
) -> list[tuple[int, int]]:
    """More latents for a set that carries less activation than the detectors: (latent, detector).

    Each is one of the free latents that bring the sum of the set closer to that of the detectors,
    and not above it by more than `NEGLIGIBLE`. Its chance falls with its distance, in log mean and
    log frequency, from what the worst-served detector lacks: by a factor e for every `REACH`
    (Gumbel-max draw). A lot among the few nearest would fall on another latent after the least
    change of what is lacking.
    """
    lacking = {detector: mean[detector] - mean[latent] for latent, detector in pairs}
    total = sum(mean[detector] for detector in lacking)
    free = np.setdiff1d(eligible, [latent for latent, _ in pairs])
    added = []
    while (gap := sum(lacking.values())) > NEGLIGIBLE * total:
        closer = free[mean[free] < gap + min(gap, NEGLIGIBLE * total)]
        if not len(closer):
            break
        detector = max(lacking, key=lambda k: lacking[k])
        wanted = min(lacking[detector], gap)
        distance = np.hypot(
            np.log(mean[closer] / wanted),
            np.log(frequency[closer] / (frequency[detector] * wanted / mean[detector])),
        )
        latent = int(closer[np.argmax(lots[closer] - distance / REACH)])
        added.append((latent, detector))
        lacking[detector] -= mean[latent]
        free = free[free != latent]
    return added
