"""Jobs in axolotl's environment: what they import, and what they print where the user can act."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from esr.errors import EsrError, full_disk
from esr.finetuning.jobs import one_line_errors
from helpers.checkout import REPO, load_script

FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError(errno.EFBIG, "File too large"),
    RuntimeError("I/O error: No space left on device (os error 28)"),
]


def test_they_import_nothing_that_their_environment_lacks() -> None:
    program = "import esr.finetuning.jobs, sys; print('pandas' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],  # -S: no site-packages
        env=os.environ | {"PYTHONPATH": str(REPO / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


class TestFullDisk:
    @pytest.fixture(params=["prepare_rows", "train_adapter"])
    def job(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> ModuleType:
        """A script that only has to write its table, to a full disk."""
        monkeypatch.setattr(sys, "argv", ["job", str(tmp_path / "axolotl.yaml"), "/dev/full"])
        monkeypatch.setattr(os, "environ", dict(os.environ))
        job = load_script(request.param)
        if request.param == "prepare_rows":
            monkeypatch.setattr(job, "prepare", lambda config, scratch: Rows())
        else:
            monkeypatch.setattr(job, "check_device", lambda config: None)
            monkeypatch.setattr(job, "train", lambda config: [{"step": 1, "loss": 2.0}] * 10_000)
        return job

    def test_the_message_is_that_of_every_other_job(self, job: ModuleType) -> None:
        with pytest.raises(SystemExit) as caught:
            job.main()
        error = caught.value.__context__
        assert isinstance(error, OSError)
        assert error.errno == errno.ENOSPC
        message, other = (
            re.sub(r"[\d.]+ GB", "GB", str(e)) for e in (caught.value, full_disk(error))
        )
        assert message == other
        assert "Make room" in message

    @pytest.mark.parametrize("error", FULL, ids=str)
    def test_it_is_recognised_behind_other_errors(self, error: Exception) -> None:
        wrapped = ValueError("cannot save")
        wrapped.__cause__ = error
        with pytest.raises(SystemExit, match="could not be written"), one_line_errors():
            raise wrapped


def test_an_error_of_ours_is_one_line_and_any_other_keeps_its_trace() -> None:
    with pytest.raises(SystemExit, match=r"^no GPU; set device: cpu$"), one_line_errors():
        raise EsrError("no GPU; set device: cpu")
    with pytest.raises(FileNotFoundError), one_line_errors():
        Path("nowhere/at/all").read_text()


class Rows:
    """Prepared rows, with the two methods of `datasets.Dataset` that the script calls."""

    def select_columns(self, names: list[str]) -> "Rows":
        return self

    def to_parquet(self, path: str) -> None:
        pd.DataFrame({"input_ids": range(10**5)}).to_csv(path)
