"""Steering a model of a study by hand: `uv run esr steer` and `esr.open_study`.

A study's model, SAE, judge, thresholds and detectors, as the workflow prepared them, applied to any
prompt. Nothing here writes results of the study.
"""

from esr.interactive.session import Session, Steered
from esr.interactive.study import Study, open_study

__all__ = ["Session", "Steered", "Study", "open_study"]
