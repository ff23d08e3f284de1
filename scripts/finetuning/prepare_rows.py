"""Make finetuning/prepared/ and prepared.parquet of a fine-tuned model, with axolotl.

prepared/ is what axolotl trains on; prepared.parquet is the same, a row a chat: input_ids, labels.
Runs in envs/finetune: `python scripts/finetuning/prepare_rows.py AXOLOTL_YAML ROWS`.
"""

import argparse
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def room() -> Iterator[None]:
    """Say what to do where a disk has no room left, as `esr.errors` does, which is not here."""
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        raise SystemExit(full_disk(error)) from None


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one behind it, is that of a disk or a quota without room."""
    while error is not None:
        number = getattr(error, "errno", None)
        # Weights are saved by a library that has the number in its text alone.
        if number in (errno.ENOSPC, errno.EDQUOT) or f"(os error {errno.ENOSPC})" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def full_disk(error: BaseException) -> str:
    """What to do about it."""
    cache = Path(os.environ.get("HF_HOME", Path.home() / ".cache/huggingface"))
    places = {"results": Path("results"), "the hub's cache": cache}
    places["temporary"] = Path(tempfile.gettempdir())
    there = {
        name: next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
        for name, path in places.items()
    }
    free = ", ".join(
        f"{name} ({path.absolute()}) {shutil.disk_usage(there[name]).free / 1e9:.1f} GB"
        for name, path in places.items()
    )
    return (
        f"a file could not be written: {error}. Free now: {free}. Make room (or move the project, "
        "HF_HOME or TMPDIR to a larger disk), then give the same command again"
    )


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("rows", type=Path)
    chosen = parser.parse_args()
    with room(), tempfile.TemporaryDirectory() as scratch:
        rows = prepare(chosen.config, Path(scratch))
        rows.select_columns(["input_ids", "labels"]).to_parquet(str(chosen.rows))


if __name__ == "__main__":
    main()
