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
"""Share of the detectors' activation that a set may lack before it gets another latent."""
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
        decks = [np.random.default_rng([seed, 3, int(k)]) for k in order]
        pools = [deck.permutation(pool) for deck, pool in zip(decks, pools, strict=True)]
    rows: list[tuple[int, int, int]] = []
    for number in range(sets if len(order) else 0):
        rng = np.random.default_rng([seed, 2, number])
        if matching == "random":
            chosen = rng.choice(eligible, len(order), replace=False).tolist()
        else:
            chosen = [_deal(pool, number, rng) for pool in pools]
        pairs = list(zip(chosen, order.tolist(), strict=True))
        if matching == "activation":
            pairs += _filled(pairs, eligible, mean, nearest, rng)
        rows += [(number, *pair) for pair in pairs]
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


def _deal(pool: Int[np.ndarray, " pool"], number: int, rng: np.random.Generator) -> int:
    """Latent of a set from a shuffled pool: one not dealt yet, or any once all are."""
    return int(pool[number] if number < len(pool) else rng.choice(pool))


def _filled(
    pairs: Sequence[tuple[int, int]],
    eligible: Int[np.ndarray, " eligible"],
    mean: Float[np.ndarray, " d_sae"],
    nearest: int,
    rng: np.random.Generator,
) -> list[tuple[int, int]]:
    """More latents for a set that carries less activation than the detectors: (latent, detector).

    Each is drawn from the `nearest` free ones in log mean to what the worst-served detector still
    lacks, among those that bring the sum of the set closer to that of the detectors.
    """
    lacking = {detector: mean[detector] - mean[latent] for latent, detector in pairs}
    total = sum(mean[detector] for detector in lacking)
    free = np.setdiff1d(eligible, [latent for latent, _ in pairs])
    added = []
    while (gap := sum(lacking.values())) > NEGLIGIBLE * total:
        closer = free[mean[free] < 2 * gap]
        if not len(closer):
            break
        detector = max(lacking, key=lambda k: lacking[k])
        wanted = min(lacking[detector], gap)
        distance = np.abs(np.log(mean[closer]) - np.log(wanted))
        latent = int(rng.choice(closer[np.argsort(distance, kind="stable")[:nearest]]))
        added.append((latent, detector))
        lacking[detector] -= mean[latent]
        free = free[free != latent]
    return added
