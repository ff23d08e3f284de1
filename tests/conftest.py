"""Fixtures: a checkout of the workflow in an empty folder, and the organism study run in one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checkout import link_checkout, run_snakemake, snakemake_command

# Where it is set (as in many containers), every process compiles the libraries that it loads anew:
# five seconds of a core for PyTorch and transformers, and there are hundreds of jobs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

REBUILD = "test_the_recipe_rebuilds_an_organism_with_what_is_planted"
ENOUGH = 4
"""Cores with which an organism can be rebuilt beside the other tests within half an hour."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, unless their marker is asked for, tests that are too much for this machine."""
    too_much = ["slurm"] if (os.cpu_count() or 1) >= ENOUGH else ["slurm", "rebuild"]
    too_much = [marker for marker in too_much if marker not in config.option.markexpr]
    left_out = [item for item in items if any(map(item.get_closest_marker, too_much))]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    """Fast tests first, an organism being rebuilt beside them; the study; the rebuilt organism."""
    fixtures = getattr(item, "fixturenames", [])
    return 2 if item.name == REBUILD else int("organism_study" in fixtures)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """An empty folder with the workflow in it."""
    return link_checkout(tmp_path)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, headless; tests that want it skip where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium is installed: the report is not looked at in a browser")
    with playwright.sync_playwright() as running:
        # Without a sandbox Chromium also starts as root, as in a container.
        found = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="session")
def organism_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which the whole organism study was run, as a newcomer would run it."""
    folder = link_checkout(tmp_path_factory.mktemp("organism"))
    done = run_snakemake(folder, timeout=2400)
    assert done.returncode == 0, done.stdout[-6000:]
    return folder


@pytest.fixture(scope="session", autouse=True)
def rebuilt_organism(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Path]]:
    """Rebuild and measure an organism, beside the first tests, if a test will want it.

    It takes minutes on one core, and most tests use no more than the other.
    """
    folder = link_checkout(tmp_path_factory.mktemp("rebuilt"))
    wanted = any(item.name == REBUILD for item in request.session.items)
    command = snakemake_command("--cores", "1", "results/organisms/planted/measured.csv")
    log = (folder / "log").open("w+")
    run = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) if wanted else None

    def finished() -> Path:
        assert run is not None
        assert run.wait(timeout=1200) == 0, (folder / "log").read_text()[-4000:]
        return folder / "results/organisms/planted"

    yield finished
    if run is not None and run.poll() is None:
        run.terminate()
    log.close()
