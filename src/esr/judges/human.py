"""People as judges: a blinded sheet to fill in, and the filled-in sheet read back as a judge.

The sheet shows prompt and response only: no model, arm, latent, label or judge. A row is identified
by a hash of what it shows, so a sheet may be sorted, split, or filled in by several people. The
hash is of the normalised texts: what a spreadsheet does to blanks, line ends and quotes changes
nothing.
"""

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from esr.errors import EsrError
from esr.handwritten import read_csv_rows
from esr.judges.base import Attempt, JudgeInput, Judgment
from esr.judges.locate import locate
from esr.text import fold

MOST = 4
"""Attempts that a sheet has room for."""
SHOWN = ["row", "prompt", "response"]
FILLED = ["score_1"] + [f"{name}_{i}" for i in range(2, MOST + 1) for name in ("begins", "score")]
SHEET = [*SHOWN, *FILLED, "remark"]
NOTHING = "none"
"""What an annotator writes as the first score of a response without an attempt."""
NOT_LABELLED = "not_labelled"
FORMULA = "=+-@\t\r"
"""Characters with which a spreadsheet takes a cell for a formula."""
LOST = re.compile(r"#[A-Z/0]+[?!]|#N/A")
"""What a spreadsheet writes in place of a cell that it took for a formula."""
ROW_ID = re.compile(r"row-[0-9a-f]{12}")


def row_id(prompt: str, response: str) -> str:
    """Id of a row: a prefix, so that none looks like a number, and 12 hex digits of a SHA-256.

    The hash is of what the row shows, folded (`esr.text.fold`) and without blanks and guards.
    """
    shown = "\0".join(_unguarded("".join(fold(text).split())) for text in (prompt, response))
    return f"row-{hashlib.sha256(shown.encode()).hexdigest()[:12]}"


def guarded(text: str) -> str:
    """A cell that no spreadsheet takes for a formula or cuts at a lone carriage return.

    An apostrophe goes before a character that begins a formula (OWASP, CSV injection).
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if text.lstrip()[:1] in tuple(FORMULA) else text


def _unguarded(text: str) -> str:
    text = text.strip()
    return text[1:] if text[:1] == "'" and text[1:].lstrip()[:1] in tuple(FORMULA) else text


def flagged(scores: Mapping[str, pd.DataFrame]) -> pd.Series:
    """Trials of the sample in which any judge, or the restart detector, finds several attempts.

    Args:
        scores: Scores of the sample by judge, rows in the order of the sample. What people found
            does not count: the sheet is drawn before they see it.
    """
    tables = list(scores.values())
    found = tables[0]["restart_detected"].fillna(False).astype(bool)
    for table in tables:
        if not table["status"].eq(NOT_LABELLED).any():
            found |= table["multi_attempt"].fillna(False).astype(bool)
    return found


def largest_cap(sizes: Sequence[int], cap: int, most: int) -> int:
    """Largest number, at most `cap`, such that strata cut to it add up to at most `most`."""
    return next((n for n in range(cap, 0, -1) if sum(min(size, n) for size in sizes) <= most), 0)


def draw_sheet(
    sample: pd.DataFrame, scores: Mapping[str, pd.DataFrame], seed: int, most: int = 1_000_000
) -> pd.DataFrame:
    """Draw the sheet: flagged trials of every model and arm and, from each, as many unflagged ones.

    Args:
        sample: Table `sample` of the cross-judge agreement.
        scores: Scores of it by judge.
        seed: Of the draw and of the order.
        most: Maximum number of rows. All flagged trials are on the sheet if this allows it;
            otherwise the same number of every model and arm (all, if it has fewer).

    Returns:
        Rows in random order, with the columns of `SHEET`, to be filled in.
    """
    positive = flagged(scores).to_numpy()
    rows = [row_id(one.prompt, one.response) for one in sample.itertuples()]
    trials = sample.assign(positive=positive, row=rows).drop_duplicates("row")
    # A row has a lot and a place of its own, so that one more or less does not move the others.
    for column in ("lot", "place"):
        trials[column] = [random.Random(f"{seed}/{column}/{row}").random() for row in trials["row"]]
    cells = [group for _, group in trials.groupby(["model", "arm"])]
    counts = [int(group["positive"].sum()) for group in cells]
    cap = largest_cap(counts, max(counts, default=0), most // 2)
    chosen: list[int] = []
    for group, count in zip(cells, counts, strict=True):
        for part in (group[group["positive"]], group[~group["positive"]]):
            chosen += part.sort_values("lot").index[: min(count, cap)].tolist()
    sheet = trials.loc[chosen].sort_values("place")[SHOWN].reindex(columns=SHEET)
    for column in ("prompt", "response"):
        sheet[column] = sheet[column].map(guarded)
    return sheet


class SheetJudge:
    """An annotator: the judgments on a filled-in sheet."""

    def __init__(self, path: Path) -> None:
        """Read the sheet.

        Raises:
            EsrError: not a sheet, or a row with invalid entries.
        """
        self.served_as = f"human/{path.stem}"
        self._rows = read_sheet(path)

    def judge(self, inputs: Sequence[JudgeInput]) -> list[Judgment]:
        """The annotator's judgments; `not_labelled` for empty rows and those not on the sheet."""
        return [self._judge(one) for one in inputs]

    def _judge(self, one: JudgeInput) -> Judgment:
        attempts = self._rows.get(row_id(one.prompt, one.response))
        if attempts is None:
            return Judgment(NOT_LABELLED)
        if not attempts:
            return Judgment("no_attempts")
        # The first attempt begins where the response begins; the sheet does not repeat it.
        response = one.response
        openings = [response.strip()[:1], *(begins for begins, _ in attempts[1:])]
        spans = locate(openings, response, opening=True)
        return Judgment(
            "ok",
            tuple(
                Attempt(span.start, span.end, score, span.how)
                if span
                else Attempt(None, None, score, "not_found")
                for span, (_, score) in zip(spans, attempts, strict=True)
            ),
        )


