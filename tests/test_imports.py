"""What jobs load as they start: most work for tenths of a second, an engine takes four to load."""

import json
import re
import subprocess
import sys

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
import gc, importlib, json, os, runpy, sys
gc.disable()

def load(names):
    for name in names:
        if name.endswith(".py"):
            runpy.run_path(name, run_name="imported")
        else:
            importlib.import_module(name)
    found = [name for name in LIBRARIES if name in sys.modules]
    os.write(1, f"{json.dumps(found)}\\n".encode())

LIBRARIES, one_after_the_other, each_alone = json.loads(sys.argv[1])
for names in one_after_the_other:
    load(names)
for names in each_alone:
    if os.fork() == 0:
        load(names)
        os._exit(0)
    if os.wait()[1]:
        sys.exit(1)
"""


def loaded(one_after_the_other: list[list[str]], each_alone: list[list[str]]) -> list[list[str]]:
    """Libraries that are in memory when scripts and modules have been imported.

    Args:
        one_after_the_other: Paths of scripts and names of modules, imported into one process.
        each_alone: Others, each imported into a process of its own, after those.

    Returns:
        The libraries, after each list of names.
    """
    job = json.dumps([[*HEAVY, "pandas"], one_after_the_other, each_alone])
    lines = subprocess.check_output([sys.executable, "-c", LOAD, job], text=True).splitlines()
    return [json.loads(line) for line in lines]


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


def starting_with(*prefixes: str) -> list[str]:
    """Paths of the scripts whose names start so; some must exist."""
    paths = [path for path in (REPO / "scripts").rglob("*.py") if path.stem.startswith(prefixes)]
    assert len(paths) >= 2
    return [path.as_posix() for path in paths]


def test_jobs_load_an_engine_an_api_figures_and_statistics_only_if_they_need_them() -> None:
    assert "esr.planning.jobs" in modules_of_rules()
    judge = ["esr.judges.rubric_judge", "esr.judges.anchors"]  # replies are kept: it calls no API
    called = [*scripts("judge_responses"), "esr.planning.judges", *judge]
    jobs = [
        scripts(*SPINE),
        scripts(*LIGHT),
        [*modules_of_rules(), "esr.interactive.cli"],  # Snakemake itself, the help of the command
        judge,
    ]
    others = [
        starting_with("tabulate_"),
        starting_with("estimate"),
        *([*called, *JUDGES[api]] for api in APIS),
    ]
    found = loaded(jobs, others)
    # Each of these has pandas alone, which shows that what is loaded is seen. So what others have
    # beside it is their own, though they are imported after these.
    assert found[: len(jobs)] == [["pandas"]] * len(jobs)
    tables, estimates, *judges = map(set, found[len(jobs) :])
    assert tables <= {"pandas", *STATISTICS}
    assert estimates <= {"pandas", *STATISTICS}
    assert judges == [{api, "pandas"} for api in APIS]
