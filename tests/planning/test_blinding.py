"""Blinding is tested where a judge is told what was steered towards."""

import pytest

from esr.planning.blinding import check_blinding, told_label
from helpers.studies import load_study


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.checkout import REPO

    monkeypatch.chdir(REPO)


@pytest.mark.parametrize("study", ["paper", "arxiv"])
def test_the_second_judge_of_the_large_studies_is_not_told_what_the_primary_is(study: str) -> None:
    config = load_study(name=study)
    second = config.judging.second
    assert second is not None
    told = told_label(config)
    assert not told[second]
    assert set(told.values()) == {True, False}
    if told[config.judging.primary]:
        (line,) = check_blinding(config)
        assert line.endswith(f"the second judge {second} is not")


@pytest.mark.parametrize("study", ["paper", "arxiv"])
def test_one_model_grades_both_told_and_blind(study: str) -> None:
    """So that the effect of the label is not mixed with that of the model."""
    config = load_study(name=study)
    told = told_label(config)
    models = [
        {config.judging.llms[name].model for name in config.judging.llms if told[name] == flag}
        for flag in (True, False)
    ]
    assert models[0] & models[1]


def test_a_study_whose_judges_are_all_told_is_named_with_the_remedy() -> None:
    told = {"rubric": "resources/rubrics/paper.yaml"}
    config = load_study({"judging": {"judges": {"blind": told}}}, name="paper")
    (line,) = check_blinding(config)
    assert "no verdict tests what that does" in line
    assert "judging.judges.blind rubric: resources/rubrics/blind.yaml" in line


def test_judges_without_a_rubric_are_told_nothing() -> None:
    config = load_study()
    assert not any(told_label(config).values())
    assert list(check_blinding(config)) == []
