"""The exception whose message is written for users, and the one for a full disk."""

import errno
import os
import shutil
import tempfile
from pathlib import Path


class EsrError(Exception):
    """An error that the user can fix: its message names the thing, the value and the remedy."""


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""errno values that mean the disk, quota or file size limit is reached."""


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, is that of a full disk."""
    while error is not None:
        # Libraries that write without Python's file objects give the number in the message only.
        numbers = [number for number in FULL if f"(os error {number})" in str(error)]
        if numbers or (isinstance(error, OSError) and error.errno in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def full_disk(error: BaseException, path: Path | None = None) -> EsrError:
    """An error for a full disk, with the free space of every place in question.

    Args:
        error: The error of the write.
        path: The file that was written, if known.
    """
    cache = Path(os.environ.get("HF_HOME", Path.home() / ".cache/huggingface"))
    places = {
        "results": Path("results"),
        "the hub's cache": cache,
        "temporary": Path(tempfile.gettempdir()),
    }
    free = ", ".join(
        f"{name} ({where.absolute()}) {_free(where)}" for name, where in places.items()
    )
    return EsrError(
        f"{path or 'a file'} could not be written: {error}. Free now: {free}. Make room (or move "
        "the project, HF_HOME or TMPDIR to a larger disk), then run the same command again: the "
        "journals keep what was generated or judged, so nothing is paid for twice"
    )


def _free(path: Path) -> str:
    there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    return f"{shutil.disk_usage(there).free / 1e9:.1f} GB"
