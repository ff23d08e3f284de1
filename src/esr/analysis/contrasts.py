"""Contrasts that claims name and no other table has: sweeps, sets, matched arms, shares.

Rows are those of `esr.analysis.rows` with model, kind, arm and, by kind:

- `point`: a measure at a level of the boost sweep (sweep_level, sd of thresholds from their mean);
- `peak`: the level at which it is largest;
- `sets`: the mean of the random sets that are ablated on an arm's trials, minus that arm, and minus
  the one that ablates the detectors (arm `ablate-random - steered`);
- `matched`: an arm along other directions at thresholds of their own, minus `steered`; the two are
  independent, since a direction is no latent (arm `steered-random-impact - steered`);
- `share`: over the share of self-corrections trained on (percent; 0 is the base): statistic
  `difference` (share minus base, paired), `peak` (share of the highest value) or those of
  `share_trends`; status `one_training` if a share was trained once (`esr.analysis.shares`);
- `unsteered`: an arm with or without steering, and their paired difference.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from esr.analysis.comparisons import compare_sets, compare_unpaired
from esr.analysis.rows import estimates, missing, no_steering, peaks
from esr.analysis.shares import share_differences, share_peaks, share_trends, with_share
from esr.analysis.trends import PAIRED
from esr.analysis.ways import View
from esr.arms.scores import select
from esr.config import FineTuned, RandomSets, StatisticsConfig

COLUMNS = ["kind", "model", "arm", "measure", "statistic", "sweep_level", "share", "value", "low"]
COLUMNS += ["high", "relative_change", "relative_low", "relative_high", "method", "p_value", "n"]
COLUMNS += ["n_sets", "status"]


def contrast_table(
    view: View,
    models: Mapping[str, Mapping[str, Any]],
    detectors: Mapping[str, int],
    sets: Mapping[str, RandomSets],
    finetuned: Mapping[str, FineTuned],
    settings: StatisticsConfig,
    matched: Sequence[str] = (),
) -> pd.DataFrame:
    """All contrasts, as one way grades the trials.

    Args:
        view: The trials (`esr.analysis.ways.views`).
        models: Label and size of every base model.
        detectors: Number of detectors of each; without any, nothing was ablated.
        sets: Arms that ablate random sets, by the name that they share.
        finetuned: Fine-tuned models by name.
        settings: Of the intervals.
        matched: Arms along other directions, matched to `steered` by impact.
    """
    parts = [pd.DataFrame(columns=COLUMNS)]
    for model in models:
        mine = select(view.scores, model=model)
        parts += [
            sweep_rows(view, select(mine, arm="boost-sweep"), settings).assign(model=model),
            *(
                sets_rows(view, mine, name, arms, detectors[model], settings).assign(model=model)
                for name, arms in sets.items()
            ),
            *(matched_rows(view, mine, arm, settings).assign(model=model) for arm in matched),
        ]
    for base in dict.fromkeys(made.base for made in finetuned.values()):
        scores = select(with_share(view.scores, base, finetuned), arm="steered")
        parts.append(share_rows(view, scores, settings).assign(model=base))
    measures = view.shown(PAIRED)
    bare = no_steering(view.scores, models, measures, settings, view.restarted)
    bare["arm"] = bare["arm"].fillna("steered - unsteered")
    parts.append(bare[bare["status"].ne("not_run")].assign(kind="unsteered"))
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return table.reindex(columns=COLUMNS)


def sweep_rows(view: View, scores: pd.DataFrame, settings: StatisticsConfig) -> pd.DataFrame:
    """Measures of one model at every level of a boost sweep, and where they peak."""
    if scores.empty:
        return pd.DataFrame()
    measures = view.shown(PAIRED)
    points = estimates(scores, measures, settings, by=["sweep_level"]).assign(kind="point")
    highest = peaks(scores, measures, settings).assign(kind="peak")
    return pd.concat([points, highest], ignore_index=True).assign(arm="boost-sweep")


def sets_rows(
    view: View,
    scores: pd.DataFrame,
    name: str,
    sets: RandomSets,
    n_detectors: int,
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Random sets of latents minus the arm that they replay, and minus the ablated detectors."""
    run = set(scores["arm"].unique())
    names = [arm for arm in sets.arms if arm in run]
    measures = view.shown(PAIRED)
    parts = []
    for other in sets.against:
        against = select(scores, arm=other)
        if against.empty or not names:
            continue
        if n_detectors:
            table = compare_sets(
                against,
                [select(scores, arm=arm) for arm in names],
                measures,
                level=settings.level,
            ).rename(columns={"difference": "value", "n_pairs": "n"})
            table["n"] = table["n"].fillna(table["n_treatment"])
        else:
            table = missing(measures, "no_detectors")
        parts.append(table.assign(arm=f"{name} - {other}", kind="sets"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def matched_rows(
    view: View, scores: pd.DataFrame, name: str, settings: StatisticsConfig
) -> pd.DataFrame:
    """An arm along other directions at thresholds of their own, minus the steered latents."""
    latents, others = select(scores, arm="steered"), select(scores, arm=name)
    if latents.empty or others.empty:
        return pd.DataFrame()
    level, seed = settings.level, settings.seed
    table = compare_unpaired(latents, others, view.shown(PAIRED), level=level, seed=seed)
    table = table.rename(columns={"difference": "value", "n_treatment": "n"})
    return table.assign(arm=f"{name} - steered", kind="matched")


def share_rows(view: View, scores: pd.DataFrame, settings: StatisticsConfig) -> pd.DataFrame:
    """How measures change with the share of self-corrections; scores as from `with_share`."""
    measures = view.shown(PAIRED)
    if scores["share"].nunique() < 2:
        return pd.DataFrame()
    parts = [
        share_trends(scores, settings, measures),
        share_differences(scores, settings, measures).assign(statistic="difference"),
        share_peaks(scores, settings, measures).assign(statistic="peak"),
    ]
    return pd.concat(parts, ignore_index=True).assign(kind="share", arm="steered")
