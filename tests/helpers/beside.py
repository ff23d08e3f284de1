"""Runs of Snakemake that take minutes, beside the tests: the tests wait for what they read alone.

The first process of pytest starts them. Tests, which may run in other processes, find them by name
in a folder.
"""

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from helpers.checkout import link_checkout, snakemake_command
from helpers.vllm_hosts import link_environment

BY_VLLM = ["--config", "engine={name: vllm, vllm: {eager: true}}", "models={twin: null}"]
BY_VLLM += ["latents={count: 12, candidates: 42}", "--", "fig2"]
"""Figure 2 of the planted organism, of the first third of its latents."""
STUDY_TESTS = "tests/study/"
"""Folder of the tests that read these runs."""
PATIENCE = 3600
"""Longest wait for a run, in seconds."""


class Beside:
    """Snakemake run in a folder of its own, which begins as soon as another run has ended."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        prepare: Callable[[Path], None] = lambda _: None,
        after: "Beside | None" = None,
    ) -> None:
        """Begin, or wait for the other run in a thread, so that the two do not compete.

        `prepare` is called with the folder before the run begins.
        """
        self.folder = link_checkout(folder)
        self.run: subprocess.Popen[bytes] | None = None
        # Tests go first: some of them measure how long something takes.
        self._command = ["nice", "-n4", *snakemake_command(*arguments)]
        self._prepare = prepare
        self._after = after
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        if self._after is not None:
            self._after._thread.join()
        if self._stopped.is_set():
            return
        code = 1
        with (self.folder / "log").open("w") as log:
            try:
                self._prepare(self.folder)
                self.run = subprocess.Popen(self._command, cwd=self.folder, stdout=log, stderr=log)
                code = self.run.wait()
            except (OSError, subprocess.SubprocessError) as error:
                log.write(f"could not begin: {error}\n")
        ended = self.folder / "exit-code"
        ended.with_suffix(".part").write_text(str(code))
        ended.with_suffix(".part").rename(ended)

    def stop(self) -> None:
        """End the run, or see that it does not begin."""
        self._stopped.set()
        if self.run is not None and self.run.poll() is None:
            self.run.terminate()


def start_runs(folder: Path, tests: list[str], cores: int) -> list[Beside]:
    """Begin what tests with these ids will read, each in a folder of its name.

    Args:
        folder: Where the folders will be.
        tests: Ids of the tests that will run.
        cores: Jobs of the study at a time.
    """
    wanted = {test.split("::")[0].removeprefix(STUDY_TESTS) for test in tests}
    wanted = {test for test in wanted if not test.startswith("tests/")}
    runs: list[Beside] = []
    if wanted - {"test_rebuilt.py"}:
        runs.append(Beside(folder / "study", "--cores", str(cores)))
    if "test_vllm.py" in wanted:
        command = ("--cores", str(cores), *BY_VLLM)
        runs.append(Beside(folder / "vllm", *command, prepare=link_environment, after=runs[0]))
    if "test_rebuilt.py" in wanted:
        labels = "results/organisms/planted/labels.csv"
        runs.append(Beside(folder / "rebuilt", "--cores", "1", labels))
    return runs


def finished(folder: Path) -> Path:
    """Wait for the run in a folder; the folder."""
    end = time.monotonic() + PATIENCE
    while not (folder / "exit-code").exists():
        assert time.monotonic() < end, f"{folder.name}: not finished within {PATIENCE} seconds"
        time.sleep(0.2)
    code = (folder / "exit-code").read_text()
    assert code == "0", (folder / "log").read_text()[-6000:]
    return folder
