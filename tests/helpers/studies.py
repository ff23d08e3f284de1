"""The configuration of a shipped study, with changes."""

from typing import Any

import yaml

from esr.config import Config, load, merge
from helpers.checkout import REPO


def load_study(*changes: Any, name: str = "organism") -> Config:
    """Protocol, study file and changes, merged and validated as a run does it."""
    files = [REPO / "config.yaml", REPO / f"studies/{name}.yaml"]
    return load(merge(*(yaml.safe_load(file.read_text()) for file in files), *changes))
