"""Code is formatted, linted and type-checked, and what it imports is declared."""

import ast
import subprocess
import sys

import pytest

from helpers.checkout import REPO

TOOLS = {
    "ruff check": ["-m", "ruff", "check", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "snakefmt": ["-m", "snakefmt", "--check", "Snakefile", "rules"],
    "mypy": ["-m", "mypy"],
    "deptry": ["-m", "deptry", "src", "scripts", "tests", "benchmarks"],
}


@pytest.mark.parametrize("tool", TOOLS)
def test_tool_finds_nothing(tool: str) -> None:
    done = subprocess.run(
        [sys.executable, *TOOLS[tool]], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_text_is_read_and_written_as_utf_8_whatever_the_locale() -> None:
    found = [
        f"{path.relative_to(REPO)}:{call.lineno}"
        for folder in ("src", "scripts")
        for path in (REPO / folder).rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("read_text", "write_text")
        and not any(each.arg == "encoding" for each in call.keywords)
    ]
    assert not found


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
