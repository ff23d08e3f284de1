"""benchmarks/gpu_session.py, rehearsed on the CPU: its table, its bounds, its failures."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from esr.engines.base import Intervention
from helpers.checkout import REPO


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(REPO / "benchmarks"))
    monkeypatch.chdir(REPO)
    import gpu_session

    return gpu_session


@pytest.fixture
def parts(session: Any) -> Any:
    import gpu_parts

    return gpu_parts


def test_a_rehearsal_writes_a_row_for_everything(
    session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no environment with vLLM is here
    assert session.main(["--device", "cpu", "--tiny", "--folder", str(tmp_path)]) == 0
    table = json.loads((tmp_path / "gpu_session.json").read_text())
    rows = table["rows"]
    assert table["machine"]["device"] == "cpu"
    assert {row["part"] for row in rows} == {"parity", "generation", "encoding", "vllm"}
    cases = {row["case"] for row in rows if row["part"] == "parity"}
    assert len(cases) == 2 * 6, "six interventions, two dtypes"
    exact = [row["value"] for row in rows if row["case"] == "boost, float32"]
    assert exact[:3] == [100, 0, 0], "the CPU against itself"
    assert exact[3] > 0.2, "the boost has an effect"
    text = (tmp_path / "gpu_session.md").read_text()
    assert text.count("\n| ") == len(rows) + 1
    assert "boost and ablation" in text


def test_an_engine_that_drops_boosts_is_outside(parts: Any) -> None:
    size = replace(parts.TINY, requests=4, new=4)
    boost = parts.interventions_of(size)["boost"]
    engine = parts.engine_of(
        parts.random_model(size, "cpu", "float32"), parts.random_sae(size, "cpu"), size
    )
    wanted = parts.compute(engine, size, boost)
    dropped = parts.compute(engine, size, lambda _: Intervention())
    status = {
        row.quantity: row.status for row in parts.compare("boost", "float32", wanted, dropped)
    }
    assert status["log-probability"] == status["activations"] == "outside"
    same = {row.status for row in parts.compare("boost", "float32", wanted, wanted)}
    assert same == {"ok"}


def test_tokens_agree_up_to_the_first_that_differs(parts: Any) -> None:
    assert parts.agreeing([(1, 2, 3, 4)], [(1, 2, 9, 4)]) == 50
    assert parts.agreeing([(1, 2), (3, 4)], [(1, 2), (3,)]) == 75, "a shorter response"


def test_a_part_that_fails_leaves_the_others(session: Any, parts: Any) -> None:
    def fails() -> Iterator[Any]:
        yield parts.row("one", "case", "value", 1, "")
        raise RuntimeError("no kernel image")

    def works() -> Iterator[Any]:
        yield parts.row("two", "case", "value", 2, "", "<= 1")

    rows = list(session.run_parts({"one": fails, "two": works}, time.monotonic() + 60))
    assert [row.status for row in rows] == [
        "ok",
        "failed: RuntimeError: no kernel image",
        "outside",
    ]
    late = list(session.run_parts({"one": works}, time.monotonic() - 1))
    assert late[0].status == "not run: no time was left"
    assert late[0].value is None


def test_the_reference_engine_needs_no_library_of_the_workflow() -> None:
    """A machine with PyTorch and transformers alone runs the session."""
    code = """import sys, gpu_session
print([name for name in ("pydantic", "pandas", "snakemake", "vllm") if name in sys.modules])"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPO / "benchmarks",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.rebuild
@pytest.mark.vllm
def test_the_part_with_vllm(session: Any, parts: Any) -> None:
    from gpu_vllm import measure_vllm, parity_rows

    rows = list(measure_vllm(parity_rows, parts.TINY, "cpu"))
    assert {row.status for row in rows} == {"ok"}
    assert len(rows) == 2 * 6 + 1
