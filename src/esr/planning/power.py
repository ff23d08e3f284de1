"""Power of the claims of a configured study: what it can decide at its size."""

import logging
from collections.abc import Iterator

import numpy as np
import pandas as pd

from esr.agreement.arms import sampled_cells
from esr.analysis.claims import parse_where, read_claims
from esr.analysis.operating import POWER, power_table
from esr.analysis.simulation import StudySpec
from esr.analysis.truths import TRUTHS
from esr.arms.prompts import read_prompts
from esr.config import Config

log = logging.getLogger(__name__)

UNKNOWN = "not simulated: no world of its claims file in esr.analysis.truths"
NOT_RUN = "not run: this study has no"
PERCENT = {"power": "primary", "agreed": "all ways"}
"""Columns of shares, with the names under which they are printed."""


def tabulate_power(config: Config, studies: int = 60) -> pd.DataFrame:
    """Power of every claim of a study, at its number of latents, trials and prompts.

    Columns as of `esr.analysis.operating.power_table`. The label of a claim says, too, if its file
    has no simulated world, or the study lacks its model or arm.

    Args:
        config: The study.
        studies: Simulated studies a claim and correlation.
    """
    parts = []
    for path in config.claims:
        claims = read_claims([path])
        labels = claims["where"].map(lambda where: " and ".join(_lacking(config, where)))
        run = labels.eq("")
        absent = claims.loc[~run, ["claim", "source"]]
        parts.append(absent.assign(label=f"{NOT_RUN} " + labels[~run]))
        truths = TRUTHS.get(path.stem)
        if truths is None:
            log.warning("%s: no simulated world in esr.analysis.truths; its power is unknown", path)
            parts.append(claims.loc[run, ["claim", "source"]].assign(label=UNKNOWN))
        else:
            parts.append(power_table(claims[run], truths, design_of(config), studies=studies))
    filled = [part for part in parts if len(part)]
    table = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
    return table.reindex(columns=POWER)


def design_of(config: Config) -> StudySpec:
    """The sizes of a study: those of `steered`, of the boost sweep, and of the judges' sample.

    Every sampled arm is given an equal share of the sample (`agreement.size`); without a second
    judge it is 0.
    """
    sweep = config.arms.get("boost-sweep")
    latents = config.latents.count
    judged = config.judging.second is not None
    return StudySpec(
        latents=latents,
        trials=config.arms["steered"].trials or 1,
        prompts=len(read_prompts(config.prompts)),
        sweep=(latents, 1) if sweep is None else (sweep.latents or latents, sweep.trials or 1),
        sampled=config.agreement.size // len(sampled_cells(config)) if judged else 0,
        per_stratum=config.agreement.per_stratum,
    )


def _lacking(config: Config, where: str) -> Iterator[str]:
    """Models and arms that a claim names and the study does not have."""
    known = {"model": set(config.models), "against": set(config.models), "arm": _arms(config)}
    for column, sign, values in parse_where(where):
        if sign == "=" and column in known and values != ["*"]:
            named = {part for value in values for part in value.split(" - ")}
            if not named & known[column] or (column == "arm" and named - known[column]):
                yield f"{'arm' if column == 'arm' else 'model'} {', '.join(sorted(named))}"


def _arms(config: Config) -> set[str]:
    return {*config.arms, *(name.rpartition("-")[0] for name in config.arms)}


def print_power(table: pd.DataFrame) -> Iterator[str]:
    """Lines of the table for the terminal: shares in percent, one line a claim and correlation."""
    simulated = table["power"].notna()
    if simulated.any():
        shown = table[simulated].drop(columns="source").rename(columns=PERCENT)
        for name in PERCENT.values():
            shown[name] = (100 * shown[name].astype(float)).map("{:.0f} %".format)
        shown["latents_80"] = shown["latents_80"].astype(float).replace(np.inf, np.nan)
        formats = {"value": "{:.3g}".format, "latents": "{:.0f}".format}
        text = shown.to_string(
            index=False, na_rep="none", float_format="{:.4g}".format, formatters=formats
        )
        yield from text.splitlines()
    for label, rows in table[~simulated].groupby("label", sort=False):
        yield f"{label}: {', '.join(rows['claim'])}"
