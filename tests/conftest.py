"""Fixtures: a checkout of the workflow in an empty folder, and the organism study run in one."""

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import helpers.variables  # noqa: F401  # before a library reads them
from helpers.beside import STUDY_TESTS, Beside, finished, start_runs
from helpers.checkout import SnakemakeServer, link_checkout, run_snakemake
from helpers.fake_api import FakeApi
from helpers.lanes import Lanes, in_lanes
from helpers.llm import KEY
from helpers.vllm_hosts import ForkServer, fork_server, sync

gc.disable()  # until the tests are collected: imports leave no garbage to look for

settings.register_profile("esr", deadline=None)  # on busy cores any example can take long
settings.load_profile("esr")

ENOUGH = 4
"""Cores with which an organism can be rebuilt beside the other tests within half an hour."""


SERVER = pytest.StashKey[SnakemakeServer]()


def pytest_configure(config: pytest.Config) -> None:
    """Let all processes of pytest share one that has Snakemake loaded."""
    if sys.platform == "linux" and not hasattr(config, "workerinput"):
        config.stash[SERVER] = SnakemakeServer()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, unless their marker is selected, tests that need more than this machine has."""
    enough = (os.cpu_count() or 1) >= ENOUGH or "rebuild" in config.option.markexpr
    left_out = [item for item in items if item.get_closest_marker("rebuild") and not enough]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    # One of several processes waits for the study, with all its tests; a single one has others.
    # Of the workflow's tests those on Slurm, which wait for it, come while others have the cores.
    several = hasattr(config, "workerinput")
    items.sort(key=lambda item: place(item.nodeid, study_first=several))


LONG = ("test_slurm.py", "test_small_studies.py", "test_workflow.py")
"""Files of tests/workflow/ that take longest, in their order."""


def place(nodeid: str, *, study_first: bool) -> tuple[bool, int]:
    """Sorts tests: those of the study first or last, of those of the workflow long files first.

    Short ones come last, so that both processes end at about the same time.
    """
    of_workflow = nodeid.startswith("tests/workflow/")
    long = (number for number, name in enumerate(LONG) if f"/{name}" in nodeid)
    order = next(long, len(LONG)) if of_workflow else -1
    return nodeid.startswith(STUDY_TESTS) != study_first, order


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    """Files in their order, and together what shares something that takes long."""
    return in_lanes(config, log)


RUNS = pytest.StashKey[list[Beside]]()


def _folder(config: pytest.Config) -> Path:
    """Folder of the runs beside the tests, for every process of pytest."""
    worker = getattr(config, "workerinput", None)
    base = config._tmp_path_factory.getbasetemp()  # pyrefly: ignore[missing-attribute]
    return Path(base if worker is None else base.parent) / "beside"


def _start(config: pytest.Config, tests: list[str]) -> None:
    if RUNS not in config.stash:
        folder = _folder(config)
        folder.mkdir()
        # More processes than cores take a third more CPU time for the same work.
        busy = max((config.getoption("numprocesses", None) or 0) - 1, 0)
        config.stash[RUNS] = start_runs(folder, tests, max((os.cpu_count() or 1) - busy, 1))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin what takes minutes, if any test will want it; with `-n`, the next hook does."""
    config = session.config
    gc.collect()
    gc.freeze()  # what is imported is no garbage: a collection would look through all of it
    gc.enable()
    if not (config.option.collectonly or hasattr(config, "workerinput")):
        _start(config, [item.nodeid for item in session.items])


def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    gc.enable()
    _start(node.config, ids)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the runs; first those that wait for another one to end."""
    runs = session.config.stash.get(RUNS, None) or []
    for run in reversed(runs):
        run.stop()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """An empty folder with the workflow in it."""
    return link_checkout(tmp_path)


@pytest.fixture
def api() -> Iterator[FakeApi]:
    """A local server that speaks both judge APIs."""
    with FakeApi(key=KEY) as running:
        yield running


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """A process that has imported vLLM and forks hosts."""
    sync()
    with fork_server(tmp_path_factory.mktemp("vllm") / "log") as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, headless; tests that want it skip where there is none.

    It ends with its module: while it is open, its event loop runs in the thread of the tests, in
    which no judge can then run its own.
    """
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
def organism_study(request: pytest.FixtureRequest) -> Path:
    """Folder in which the whole organism study was run, as a newcomer would run it."""
    return finished(_folder(request.config) / "study")


@pytest.fixture(scope="session")
def by_vllm(request: pytest.FixtureRequest) -> Path:
    """Folder with Figure 2 of the planted organism, generated by vLLM."""
    return finished(_folder(request.config) / "vllm")


@pytest.fixture(scope="session")
def rebuilt_study(request: pytest.FixtureRequest) -> Path:
    """Results of the study that measures an organism which was rebuilt."""
    folder = finished(_folder(request.config) / "rebuilt")
    tables = [f"results/rebuilt/tables/{name}.csv" for name in ("summary", "comparisons")]
    changes = ["--config", "study=rebuilt", "models={twin: null}", "--"]
    done = run_snakemake(folder, "--cores", "1", *changes, *tables)
    assert done.returncode == 0, done.stdout[-6000:]
    return folder / "results/rebuilt"
