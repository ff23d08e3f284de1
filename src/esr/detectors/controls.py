"""Random sets of latents, matched to the detectors by their activation on steered text."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.errors import EsrError


def match_controls(
    detectors: Sequence[int],
    frequency: Float[np.ndarray, " d_sae"],
    mean: Float[np.ndarray, " d_sae"],
    sets: int,
    nearest: int,
    seed: int,
    excluded: Sequence[int] = (),
) -> pd.DataFrame:
    """Random sets about as active on steered text as the detectors: table `controls`.

    Every detector gets its own latent, drawn from the `nearest` unused ones in standardised log
    frequency and log mean. The most active detectors come first, since they are hardest to match.
    Latents that are never active on steered text are not eligible.

    Args:
        detectors: Latents to match.
        frequency: Share of tokens on which each latent is active.
        mean: Mean activation of each latent.
        sets: Number of sets; a latent may be in several.
        nearest: Number of nearest latents to draw from.
        seed: Seed of the draws.
        excluded: Other latents not to draw, such as detectors known but not in use.

    Raises:
        EsrError: fewer eligible latents than detectors.
    """
    barred = np.asarray([*detectors, *excluded], dtype=int)
    eligible = np.setdiff1d(np.flatnonzero(frequency > 0), barred)
    if len(eligible) < len(detectors):
        raise EsrError(
            f"{len(detectors)} detectors, but only {len(eligible)} other latents are active on "
            "steered text: no random set can be matched; tighten detectors.criterion, or disable "
            "the arms that ablate random sets (`<arm>: null`)"
        )
    place = np.stack([np.log(frequency + 1e-6), np.log(mean + 1e-6)], axis=1)
    place /= place[eligible].std(axis=0) + 1e-12
    rows = []
    for number in range(sets):
        rng = np.random.default_rng([seed, 2, number])
        free = set(eligible.tolist())
        for detector in sorted(detectors, key=lambda k: -mean[k]):
            left = np.array(sorted(free))
            distance = np.linalg.norm(place[left] - place[detector], axis=1)
            latent = int(rng.choice(left[np.argsort(distance, kind="stable")[:nearest]]))
            free.remove(latent)
            rows.append({"set": number, "latent": latent, "detector": int(detector)})
    table = pd.DataFrame(rows, columns=["set", "latent", "detector"])
    for name, values in (("frequency", frequency), ("mean", mean)):
        table[name] = values[table["latent"].to_numpy(int)]
        table[f"detector_{name}"] = values[table["detector"].to_numpy(int)]
    return table
