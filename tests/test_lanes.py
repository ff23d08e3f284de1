"""Which tests a process of pytest has together, and what those that wait for a run are told."""

from pathlib import Path

import pytest

from helpers.beside import STUDY_TESTS, Beside, finished
from helpers.checkout import REPO
from helpers.lanes import VLLM_TESTS, lane


def test_files_that_need_vllm_throughout_share_one_that_is_imported() -> None:
    marked = "pytestmark = [\n    pytest.mark.vllm,\n"
    files = [(path, path.read_text()) for path in (REPO / "tests").rglob("test_*.py")]
    found = {path.relative_to(REPO).as_posix() for path, text in files if marked in text}
    assert found == VLLM_TESTS


def test_others_are_handed_out_by_file_and_those_of_the_study_together() -> None:
    assert {lane(f"{file}::TestOne::test_a[x::y]") for file in VLLM_TESTS} == {"vLLM"}
    assert lane("tests/engines/test_vllm_client.py::test_a") == "tests/engines/test_vllm_client.py"
    assert lane("tests/study/test_vllm.py::test_a") == STUDY_TESTS


def test_a_run_that_cannot_begin_ends_the_wait_for_it(tmp_path: Path) -> None:
    def broken(_: Path) -> None:
        raise OSError("uv is not installed")

    run = Beside(tmp_path / "run", "--dry-run", prepare=broken)
    with pytest.raises(AssertionError, match="could not begin: uv is not installed"):
        finished(run.folder)
