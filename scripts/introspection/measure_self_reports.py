"""Make introspection/{self_reports,choices}.parquet: log-odds of yes (nats), and right letters.

Columns are those of the tables `self_reports` (one row a direction, window, dose and pair of
questions) and `choices` (one row a direction, window, dose and order of the options).
"""

import logging
from pathlib import Path
from typing import Any

from esr.introspection.measures import choices, self_reports
from esr.job import origin, output, start
from esr.tables import read_provenance, read_table, write_table

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Write both tables."""
    plan = read_table(Path(job.input.plan), "introspection_plan")
    path = Path(job.input.readouts)
    readouts = read_table(path, "introspection_readouts")
    facts = origin(job, engine=read_provenance(path).get("engine"))
    for name, table in (
        ("self_reports", self_reports(plan, readouts)),
        ("choices", choices(plan, readouts)),
    ):
        log.info("%s: %d rows, %d not read", name, len(table), table["status"].ne("ok").sum())
        write_table(table, output(job, name), name, facts)


if __name__ == "__main__":
    main(start(snakemake))
