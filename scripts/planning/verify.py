"""Verify this machine: engines, steering, SAE gate, judges, disk, environments.

Writes verify.json (versions, platform, one entry a check) and verify.md, the block for an issue.
Both are also written when a check fails, after which the job fails; so they are no outputs of the
rule, which Snakemake would delete.
"""

import logging
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from esr.config import Config
from esr.errors import EsrError
from esr.job import config_of, start
from esr.verify.engines import check_canary, check_reference, check_vllm
from esr.verify.issue import issue_block, machine_facts
from esr.verify.organism import Organism
from esr.verify.outcomes import Check, counts, run_checks, write_record
from esr.verify.premises import (
    check_disk_and_memory,
    check_endpoint_judge,
    check_environment,
    check_lexical_judge,
    check_main_environment,
    check_sae_gate,
)

log = logging.getLogger(__name__)


def checks_of(config: Config, organism: Organism, environments: list[str]) -> dict[str, Check]:
    """All checks, by name."""
    found: dict[str, Check] = {"environment": check_main_environment}
    found |= {f"envs/{name}": partial(check_environment, name) for name in environments}
    return found | {
        "disk and memory": partial(check_disk_and_memory, config),
        "reference engine": partial(check_reference, organism),
        "steering canary": partial(check_canary, organism),
        "SAE gate": partial(check_sae_gate, organism),
        "judge, lexical": partial(check_lexical_judge, organism),
        "judge, over HTTP": partial(check_endpoint_judge, organism.root),
        "vLLM": partial(check_vllm, organism),
    }


def main(job: Any) -> None:
    """Run the checks, write both files, show the block; fail if a check failed."""
    config = config_of(job)
    with tempfile.TemporaryDirectory() as folder:
        organism = Organism(Path(), Path(folder))
        outcomes = run_checks(checks_of(config, organism, list(job.params.environments)))
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    facts = machine_facts(config.study, device)
    record, block = Path(job.params.record), Path(job.params.block)
    write_record(outcomes, facts, record)
    text = issue_block(outcomes, facts)
    block.write_text(text, encoding="utf-8")
    log.info("%s and %s; paste this into an issue:\n\n%s", record, block, text)
    if any(outcome.status == "failed" for outcome in outcomes):
        raise EsrError(f"this machine is not as it should be: {counts(outcomes)}; see {block}")


if __name__ == "__main__":
    main(start(snakemake))
