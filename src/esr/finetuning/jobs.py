"""What the jobs in axolotl's environment share.

That environment has none of our dependencies and sees this package by `PYTHONPATH`. This module and
`esr.errors`, which it uses, therefore import the standard library only.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from esr.errors import EsrError, full_disk, is_full

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "AXOLOTL_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "WANDB_MODE": "disabled",
    "TOKENIZERS_PARALLELISM": "false",
    "AXOLOTL_DATASET_NUM_PROC": "0",
}
"""Environment variables of these jobs: no download (the base is in the hub's cache), no reports.

No process for datasets either: axolotl saves its rows in one if this is 1, and it loads PyTorch.
"""


@contextmanager
def loading() -> Iterator[None]:
    """Load libraries, and exclude them from garbage collection.

    They are a million objects that stay until the end. Collections while they load, those that
    axolotl asks for before it trains, and the last one as Python ends would look at each of them.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line where the user can act: an `EsrError`, or a full disk."""
    try:
        yield
    except EsrError as error:
        raise SystemExit(str(error)) from None
    except Exception as error:
        if not is_full(error):
            raise
        raise SystemExit(str(full_disk(error))) from None
