"""Make finetuning/merged/ of a fine-tuned model: the base with the adapter added to its weights.

A checkpoint in transformers' format. Merging goes shard by shard and needs no GPU. Runs in
envs/finetune: `python scripts/finetuning/merge_adapter.py BASE_MANIFEST ADAPTER MERGED`.
"""

import argparse
import json
import os
from pathlib import Path

from esr.finetuning.jobs import OFFLINE, one_line_errors


def merge(manifest: Path, adapter: Path, merged: Path) -> None:
    """Write the base with the adapter's weights added.

    Args:
        manifest: `assets/model.json` of the base.
        adapter: Folder of the adapter.
        merged: Folder of the new checkpoint.
    """
    os.environ |= OFFLINE
    from axolotl.cli.utils.lora_merge import merge_lora_sharded_efficient

    base = json.loads(manifest.read_text())
    merge_lora_sharded_efficient(
        base_model_path=base["source"],
        lora_adapter_path=str(adapter),
        output_path=merged,
        device="cpu",
        revision=base["revision"],
    )


def main() -> None:
    """Merge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("merged", type=Path)
    arguments = parser.parse_args()
    with one_line_errors():
        merge(arguments.manifest, arguments.adapter, arguments.merged)


if __name__ == "__main__":
    main()
