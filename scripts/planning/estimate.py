"""Print the resources of a study by rule: GPU hours, disk, dollars of replies; and its power.

Writes no file. The tables, and the dollars spent so far, are in the log and on the terminal.
"""

import logging
from collections.abc import Callable
from typing import Any

import pandas as pd

from esr.config import Config
from esr.job import config_of, start
from esr.judges.costs import ledger
from esr.planning.costs import as_configured, estimate
from esr.planning.disk import disk_bytes
from esr.planning.hours import THROUGHPUT, estimate_compute, profile_hours, wall_hours
from esr.planning.partitions import PROFILE
from esr.planning.power import print_power

log = logging.getLogger(__name__)

AT_A_TIME = (1, 8, 32)
"""Numbers of GPUs for which the time of a study is given."""


def main(job: Any) -> None:
    """Print the estimates."""
    config = config_of(job)
    print_compute(config)
    print_replies(config)
    log.info("What the study can decide (tables/power.csv):")
    for line in print_power(pd.read_csv(job.input.power)):
        log.info("%s", line)


def print_compute(config: Config) -> None:
    """GPU hours by rule and model, time by number of GPUs, disk."""
    table = estimate_compute(config)
    if table.empty:
        log.info("GPU hours: unknown, since engine.gpu names no GPU, or no model needs one")
    else:
        formats = {"tokens": "{:,.0f}", "tokens_per_second": "{:,.0f}"}
        print_table(table, {name: text.format for name, text in formats.items()})
        times = (f"{wall_hours(table, gpus):.0f} h with {gpus}" for gpus in AT_A_TIME)
        log.info("%.0f hours of %s:", table["gpu_hours"].sum(), config.engine.gpu)
        log.info("%s at a time; not counted: the queue, batches of judges", ", ".join(times))
        log.info("%.0f h with the %d jobs at a time of %s", *profile_hours(table), PROFILE)
        if table["known_by"].eq("assumed").any():
            log.warning(
                "`assumed`: from data sheets and the constants in esr.planning.hours; tokens"
            )
            log.warning("written a second can be measured: %s", THROUGHPUT)
    for what, size in disk_bytes(config).items():
        log.info("disk, %s: %.1f GB", what, size / 1e9)


def print_table(table: pd.DataFrame, formatters: dict[str, Callable[[Any], str]]) -> None:
    """Send a table to the log, line by line."""
    text = table.to_string(
        index=False, na_rep="?", float_format="{:,.2f}".format, formatters=formatters
    )
    for line in text.splitlines():
        log.info("%s", line)


def print_replies(config: Config) -> None:
    """Calls, tokens and dollars by rule and judge; what was spent already."""
    table = estimate(config)
    if table.empty:
        log.info("study %s uses no paid language model: nothing to pay", config.study)
        return
    local = config.judging.local
    if local:
        log.info("judges %s cost GPU hours, above, and no dollars", ", ".join(local))
    counts = ["calls", "input_tokens", "output_tokens"]
    print_table(table, dict.fromkeys(counts, "{:,}".format))
    log.info("as configured: $%.2f if every response is as long as it may be", as_configured(table))
    log.info("spent already: $%.2f", ledger(config)["dollars"].sum())
    if config.judging.budget is not None:
        log.info("judging.budget: $%.2f", config.judging.budget)
    unpriced = sorted(set(table.loc[table["price_date"].isna(), "model"]))
    if unpriced:
        log.warning("no price of %s in %s", ", ".join(unpriced), config.judging.prices)


if __name__ == "__main__":
    main(start(snakemake))
