"""Which claims files are about the models of a study, and what to write where none is."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from esr.analysis.claims import parse_where, read_claims


def named_models(claims: pd.DataFrame) -> set[str]:
    """Models that claims name, under `model` or `against`."""
    found = [parse_where(where) for where in claims["where"]]
    return {
        value
        for conditions in found
        for column, sign, values in conditions
        if column in ("model", "against") and sign == "="
        for value in values
        if value != "*"
    }


def other_studies_claims(
    paths: Iterable[str | Path], models: Iterable[str]
) -> dict[Path, pd.DataFrame]:
    """Files whose claims are about other models than a study's, with their claims.

    A file that names no model is about any study. One that names at least one of the study's models
    counts in full: its claims about the others are `not run`.
    """
    known = set(models)
    read = {path: read_claims([path]) for path in map(Path, paths)}
    named = {path: named_models(claims) for path, claims in read.items()}
    return {path: read[path] for path in read if named[path] and not named[path] & known}


def no_claims_note(paths: Iterable[str | Path], models: Iterable[str]) -> str:
    """Why claims files are left out of a scorecard, or why it is empty; '' if neither holds."""
    paths, models = list(paths), list(models)
    others = other_studies_claims(paths, models)
    lines = [
        f"{path} is left out: its {len(claims)} claims are about {_bases(claims)}, and this study "
        f"has {', '.join(models)}."
        for path, claims in others.items()
    ]
    if len(others) == len(paths):
        lines.append("No claim is about this study: name a file of yours under `claims`.")
    return " ".join(lines)


def _bases(claims: pd.DataFrame) -> str:
    """Models that claims name, without those that are fine-tuned from them."""
    return ", ".join(sorted(name for name in named_models(claims) if "+" not in name))
