"""Where a table comes from: study, configuration, code and library versions, kept inside it."""

import hashlib
import importlib.metadata
import json
import subprocess
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

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
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


@lru_cache
def content_digest(path: Path) -> str:
    """SHA-256 of what a file says: of its text without comments if it is YAML or plain text.

    Jobs that cost money or a GPU rerun by it, so that an edited comment repeats nothing. A file
    that is no YAML counts by its bytes: whoever reads it says what is wrong.
    """
    if path.suffix == ".yaml":
        try:
            said = json.dumps(yaml.safe_load(path.read_text()), sort_keys=True, default=str)
        except yaml.YAMLError:
            return file_digest(path)
    elif path.suffix == ".txt":
        said = "\n".join(content_lines(path))
    else:
        return file_digest(path)
    return hashlib.sha256(said.encode()).hexdigest()
