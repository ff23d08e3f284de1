"""Table behind Figure 6: models fine-tuned on self-corrections, by their share."""

from collections.abc import Mapping

import pandas as pd

from esr.analysis.recovery import SHOWN as EXCESS
from esr.analysis.recovery import recovery, with_excess
from esr.analysis.shares import share_differences, share_peaks, share_trends, with_share
from esr.arms.scores import select
from esr.config import FineTuned, StatisticsConfig
from esr.figures import tables as figures

SHOWN = ["mean_attempts", "msi", "success_rate", "multi_attempt_rate"]
MEASURED = [*SHOWN, "esr_rate", "first_score"]
"""In the CSV; the figure shows `SHOWN`."""
COLUMNS = ["model", "label", "kind", "arm", "measure", "statistic", "share", "training"]
COLUMNS += ["value", "low", "high", "method", "p_value", "n", "status", *EXCESS]


def base_table(
    scores: pd.DataFrame,
    base: str,
    finetuned: Mapping[str, FineTuned],
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Every value of one base and of the models made from it."""
    scores = with_share(scores, base, finetuned)
    parts = []
    for arm in figures.BOTH:
        models = dict(iter(select(scores, arm=arm).groupby(["share", "training"])))
        for (share, training), table in models.items() if len(models) > 1 else ():
            found = figures.estimates(table, MEASURED, settings)
            if arm == "steered":
                redrawn = recovery(table, level=settings.level, seed=settings.seed)
                found = with_excess(found, redrawn, ["measure"])
            parts.append(found.assign(kind="point", arm=arm, share=share, training=training))
    steered = select(scores, arm="steered")
    parts += [
        share_differences(steered, settings, MEASURED).assign(kind="difference"),
        share_trends(steered, settings, MEASURED).assign(kind="trend"),
        share_peaks(steered, settings, SHOWN).assign(kind="peak"),
    ]
    return pd.concat(parts, ignore_index=True)


def figure_table(
    scores: pd.DataFrame,
    finetuned: Mapping[str, FineTuned],
    labels: Mapping[str, str],
    settings: StatisticsConfig,
) -> pd.DataFrame:
    """Everything that is plotted; in a study without fine-tuning, rows with status `not_run`."""
    bases = list(dict.fromkeys(made.base for made in finetuned.values()))
    parts = [
        base_table(scores, base, finetuned, settings).assign(model=base, label=labels[base])
        for base in bases
    ]
    if not parts:
        parts = [figures.missing(MEASURED, "not_run").assign(kind="point")]
    table = pd.concat(parts, ignore_index=True)
    table["arm"] = table.get("arm", pd.Series(index=table.index, dtype=object)).fillna("steered")
    return table.reindex(columns=COLUMNS)
