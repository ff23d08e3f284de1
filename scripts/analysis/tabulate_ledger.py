"""Make tables/ledger.{csv,tex}: costs, one row a rule and judge; tokens, US dollars."""

from typing import Any

import pandas as pd

from esr.analysis.summaries import write_tables
from esr.job import config_of, output, start
from esr.judges.costs import ledger

PRINTED = ["rule", "judge", "served_as", "mode", "calls", "input_tokens", "output_tokens"]
PRINTED += ["dollars", "price_date"]


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """Printed columns, with a last row of sums."""
    sums = table[["calls", "input_tokens", "output_tokens"]].sum().to_dict()
    total = {"rule": "total", **sums, "dollars": table["dollars"].sum(skipna=False)}
    table = pd.concat([table, pd.DataFrame([total])], ignore_index=True)
    return table.assign(dollars=table["dollars"].map("{:.4f}".format))[PRINTED].fillna("")


def main(job: Any) -> None:
    """Write the table."""
    table = ledger(config_of(job))
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(table))


if __name__ == "__main__":
    main(start(snakemake))
