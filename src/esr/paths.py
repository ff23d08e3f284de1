"""Where the files of a study lie, relative to the project's folder. One study exists a run."""

import re
from collections.abc import Iterable
from pathlib import Path

from esr.errors import EsrError

RESULTS, LOGS, BENCHMARKS = Path("results"), Path("logs"), Path("benchmarks/jobs")
DOWNLOADS = RESULTS / "downloads"
QUOTES = "'\""
SHARED = ("downloads", "environments", "organisms")
"""Folders below `results/` that belong to no study."""


def results_of(study: str) -> Path:
    """Folder of everything that a study makes."""
    return RESULTS / study


def check_interpreter(path: Path) -> None:
    """Raise if Snakemake could not run scripts with an interpreter.

    Raises:
        EsrError: its path has a blank or a quote; Snakemake passes it to the shell as it is.
    """
    found = re.search(r"[\s'\"]", path.as_posix())
    if found:
        raise EsrError(
            f"{path} has {'a quote' if found[0] in QUOTES else 'a blank'} in it, so Snakemake "
            "cannot run it; move the checkout, or only its environment: `export "
            "UV_PROJECT_ENVIRONMENT=<another folder>`, then `uv sync`"
        )


def check_targets(targets: Iterable[str], study: str, studies: Iterable[str]) -> None:
    """Raise unless every requested file belongs to the study of this run.

    Args:
        targets: Arguments of the command line: rules, files, options.
        study: Study of this run.
        studies: Names of all studies.

    Raises:
        EsrError: a file lies below `results/<other study>/`.
    """
    others = set(studies) - {study}
    for target in targets:
        found = re.match(r"(?:\./)?(?:results|logs)/([^/]+)/", target)
        if found and found[1] in others:
            raise EsrError(
                f"{target} belongs to study {found[1]!r}, but this run is about {study!r}: "
                f"add --config study={found[1]}"
            )


def along(directions: str | None) -> str:
    """Folder of a threshold search below that of its model: of a set of directions, or of none."""
    return "" if directions is None else f"directions/{directions}/"
