"""Make figures/fig5.{pdf,png,csv}: off-topic detectors, and what ablating them changes.

CSV, one row a mark: model, label, kind (`arm`, `difference` of paired arms, `detector`, `count` of
latents), arm, measure (also `matched`, `mismatched`; `found`, `given`, `both`, `confirmed`),
latent, value (percent or points; mean activation, in units of the SAE; latents), low, high
(interval), p_value, n (trials; pairs; latents), dropped (pairs), status.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from esr.analysis.engines import read_scores_to_pair
from esr.analysis.summaries import replays_of
from esr.arms.scores import select
from esr.config import DetectorsConfig, StatisticsConfig
from esr.detectors.search import chance_of_passing, check_table, meets
from esr.figures import style
from esr.figures import tables as figures
from esr.figures.ablation import (
    DETECTORS,
    STEERED,
    compare_detectors,
    count_rows,
    draw_measures,
    model_panels,
)
from esr.job import config_of, start
from esr.tables import read_tables

COLUMNS = ["model", "label", "kind", "arm", "measure", "latent", "value", "low", "high", "p_value"]
COLUMNS += ["n", "dropped", "status"]
COUNTS = ["found", "given", "both", "confirmed"]
FALSE_FINDING = 0.05
"""Expected number of latents that pass by chance, at most."""
SIDES = {"matched": ("own response", style.GREEN, "o"), "mismatched": ("another's", style.RED, "s")}


def detector_rows(
    detectors: pd.DataFrame, pairs: pd.DataFrame, settings: DetectorsConfig, how: StatisticsConfig
) -> pd.DataFrame:
    """Mean activation of each detector on held-out pairs, and counts of detectors.

    If no pair was held out, the means are over the searched pairs, and `confirmed` is missing.
    Without rows in `detectors` nothing was searched: counts are missing, with status `not_run`.
    Counts of found detectors have the status `few_pairs` if chance alone would find one among all
    latents in more than `FALSE_FINDING` of searches, as it does on a handful of prompts.
    """
    if detectors.empty:
        nothing = pd.DataFrame({"measure": COUNTS, "value": np.nan, "n": 0})
        return nothing.assign(kind="count", status="not_run")
    used = detectors.loc[detectors["detector"], "latent"]
    found = detectors["found"].astype(bool)
    given = detectors["given"].astype(bool)
    counts = {"found": found.sum(), "given": given.sum(), "both": (found & given).sum()}
    table = check_table(pairs[pairs["latent"].isin(used)], how)
    held_out = table["pairs"].eq("held_out").all() and len(table) > 0
    counts["confirmed"] = meets(table, settings).sum() if held_out else np.nan
    rows = pd.DataFrame({"measure": COUNTS, "value": [counts[name] for name in COUNTS]})
    rows = rows.assign(kind="count", n=len(used), status="ok")
    searched = pairs.loc[~pairs["held_out"].astype(bool), "prompt_id"].nunique()
    expected = len(detectors) * chance_of_passing(searched, settings)
    if counts["found"] and expected > FALSE_FINDING:
        rows.loc[rows["measure"].ne("given"), "status"] = "few_pairs"
    rows.loc[rows["value"].isna(), "status"] = "not_held_out"
    if table.empty:
        return rows
    means = table.rename(columns={f"mean_{side}": side for side in SIDES}).melt(
        ["latent", "n_pairs", "pairs"], list(SIDES), "measure", "value"
    )
    means = means.rename(columns={"n_pairs": "n", "pairs": "status"}).assign(kind="detector")
    return pd.concat([rows, means], ignore_index=True)


def draw_detectors(axes: Axes, table: pd.DataFrame) -> None:
    """Draw one model's detectors on held-out pairs."""
    counts = table[table["kind"].eq("count")].set_index("measure")["value"]
    means = table[table["kind"].eq("detector")].pivot_table(
        index="latent", columns="measure", values="value"
    )
    label = table["label"].iloc[0]
    if means.empty:
        axes.set(title=f"{label}: detectors", xticks=[], yticks=[])
        found = counts["found"]
        why = "not searched" if np.isnan(found) else f"{found:.0f} found"
        style.empty_panel(axes, f"no detectors in use\n({why})")
        return
    means = means.sort_values("mismatched", ascending=False)
    places = np.arange(1, len(means) + 1)
    axes.vlines(places, means["matched"], means["mismatched"], color="#D0D0D0", lw=1)
    for side, (name, colour, marker) in SIDES.items():
        axes.scatter(places, means[side], s=12, color=colour, marker=marker, label=name, zorder=3)
    active = means["mismatched"][means["mismatched"].gt(0)]
    if len(active):  # a detector may be silent on all held-out pairs
        near_zero = float(active.min()) / 10
        axes.set_yscale("symlog", linthresh=near_zero)
        axes.set_ylim(bottom=0, top=12 * active.max())
        axes.set_yticks([y for y in axes.get_yticks() if y == 0 or y > 1.5 * near_zero])
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    confirmed = counts["confirmed"]
    check = "not checked" if np.isnan(confirmed) else f"{confirmed:.0f} hold up"
    given = (
        f"; {counts['given']:.0f} given, {counts['both']:.0f} in both" if counts["given"] else ""
    )
    note = f"detector, by activation\n({counts['found']:.0f} found, {check}{given})"
    axes.set_xlabel(note, fontsize=8)
    axes.set(title=f"{label}: {len(means)} detectors", ylabel="mean activation")
    axes.legend(
        loc="upper right",
        fontsize=7.5,
        ncols=2,
        handlelength=1,
        columnspacing=0.8,
        handletextpad=0.1,
        borderaxespad=0.1,
    )
    axes.set_xticks([1, len(means)] if len(means) > 1 else [1])


def draw(table: pd.DataFrame, title: str, level: float) -> Figure:
    """Draw detectors (one panel a model), then arms and their differences (one a measure)."""
    models = list(dict.fromkeys(table["model"]))
    heights = [
        1.8 * count_rows(len(models)),
        0.5 + 0.45 * len(models),
        0.5 + 0.25 * len(models),
    ]
    figure = plt.figure(figsize=(style.WIDTH, sum(heights) + 1.5))
    rows = figure.add_gridspec(3, 1, height_ratios=heights)
    for axes, model in zip(model_panels(figure, rows[0], len(models)), models, strict=True):
        draw_detectors(axes, table[table["model"].eq(model)])
    arms = table[table["kind"].isin(["arm", "difference"])]
    contrasts = [f"{DETECTORS} - {STEERED}"]
    draw_measures(figure, (rows[1], rows[2]), arms, [STEERED, DETECTORS], contrasts)
    style.footnote(figure, f"{title}. {style.interval_note(level)}.")
    return figure


def main(job: Any) -> None:
    """Write the figure and its data."""
    config = config_of(job)
    models = dict(job.params.models)
    scores = read_scores_to_pair(job.input.scores, replays_of(config))
    all_detectors = read_tables(job.input.detectors, "detectors")
    all_pairs = read_tables(job.input.pairs, "detector_pairs")
    parts = []
    for name in figures.large_to_small(models):
        detectors = select(all_detectors, model=name)
        pairs = select(all_pairs, model=name)
        found = int(detectors["detector"].sum())
        rows = detector_rows(detectors, pairs, config.detectors, config.statistics)
        arms = compare_detectors(select(scores, model=name), found, config.statistics)
        both = pd.concat([rows, arms], ignore_index=True)
        parts.append(both.assign(model=name, label=models[name]["label"]))
    table = pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)
    figures.write_figure(job, table, draw)


if __name__ == "__main__":
    main(start(snakemake))
