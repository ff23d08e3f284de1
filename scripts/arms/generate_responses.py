"""Make responses.parquet of an arm, or shards/<shard>.parquet: responses, one row a trial.

Columns are those of the table `responses`. Each response goes to the journal when it finishes, so
a rerun generates only the missing ones. An arm that ablates detectors of a model without any is not
generated: its trials have the status `no_detectors`.
"""

import json
import logging
from pathlib import Path
from typing import Any

from esr.arms.chat import prompts_digest
from esr.arms.plan import shard
from esr.arms.responses import NO_DETECTORS, not_generated, requests_of, responses_table
from esr.engines import open_engine, open_tokenizer, sampling_of
from esr.engines.journaled import generate_journaled
from esr.job import config_of, origin, output, start
from esr.journal import Journal
from esr.tables import read_table, write_table

log = logging.getLogger(__name__)


def main(job: Any) -> None:
    """Generate and write the responses of the arm, or of the shard."""
    config = config_of(job)
    name = job.wildcards.model
    manifest = json.loads(Path(job.input.model).read_text(encoding="utf-8"))
    plan = read_table(Path(job.input.plan), "plan")
    number = int(job.wildcards.get("shard", 0))
    plan = shard(plan, number, config.shards(job.wildcards.arm))
    if config.needs_detectors(job.wildcards.arm) and not plan["ablated"].map(len).any():
        log.warning("%s has no detectors: nothing is generated", name)
        write_table(not_generated(plan, NO_DETECTORS), output(job), "responses", origin(job))
        return
    tokenizer = open_tokenizer(manifest, config.models[name].template)
    requests = requests_of(plan, tokenizer, config.generation.doubled_header)
    sets = [Path(path) for path in job.input.get("directions", [])]
    layers = config.layers_of(job.wildcards.arm)
    engine = open_engine(config, name, manifest, Path(job.input.sae), sets, layers)
    sampling = sampling_of(config, name, job.wildcards.arm)
    with Journal(Path(job.params.journal)) as journal:
        done = generate_journaled(engine, requests, sampling, journal)
    table = responses_table(plan, requests, done, tokenizer)
    rendered = prompts_digest(request.tokens for request in requests)
    facts = origin(job, engine=engine.identity | config.serving(name), prompts=rendered)
    write_table(table, output(job), "responses", facts)


if __name__ == "__main__":
    main(start(snakemake))
