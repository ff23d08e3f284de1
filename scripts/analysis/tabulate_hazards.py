"""Make tables/activation_hazards.{csv,tex}: the hazard of a restart given the detectors so far.

CSV, one row a model, history (tokens before a bin over which the summed activation is averaged) and
set of covariates (`adjusted`): hazard_ratio of a restart per standard deviation of the activation,
with low, high and level (clustered by steered latent) and p_value (of a ratio of 1); status; n
(off-topic responses: episodes, and those that never restart), n_events (restarts), n_bins,
n_latents.
"""

from typing import Any

import pandas as pd

from esr.analysis.summaries import write_tables
from esr.config import Config
from esr.episodes.hazards import restart_hazards
from esr.episodes.traces import Traces, read_traces
from esr.job import config_of, output, start


def tabulate(traces: dict[str, Traces], config: Config) -> pd.DataFrame:
    """Hazards of every model."""
    limit, level = config.episodes.off_topic_score, config.statistics.level
    parts = []
    for model, found in traces.items():
        table = restart_hazards(found, limit, level)
        note = found.note("detector")
        table = table.assign(status=note.replace(" ", "_")) if note else table
        table.insert(0, "model", model)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """The ratio with its interval in one column."""
    ratios = [
        "n/a"
        if pd.isna(row.hazard_ratio)
        else f"{row.hazard_ratio:.2f}"
        if pd.isna(row.low)
        else f"{row.hazard_ratio:.2f} [{row.low:.2f}, {row.high:.2f}]"
        for row in table.itertuples()
    ]
    shown = table[["model", "history", "adjusted", "n", "n_events"]]
    return shown.assign(ratio=ratios, status=table["status"].str.replace("_", " "))


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    traces = read_traces(config.base_models, job.input.episodes, job.input.activations)
    table = tabulate(traces, config)
    names = {name: model.label for name, model in config.base_models.items()}
    shown = printed(table.assign(model=table["model"].map(names)))
    write_tables(output(job, "csv"), output(job, "tex"), table, shown)


if __name__ == "__main__":
    main(start(snakemake))
