"""A bundle of the finished study, imported into a fresh checkout."""

import contextlib
import re
import shutil
from pathlib import Path

import pytest

from esr.bundle import __main__ as bundle
from helpers.checkout import link_checkout, run_snakemake

pytestmark = pytest.mark.slow

FREE = {"score_claims", "collect_numbers", "measure_agreement", "draw_graph", "build_report", "all"}
"""Rules, beside those that plot and tabulate, that need neither a GPU nor a judge."""
AGAIN = "arms={again: {replay: steered, meta_prompt: '{prompt} Take care.'}}"


@pytest.fixture(scope="module")
def imported(organism_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh checkout with the bundle of the organism study."""
    done = run_snakemake(organism_study, "bundle")
    assert done.returncode == 0, done.stdout[-4000:]
    folder = link_checkout(tmp_path_factory.mktemp("imported"))
    packed = (organism_study / "results/organism/bundle.tar.gz").resolve()
    with contextlib.chdir(folder):
        bundle.main(["import", packed.as_posix()])
    return folder


def planned(folder: Path, *arguments: str) -> list[tuple[str, str]]:
    """Jobs that a run would have: rule and wildcards."""
    done = run_snakemake(folder, "all", "--dry-run", *arguments)
    assert done.returncode == 0, done.stdout[-4000:]
    jobs = re.split(r"^(?:local)?rule (\w+):$", done.stdout, flags=re.MULTILINE)
    found = zip(jobs[1::2], jobs[2::2], strict=True)
    return [(rule, "".join(re.findall(r"wildcards: (.*)", text))) for rule, text in found]


def test_after_an_import_nothing_that_was_paid_for_is_planned(imported: Path) -> None:
    rules = {rule for rule, _ in planned(imported)}
    assert {f"plot_{name}" for name in ("fig2", "fig6", "fig7", "fig6_losses")} <= rules
    assert {rule for rule in rules if not rule.startswith(("plot_", "tabulate_"))} <= FREE


def test_an_arm_added_to_an_imported_study_runs_alone(imported: Path, organism_study: Path) -> None:
    # What `snakemake downloads` makes; newer than everything that came in the bundle.
    saes = (f"organism/{model}/assets/sae.safetensors" for model in ("planted", "twin"))
    for name in ("environments/finetune.txt", *saes):
        (imported / "results" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(organism_study / "results" / name, imported / "results" / name)
    installed = organism_study / "envs/finetune/.venv"
    (imported / "envs/finetune/.venv").symlink_to(installed)
    assert {"generate_responses", "find_thresholds"} <= {rule for rule, _ in planned(imported)}
    done = run_snakemake(imported, "--touch", "--cores", "1", "all")
    assert done.returncode == 0, done.stdout[-4000:]
    jobs = planned(imported, "--config", AGAIN)
    of_arms = {wildcards for rule, wildcards in jobs if "arm=" in wildcards}
    assert {rule for rule, _ in jobs} >= {"generate_responses", "judge_responses"}
    assert of_arms
    assert {wildcards for wildcards in of_arms if "arm=again" not in wildcards} == set()
    paid = {"find_thresholds", "measure_relevance", "find_detectors", "read_episodes"}
    paid |= {"measure_sae_fit"}
    assert paid & {rule for rule, _ in jobs} == set()


@pytest.mark.rebuild
def test_a_fresh_checkout_rebuilds_every_figure_from_a_bundle(
    organism_study: Path, imported: Path
) -> None:
    done = run_snakemake(imported, "--cores", "2", "all")
    assert done.returncode == 0, done.stdout[-4000:]
    here = organism_study / "results/organism"
    made = [path.relative_to(here) for path in here.glob("figures/*.csv")]
    made += [path.relative_to(here) for path in here.glob("tables/*.csv")]
    assert len(made) > 20
    other = imported / "results/organism"
    # Only how long jobs took does not come in a bundle.
    different = [n for n in made if (other / n).read_bytes() != (here / n).read_bytes()]
    assert different == []
