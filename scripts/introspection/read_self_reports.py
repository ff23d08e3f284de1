"""Make introspection/readouts.parquet: log-probabilities (nats) of yes and no, or of letters.

Columns are those of the table `introspection_readouts`, one row a trial and name. Each is read at
the last token before the answer. A journal keeps every finished batch.
"""

import json
from pathlib import Path
from typing import Any

from esr.arms.chat import prompts_digest
from esr.arms.readouts import readouts_table
from esr.engines import open_engine, open_tokenizer
from esr.engines.readouts import read_journaled
from esr.introspection.requests import self_report_requests
from esr.job import config_of, origin, output, start
from esr.journal import Journal
from esr.tables import read_table, write_table


def main(job: Any) -> None:
    """Read and write the readouts."""
    config = config_of(job)
    name, settings = job.wildcards.model, config.introspection
    assert settings is not None
    manifest = json.loads(Path(job.input.model).read_text(encoding="utf-8"))
    plan = read_table(Path(job.input.plan), "introspection_plan")
    tokenizer = open_tokenizer(manifest, config.models[name].template)
    doubled = config.generation.doubled_header
    requests, names = self_report_requests(plan, settings, tokenizer, doubled)
    sets = [Path(path) for path in job.input.directions]
    engine = open_engine(config, name, manifest, Path(job.input.sae), sets)
    with Journal(Path(job.params.journal)) as journal:
        found = read_journaled(engine, requests, journal)
    table = readouts_table(plan["trial_id"].tolist(), requests, found, names)
    rendered = prompts_digest(request.tokens for request in requests)
    facts = origin(job, engine=engine.identity | config.serving(name), prompts=rendered)
    write_table(table, output(job), "introspection_readouts", facts)


if __name__ == "__main__":
    main(start(snakemake))
