"""What a study asks of a slow shared disk, counted."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from helpers.checkout import REPO, snakemake_command

COUNTING = """\
import atexit, collections, json, os

looks, stat = collections.Counter(), os.stat


def counted(path, *rest, **named):
    if isinstance(path, str | os.PathLike):
        looks[os.fspath(path)] += 1
    return stat(path, *rest, **named)


os.stat = counted
atexit.register(lambda: open("looks.json", "w").write(json.dumps(looks)))
"""
MOST = 10
"""Looks at one file of `resources/`; 5 when this was written, and 201 when each job had its own."""


def test_a_plan_does_not_look_at_a_file_once_a_job(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(COUNTING)
    command = snakemake_command("--dry-run", "--quiet", "all", "--config", "study=paper")
    subprocess.run(
        command, cwd=checkout, env=os.environ | {"PYTHONPATH": str(tmp_path)}, check=True
    )
    looks = json.loads((checkout / "looks.json").read_text())
    shared = {path: n for path, n in looks.items() if path.startswith("resources/")}
    assert len(shared) > 10, "files that the study reads"
    assert {path: n for path, n in shared.items() if n > MOST} == {}


def test_the_benchmark_says_what_it_needs() -> None:
    command = [sys.executable, "benchmarks/slow_disk.py"]
    done = subprocess.run(command, cwd=REPO, env={"PATH": ""}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "needs root, /dev/fuse, and Debian's fuse3" in done.stderr


def test_the_guide_shows_what_was_measured() -> None:
    guide = (REPO / "docs/cluster.md").read_text()
    with (REPO / "benchmarks/slow_disk.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["delay_ms"] for row in rows] == ["0", "2", "10"] * (len(rows) // 3)
    for none, two, ten in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        seconds = [f"{float(row['seconds']):.0f}" for row in (none, two, ten)]
        cells = [two["case"], f"{int(two['operations']):,}", *seconds]
        assert f"| {' | '.join(cells)} |" in guide
