"""What a study paid for, in one file: `snakemake bundle`.

A bundle holds every table that took a GPU, a judge or a download, and the journals behind them. The
workflow rebuilds scores, tables and figures from it on any laptop. Its first member is a manifest
(`esr.bundle.manifest`). Equal contents give equal bytes. `esr.bundle.unpack` imports one.
"""

import gzip
import io
import json
import logging
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from esr.bundle.manifest import FORMAT, MANIFEST, file_facts

log = logging.getLogger(__name__)


def write_bundle(path: Path, files: Iterable[Path], origin: Mapping[str, Any]) -> None:
    """Pack files under their paths relative to the project's folder.

    Args:
        path: The bundle, a tar.gz.
        files: All below `results/<study>/`.
        origin: Provenance of the study, for the manifest.
    """
    ordered = sorted(set(files))
    contents = {file.as_posix(): file_facts(file).model_dump() for file in ordered}
    manifest = {"format": FORMAT, "esr": dict(origin), "files": contents}
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        text = json.dumps(manifest, indent=2).encode()
        _add(tar, MANIFEST, io.BytesIO(text), len(text))
        for file in ordered:
            with file.open("rb") as content:
                _add(tar, file.as_posix(), content, file.stat().st_size)
    log.info("%s: %d files, %.1f MB", path, len(ordered), path.stat().st_size / 1e6)


def _add(tar: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    # No owner and no time: equal contents give equal bytes.
    member = tarfile.TarInfo(name)
    member.size = size
    tar.addfile(member, content)
