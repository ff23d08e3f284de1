"""JSON of checkpoints and SAEs from outside: unreadable contents are an error of one line."""

import json
from pathlib import Path
from typing import Any

from esr.errors import EsrError

LFS = b"version https://git-lfs"
"""First bytes of a pointer that git-lfs leaves in the place of a large file."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        EsrError: the file cannot be read, is a git-lfs pointer, or holds no JSON object.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EsrError(f"{path}: cannot be read: {error.strerror}") from None
    refuse_pointer(path, content)
    try:
        found = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise EsrError(
            f"{path} is not valid JSON ({error}): it was cut or changed; download it again"
        ) from None
    if not isinstance(found, dict):
        raise EsrError(f"{path} holds no JSON object; download it again")
    return found


def refuse_pointer(path: Path, content: bytes) -> None:
    """Refuse a git-lfs pointer.

    Raises:
        EsrError: the content is one.
    """
    if content.startswith(LFS):
        raise EsrError(
            f"{path} is a git-lfs pointer, not the file; run `git lfs pull` in its repository"
        )
