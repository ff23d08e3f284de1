"""Make readouts.parquet of an arm: log-probabilities (nats), one row a trial and name.

Columns are those of the table `readouts`. Each is read at the last token of prompt, prefill and
prefix, under the trial's intervention: it is that of the first generated token. An arm that
ablates detectors of a model without any has the status `no_detectors`.
"""

import json
from pathlib import Path
from typing import Any

from esr.arms.chat import prompts_digest
from esr.arms.readouts import not_read, readout_requests, readouts_table
from esr.arms.responses import NO_DETECTORS, requests_of
from esr.engines import open_engine, open_tokenizer
from esr.engines.readouts import named_tokens, read_journaled
from esr.job import config_of, origin, output, start
from esr.journal import Journal
from esr.tables import read_table, write_table


def main(job: Any) -> None:
    """Read and write the readouts of the arm."""
    config = config_of(job)
    name, arm = job.wildcards.model, job.wildcards.arm
    manifest = json.loads(Path(job.input.model).read_text(encoding="utf-8"))
    plan = read_table(Path(job.input.plan), "plan")
    trials = plan["trial_id"].tolist()
    spellings = config.readouts[arm].tokens
    if config.needs_detectors(arm) and not plan["ablated"].map(len).any():
        table = not_read(trials, list(spellings), NO_DETECTORS)
        write_table(table, output(job), "readouts", origin(job))
        return
    tokenizer = open_tokenizer(manifest, config.models[name].template)
    names = named_tokens(tokenizer, spellings, f"readouts.{arm}.tokens")
    whole = requests_of(plan, tokenizer, config.generation.doubled_header)
    requests = readout_requests(whole, names)
    sets = [Path(path) for path in job.input.get("directions", [])]
    layers = config.layers_of(arm)
    engine = open_engine(config, name, manifest, Path(job.input.sae), sets, layers)
    with Journal(Path(job.params.journal)) as journal:
        found = read_journaled(engine, requests, journal)
    table = readouts_table(trials, requests, found, [names] * len(trials))
    rendered = prompts_digest(request.tokens for request in requests)
    facts = origin(job, engine=engine.identity | config.serving(name), prompts=rendered)
    write_table(table, output(job), "readouts", facts)


if __name__ == "__main__":
    main(start(snakemake))
