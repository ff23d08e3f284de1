"""The manifest of a bundle: its first member, with the origin and the checksum of every file."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from esr.errors import EsrError
from esr.provenance import file_digest

MANIFEST = "manifest.json"
FORMAT = 1
MAX_BYTES = 64 * 2**20
"""Size limit of a manifest."""
DATA = {".parquet", ".json", ".jsonl", ".csv", ".safetensors"}
"""Suffixes of the files that a bundle may bring: data only, never code, templates or pickles."""
REGENERATED = {".yaml"}
"""Suffixes of configuration, which the workflow writes itself; an import skips such files."""


class FileFacts(BaseModel):
    """Checksum and size of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Origin(BaseModel):
    """Provenance of the study, of which the import reads two entries."""

    model_config = ConfigDict(extra="allow", strict=True)

    study: str = Field(pattern=r"^[A-Za-z0-9][\w+.-]*$")
    git: str


class Manifest(BaseModel):
    """Contents of `manifest.json`."""

    model_config = ConfigDict(strict=True)

    format: int
    esr: Origin
    files: dict[str, FileFacts]


def file_facts(file: Path) -> FileFacts:
    """Checksum and size of a file on disk."""
    return FileFacts(sha256=file_digest(file), bytes=file.stat().st_size)


def parse_manifest(path: Path, text: bytes) -> Manifest:
    """Validate the manifest of the bundle at `path`.

    Raises:
        EsrError: not a manifest, another format, or a file that a bundle must not contain.
    """
    try:
        raw: Any = json.loads(text)
        if isinstance(raw, dict) and raw.get("format") != FORMAT:
            raise EsrError(f"{path}: format {raw.get('format')!r}; this version reads {FORMAT}")
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise EsrError(
            f"{path}: not a bundle: in {MANIFEST}, {where[:200]}: {first['msg']}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise EsrError(f"{path}: not a bundle: {MANIFEST} is not valid JSON ({error})") from None
    for name in manifest.files:
        _check_name(path, name, manifest.esr.study)
    return manifest


def _check_name(path: Path, name: str, study: str) -> None:
    """Refuse a file outside the study's results, or of a kind that a bundle does not contain."""
    pure = PurePosixPath(name)
    inside = len(pure.parts) > 2 and pure.parts[:2] == ("results", study)
    if not inside or ".." in pure.parts or pure.as_posix() != name or not name.isprintable():
        raise EsrError(f"{path}: {name!r} is not below results/{study}/; nothing was unpacked")
    if pure.suffix not in DATA | REGENERATED:
        raise EsrError(
            f"{path}: {name!r} is no data file ({', '.join(sorted(DATA))}); a bundle has neither "
            "code nor pickled weights; nothing was unpacked"
        )
