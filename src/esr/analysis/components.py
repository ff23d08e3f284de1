"""Where restarts come from: variance of latents and prompts, and how few latents carry the events.

Model: y_ij = mean + latent_i + prompt_j + rest, both factors random and crossed. Its variances are
estimated by symmetric sums (Koch 1967), which need no distribution and no balance: with E the mean
of y y' over pairs of trials,

    V_latent = E(same latent, other prompt) - E(both other)
    V_prompt = E(same prompt, other latent) - E(both other)
    total    = mean of y^2 - E(both other)

A share V / total is the intra-class correlation of the factor. For a flag these are variances of
the flag itself, not on a logit scale. Estimates can be negative and are shown so. Standard errors
come from leaving out one latent at a time and one prompt at a time (jackknife over both factors,
variances added), with Student's quantile.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import stats

from esr.analysis.statistics import Interval, cluster_codes
from esr.arms.scores import as_float, is_scored

EVENTS = {"multi_attempt": "multi_attempt", "esr": "improved"}
"""Flag of a trial by event."""
TOP = 0.1
"""Share of latents that count as the top."""
FEW_EVENTS = 10
COLUMNS = ["event", "quantity", "unit", "value", "low", "high", "null", "n", "n_events", "status"]

Values = Float[np.ndarray, " trials"]
Codes = Int[np.ndarray, " trials"]


class Components(NamedTuple):
    """Intra-class correlations of the factors, and the variance of a trial."""

    latent: float
    prompt: float
    total: float


def components(values: Values, latents: Codes, prompts: Codes) -> Components:
    """Variance components of values whose latents and prompts are crossed; NaN without variance."""
    cells = latents * (int(prompts.max(initial=0)) + 1) + prompts
    pairs, products = zip(
        *(_sums(values, codes) for codes in (latents, prompts, cells)), strict=True
    )
    n, total = float(len(values)), float(values.sum()) ** 2
    of_latent = _ratio(products[0] - products[2], pairs[0] - pairs[2])
    of_prompt = _ratio(products[1] - products[2], pairs[1] - pairs[2])
    other = _ratio(
        total - products[0] - products[1] + products[2], n**2 - pairs[0] - pairs[1] + pairs[2]
    )
    variance = float((values**2).mean()) - other if len(values) else np.nan
    if not variance > 0:
        return Components(np.nan, np.nan, np.nan)
    return Components((of_latent - other) / variance, (of_prompt - other) / variance, variance)


def jackknifed(
    values: Values, latents: Codes, prompts: Codes, level: float = 0.95
) -> dict[str, tuple[float, Interval]]:
    """Intra-class correlation of `latent` and `prompt` with intervals, cut to -1 and 1."""
    found = components(values, latents, prompts)
    variance = np.zeros(2)
    for codes in (latents, prompts):
        without = np.array(
            [
                components(values[codes != c], latents[codes != c], prompts[codes != c])[:2]
                for c in np.unique(codes)
            ]
        )
        count = len(without)
        variance += (count - 1) / count * ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    fewest = min(len(np.unique(codes)) for codes in (latents, prompts))
    half = stats.t.isf((1 - level) / 2, max(fewest - 1, 1)) * np.sqrt(variance)
    return {
        name: (value, Interval(max(-1.0, value - h), min(1.0, value + h)))
        for name, value, h in zip(("latent", "prompt"), found[:2], half, strict=True)
    }


def concentration(
    events: Values, latents: Codes, draws: int = 400, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """How few latents carry the events: each quantity, and its mean if latents did not differ.

    Quantities: `top` (percent of the events in the top tenth of latents), `half` (latents that hold
    half of the events), `effective` (number of latents that, with equal shares, would be as
    concentrated: 1 / sum of squared shares). Null: the events shuffled among all trials.
    """
    rng = np.random.default_rng(seed)
    observed = _shares(np.bincount(latents, events))
    drawn = [_shares(np.bincount(latents, rng.permutation(events))) for _ in range(draws)]
    means = np.mean(drawn, axis=0)
    return dict(zip(("top", "half", "effective"), zip(observed, means, strict=True), strict=True))


def component_table(scores: pd.DataFrame, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Components and concentration of each event of an arm: columns `COLUMNS`.

    `null` is the value if no latent differed from another. Status: `ok`; `few_events` below 10,
    `undefined` without events or with a single latent or prompt.
    """
    used = scores[is_scored(scores)]
    latents, prompts = (cluster_codes(used[name])[0] for name in ("latent", "prompt_id"))
    rows = []
    for event, column in EVENTS.items():
        rows += _event_rows(event, as_float(used, column), latents, prompts, level, seed)
    return pd.DataFrame(rows, columns=COLUMNS)


def _event_rows(
    event: str, flags: Values, latents: Codes, prompts: Codes, level: float, seed: int
) -> list[dict[str, Any]]:
    count = int(flags.sum())
    enough = len(np.unique(latents)) > 1 and len(np.unique(prompts)) > 1
    status = "ok" if count >= FEW_EVENTS else "few_events"
    if count in (0, len(flags)) or not enough:
        status = "undefined"
    common = {"event": event, "n": len(flags), "n_events": count, "status": status}
    nothing = {name: (np.nan, Interval(np.nan, np.nan)) for name in ("latent", "prompt")}
    found = nothing if status == "undefined" else jackknifed(flags, latents, prompts, level)
    rows: list[dict[str, Any]] = [
        {"quantity": f"ICC of {name}s", "unit": "fraction", "value": value, "null": 0.0}
        | ends._asdict()
        for name, (value, ends) in found.items()
    ]
    if status == "undefined":
        shares = dict.fromkeys(("top", "half", "effective"), (np.nan, np.nan))
    else:
        shares = concentration(flags, latents, seed=seed)
    names = {
        "top": ("events in the top tenth of latents", "percent"),
        "half": ("latents with half of the events", "latents"),
        "effective": ("effective number of latents", "latents"),
    }
    rows += [
        {"quantity": names[name][0], "unit": names[name][1], "value": value, "null": null}
        for name, (value, null) in shares.items()
    ]
    return [common | row for row in rows]


def _sums(values: Values, codes: Codes) -> tuple[float, float]:
    """Ordered pairs of trials in the same group, a trial with itself included; sum of products."""
    sizes, sums = np.bincount(codes), np.bincount(codes, values)
    return float((sizes.astype(float) ** 2).sum()), float((sums**2).sum())


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else np.nan


def _shares(events: Float[np.ndarray, " latents"]) -> tuple[float, float, float]:
    """Top, half and effective number, from the events of each latent."""
    ordered = np.sort(events)[::-1]
    total = float(ordered.sum())
    top = max(1, round(TOP * len(ordered)))
    half = int((np.cumsum(ordered) < total / 2).sum()) + 1
    return 100 * float(ordered[:top].sum()) / total, half, total**2 / float((ordered**2).sum())
