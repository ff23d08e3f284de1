"""Import of a bundle: everything is checked in a scratch folder before a file is put in place."""

import gzip
import io
import json
import logging
import os
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from esr.assets.remote_code import find_remote_code
from esr.bundle.manifest import (
    MANIFEST,
    MAX_BYTES,
    REGENERATED,
    FileFacts,
    Manifest,
    file_facts,
    parse_manifest,
)
from esr.errors import EsrError, full_disk, is_full

log = logging.getLogger(__name__)

BLOCK = 512
"""Size of a tar block, in bytes."""
DAMAGED = (OSError, EOFError, tarfile.TarError, zlib.error, RecursionError)
"""Errors of a file that is no tar.gz, or a damaged one."""


def read_manifest(path: Path) -> Manifest:
    """Manifest of a bundle.

    Raises:
        EsrError: not a bundle, one of a later format, or one with files that it must not contain.
    """
    with _opened(path, MAX_BYTES + 100 * BLOCK) as tar:
        return _first_member(path, tar)


def import_bundle(path: Path, folder: Path, replace: bool = False) -> list[Path]:
    """Unpack a bundle into a checkout: all of its files or, if anything is wrong, none.

    All files get the current time, so that none is older than its inputs and the workflow reruns
    nothing. Configuration (`REGENERATED`) is skipped: the workflow writes it from the study.

    Args:
        path: The bundle.
        folder: The project's folder.
        replace: Replace existing files that differ.

    Returns:
        The files, relative to the folder.

    Raises:
        EsrError: a file is damaged, missing, not in the manifest, outside `results/<study>/`, able
            to run code, or exists with other contents; or the disk is too small.
    """
    manifest = read_manifest(path)
    wanted = {
        name: facts
        for name, facts in manifest.files.items()
        if Path(name).suffix not in REGENERATED
    }
    _check_existing(path, folder, wanted, replace)
    _check_space(path, folder, sum(facts.bytes for facts in wanted.values()))
    try:
        with tempfile.TemporaryDirectory(prefix=".import-", dir=folder) as scratch:
            _unpack(path, manifest, wanted, Path(scratch))
            now = time.time()
            for number, name in enumerate(wanted):
                part = Path(scratch) / str(number)
                os.utime(part, (now, now))
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.move(part, folder / name)
    except OSError as error:
        if is_full(error):
            raise full_disk(error, path) from error
        raise EsrError(f"{path}: cannot be unpacked into {folder}: {error}") from error
    return [Path(name) for name in wanted]


def _check_existing(path: Path, folder: Path, wanted: dict[str, FileFacts], replace: bool) -> None:
    for name, facts in wanted.items():
        target = folder / name
        if target.is_dir():
            raise EsrError(f"{target} is a folder, but a file in {path}; move the folder away")
        if target.is_file() and not replace and file_facts(target) != facts:
            raise EsrError(
                f"{target} exists and differs from the file in {path}; import into a fresh "
                "checkout, or add --replace to overwrite it"
            )


def _check_space(path: Path, folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise EsrError(
            f"{path} unpacks to {size / 1e9:.1f} GB, but {folder.absolute()} has {free / 1e9:.1f} "
            "GB free; make room first"
        )


class _Bounded(io.BufferedIOBase):
    """A stream that refuses to yield more than a number of bytes."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream = stream
        self._left = limit

    def read(self, size: int | None = -1, /) -> bytes:
        """Read; `tarfile` calls no other method."""
        block = self._stream.read(size)
        self._left -= len(block)
        if self._left < 0:
            raise tarfile.ReadError("it unpacks to more than its manifest lists")
        return block


@contextmanager
def _opened(path: Path, limit: int) -> Iterator[tarfile.TarFile]:
    """A bundle as a stream of at most `limit` unpacked bytes; any damage is one line."""
    try:
        with (
            gzip.open(path, "rb") as unpacked,
            tarfile.open(fileobj=_Bounded(unpacked, limit), mode="r|") as tar,
        ):
            yield tar
    except DAMAGED as error:
        if is_full(error):
            raise
        raise EsrError(f"{path}: not a bundle, or a damaged one: {error}") from None


def _first_member(path: Path, tar: tarfile.TarFile) -> Manifest:
    member = tar.next()
    if member is None or member.name != MANIFEST or not member.isfile():
        raise EsrError(f"{path}: not a bundle: it does not begin with {MANIFEST}")
    if member.size > MAX_BYTES:
        raise EsrError(f"{path}: not a bundle: {MANIFEST} has {member.size / 1e6:.0f} MB")
    return parse_manifest(path, _content(tar, member).read())


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    assert content is not None, "only files are read"
    return content


def _unpack(path: Path, manifest: Manifest, wanted: dict[str, FileFacts], scratch: Path) -> None:
    """Write each wanted file to `scratch`, named by its place in `wanted`, and check it."""
    places = {name: str(number) for number, name in enumerate(wanted)}
    total = sum(facts.bytes + 4 * BLOCK + len(name) for name, facts in manifest.files.items())
    seen: set[str] = set()
    with _opened(path, MAX_BYTES + total + 100 * BLOCK) as tar:
        _first_member(path, tar)
        while (member := tar.next()) is not None:
            facts = manifest.files.get(member.name)
            if facts is None or not member.isfile() or member.name in seen:
                raise EsrError(f"{path}: {member.name!r} is not in its manifest, or twice in it")
            if member.size != facts.bytes:
                raise EsrError(f"{path}: {member.name} is damaged: its size differs")
            seen.add(member.name)
            if member.name not in wanted:
                log.info("%s is left out: the workflow writes it", member.name)
                continue
            part = scratch / places[member.name]
            with part.open("wb") as file:
                shutil.copyfileobj(_content(tar, member), file)
            if file_facts(part) != facts:
                raise EsrError(f"{path}: {member.name} is damaged: its checksum differs")
            if member.name.endswith(".json"):
                _check_json(path, member.name, part)
    missing = sorted(manifest.files.keys() - seen)
    if missing:
        raise EsrError(f"{path}: {missing[0]} is missing; the bundle is incomplete")


def _check_json(path: Path, name: str, part: Path) -> None:
    """Refuse a JSON file by which a library would load code."""
    try:
        content: Any = json.loads(part.read_text(encoding="utf-8"))
        key = find_remote_code(content)
    except (ValueError, RecursionError) as error:
        raise EsrError(f"{path}: {name} is not valid JSON ({error})") from None
    if key is not None:
        raise EsrError(f"{path}: {name} has `{key}`, by which a model runs code; not imported")
