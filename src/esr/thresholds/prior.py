"""The prior of a model's thresholds: configured, or measured from its residual stream.

A boost acts through the length of the direction that it adds, relative to the residual stream. So
the scale of boosts is the median norm of the stream at `steer_layer`, without BOS, sinks and
massive dimensions, over the norm of a median decoder row (`esr.assets.sae_fit`).
"""

import logging

import pandas as pd

from esr.config import ModelConfig, ThresholdPriorConfig
from esr.errors import EsrError

log = logging.getLogger(__name__)

MEAN, SD, UPPER = 0.6, 0.5, 2.0
"""Of the measured prior, as multiples of the scale. The organisms' thresholds are at 0.6 and 0.8 of
it; the prior is wide, and bounds that prove too narrow are widened."""


def measured_prior(scale: float) -> ThresholdPriorConfig:
    """Prior for a scale of boosts (decoder units)."""
    return ThresholdPriorConfig(lower=0, upper=UPPER * scale, mean=MEAN * scale, sd=SD * scale)


def prior_of(model: ModelConfig, fit: pd.DataFrame) -> ThresholdPriorConfig:
    """The configured prior of a model, or else the measured one.

    Args:
        model: Settings of the model.
        fit: Its table `sae_fit`, or that of its base.

    Raises:
        EsrError: the scale could not be measured.
    """
    if model.threshold_prior is not None:
        return model.threshold_prior
    scale = fit.loc[fit["layer"].eq(model.steer_layer), "boost_scale"]
    if scale.isna().all():
        raise EsrError(
            "threshold_prior is not set and sae_fit.parquet has no boost_scale at steer_layer "
            f"{model.steer_layer}; set threshold_prior: {{upper: ..., mean: ..., sd: ...}}"
        )
    prior = measured_prior(float(scale.iloc[0]))
    log.info("measured prior of thresholds: %s", prior)
    return prior
