"""What a study asks of a slow shared disk; test_workflow.py counts what a plan does."""

import csv
import subprocess
import sys

from helpers.checkout import REPO


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
