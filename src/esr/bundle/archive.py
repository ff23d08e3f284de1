"""What a study paid for, in one file, and back: `python -m esr.bundle import FILE`.

A bundle holds every table that took a GPU, a judge or a download to make, and the journals they
came from; from these, the workflow rebuilds scores, tables and figures on any laptop. Its first
member is a manifest with the origin of the study and the checksum of every file. Equal contents
give equal bytes.
"""

import gzip
import hashlib
import io
import json
import logging
import os
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from esr.errors import EsrError, full_disk, is_full

log = logging.getLogger(__name__)


MANIFEST = "manifest.json"


FORMAT = 1


def write_bundle(path: Path, files: Iterable[Path], origin: Mapping[str, Any]) -> None:
    """Pack files, by their paths relative to the project's folder.

    Args:
        path: The bundle, a tar.gz.
        files: All below `results/`.
        origin: Provenance of the study, for the manifest.
    """
    ordered = sorted(set(files))
    contents = {file.as_posix(): _facts(file) for file in ordered}
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


def _facts(file: Path) -> dict[str, Any]:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {"sha256": digest, "bytes": file.stat().st_size}


def _add(tar: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    # Without owner and time, so that equal contents give equal bytes.
    member = tarfile.TarInfo(name)
    member.size = size
    tar.addfile(member, content)


def read_manifest(path: Path) -> dict[str, Any]:
    """Manifest of a bundle.

    Raises:
        EsrError: not a bundle, or one of a later format.
    """
    try:
        with tarfile.open(path, "r:gz") as tar:
            member = tar.next()
            if member is None or member.name != MANIFEST:
                raise EsrError(f"{path}: not a bundle: it does not begin with {MANIFEST}")
            content = tar.extractfile(member)
            assert content is not None
            manifest: dict[str, Any] = json.load(content)
    except (OSError, tarfile.TarError, ValueError) as error:
        raise EsrError(f"{path}: not a bundle: {error}") from None
    if manifest.get("format") != FORMAT:
        raise EsrError(f"{path}: format {manifest.get('format')}, but this version reads {FORMAT}")
    return manifest


def import_bundle(path: Path, folder: Path, replace: bool = False) -> list[Path]:
    """Unpack a bundle into a checkout; all of its files or, if anything is wrong, none.

    All get one time of change, now: so none is older than what it was made from, or than the
    checkout, and the workflow takes them as they are.

    Args:
        path: The bundle.
        folder: The project's folder.
        replace: Replace files that are there and differ.

    Returns:
        The files, relative to the folder.

    Raises:
        EsrError: a file is damaged, missing, not announced, outside `results/`, or there already
            with other contents.
    """
    manifest = read_manifest(path)
    announced = manifest["files"]
    for name in announced:
        _check_name(path, name)
        there = folder / name
        if there.is_file() and not replace and _facts(there) != announced[name]:
            raise EsrError(
                f"{there} is there already and differs from the one in {path}; import into a "
                "fresh checkout, or add --replace to give it up"
            )
    with tarfile.open(path, "r:gz") as tar:
        parts = [(folder / name, part) for name, part in _unpack(path, tar, announced, folder)]
    now = time.time()
    for target, part in parts:
        os.utime(part, (now, now))
        part.replace(target)
    return [target.relative_to(folder) for target, _ in parts]


def _check_name(path: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    if parts[:1] != ("results",) or ".." in parts:
        raise EsrError(f"{path}: {name!r} is not below results/; nothing was unpacked")


def _unpack(
    path: Path, tar: tarfile.TarFile, announced: Mapping[str, Any], folder: Path
) -> Iterator[tuple[str, Path]]:
    """Unpack each file beside where it belongs; check it. Removes all if one is not sound."""
    done: dict[str, Path] = {}
    try:
        for member in tar:
            if member.name == MANIFEST:
                continue
            if member.name not in announced or not member.isfile():
                raise EsrError(f"{path}: {member.name!r} is not in its manifest")
            content = tar.extractfile(member)
            assert content is not None
            part = folder / f"{member.name}.part"
            part.parent.mkdir(parents=True, exist_ok=True)
            done[member.name] = part
            with part.open("wb") as file:
                while block := content.read(1 << 20):
                    file.write(block)
            if _facts(part) != announced[member.name]:
                raise EsrError(f"{path}: {member.name} is damaged: its checksum differs")
        missing = sorted(announced.keys() - done.keys())
        if missing:
            raise EsrError(f"{path}: {missing[0]} is missing; the bundle is not complete")
    except (EsrError, OSError, EOFError, tarfile.TarError) as error:
        for part in done.values():
            part.unlink(missing_ok=True)
        if is_full(error):
            raise full_disk(error, part) from error
        raise error if isinstance(error, EsrError) else EsrError(f"{path}: {error}") from error
    yield from done.items()
