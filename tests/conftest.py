"""Fixtures: a checkout of the workflow in an empty folder, and the organism study run in one."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.checkout import link_checkout, run_snakemake, snakemake_command
from helpers.fake_api import FakeApi
from helpers.llm import KEY
from helpers.vllm_hosts import ForkServer, fork_server, sync

# Where it is set (as in many containers), every process compiles the libraries that it loads again:
# five seconds of a core for PyTorch and transformers, and there are hundreds of jobs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The study runs beside the first tests. Threads of several processes that spin on the same cores
# make PyTorch many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REBUILD = "test_the_recipe_rebuilds_an_organism_with_what_is_planted"
BY_VLLM = ["--config", "engine={name: vllm, vllm: {eager: true}}", "models={twin: null}"]
BY_VLLM += ["latents={count: 12, candidates: 42}", "--", "fig2"]
"""Figure 2 of the planted organism, of the first third of its latents."""

ENOUGH = 4
"""Cores with which an organism can be rebuilt beside the other tests within half an hour."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, unless their marker is selected, tests that need more than this machine has."""
    enough = (os.cpu_count() or 1) >= ENOUGH or "rebuild" in config.option.markexpr
    left_out = [item for item in items if item.get_closest_marker("rebuild") and not enough]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    """Fast tests first, the study being run beside them; the study; vLLM; the rebuilt organism."""
    fixtures = getattr(item, "fixturenames", [])
    if item.name == REBUILD:
        return 3
    return 2 if "by_vllm" in fixtures else int("organism_study" in fixtures)


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


class Beside:
    """Snakemake run in a folder of its own beside the first tests, which leave cores idle."""

    def __init__(self, folder: Path, *arguments: str, after: "Beside | None" = None) -> None:
        """Begin, or begin as soon as another run has ended, so that the two do not compete."""
        self.folder = link_checkout(folder)
        self.run: subprocess.Popen[bytes] | None = None
        # Tests go first: some of them measure how long something takes.
        self._command = ["nice", *snakemake_command(*arguments)]
        self._after = after
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        if self._after is not None:
            self._after.wait()
        if self._stopped.is_set():
            return
        with (self.folder / "log").open("w") as log:
            self.run = subprocess.Popen(self._command, cwd=self.folder, stdout=log, stderr=log)
            self.run.wait()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        self._thread.join(timeout)

    def finished(self, timeout: float) -> Path:
        """Wait for it; the folder."""
        self.wait(timeout)
        assert not self._thread.is_alive(), f"not finished within {timeout} seconds"
        assert self.run is not None, "Snakemake could not be started"
        assert self.run.returncode == 0, (self.folder / "log").read_text()[-6000:]
        return self.folder

    def stop(self) -> None:
        self._stopped.set()
        if self.run is not None and self.run.poll() is None:
            self.run.terminate()


@pytest.fixture(scope="session", autouse=True)
def beside(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Beside]]:
    """What takes minutes is begun with the first test, if any test will want it."""
    running: dict[str, Beside] = {}
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", [])}
    if "organism_study" in wanted:
        running["study"] = Beside(tmp_path_factory.mktemp("organism"))
    if "by_vllm" in wanted:
        folder = tmp_path_factory.mktemp("vllm")
        running["vllm"] = Beside(folder, *BY_VLLM, after=running.get("study"))
    if any(item.name == REBUILD for item in request.session.items):
        rebuild = ["--cores", "1", "results/organisms/planted/labels.csv"]
        running["rebuilt"] = Beside(tmp_path_factory.mktemp("rebuilt"), *rebuild)
    yield running
    for each in reversed(running.values()):  # first those that wait for another to end
        each.stop()


@pytest.fixture(scope="session")
def organism_study(beside: dict[str, Beside]) -> Path:
    """Folder in which the whole organism study was run, as a newcomer would run it."""
    return beside["study"].finished(timeout=2400)


@pytest.fixture(scope="session")
def by_vllm(beside: dict[str, Beside]) -> Path:
    """Folder with Figure 2 of the planted organism, generated by vLLM."""
    return beside["vllm"].finished(timeout=2400)


@pytest.fixture(scope="session")
def rebuilt_study(beside: dict[str, Beside]) -> Callable[[], Path]:
    """Rebuild an organism and run the study that measures it; results of the study."""

    def results() -> Path:
        folder = beside["rebuilt"].finished(timeout=1200)
        tables = [f"results/rebuilt/tables/{name}.csv" for name in ("summary", "comparisons")]
        changes = ["--config", "study=rebuilt", "models={twin: null}", "--"]
        done = run_snakemake(folder, "--cores", "1", *changes, *tables)
        assert done.returncode == 0, done.stdout[-6000:]
        return folder / "results/rebuilt"

    return results
