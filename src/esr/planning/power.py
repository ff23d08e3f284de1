"""Power of the claims of a configured study: what it can decide at its size."""

import logging
from collections.abc import Iterator

import pandas as pd

from esr.agreement.arms import sampled_cells
from esr.analysis.claims import parse_where, read_claims
from esr.analysis.power import POWER, power_table
from esr.analysis.rehearsals import reports
from esr.analysis.specs import StudySpec
from esr.analysis.truths import TRUTHS
from esr.arms.prompts import read_prompts
from esr.config import Config, IntrospectionConfig, LevelsConfig, random_sets
from esr.handwritten import read_csv_rows
from esr.planning.costs import latents_of, steerable, trials_of

log = logging.getLogger(__name__)

UNKNOWN = "not simulated: no world of its claims file in esr.analysis.truths"
OTHERS = "not simulated: it names no model, and the worlds of its claims file are of other models"
IMPORTED = "not simulated: the trials of `steered` come from a file"
NOT_RUN = "not run: this study has no"
PERCENT = {"power": "primary", "agreed": "all ways"}
"""Columns of shares, with the names under which they are printed."""


def tabulate_power(config: Config, studies: int = 60) -> pd.DataFrame:
    """Power of every claim of a study, at its number of latents, trials and prompts.

    Columns as of `esr.analysis.power.power_table`. The label of a claim also shows if its file
    has no simulated world, its trials are imported, or the study lacks its model or arm.

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
        if config.origin_of("steered").responses is not None:
            parts.append(claims.loc[run, ["claim", "source"]].assign(label=IMPORTED))
        elif truths is None:
            log.warning("%s: no simulated world in esr.analysis.truths; its power is unknown", path)
            parts.append(claims.loc[run, ["claim", "source"]].assign(label=UNKNOWN))
        else:
            own = set(truths) <= set(config.models)
            general = run & ~claims["where"].map(_names_a_model) & (not own)
            parts.append(claims.loc[general, ["claim", "source"]].assign(label=OTHERS))
            simulated = claims[run & ~general]
            sets = {name: len(found.arms) for name, found in random_sets(config.arms).items()}
            design = design_of(config)
            parts.append(power_table(simulated, truths, design, studies=studies, sets=sets))
    filled = [part for part in parts if len(part)]
    table = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
    return table.reindex(columns=POWER)


def design_of(config: Config) -> StudySpec:
    """The sizes of a study: those of its arms, and of the judges' sample.

    Every sampled arm has a share of the sample (`agreement.size`) in proportion to its trials;
    without a second judge it is 0.
    """
    prompts = len(read_prompts(config.prompts))
    sizes = {name: size for name in config.arms if (size := _size(config, name, prompts))}
    main = sizes.pop("steered")
    if config.introspection is not None:
        sizes[reports.ARM] = _self_reports(config.introspection, config)
    sweep = config.arms.get("boost-sweep")
    latents = config.latents.count
    graded = 0.0
    if config.judging.second is not None:
        cells = [trials_of(config, config.arms[arm], prompts) for _, arm in sampled_cells(config)]
        graded = min(1.0, config.agreement.size / sum(cells))
    return StudySpec(
        latents=main[0],
        trials=main[1],
        prompts=prompts,
        sweep=(latents, 1) if sweep is None else (sweep.latents or latents, sweep.trials or 1),
        sizes={name: size for name, size in sizes.items() if size != main},
        trainings=config.finetune.seeds,
        sampled=round(graded * main[0] * main[1]),
        per_stratum=config.agreement.per_stratum,
    )


def _size(config: Config, name: str, prompts: int) -> tuple[int, int] | None:
    """Latents of an arm, and trials of each (on average); None if it is over prompts."""
    arm = config.arms[name]
    trials, latents = trials_of(config, arm, prompts), latents_of(config, arm)
    if latents is None or isinstance(arm.boost, LevelsConfig):
        return None
    while arm.replay is not None:
        arm = config.arms[arm.replay]
    if arm.continued is not None:  # a latent may have no text that is continued
        latents = min(latents, arm.continued.texts)
    return latents, max(1, round(trials / latents))


def _self_reports(settings: IntrospectionConfig, config: Config) -> tuple[int, int]:
    """Directions that are injected into each model, and pairs of questions about them."""
    pairs = len(read_csv_rows(settings.questions).rows)
    return settings.latents or steerable(config, settings.directions), pairs


def _names_a_model(where: str) -> bool:
    return any(column == "model" for column, _, _ in parse_where(where))


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
        needed = shown["latents_80"].astype(float)
        shown["latents_80"] = needed.map("{:.0f}".format).replace({"inf": "none", "nan": "any"})
        formats = {"value": "{:.3g}".format, "latents": "{:.0f}".format}
        text = shown.to_string(index=False, float_format="{:.4g}".format, formatters=formats)
        yield from text.splitlines()
    for label, rows in table[~simulated].groupby("label", sort=False):
        yield f"{label}: {', '.join(rows['claim'])}"
