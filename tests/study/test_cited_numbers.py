"""Numbers that the documents cite are those of the finished study."""

import json
from pathlib import Path
from typing import Any

import pytest

from esr.docs_numbers import cited_numbers, fill_numbers, pages
from helpers.checkout import REPO
from helpers.cited import cite

pytestmark = pytest.mark.slow


def tolerated(facts: dict[str, Any]) -> float:
    """How far a number may be from the page on another CPU, as a share of its interval.

    Another CPU rounds differently: a token flips here and there, random sets of latents are drawn
    anew where latents are nearly alike, and a model that is trained within the study has other
    weights.
    """
    if "random" in str(facts.get("arm")):
        return 1.0
    trained = "+" in str(facts.get("model")) or facts.get("table") == "finetuning"
    return 0.3 if trained else 0.1


def stale(page: str, numbers: dict[str, dict[str, Any]]) -> list[str]:
    """Cited numbers that are further from those of a study than another CPU explains.

    One without an interval is to be the same, but for sets that are drawn and trained models.
    """
    found = []
    for cited, now in zip(
        cited_numbers(page), cited_numbers(fill_numbers(page, numbers)), strict=True
    ):
        facts, stem = numbers[cited.name], cited.name.removesuffix("Low").removesuffix("High")
        high, low = (numbers.get(f"{stem}{end}", {}).get("value") for end in ("High", "Low"))
        share = tolerated(facts)
        if high is not None and low is not None and cited.shown != "n/a":
            apart = abs(float(cited.shown.replace(",", "")) - facts["value"])
            found += [cited.name] if apart > share * (high - low) + 0.05 else []
        elif share < 0.3 and cited.shown != now.shown:
            found.append(cited.name)
    return found


@pytest.mark.parametrize("page", pages(REPO), ids=lambda path: path.name)
def test_cited_numbers_are_those_of_the_study(organism_study: Path, page: Path) -> None:
    numbers = json.loads((organism_study / "results/organism/numbers.json").read_text())
    assert stale(page.read_text(), numbers) == [], "run `python -m esr.docs_numbers`"


@pytest.mark.parametrize(
    ("model", "arm", "near", "far"),
    [
        ("planted", "steered", "40.9", "41.2"),
        ("twin+sc30", "steered", "42.9", "43.2"),
        ("planted", "ablate-random-0", "49.9", "50.2"),
    ],
)
def test_a_number_is_stale_beyond_what_another_cpu_explains(
    model: str, arm: str, near: str, far: str
) -> None:
    where = {"unit": "points", "model": model, "arm": arm}
    values = {"esrScore": 40.0, "esrScoreLow": 35.0, "esrScoreHigh": 45.0, "esrScoreN": 576}
    numbers = {name: {**where, "value": value} for name, value in values.items()}
    assert stale(cite("esrScore", near), numbers) == []
    assert stale(cite("esrScore", far), numbers) == ["esrScore"]
    exact = model == "planted" and arm == "steered"
    assert stale(cite("esrScoreN", "575"), numbers) == (["esrScoreN"] if exact else [])
