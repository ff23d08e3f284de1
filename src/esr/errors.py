"""The one exception that a user of esr is meant to read, and what it says of a full disk."""

import errno
import os
import shutil
import tempfile
from pathlib import Path


class EsrError(Exception):
    """Something a user can mend: names the thing, the value and the remedy."""


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What a disk, a quota or a limit on files says that has no room left."""


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one behind it, is that of a disk without room."""
    while error is not None:
        # Libraries that do not write by Python's files have the number in the text alone.
        numbers = [number for number in FULL if f"(os error {number})" in str(error)]
        if numbers or (isinstance(error, OSError) and error.errno in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def full_disk(error: BaseException, path: Path | None = None) -> EsrError:
    """What to do about a disk without room.

    Args:
        error: What went wrong.
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
        "the project, HF_HOME or TMPDIR to a larger disk), then give the same command again: what "
        "was generated or judged stands in the journals and is not paid for twice"
    )


def _free(path: Path) -> str:
    there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    return f"{shutil.disk_usage(there).free / 1e9:.1f} GB"
