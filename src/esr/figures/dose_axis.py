"""A second axis of doses above an axis of boosts."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes


def add_dose_axis(axes: Axes, latents: pd.DataFrame) -> None:
    """Add the dose of a median direction above the boosts, if the stream's norm was measured."""
    known = latents.dropna(subset=["boost", "dose"])
    each = float((known["dose"] / known["boost"]).median()) if len(known) else np.nan
    if not each > 0:
        return
    scale = (lambda boost: boost * each, lambda dose: dose / each)
    above = axes.secondary_xaxis("top", functions=scale)
    above.set_xlabel("dose (median norms of the residual stream)", fontsize=6.5)
    above.tick_params(labelsize=6.5)
