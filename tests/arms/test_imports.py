"""Scripts of an arm start quickly: they load no engine, no figures, no statistics."""

import subprocess
import sys

import pytest

from helpers.checkout import REPO

HEAVY = ["torch", "transformers", "scipy", "statsmodels", "matplotlib", "anthropic", "openai"]
SPINE = ["plan_arm", "generate_responses", "merge_responses", "judge_responses", "score_trials"]
LOAD = """
import runpy, sys
for path in sys.argv[2:]:
    runpy.run_path(path, run_name="imported")
print(*(name for name in sys.argv[1].split(",") if name in sys.modules))
"""


@pytest.fixture(scope="module")
def loaded() -> list[str]:
    """Libraries that are in memory when every script of an arm has been imported."""
    paths = [path.as_posix() for path in (REPO / "scripts").rglob("*.py") if path.stem in SPINE]
    assert len(paths) == len(SPINE)
    command = [sys.executable, "-c", LOAD, ",".join([*HEAVY, "pandas"]), *paths]
    return subprocess.check_output(command, text=True).split()


@pytest.mark.parametrize("name", HEAVY)
def test_scripts_of_an_arm_do_not_load_at_their_start(loaded: list[str], name: str) -> None:
    assert name not in loaded


def test_what_is_loaded_is_seen(loaded: list[str]) -> None:
    assert loaded == ["pandas"]
