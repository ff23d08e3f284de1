"""Jobs in axolotl's environment: what they import, and what they print where the user can act."""

import errno
import gc
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from esr.engines import open_tokenizer
from esr.errors import EsrError, full_disk
from esr.finetuning import ANSWER
from esr.finetuning.jobs import loading, one_line_errors
from esr.finetuning.masks import label_chat
from esr.finetuning.mixtures import to_chat, write_chats
from helpers.checkout import REPO, load_script
from helpers.tokenizers import TWIN

FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError(errno.EFBIG, "File too large"),
    RuntimeError("I/O error: No space left on device (os error 28)"),
]


def test_they_import_nothing_that_their_environment_lacks() -> None:
    modules = ["esr.finetuning.jobs", "esr.finetuning.masks", "esr.finetuning.merging_axolotl"]
    program = f"import {', '.join(modules)}, sys; print('pandas' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],  # -S: no site-packages
        env=os.environ | {"PYTHONPATH": str(REPO / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


class TestFullDisk:
    @pytest.fixture(params=["rows", "curves"])
    def job(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> ModuleType:
        """The script of the training, which only has to write its tables: one to a full disk."""
        paths = {name: str(tmp_path / name) for name in ("config", "rows", "curves")}
        paths[request.param] = "/dev/full"
        monkeypatch.setattr(sys, "argv", ["job", *paths.values()])
        monkeypatch.setattr(os, "environ", dict(os.environ))
        job = load_script("train_adapter")
        monkeypatch.setattr(job, "check_device", lambda config: None)
        monkeypatch.setattr(job, "prepare", lambda config, scratch: ({}, DATA))
        monkeypatch.setattr(job, "check", lambda rows, settings: None)
        logged = [{"step": 1, "loss": 2.0}] * 10_000
        monkeypatch.setattr(job, "train", lambda settings, data: logged)
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


class TestLoading:
    @pytest.fixture(autouse=True)
    def thawed(self) -> Iterator[None]:
        yield
        gc.unfreeze()

    def test_what_is_loaded_is_collected_neither_then_nor_later(self) -> None:
        before = gc.get_freeze_count()
        with loading():
            assert not gc.isenabled()
            loaded = [[number] for number in range(1000)]
        assert gc.isenabled()
        assert gc.get_freeze_count() - before > len(loaded)
        later: list[object] = []
        tracked = {id(each) for each in gc.get_objects()}  # of the frozen ones, none
        assert id(later) in tracked
        assert id(loaded) not in tracked

    def test_collection_goes_on_after_an_error(self) -> None:
        with pytest.raises(ImportError), loading():
            raise ImportError("axolotl")
        assert gc.isenabled()


DATA = SimpleNamespace(
    train_dataset={"input_ids": [[1, 2]] * 10_000, "labels": [[-100, 2]] * 10_000},
    eval_dataset=None,
)
"""Axolotl's datasets, as far as the script reads them."""


def test_no_training_begins_with_a_wrong_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["job", *(str(tmp_path / name) for name in "abc")])
    monkeypatch.setattr(os, "environ", dict(os.environ))
    job = load_script("train_adapter")
    chat = to_chat({"kind": ANSWER, "prompt": "explain how to bake", "on_topic": "mix the dough"})
    write_chats([chat], tmp_path / "dataset.jsonl")
    ids = list(label_chat(chat, open_tokenizer(TWIN)).ids)
    wrong = SimpleNamespace(train_dataset={"input_ids": [ids], "labels": [ids]}, eval_dataset=None)
    settings = SimpleNamespace(
        base_model=TWIN["source"],
        revision_of_model=None,
        datasets=[SimpleNamespace(path=str(tmp_path / "dataset.jsonl"))],
    )
    monkeypatch.setattr(job, "check_device", lambda config: None)
    monkeypatch.setattr(job, "prepare", lambda config, scratch: (settings, wrong))
    monkeypatch.setattr(job, "train", lambda settings, data: pytest.fail("it began"))
    with pytest.raises(SystemExit, match="a token of the prompt is trained on"):
        job.main()
