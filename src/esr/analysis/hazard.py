"""Do detectors announce a restart, beyond what being off topic does? A discrete-time hazard.

A detector that is high whenever text is off topic is high before every correction, and before none
in responses that never restart. So both kinds are analysed together: responses are cut into bins of
tokens, each bin is at risk until the restart, and the model is

    logit P(restart in bin b | none before) = time + beta activity + gamma off-topicness,

activity and off-topicness over the tokens before the bin, never those in it (Singer and Willett
1993). exp(beta) is the hazard ratio of one standard deviation of activity at equal off-topicness,
strictly a ratio of odds, which are hazards where few bins hold a restart. Slopes, unlike the
intercept, hold when responses that never restart are undersampled (Prentice and Pyke 1979).
Standard errors are clustered by steered latent, with Student's quantile for few of them. A
covariate that measures off-topicness with error leaves a part of it to the activity.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import stats
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.tools import add_constant
from statsmodels.tools.sm_exceptions import PerfectSeparationWarning, SingularMatrixWarning

from esr.errors import EsrError

WIDTH = 5
"""Tokens of a bin."""
FEW_CLUSTERS = 8
"""Fewer steered latents do not fix a clustered standard error: status `few_clusters`."""
FEW_EVENTS = 10
"""Fewer restarts do not fix the model: status `few_events`."""
BINS = ["trial_id", "cluster", "bin", "event", "activity"]

Column = Float[np.ndarray, " bins"]


def risk_bins(
    tokens: pd.DataFrame,
    restarts: pd.Series,
    covariates: Sequence[str] = (),
    *,
    width: int = WIDTH,
    window: int | None = None,
) -> pd.DataFrame:
    """Bins at risk of a restart: columns as in `BINS`, then the covariates.

    Args:
        tokens: One row a token: trial_id, cluster (steered latent), position, value (summed
            activation of the detectors) and the covariates.
        restarts: Token position of the restart, by trial_id; trials without one never restart.
        covariates: Columns of `tokens` that say how far off topic the text is, by token or by
            response.
        width: Tokens of a bin.
        window: Tokens before a bin over which activity and covariates are averaged; None: all.

    Raises:
        EsrError: a column is missing, or a trial has two rows for a token.
    """
    absent = {"trial_id", "cluster", "position", "value", *covariates} - set(tokens)
    if absent:
        raise EsrError(f"hazard: tokens lack the columns {sorted(absent)}")
    if tokens.duplicated(["trial_id", "position"]).any():
        raise EsrError("hazard: a trial has two rows for a token; sum the latents of a kind first")
    ordered = tokens.sort_values(["trial_id", "position"])
    position = ordered["position"].to_numpy(np.int64)
    trials = ordered["trial_id"].to_numpy()
    begin = np.flatnonzero(np.r_[len(trials) > 0, trials[1:] != trials[:-1]])
    restart = restarts.reindex(trials[begin]).to_numpy(float)
    trial, starts = _starts(position, begin, restart, width)
    token = np.repeat(np.arange(len(begin)), np.diff(np.r_[begin, len(trials)]))
    before = _tokens_before(position, token, trial, starts)
    first = _tokens_before(position, token, trial, starts - window) if window else begin[trial]
    sums = _running_sums(ordered[["value", *covariates]].to_numpy(float), begin)
    # Every response has one more running sum than tokens: that of none of them.
    means = (sums[before + trial] - sums[first + trial]) / np.maximum(before - first, 1)[:, None]
    table = pd.DataFrame(means, columns=["activity", *covariates])
    table["bin"] = (starts - position[begin[trial]]) / width
    table["event"] = ((starts <= restart[trial]) & (restart[trial] < starts + width)).astype(float)
    names = ordered[["trial_id", "cluster"]].iloc[begin[trial]]
    table[["trial_id", "cluster"]] = names.reset_index(drop=True)
    return table[[*BINS, *covariates]]


def _starts(
    position: Int[np.ndarray, " tokens"],
    begin: Int[np.ndarray, " trials"],
    restart: Float[np.ndarray, " trials"],
    width: int,
) -> tuple[Int[np.ndarray, " bins"], Column]:
    """Trial and first position of every bin; one bin of history precedes the first of a trial."""
    last = position[np.r_[begin[1:], len(position)] - 1] if len(begin) else position
    end = np.where(np.isfinite(restart), restart, last)
    counts = np.maximum(np.ceil((end + 1 - position[begin]) / width) - 1, 0).astype(int)
    trial = np.repeat(np.arange(len(begin)), counts)
    number = np.arange(len(trial)) - np.repeat(np.cumsum(counts) - counts, counts)
    return trial, (position[begin[trial]] + (number + 1) * width).astype(float)


def _tokens_before(
    position: Int[np.ndarray, " tokens"],
    token: Int[np.ndarray, " tokens"],
    trial: Int[np.ndarray, " bins"],
    places: Column,
) -> Int[np.ndarray, " bins"]:
    """Number of tokens, from the first of all trials on, before a place in a trial."""
    far = max(position.max(initial=0), places.max(initial=0)) + 1
    return np.searchsorted(position + token * far, np.maximum(places, 0) + trial * far)


def _running_sums(
    values: Float[np.ndarray, "tokens columns"], begin: Int[np.ndarray, " trials"]
) -> Float[np.ndarray, "sums columns"]:
    """Sums over the tokens of each response up to each of them, after a 0."""
    none = np.zeros((1, values.shape[1]))
    of_trials = np.split(values, begin)[1:]
    return np.concatenate([none[:0], *(s for v in of_trials for s in (none, v.cumsum(axis=0)))])


def hazard_ratio(
    bins: pd.DataFrame, covariates: Sequence[str] = (), *, level: float = 0.95
) -> dict[str, Any]:
    """Hazard ratio of a restart per standard deviation of activity, with interval and p-value.

    Keys: hazard_ratio, low, high, level, p_value (two-sided, of a ratio of 1), status (`ok`,
    `few_clusters`, `few_events`, `undefined`: no restart, no other bin, or no variation of activity
    beyond that of time and covariates; `separated`: activity separates them without error),
    n_bins, n_events, n_responses, n_clusters. Time enters as log bin and its square.

    Args:
        bins: As from `risk_bins`.
        covariates: Columns at equal values of which activity is compared.
        level: Of the interval.
    """
    event, activity = bins["event"].to_numpy(float), bins["activity"].to_numpy(float)
    clusters = bins["cluster"].nunique()
    row: dict[str, Any] = {"hazard_ratio": np.nan, "low": np.nan, "high": np.nan, "level": level}
    row |= {"p_value": np.nan, "status": "undefined"}
    sizes: dict[str, Any] = {"n_bins": len(bins), "n_events": int(event.sum())}
    sizes |= {"n_responses": bins["trial_id"].nunique(), "n_clusters": clusters}
    if len(bins) == 0 or event.min() == event.max() or np.ptp(activity) == 0 or clusters < 2:
        return row | sizes
    others = [bins[name].to_numpy(float) for name in covariates]
    time = np.log(bins["bin"].to_numpy(float))
    design = np.column_stack([_standard(x) for x in (activity, time, time**2, *others)])
    if _explained(design):
        return row | sizes
    found = _fit(event, design, bins["cluster"].to_numpy())
    if found is None:
        return row | sizes | {"status": "separated"}
    slope, error = found
    half = stats.t.isf((1 - level) / 2, clusters - 1) * error
    few = "few_events" if event.sum() < FEW_EVENTS else "ok"
    ends = {"low": float(np.exp(slope - half)), "high": float(np.exp(slope + half))}
    row |= {"hazard_ratio": float(np.exp(slope)), **ends}
    row["p_value"] = float(2 * stats.t.sf(abs(slope / error), clusters - 1))
    return row | sizes | {"status": "few_clusters" if clusters < FEW_CLUSTERS else few}


def _explained(design: np.ndarray) -> bool:
    """Whether the first column is a linear function of the others."""
    others = add_constant(design[:, 1:], has_constant="add")
    fitted = others @ np.linalg.lstsq(others, design[:, 0], rcond=None)[0]
    return bool(np.abs(design[:, 0] - fitted).max() < 1e-6)


def _fit(event: Column, design: np.ndarray, clusters: np.ndarray) -> tuple[float, float] | None:
    """Slope of the first column and its clustered standard error; None if it has no maximum."""
    varying = design[:, np.ptp(design, axis=0) > 0]
    model = GLM(event, add_constant(varying), family=Binomial())
    with warnings.catch_warnings():
        warnings.simplefilter("error", PerfectSeparationWarning)
        # Few bins make time and its square collinear; the slope of the first column is unique.
        warnings.simplefilter("ignore", SingularMatrixWarning)
        try:
            codes = pd.factorize(clusters)[0]
            fitted = model.fit(cov_type="cluster", cov_kwds={"groups": codes}, maxiter=50)
        except (PerfectSeparationWarning, np.linalg.LinAlgError):
            return None
    slope, error = float(fitted.params[1]), float(fitted.bse[1])
    return (slope, error) if fitted.converged and np.isfinite(error) and error > 0 else None


def _standard(values: Column) -> Column:
    """Values with mean 0 and standard deviation 1; 0 where they do not vary."""
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros(len(values))
