"""Merging by axolotl, for adapters that are no plain LoRA (`esr.finetuning.merging`).

Runs in envs/finetune: `python -m esr.finetuning.merging_axolotl SOURCE REVISION ADAPTER MERGED`,
with an empty REVISION for a folder. Imports as in `esr.finetuning.jobs`.
"""

import argparse
import os
from pathlib import Path

from esr.finetuning.jobs import OFFLINE, loading, one_line_errors


def merge(source: str, revision: str, adapter: Path, merged: Path) -> None:
    """Write the base with the adapter's weights added, shard by shard, without a GPU.

    Args:
        source: Folder of the base, or its name on the hub.
        revision: Its commit there.
        adapter: Folder of the adapter.
        merged: Folder of the new checkpoint.
    """
    os.environ |= OFFLINE
    with loading():
        from axolotl.cli.utils.lora_merge import merge_lora_sharded_efficient

    merge_lora_sharded_efficient(
        base_model_path=source,
        lora_adapter_path=str(adapter),
        output_path=merged,
        device="cpu",
        revision=revision or None,
    )


def main() -> None:
    """Merge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("revision")
    parser.add_argument("adapter", type=Path)
    parser.add_argument("merged", type=Path)
    arguments = parser.parse_args()
    with one_line_errors():
        merge(arguments.source, arguments.revision, arguments.adapter, arguments.merged)


if __name__ == "__main__":
    main()
