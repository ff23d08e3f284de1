"""Make finetuning/merged/ of a fine-tuned model: the base with the adapter in it.

A checkpoint in transformers' format, shard by shard, so that it needs no GPU. Runs in
envs/finetune: `python scripts/finetuning/merge_adapter.py BASE_MANIFEST ADAPTER MERGED`.
"""

import argparse
import json
import os
from pathlib import Path

from prepare_rows import QUIET, room


def merge(manifest: Path, adapter: Path, merged: Path) -> None:
    """Add the adapter to the base that a manifest describes."""
    os.environ |= QUIET
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
    chosen = parser.parse_args()
    with room():
        merge(chosen.manifest, chosen.adapter, chosen.merged)


if __name__ == "__main__":
    main()
