"""Power of the claims of a configured study: what it can decide at its size."""

import logging

import pandas as pd

from esr.analysis.claims import read_claims
from esr.analysis.operating import power_table
from esr.analysis.simulation import StudySpec
from esr.analysis.truths import TRUTHS
from esr.arms.prompts import read_prompts
from esr.config import Config

log = logging.getLogger(__name__)


def tabulate_power(config: Config, studies: int = 40) -> pd.DataFrame:
    """Power of every claim of a study, at its number of latents, trials and prompts.

    Columns as of `esr.analysis.operating.power_table`; empty if no claims file has a simulated
    world (`esr.analysis.truths`).

    Args:
        config: The study.
        studies: Simulated studies a claim and correlation.
    """
    trials = config.arms["steered"].trials or 1
    spec = StudySpec(config.latents.count, trials, len(read_prompts(config.prompts)))
    parts = []
    for path in config.claims:
        truths = TRUTHS.get(path.stem)
        if truths is None:
            log.warning("%s: no simulated world in esr.analysis.truths; its power is unknown", path)
            continue
        parts.append(power_table(read_claims([path]), truths, spec, studies=studies))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
