"""Where a table comes from: study, configuration, code and library versions, kept inside it."""

import importlib.metadata
import subprocess
from collections.abc import Mapping
from functools import cache
from typing import Any

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


def describe(facts: Mapping[str, Any]) -> str:
    """One line for a caption or a log."""
    return ", ".join(f"{name} {value}" for name, value in facts.items())
