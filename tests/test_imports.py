"""What jobs load as they start: most work for tenths of a second, an engine takes four to load."""

import re
import subprocess
import sys

import pytest

from esr.forks import JUDGES
from helpers.checkout import REPO

ENGINE = ["torch", "transformers"]
APIS = ["anthropic", "openai"]
STATISTICS = ["scipy", "statsmodels"]
HEAVY = [*ENGINE, *APIS, *STATISTICS, "matplotlib"]
SPINE = ["plan_arm", "generate_responses", "merge_responses", "judge_responses", "score_trials"]
LIGHT = ["prepare_model", "prepare_labels", "draw_candidates", "rate_concreteness"]
LIGHT += ["select_latents", "sample_responses", "judge_sample", "extract_episodes", "read_episodes"]
LIGHT += ["mix_examples", "configure_training", "check_masks", "prepare_finetuned", "check"]
LIGHT += ["judge_arms", "annotate_boundaries"]
"""Jobs beside an arm's that tokenize, judge, draw or read and have no statistics."""
LOAD = """
import importlib, runpy, sys
for name in sys.argv[2:]:
    if name.endswith(".py"):
        runpy.run_path(name, run_name="imported")
    else:
        importlib.import_module(name)
print(*(name for name in sys.argv[1].split(",") if name in sys.modules))
"""


def loaded(*names: str) -> list[str]:
    """Libraries that are in memory when these scripts and modules have been imported."""
    command = [sys.executable, "-c", LOAD, ",".join([*HEAVY, "pandas"]), *names]
    return subprocess.check_output(command, text=True).split()


def scripts(*names: str) -> list[str]:
    """Paths of scripts; each must exist."""
    paths = [path.as_posix() for path in (REPO / "scripts").rglob("*.py") if path.stem in names]
    assert len(paths) == len(names)
    return paths


def modules_of_rules() -> list[str]:
    """What the Snakefile and the rules import of this package, also before the first job."""
    sources = [REPO / "Snakefile", *sorted((REPO / "rules").glob("*.smk"))]
    text = "\n".join(path.read_text() for path in sources)
    return sorted(set(re.findall(r"^\s*from (esr[\w.]*) import", text, re.MULTILINE)))


def test_jobs_of_an_arm_load_no_engine_no_figures_no_statistics() -> None:
    assert loaded(*scripts(*SPINE)) == ["pandas"]  # which shows that what is loaded is seen


def test_neither_do_jobs_beside_them_nor_snakemake_itself_nor_the_help_of_the_command() -> None:
    assert "esr.planning.jobs" in modules_of_rules()
    modules = [*modules_of_rules(), "esr.interactive.cli"]
    assert loaded(*scripts(*LIGHT), *modules) == ["pandas"]


def test_a_judge_whose_replies_are_kept_loads_no_engine_and_no_api() -> None:
    assert loaded("esr.judges.rubric_judge", "esr.judges.anchors") == ["pandas"]


@pytest.mark.parametrize("kind", ["tabulate_", "estimate"])
def test_tables_and_estimates_load_statistics_alone(kind: str) -> None:
    paths = [path for path in (REPO / "scripts").rglob("*.py") if path.stem.startswith(kind)]
    assert len(paths) >= 2
    found = loaded(*(path.as_posix() for path in paths))
    assert set(found) <= {"pandas", *STATISTICS}


@pytest.mark.parametrize("api", APIS)
def test_a_judge_behind_an_api_loads_its_sdk_alone(api: str) -> None:
    modules = ["esr.planning.judges", "esr.judges.rubric_judge", *JUDGES[api]]
    assert loaded(*scripts("judge_responses"), *modules) == [api, "pandas"]
