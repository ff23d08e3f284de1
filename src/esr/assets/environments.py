"""Environments below `envs/`: what each is pinned to, and whether it is there."""

import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution
from pathlib import Path

ENVIRONMENTS = Path("envs")


def pins(environment: Path) -> dict[str, str]:
    """Versions that the direct dependencies of an environment are pinned to, by package."""
    project = tomllib.loads((environment / "pyproject.toml").read_text())
    return dict(pin.split("==") for pin in project["project"]["dependencies"])


def sync_command(environment: Path) -> str:
    """What installs an environment, or brings it up to date; nothing that was computed reruns."""
    return f"uv sync --project {environment}"


def check_environments(names: Iterable[str], folder: Path = ENVIRONMENTS) -> Iterator[str]:
    """A line for every environment that jobs would not find as it is pinned, with the remedy.

    An upgrade is no reason to compute anything anew, so no rule waits for one; who upgrades says
    when.

    Args:
        names: Environments that jobs are going to use.
        folder: Where environments are.
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
