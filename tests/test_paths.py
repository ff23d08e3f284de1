"""Paths: a run makes the files of its own study, and those that all studies share."""

from pathlib import Path

import pytest

from esr.errors import EsrError
from esr.paths import SHARED, check_interpreter, check_targets, results_of

STUDIES = ["organism", "paper", "laptop"]


@pytest.mark.parametrize(
    "target",
    [
        "results/paper/figures/fig2.pdf",
        "./results/paper/figures/fig2.pdf",
        "results/paper/scorecard.csv",
        "logs/paper/check.log",
    ],
)
def test_a_file_of_another_study_is_refused_with_the_option_to_add(target: str) -> None:
    with pytest.raises(EsrError) as caught:
        check_targets(["--dry-run", target], "organism", STUDIES)
    assert str(caught.value) == (
        f"{target} belongs to study 'paper', but this run is about 'organism': "
        "add --config study=paper"
    )


@pytest.mark.parametrize(
    "target",
    [
        "results/organism/figures/fig2.pdf",
        "fig2",
        "--cores=1",
        "results/paperwork/fig2.pdf",  # no such study: Snakemake reports the error
        *(f"results/{folder}/file" for folder in SHARED),
    ],
)
def test_files_of_this_study_and_of_all_studies_pass(target: str) -> None:
    check_targets([target], "organism", STUDIES)


def test_results_of_a_study_lie_in_its_folder() -> None:
    assert results_of("paper").as_posix() == "results/paper"


@pytest.mark.parametrize(
    ("folder", "named"),
    [("/home/me/My Documents/esr", "a blank"), ("/home/o'neill/esr", "a quote")],
)
def test_an_interpreter_that_snakemake_cannot_run_is_refused(folder: str, named: str) -> None:
    with pytest.raises(EsrError, match=f"^{folder}/.* has {named} in it, .*; move the checkout"):
        check_interpreter(Path(folder) / ".venv/bin/python")


def test_other_characters_of_a_path_are_fine() -> None:
    check_interpreter(Path("/home/jürgen/esr-2.0_(new)/.venv/bin/python"))