Labels = list[tuple[str, float]]
"""How each attempt begins (the first one: empty), and its score (points)."""


def read_sheet(path: Path) -> dict[str, Labels]:
    """Filled-in rows by their id; a response without an attempt has an empty list.

    An id that a spreadsheet made a number of is computed again from the texts. A text that it took
    for a formula is known by its id.

    Raises:
        EsrError: no readable CSV (`esr.handwritten`), other columns, or rows with invalid entries:
            all of them, by line.
    """
    columns, table, lines = read_csv_rows(path)
    lacking = [name for name in SHEET if name not in columns]
    if lacking:
        raise EsrError(f"sheet: {path} lacks columns {lacking}; keep those that it came with")
    rows: dict[str, Labels] = {}
    problems: list[str] = []
    for line, given in zip(lines, table, strict=True):
        if not any(given[name] for name in FILLED):
            continue
        try:
            name = _row_of(given)
            if name in rows:
                raise ValueError("this row is there twice; give each annotator a file")
            rows[name] = _labels(given)
        except ValueError as error:
            problems.append(f"line {line}, {given['row']}: {error}")
    if problems:
        raise EsrError(f"sheet: {path}: {len(problems)} rows:\n  " + "\n  ".join(problems))
    return rows


def _row_of(given: Mapping[str, str]) -> str:
    """Id of a filled-in row.

    Raises:
        ValueError: its texts are those of another row, or neither they nor the id are left.
    """
    shown = row_id(given["prompt"], given["response"])
    known = ROW_ID.fullmatch(given["row"]) is not None
    if known and any(LOST.fullmatch(given[name]) for name in ("prompt", "response")):
        return given["row"]
    if known and given["row"] != shown:
        raise ValueError(
            "prompt or response was changed; restore them from the sheet as it was drawn"
        )
    return shown


def _labels(given: Mapping[str, str]) -> Labels:
    if given["score_1"].lower() == NOTHING:
        if any(given[name] for name in FILLED[1:]):
            raise ValueError(f"`{NOTHING}` in score_1, but there are further attempts")
        return []
    labels = [("", _score(given["score_1"], "score_1"))]
    for i in range(2, MOST + 1):
        begins = given[f"begins_{i}"]
        score = given[f"score_{i}"]
        if not begins and not score:
            if any(
                given[f"{name}_{j}"] for j in range(i, MOST + 1) for name in ("begins", "score")
            ):
                raise ValueError(f"attempt {i} is empty, but a later one is not")
            break
        if not begins:
            raise ValueError(f"begins_{i} is empty; copy the first words of that attempt")
        if LOST.fullmatch(begins):
            raise ValueError(
                f"begins_{i} is {begins}: the spreadsheet took the words for a formula; type an "
                "apostrophe before them"
            )
        labels.append((_unguarded(begins), _score(score, f"score_{i}")))
    return labels


def _score(text: str, column: str) -> float:
    try:
        score = float(text.replace(",", "."))  # a decimal comma
    except ValueError:
        score = -1
    if not 0 <= score <= 100:
        raise ValueError(f"{column} is {text!r}; give points from 0 to 100")
    return score
