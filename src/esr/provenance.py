"""Origin of a table, stored inside it: study, configuration, revision, library versions."""

import hashlib
import importlib.metadata
import json
import subprocess
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from esr.plain_yaml import load_yaml

LIBRARIES = ("esr", "torch", "transformers", "sae-lens", "numpy", "pandas", "snakemake")


@cache
def git_revision() -> str:
    """Commit of the working tree, with `-dirty` if tracked files differ; `unknown` outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


@cache
def versions() -> dict[str, str]:
    """Installed versions of the libraries that can change a result."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def provenance(**facts: Any) -> dict[str, Any]:
    """Describe the origin of a table: code, versions, and the facts given (study, rule, ...).

    Deliberately without times and machine names: equal inputs give equal bytes.
    """
    return {"git": git_revision(), "versions": versions()} | facts


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_lines(path: Path) -> list[str]:
    """Lines of a text file, without blank ends, blank lines, and comments (from `#` on)."""
    return _without_comments(path.read_text(encoding="utf-8"))


def _without_comments(text: str) -> list[str]:
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


@lru_cache
def content_digest(path: Path) -> str:
    """SHA-256 of the contents of a file; comments of YAML and plain text do not count.

    Jobs that cost money or a GPU rerun when it changes, so editing a comment repeats nothing.
    Invalid YAML is hashed by its bytes; its reader reports the error.
    """
    if path.suffix not in (".yaml", ".txt"):
        return file_digest(path)
    # Another encoding is the error of whoever reads the file; the digest only has to be stable.
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".yaml":
        try:
            content = json.dumps(load_yaml(text), sort_keys=True, default=str)
        except yaml.YAMLError:
            return file_digest(path)
    else:
        content = "\n".join(_without_comments(text))
    return hashlib.sha256(content.encode()).hexdigest()
