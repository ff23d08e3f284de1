"""Make tables/robustness.{csv,tex}: the main result under other choices.

CSV, one row a model, check and quantity: value, low, high (interval), method, n. Checks: `main`
(steered, as in Figure 2), `without degraded`, `target 30`; other intervals of the main result
(`trials independent`, `prompts fixed`, `bootstrap over latents`, `bootstrap over latents and
prompts`); heterogeneity: how many latents and prompts carry the ESR events, and the range of
the multi-attempt rate over prompts; `windows of text`: change of the score from the first to the
last quarter of a response, and the share of responses without a score of either; `achieved score as
covariate`: measures at the target of the thresholds (`esr.analysis.implicit`); `generated tokens
alone steered`: differences from `steered`, at the same boosts; `other seeds (A/A)`: differences
that chance alone makes, of every arm that replays another one with other seeds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from esr.analysis.alternatives import FIXED_PROMPTS, alternatives
from esr.analysis.implicit import without_attempts
from esr.analysis.measures import summarise
from esr.analysis.summaries import chance_table, prompt_table, with_interval, write_tables
from esr.arms.scores import without_degraded
from esr.config import Config, StatisticsConfig
from esr.job import config_of, output, start
from esr.judges import open_scorer
from esr.judges.windows import score_windows
from esr.tables import read_table, read_tables

MEASURES = ["first_score", "multi_attempt_rate", "esr_rate", "success_rate", "msi"]
METHODS = {
    "wilson": "trials independent",
    "t": "trials independent",
    FIXED_PROMPTS: FIXED_PROMPTS,
    "cluster_bootstrap": "bootstrap over latents",
    "two_way_bootstrap": "bootstrap over latents and prompts",
}
"""Check of each other method."""


def checks(
    arms: Mapping[str, pd.DataFrame], settings: StatisticsConfig, targets: Mapping[str, int]
) -> pd.DataFrame:
    """The main measures under every choice, of one model; `targets` as in `robustness`."""
    steered = arms["steered"]
    variants = {"main": steered, "without degraded": without_degraded(steered)}
    variants |= {f"target {value}": arms[arm] for arm, value in targets.items() if arm in arms}
    parts = [
        summarise(table, MEASURES, level=settings.level).assign(check=check)
        for check, table in variants.items()
    ]
    others = alternatives(
        steered, MEASURES, n_boot=settings.bootstrap, seed=settings.seed, level=settings.level
    )
    others = others[others["method"].isin(METHODS)]
    parts.append(others.assign(check=others["method"].map(METHODS)))
    table = pd.concat(parts, ignore_index=True).rename(columns={"measure": "quantity"})
    columns = ["check", "quantity", "unit", "estimate", "low", "high", "method", "n", "status"]
    return table[columns]


def heterogeneity(scores: pd.DataFrame) -> pd.DataFrame:
    """Latents and prompts with ESR events, and the spread of their multi-attempt rates."""
    scored = scores[scores["status"].eq("ok")]
    rows = []
    for unit in ("latent", "prompt_id"):
        events = scored.groupby(unit)["improved"].sum().sort_values(ascending=False)
        rates = 100 * scored.groupby(unit)["multi_attempt"].mean().astype(float)
        name = unit.removesuffix("_id")
        half = int((events.cumsum() < events.sum() / 2).sum() + 1) if events.sum() else 0
        for quantity, value in (
            (f"{name}s with an ESR event", int(events.gt(0).sum())),
            (f"{name}s with half of the ESR events", half),
            (f"lowest multi-attempt rate of a {name}", rates.min()),
            (f"median multi-attempt rate of a {name}", rates.median()),
            (f"highest multi-attempt rate of a {name}", rates.max()),
        ):
            kind = "percent" if "rate" in quantity else f"{name}s"
            rows.append({"quantity": quantity, "unit": kind, "estimate": value, "n": len(events)})
    return pd.DataFrame(rows).assign(check="heterogeneity", status="ok")


def robustness(
    scores: pd.DataFrame, settings: StatisticsConfig, targets: Mapping[str, int]
) -> pd.DataFrame:
    """All checks of all models.

    Args:
        scores: Of `steered`, and of the arms in `targets`.
        settings: Of the intervals.
        targets: Arms that differ from `steered` in their target alone, with it (points).
    """
    parts = []
    for model, cell in scores.groupby("model", sort=False):
        arms = dict(iter(cell.groupby("arm", sort=False)))
        both = [checks(arms, settings, targets), heterogeneity(arms["steered"])]
        parts.append(pd.concat(both, ignore_index=True).assign(model=model))
    table = pd.concat(parts, ignore_index=True)
    return table[["model", *[name for name in table.columns if name != "model"]]]


def read_windows(job: Any, config: Config) -> dict[str, pd.DataFrame] | None:
    """Scored windows of the steered responses, by model; None if the judge scores no windows."""
    scorer = open_scorer(config.judging.judges[config.judging.primary])
    if scorer is None:
        return None
    found = {}
    for plan, responses in zip(job.input.plans, job.input.responses, strict=True):
        planned = read_table(Path(plan), "plan")
        if planned.empty:
            continue
        model = str(planned["model"].iloc[0])
        found[model] = score_windows(planned, read_table(Path(responses), "responses"), scorer)
    return found


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """Estimates with intervals in one column, and their status."""
    shown = table[["model", "check", "quantity", "n"]].copy()
    estimates = [with_interval(row) for row in table.to_dict("records")]
    return shown.assign(estimate=estimates, status=table["status"])


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    scores = read_tables(job.input.scores, "scores")
    parts = [robustness(scores, config.statistics, config.other_targets)]
    if job.input.again:
        again = read_tables(job.input.again, "scores")
        parts += [table(again, config, MEASURES) for table in (prompt_table, chance_table)]
    windows = read_windows(job, config)
    target = config.thresholds.target
    parts.append(without_attempts(scores, windows, target, config.statistics.level))
    table = pd.concat(parts, ignore_index=True)
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(table))


if __name__ == "__main__":
    main(start(snakemake))
