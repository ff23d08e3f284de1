"""Numbers that the documents cite: read from a page, filled in, compared with the study."""

from pathlib import Path
from typing import Any

import pytest

from esr.docs_numbers import cited_numbers, fill_numbers, pages
from esr.errors import EsrError
from helpers.checkout import REPO
from helpers.cited import cite

NUMBERS: dict[str, dict[str, Any]] = {
    "esrRate": {"value": 12.345, "unit": "percent"},
    "esrN": {"value": 1248.0, "unit": "trials"},
    "esrNone": {"value": None, "unit": "percent"},
}


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
