"""Make introspection/plan.parquet: questions with every direction, dose and window, and without.

Columns are those of the table `introspection_plan`; boosts are in decoder units.
"""

import logging
from pathlib import Path
from typing import Any

from esr.introspection.plan import introspection_plan, what_is_injected
from esr.introspection.questions import read_questions
from esr.job import config_of, origin, output, start
from esr.tables import read_table, write_table

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Write the plan."""
    settings = config_of(job).introspection
    assert settings is not None
    thresholds = Path(job.input.thresholds) if settings.unit == "threshold" else None
    plan = introspection_plan(
        settings,
        job.wildcards.model,
        read_table(
            Path(job.input.latents), "latents" if settings.directions is None else "directions"
        ),
        None if thresholds is None else read_table(thresholds, "thresholds"),
        read_questions(Path(job.input.questions)),
    )
    what = what_is_injected(settings)
    log.info("%d trials of %d %s", len(plan), plan["latent"].nunique(), what)
    write_table(plan, output(job), "introspection_plan", origin(job))


if __name__ == "__main__":
    main(start(snakemake))
