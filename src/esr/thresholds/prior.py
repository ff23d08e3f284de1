"""The prior of a model's thresholds: configured, or measured without a judge.

A boost acts through the length of the direction that it adds, relative to the residual stream. So
the scale of boosts is the median norm of the stream at `steer_layer`, without BOS, sinks and
massive dimensions, over the norm of a median decoder row (`esr.assets.sae_fit`). Around that scale,
probes say at which boost predictions begin to change (`esr.thresholds.probes`): there is the centre
of the prior. Where too few of them change on the ladder, the scale alone decides.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from esr.config import ModelConfig, ThresholdPriorConfig
from esr.errors import EsrError
from esr.tables import read_table

log = logging.getLogger(__name__)

MEAN, SD, UPPER = 0.6, 0.5, 2.0
"""Of the prior by scale alone, as multiples of the scale. The organisms' thresholds are at 0.6 and
0.8 of it; the prior is wide, and bounds that prove too narrow are widened."""
PROBED_SD, PROBED_UPPER = 0.6, 4.0
"""Of the prior by probes, as multiples of its mean."""
ENOUGH = 0.5
"""Share of probed latents whose predictions must change on the ladder."""


def measured_prior(scale: float, probes: pd.DataFrame | None = None) -> ThresholdPriorConfig:
    """Prior for a scale of boosts (decoder units), centred by probes if enough of them say where.

    Args:
        scale: `boost_scale` at `steer_layer`.
        probes: Table `boost_probes`.
    """
    centre = probed_centre(probes) if probes is not None else None
    if centre is None:
        mean, sd, upper = MEAN * scale, SD * scale, UPPER * scale
    else:
        mean, sd, upper = centre, PROBED_SD * centre, PROBED_UPPER * centre
    return ThresholdPriorConfig(lower=0, upper=upper, mean=mean, sd=sd)


def probed_centre(probes: pd.DataFrame) -> float | None:
    """Median boost at which predictions begin to change; None if too few latents have one."""
    # Imported here: only a study without a prior in its settings needs it, and torch.
    from esr.thresholds.probes import crossings

    found = crossings(probes)
    if np.isfinite(found).mean() < ENOUGH:
        log.warning(
            "the predictions of %d of %d probed latents begin to change on the ladder of boosts; "
            "the prior of thresholds follows from the scale alone",
            np.isfinite(found).sum(),
            len(found),
        )
        return None
    return float(np.nanmedian(found))


def prior_of(
    model: ModelConfig, fit: pd.DataFrame, probes: pd.DataFrame | None = None
) -> ThresholdPriorConfig:
    """The configured prior of a model, or else the measured one.

    Args:
        model: Settings of the model.
        fit: Its table `sae_fit`, or that of its base.
        probes: Its table `boost_probes`, or that of its base.

    Raises:
        EsrError: the scale could not be measured.
    """
    if model.threshold_prior is not None:
        return model.threshold_prior
    prior = measured_prior(scale_of(model, fit), probes)
    log.info("measured prior of thresholds: %s", prior)
    return prior


def read_prior(model: ModelConfig, inputs: Any) -> ThresholdPriorConfig:
    """`prior_of` from the inputs of a job: `fit`, and `probes` of a model without a prior."""
    probes = inputs.get("probes")
    return prior_of(
        model,
        read_table(Path(inputs.fit), "sae_fit"),
        read_table(Path(probes[0]), "boost_probes") if probes else None,
    )


def scale_of(model: ModelConfig, fit: pd.DataFrame) -> float:
    """Scale of boosts at the layer that is steered (decoder units).

    Raises:
        EsrError: it could not be measured.
    """
    scale = fit.loc[fit["layer"].eq(model.steer_layer), "boost_scale"]
    if scale.isna().all():
        raise EsrError(
            "threshold_prior is not set and sae_fit.parquet has no boost_scale at steer_layer "
            f"{model.steer_layer}; set threshold_prior: {{upper: ..., mean: ..., sd: ...}}"
        )
    return float(scale.iloc[0])
