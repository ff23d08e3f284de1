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
import statsmodels.api as sm
from jaxtyping import Float
from scipy import stats
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
    values = ordered[["value", *covariates]].to_numpy(float)
    position = ordered["position"].to_numpy(np.int64)
    trials = ordered["trial_id"].to_numpy()
    starts = [i for i in range(len(trials)) if i == 0 or trials[i] != trials[i - 1]]
    clusters = ordered["cluster"].to_numpy()
    parts, names = [np.empty((0, 3 + len(covariates)))], []
    for begin, end in zip(starts, [*starts, len(trials)][1:], strict=True):
        restart = float(restarts.get(trials[begin], np.nan))
        part = _bins(values[begin:end], position[begin:end], restart, width, window)
        parts.append(part)
        names += [(trials[begin], clusters[begin])] * len(part)
    table = pd.DataFrame(np.concatenate(parts), columns=["bin", "event", "activity", *covariates])
    table[["trial_id", "cluster"]] = pd.DataFrame(names, columns=["trial_id", "cluster"])
    return table[[*BINS, *covariates]]


def _bins(
    values: Float[np.ndarray, "tokens columns"],
    position: np.ndarray,
    restart: float,
    width: int,
    window: int | None,
) -> Float[np.ndarray, "bins columns"]:
    """Number, event and means of the bins of a response; one bin of history precedes the first."""
    sums = np.vstack([np.zeros(values.shape[1]), np.cumsum(values, axis=0)])
    end = restart if np.isfinite(restart) else position[-1]
    starts = np.arange(position[0] + width, end + 1, width)
    before = np.searchsorted(position, starts)
    first = np.searchsorted(position, starts - window) if window else np.zeros_like(before)
    means = (sums[before] - sums[first]) / np.maximum(before - first, 1)[:, None]
    event = (starts <= restart) & (restart < starts + width)
    return np.column_stack([np.arange(1, len(starts) + 1), event, means])


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
    others = sm.add_constant(design[:, 1:], has_constant="add")
    fitted = others @ np.linalg.lstsq(others, design[:, 0], rcond=None)[0]
    return bool(np.abs(design[:, 0] - fitted).max() < 1e-6)


def _fit(event: Column, design: np.ndarray, clusters: np.ndarray) -> tuple[float, float] | None:
    """Slope of the first column and its clustered standard error; None if it has no maximum."""
    varying = design[:, np.ptp(design, axis=0) > 0]
    model = sm.GLM(event, sm.add_constant(varying), family=sm.families.Binomial())
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
