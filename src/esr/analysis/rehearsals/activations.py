"""Claims about activations: contrasts of regions, how many detectors are found, and their effect.

No study has published single activations, so that their distribution is assumed. *Contrasts:* the
summed activation of a response is log-normal, with a coefficient of variation of about `VARIATION`,
a part of which responses of one steered latent share; a claim is about means that differ as it
says, and under its null they are equal. *Detectors:* a search of `NOISE` latents and of as many
detectors as are claimed. A detector is nearly silent on matched pairs and active on mismatched
ones; under the null of the search no latent sees a mismatch, and under that of the held-out effect
the detectors were found by luck, and see none on other prompts.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.analysis.rehearsals.base import SETTINGS, Rehearsal, places
from esr.analysis.scenarios import Truths
from esr.analysis.specs import ArmSpec, StudySpec
from esr.config import DetectorsConfig
from esr.detectors.search import Pairs, check_table, detector_table, pair_table
from esr.episodes.contrasts import CELLS, contrast

VARIATION, SHARED = 0.6, 0.3
"""Standard deviation of the logarithm of an activation; share of its variance between latents."""
MOST = {"episode": 200, "baseline": 50, "unrestarted": 50}
"""Responses of each group, at most (section `episodes` of a study)."""
BASELINE = 10.0
"""Mean activation in on-topic responses, SAE units; only ratios matter."""
OF_ORGANISM = 950.0
"""Rise off topic in the organism, percent: its claim states no number."""
NOISE = 150
"""Latents that see no mismatch; real SAEs have more, which chance finds as rarely (`few_pairs`)."""
LEAK = 0.1
"""Share of matched pairs on which a detector is active."""


class Search(NamedTuple):
    """Prompts and responses of each that detectors are searched on, and how."""

    prompts: int
    responses: int
    settings: DetectorsConfig


SEARCHES = {
    "planted": Search(144, 3, DetectorsConfig(criterion="graded", pool="mean", span="response")),
    "llama-3.3-70b": Search(50, 10, DetectorsConfig()),
}


def rehearse(claim: Mapping[str, Any], truths: Truths) -> Rehearsal | None:
    """The claim if it is about activations in episodes, or about the search for detectors."""
    where = places(claim)
    if claim["table"] == "tables/activation_contrasts.csv":
        return _of_contrast(claim, where, truths)
    if claim["table"] == "tables/tableA1.csv":
        return _of_effect(claim, where)
    if claim["table"] == "figures/fig5.csv" and where["measure"] == ["found"]:
        return _of_count(claim, where)
    return None


def _of_contrast(
    claim: Mapping[str, Any], where: Mapping[str, list[str]], truths: Truths
) -> Rehearsal:
    (model,), (first,), (other,) = (where[name] for name in ("model", "first", "second"))
    arm = truths[model]["steered"]
    relative = claim["statistic"] == "relative_change"
    rise = claim["expected"] if relative else OF_ORGANISM

    def draw(spec: StudySpec, null: bool, number: int, second: bool = False) -> pd.DataFrame:
        means = {first: BASELINE if null else BASELINE * (1 + rise / 100), other: BASELINE}
        values = region_values(spec, arm, means, [11, int(null), number])
        found = contrast(values, first, other, SETTINGS)
        return pd.DataFrame([{"model": model, "kind": "detector"} | found])

    value = rise if relative else BASELINE * rise / 100
    return Rehearsal(claim, value, draw, correlated=False)


def region_values(
    spec: StudySpec, arm: ArmSpec, means: Mapping[str, float], seed: list[int]
) -> pd.DataFrame:
    """Activations of responses by cell: columns as of `esr.episodes.contrasts.region_values`.

    Args:
        spec: Design: its trials give the episodes, as many as restart and improve.
        arm: What is true of the steered arm.
        means: Mean activation by cell.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=spec.latents)
    shown = {"episode": arm.esr, "baseline": 1 - arm.multi, "unrestarted": 1 - arm.multi}
    counts = {
        group: min(most, round(shown[group] * spec.latents * spec.trials))
        for group, most in MOST.items()
    }
    clusters = {group: rng.integers(spec.latents, size=n) for group, n in counts.items()}
    parts = []
    for cell, mean in means.items():
        group, _ = CELLS[cell]
        cluster = clusters[group]
        own = rng.normal(size=len(cluster))
        score = np.sqrt(SHARED) * latent[cluster] + np.sqrt(1 - SHARED) * own
        value = mean * np.exp(VARIATION * score - VARIATION**2 / 2)
        trials = [f"{group} {number}" for number in range(len(cluster))]
        parts.append(
            pd.DataFrame({"trial_id": trials, "cluster": cluster, "cell": cell, "value": value})
        )
    return pd.concat(parts, ignore_index=True)


