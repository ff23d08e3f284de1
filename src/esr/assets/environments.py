"""Environments below `envs/`: their pins, and whether the installed versions match."""

import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution
from pathlib import Path

ENVIRONMENTS = Path("envs")


def pins(environment: Path) -> dict[str, str]:
    """Versions that the direct dependencies of an environment are pinned to, by package."""
    project = tomllib.loads((environment / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(pin.split("==") for pin in project["project"]["dependencies"])


def sync_command(environment: Path) -> str:
    """Command that installs or updates an environment; no result depends on running it."""
    return f"uv sync --project {environment}"


def check_environments(names: Iterable[str], folder: Path = ENVIRONMENTS) -> Iterator[str]:
    """One line for each environment that is missing or differs from its pins, with the remedy.

    No rule depends on the versions: an upgrade must not invalidate results.

    Args:
        names: Environments of the jobs of this run.
        folder: Parent folder of the environments.
    """
    for name in names:
        remedy = f"run `{sync_command(folder / name)}` where there is a network"
        if not (folder / name / ".venv/bin/python").is_file():
            yield f"{folder / name} is not installed; {remedy}"
            continue
        places = [str(path) for path in (folder / name).glob(".venv/lib/python*/site-packages")]
        for package, pinned in pins(folder / name).items():
            there = next(iter(Distribution.discover(name=package, path=places)), None)
            version = None if there is None else there.version.split("+")[0]
            if version != pinned:
                yield f"{folder / name} has {package} {version}, not {pinned} as pinned; {remedy}"
