"""Make finetuning/prepared/ and prepared.parquet of a fine-tuned model, with axolotl.

prepared/ is what axolotl trains on; prepared.parquet is the same, a row a chat: input_ids, labels.
Runs in envs/finetune: `python scripts/prepare_rows.py AXOLOTL_YAML ROWS`.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

# Nothing is fetched or reported while a job runs; the base is in the hub's cache already.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "AXOLOTL_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "WANDB_MODE": "disabled",
    "TOKENIZERS_PARALLELISM": "false",
    "AXOLOTL_DATASET_NUM_PROC": "1",
}


def prepare(config: Path, scratch: Path) -> Any:
    """Tokenize and mask the dataset of a configuration; returns the prepared rows."""
    # Axolotl's cache knows a dataset by its path, so a changed one would be found in it unchanged.
    os.environ |= QUIET | {"HF_DATASETS_CACHE": str(scratch), "AXOLOTL_IS_PREPROCESS": "1"}
    from axolotl.cli.args import PreprocessCliArgs
    from axolotl.cli.config import load_cfg
    from axolotl.cli.preprocess import do_preprocess
    from datasets import load_from_disk

    settings = load_cfg(str(config), is_preprocess=True)
    folder = Path(settings.dataset_prepared_path)
    shutil.rmtree(folder, ignore_errors=True)
    do_preprocess(settings, PreprocessCliArgs())
    (prepared,) = (path for path in folder.iterdir() if path.is_dir())
    return load_from_disk(str(prepared))


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("rows", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rows = prepare(chosen.config, Path(scratch))
        rows.select_columns(["input_ids", "labels"]).to_parquet(str(chosen.rows))


if __name__ == "__main__":
    main()
