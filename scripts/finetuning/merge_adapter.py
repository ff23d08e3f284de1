"""Make finetuning/merged/ of a fine-tuned model: the base with the adapter added to its weights.

A checkpoint in transformers' format. Merging goes shard by shard and needs no GPU. Axolotl starts,
in its own environment, only for adapters that are no plain LoRA.
"""

import json
import logging
import os
import subprocess
from pathlib import Path
from typing import Any

import esr
from esr.errors import EsrError
from esr.finetuning.merging import merge_plain
from esr.job import output, start

log = logging.getLogger(__name__)

AXOLOTL = "uv run --no-sync --project envs/finetune python -m esr.finetuning.merging_axolotl"


def folder_of(base: dict[str, Any]) -> Path:
    """Folder of a checkpoint: its own, or that in the hub's cache."""
    if base["revision"] is None:
        return Path(base["source"])
    from huggingface_hub import snapshot_download

    found = snapshot_download(base["source"], revision=base["revision"], local_files_only=True)
    return Path(found)


def merge_with_axolotl(base: dict[str, Any], adapter: Path, merged: Path) -> None:
    """Merge in axolotl's environment.

    Raises:
        EsrError: it failed; the message ends with its last line.
    """
    arguments = [base["source"], base["revision"] or "", str(adapter), str(merged)]
    source = Path(esr.__file__).parents[1].as_posix()
    done = subprocess.run(
        [*AXOLOTL.split(), *arguments],
        env=os.environ | {"PYTHONPATH": source},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    log.info("%s", done.stdout)
    if done.returncode:
        last = (done.stdout.strip().splitlines() or ["no message"])[-1]
        raise EsrError(f"{adapter} could not be merged by axolotl: {last}")


def main(job: Any) -> None:
    """Merge."""
    base = json.loads(Path(job.input.base).read_text(encoding="utf-8"))
    adapter = Path(job.input.adapter[0]).parent
    if not merge_plain(folder_of(base), adapter, output(job)):
        log.info("%s is no plain LoRA of this base; axolotl merges it", adapter)
        merge_with_axolotl(base, adapter, output(job))


if __name__ == "__main__":
    main(start(snakemake))
