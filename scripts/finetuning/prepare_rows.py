"""Make finetuning/prepared/ and prepared.parquet of a fine-tuned model, with axolotl.

prepared/ is the dataset that axolotl trains on. prepared.parquet holds the same rows, one a chat,
with the columns input_ids and labels (token ids; -100 is not trained on). Runs in envs/finetune:
`python scripts/finetuning/prepare_rows.py AXOLOTL_YAML ROWS`.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from esr.finetuning.jobs import OFFLINE, one_line_errors


def prepare(config: Path, scratch: Path) -> Any:
    """Tokenize and mask the dataset of a configuration.

    Args:
        config: Axolotl's configuration.
        scratch: An empty folder for the cache of `datasets`.

    Returns:
        The prepared rows, a `datasets.Dataset`.
    """
    # Axolotl's cache identifies a dataset by its path, so it would miss a change of its contents.
    os.environ |= OFFLINE | {"HF_DATASETS_CACHE": str(scratch), "AXOLOTL_IS_PREPROCESS": "1"}
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
    arguments = parser.parse_args()
    with one_line_errors(), tempfile.TemporaryDirectory() as scratch:
        rows = prepare(arguments.config, Path(scratch))
        rows.select_columns(["input_ids", "labels"]).to_parquet(str(arguments.rows))


if __name__ == "__main__":
    main()
