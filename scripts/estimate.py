"""Print what the replies of a study will cost, rule by rule, before anything is sent.

Writes no file; the table is in the log and on the terminal, and so is what was spent already.
"""

import logging
from typing import Any

from esr.job import config_of, start
from esr.judges.estimate import as_configured, estimate
from esr.judges.money import ledger

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Print the estimate."""
    config = config_of(job)
    table = estimate(config)
    if table.empty:
        log.info("study %s asks no language model: nothing to pay", config.study)
        return
    shown = table.to_string(
        index=False,
        na_rep="?",
        float_format="{:,.2f}".format,
        formatters=dict.fromkeys(["calls", "input_tokens", "output_tokens"], "{:,}".format),
    )
    for line in shown.splitlines():
        log.info("%s", line)
    log.info("as configured: $%.2f if every response is as long as it may be", as_configured(table))
    log.info("spent already: $%.2f", ledger(config)["dollars"].sum())
    if config.judging.budget is not None:
        log.info("judging.budget: $%.2f", config.judging.budget)
    unpriced = sorted(set(table.loc[table["price_date"].isna(), "model"]))
    if unpriced:
        log.warning("no price of %s in %s", ", ".join(unpriced), config.judging.prices)


if __name__ == "__main__":
    main(start(snakemake))