def _of_count(claim: Mapping[str, Any], where: Mapping[str, list[str]]) -> Rehearsal:
    (model,) = where["model"]
    ends = [end for end in (claim["lower"], claim["upper"]) if end == end]
    # Without a stated number, twice the least that is claimed: the organism has 10.
    stated = sum(ends) / 2 if len(ends) == 2 else 2 * ends[0]
    count = int(claim["expected"] if claim["expected"] == claim["expected"] else stated)
    search = SEARCHES[model]

    def draw(spec: StudySpec, null: bool, number: int, second: bool = False) -> pd.DataFrame:
        pairs = drawn_pairs(search, 0 if null else count, [12, int(null), number])
        labels = pd.DataFrame({"latent": [], "label": []})
        found = detector_table(pairs, labels, search.settings, [])["found"].sum()
        facts = {"model": model, "kind": "count", "measure": "found", "status": "ok"}
        return pd.DataFrame([facts | {"value": found, "low": np.nan, "high": np.nan, "n": found}])

    return Rehearsal(claim, float(count), draw, fixed=True, correlated=False)


def _of_effect(claim: Mapping[str, Any], where: Mapping[str, list[str]]) -> Rehearsal:
    (model,) = where["model"]
    search = SEARCHES[model]
    count = 10

    def draw(spec: StudySpec, null: bool, number: int, second: bool = False) -> pd.DataFrame:
        pairs = drawn_pairs(search, 0 if null else count, [13, int(null), number])
        table = check_table(pair_table(pairs, range(count)), SETTINGS)
        return table.assign(model=model)

    return Rehearsal(claim, _effect(search, count), draw, fixed=True, correlated=False)


def _effect(search: Search, count: int) -> float:
    """Smallest true d of the detectors, by a search on many prompts."""
    pairs = drawn_pairs(search._replace(prompts=4000), count, [13])
    found = check_table(pair_table(pairs, range(count)), SETTINGS.model_copy(update=FEW))
    return round(float(found["d"].min()), 1)


FEW = {"bootstrap": 100}


def drawn_pairs(search: Search, detectors: int, seed: list[int]) -> Pairs:
    """Activations of detectors (first) and of `NOISE` latents on matched and mismatched pairs.

    A latent of neither kind is active on a third of the pairs, matched or not.
    """
    rng = np.random.default_rng(seed)
    prompts = np.repeat(np.arange(search.prompts), search.responses)
    n = len(prompts)
    matched, mismatched = (_active(rng, n, detectors + NOISE, 1 / 3) for _ in range(2))
    matched[:, :detectors] = 0.1 * _active(rng, n, detectors, LEAK)
    mismatched[:, :detectors] = 1 + _active(rng, n, detectors, 1.0)
    held_out = prompts % 2 == 1
    partner = (np.arange(n) + 2 * search.responses) % n
    return Pairs(matched, mismatched, held_out, prompts.astype(str).tolist(), partner)


def _active(
    rng: np.random.Generator, pairs: int, latents: int, share: float
) -> Float[np.ndarray, "pairs latents"]:
    """Exponential activations on a share of the pairs, 0 on the others."""
    shape = pairs, latents
    return np.where(rng.random(shape) < share, rng.exponential(1.0, shape), 0.0)
