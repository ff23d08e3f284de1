"""Measured numbers in the documents: `python -m esr.docs_numbers` in the project's folder.

A page cites a number of the organism study by its name in `results/organism/numbers.json`:

    the success rate is <!-- esrPlantedSteeredSuccessRate -->69.0<!-- / --> %

The comments are invisible in the rendered page. This command writes the current values between
them, in `README.md` and `docs/*.md`. A format after the name overrides the default number of
decimals: `<!-- esrPlantedSteeredSuccessRate .0f -->`. A test of the organism study compares
every cited number with the study.
"""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from esr.analysis.macros import tex_number
from esr.errors import EsrError

log = logging.getLogger(__name__)

NUMBERS = Path("results/organism/numbers.json")
CITATION = re.compile(r"<!-- (esr\w+)(?: ([\w.,+]+))? -->(.*?)<!-- / -->")
OPENING = "<!-- esr"


class CitedNumber(NamedTuple):
    """A number that a page shows.

    Attributes:
        name: Name in `numbers.json`.
        form: Format specification of Python, or None for the default of the number's unit.
        shown: The text between the comments.
    """

    name: str
    form: str | None
    shown: str


def pages(folder: Path = Path()) -> list[Path]:
    """The documents that may cite numbers: the README and `docs/*.md`."""
    return [folder / "README.md", *sorted((folder / "docs").glob("*.md"))]


def cited_numbers(text: str) -> list[CitedNumber]:
    """All numbers that a page cites, in order.

    Raises:
        EsrError: a citation is not of the form above.
    """
    found = [CitedNumber(*match.groups()) for match in CITATION.finditer(text)]
    if len(found) != text.count(OPENING):
        raise EsrError(
            f"{text.count(OPENING)} citations begin with `{OPENING}`, but {len(found)} are "
            f"complete; write `{OPENING}NAME -->VALUE<!-- / -->`, on one line"
        )
    return found


def show_number(number: Mapping[str, Any], form: str | None = None) -> str:
    """A number as a page shows it: with a format, or as the LaTeX macro prints it."""
    if form is None or number["value"] is None:
        return tex_number(number).replace("{,}", ",")
    return format(number["value"], form)


def fill_numbers(text: str, numbers: Mapping[str, Mapping[str, Any]]) -> str:
    """A page with the current value of every number that it cites.

    Raises:
        EsrError: the study has no number of that name.
    """
    for cited in cited_numbers(text):
        if cited.name not in numbers:
            raise EsrError(f"{cited.name} is not in {NUMBERS}; look up its name there")

    def value(match: re.Match[str]) -> str:
        opening = match[0].split("-->")[0]
        return f"{opening}-->{show_number(numbers[match[1]], match[2])}<!-- / -->"

    return CITATION.sub(value, text)


def main() -> None:
    """Write the current numbers into every page of the current folder."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not NUMBERS.is_file():
        raise SystemExit(f"{NUMBERS} does not exist; run `snakemake numbers` first")
    numbers = json.loads(NUMBERS.read_text(encoding="utf-8"))
    for path in pages():
        before = path.read_text(encoding="utf-8")
        try:
            after = fill_numbers(before, numbers)
        except EsrError as error:
            raise SystemExit(f"{path}: {error}") from None
        if after != before:
            path.write_text(after, encoding="utf-8")
            log.info("updated %s", path)


if __name__ == "__main__":
    main()
