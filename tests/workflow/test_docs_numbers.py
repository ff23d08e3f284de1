"""Numbers that the documents cite: read from a page, filled in, compared with the study."""

import json
from pathlib import Path
from typing import Any

import pytest

from esr.docs_numbers import cited_numbers, fill_numbers, pages
from esr.errors import EsrError
from helpers.checkout import REPO

NUMBERS: dict[str, dict[str, Any]] = {
    "esrRate": {"value": 12.345, "unit": "percent"},
    "esrN": {"value": 1248.0, "unit": "trials"},
    "esrNone": {"value": None, "unit": "percent"},
}


def cite(name: str, shown: str, form: str = "") -> str:
    return f"<!-- {name}{form and ' ' + form} -->{shown}<!-- / -->"


def test_a_page_is_filled_with_values_as_the_macros_print_them() -> None:
    page = f"In {cite('esrRate', '?')} % of {cite('esrN', '?')}; {cite('esrNone', '?')}."
    filled = fill_numbers(page, NUMBERS)
    assert [cited.shown for cited in cited_numbers(filled)] == ["12.3", "1,248", "n/a"]
    assert fill_numbers(filled, NUMBERS) == filled


def test_a_format_overrides_the_decimals() -> None:
    assert fill_numbers(cite("esrRate", "0", ".0f"), NUMBERS) == cite("esrRate", "12", ".0f")


def test_an_unknown_name_and_an_open_citation_are_errors() -> None:
    with pytest.raises(EsrError, match=r"esrRates is not in results/organism/numbers\.json"):
        fill_numbers(cite("esrRates", "1"), NUMBERS)
    with pytest.raises(EsrError, match=r"1 citations begin .* but 0 are complete"):
        cited_numbers("<!-- esrRate -->12.3")


@pytest.mark.parametrize("page", pages(REPO), ids=lambda path: path.name)
def test_every_citation_of_a_page_is_complete_and_has_its_number(page: Path) -> None:
    for cited in cited_numbers(page.read_text()):
        assert cited.shown == "n/a" or cited.shown[-1].isdigit(), cited


@pytest.mark.slow
@pytest.mark.parametrize("page", pages(REPO), ids=lambda path: path.name)
def test_cited_numbers_are_those_of_the_study(organism_study: Path, page: Path) -> None:
    """Exactly; a number of a model that is trained within the study, within its interval.

    Training rounds differently on another CPU, so such a model has other weights there.
    """
    numbers = json.loads((organism_study / "results/organism/numbers.json").read_text())
    text = page.read_text()
    fresh = cited_numbers(fill_numbers(text, numbers))
    for cited, now in zip(cited_numbers(text), fresh, strict=True):
        facts = numbers[cited.name]
        trained = "+" in str(facts.get("model")) or facts.get("table") == "finetuning"
        if not trained:
            assert cited.shown == now.shown, f"{cited.name}: run `python -m esr.docs_numbers`"
        elif facts["part"] in ("estimate", "low", "high"):
            stem = cited.name.removesuffix("Low").removesuffix("High")
            width = numbers[f"{stem}High"]["value"] - numbers[f"{stem}Low"]["value"]
            assert abs(float(cited.shown) - facts["value"]) <= 0.3 * width + 0.05, cited.name
