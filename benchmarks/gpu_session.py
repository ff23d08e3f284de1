"""Session on a GPU: parity of the engines, speed under steering, encoding, vLLM where installed.

    sh benchmarks/gpu_session.sh [FOLDER]
    PYTHONPATH=src python benchmarks/gpu_session.py --device cpu --tiny    # a rehearsal on a CPU

Makes FOLDER/gpu_session.json and gpu_session.md. Weights are random, so nothing is downloaded. A
part that fails, or that the time does not suffice for, has a status and no number. The exit code is
1 if a part failed or a value is outside its bound.

Columns: `part`, `case`, `quantity`, `value`, `unit`, `bound` (`<=` or `>=` a number; empty: none is
set), `status` (`ok`, `outside`, `failed: ...`, `not run: ...`).
"""

import argparse
import json
import logging
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from gpu_parts import PARITY, SPEED, TINY, Row, measure_engine, measure_parity
from gpu_vllm import measure_vllm, parity_rows, speed_rows_of
from transformers import __version__ as transformers_version

log = logging.getLogger(__name__)


def machine(device: str) -> dict[str, str]:
    """Card and versions."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    found |= {"transformers": transformers_version, "device": device}
    if device.startswith("cuda"):
        found |= {"card": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}
        memory = torch.cuda.get_device_properties(0).total_memory
        found["memory"] = f"{memory / 2**30:.0f} GiB"
    return found


def run_parts(parts: dict[str, Callable[[], Iterator[Row]]], end: float) -> Iterator[Row]:
    """Rows of all parts as they come; a part that fails leaves those of the others alone."""
    for name, part in parts.items():
        if time.monotonic() > end:
            yield Row(name, "", "", None, status="not run: no time was left")
            continue
        try:
            yield from part()
        except Exception as error:  # the other parts are worth their time all the same
            log.exception("%s failed", name)
            yield Row(name, "", "", None, status=f"failed: {type(error).__name__}: {error}")


def write(folder: Path, facts: dict[str, str], rows: Sequence[Row]) -> None:
    """Write both files."""
    table = {"machine": facts, "rows": [asdict(one) for one in rows]}
    (folder / "gpu_session.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    (folder / "gpu_session.md").write_text(as_markdown(facts, rows), encoding="utf-8")


def as_markdown(facts: dict[str, str], rows: Sequence[Row]) -> str:
    """The table of a session."""
    lines = [", ".join(f"{name} {value}" for name, value in facts.items()), ""]
    lines += ["| part | case | quantity | value | bound | status |", "|---|---|---|---|---|---|"]
    for one in rows:
        value = "" if one.value is None else f"{one.value:.4g} {one.unit}"
        cells = [one.part, one.case, one.quantity, value.strip(), one.bound, one.status]
        lines.append(
            "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the session and write its two files."""
    parser = argparse.ArgumentParser(description="Measure the engines on a GPU.")
    parser.add_argument("--folder", type=Path, default=Path("results/gpu_session"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--tiny", action="store_true", help="a rehearsal with a tiny model")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    end = time.monotonic() + 60 * chosen.minutes
    if chosen.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --device cpu --tiny rehearses the session on a CPU")
    parity, speed = (TINY, TINY) if chosen.tiny else (PARITY, SPEED)
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "parity": lambda: measure_parity(parity, chosen.device),
        "engine": lambda: measure_engine(speed, chosen.device),
        "vllm, parity": lambda: measure_vllm(parity_rows, parity, chosen.device),
        "vllm, speed": lambda: measure_vllm(speed_rows_of, speed, chosen.device),
    }
    facts = machine(chosen.device)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for one in run_parts(parts, end):
        rows.append(one)
        write(chosen.folder, facts, rows)  # after each: the session may be cut off
        log.info("%s", one)
    log.info("\n%s", as_markdown(facts, rows))
    return int(any(one.status.startswith(("failed", "outside")) for one in rows))


if __name__ == "__main__":
    sys.exit(main())
