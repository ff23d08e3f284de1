"""Code is formatted, linted and type-checked, and what it imports is declared."""

import subprocess
import sys

import pytest

from helpers.checkout import REPO

TOOLS = {
    "ruff check": ["-m", "ruff", "check", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "snakefmt": ["-m", "snakefmt", "--check", "Snakefile", "rules"],
    "pyrefly": ["-m", "pyrefly", "check"],
    "deptry": ["-m", "deptry", "src", "scripts", "tests", "benchmarks"],
}


@pytest.mark.parametrize("tool", TOOLS)
def test_tool_finds_nothing(tool: str) -> None:
    done = subprocess.run(
        [sys.executable, *TOOLS[tool]], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_scripts_are_short() -> None:
    long = {
        path.name: lines
        for path in (REPO / "scripts").rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 170
    }
    assert not long


def test_modules_are_short() -> None:
    long = {
        path.name: lines
        for path in (REPO / "src").rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 380
    }
    assert not long
