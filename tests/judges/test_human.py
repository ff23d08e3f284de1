"""People as judges: the sheet is blind, and what they write comes back as judgments."""

import re
from collections.abc import Callable, Set
from pathlib import Path

import pandas as pd
import pytest

from esr.agreement.compare import compare_judges
from esr.agreement.sample import sheet_weights
from esr.config import StatisticsConfig
from esr.errors import EsrError
from esr.judges import open_judge
from esr.judges.base import JudgeInput, check_spans
from esr.judges.human import FILLED, SHEET, SheetJudge, draw_sheet, flagged, row_id

N = 60
RESPONSES = [f"Boats {i}. Wait, that's not right. Bread {i}." for i in range(N)]


def sample() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "trial_id": [f"m/steered/{i:02}" for i in range(N)],
            "model": ["planted" if i % 2 else "twin" for i in range(N)],
            "arm": "steered",
            "prompt_id": "p",
            "latent": [i % 7 for i in range(N)],
            "label": "a label that nobody may see",
            "prompt": [f"Explain {i}." for i in range(N)],
            "response": RESPONSES,
            "weight": [1.0 if i < 10 else 4.0 for i in range(N)],
        }
    )


def scores(multi: Set[int], detected: Set[int] = frozenset(), status: str = "ok") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "trial_id": sample()["trial_id"],
            "status": status,
            "multi_attempt": pd.array([i in multi for i in range(N)], dtype="boolean"),
            "restart_detected": pd.array([i in detected for i in range(N)], dtype="boolean"),
            "n_attempts": pd.array([1 + (i in multi) for i in range(N)], dtype="Int64"),
            "first_score": pd.array([50.0] * N, dtype="Float64"),
            "last_score": pd.array([60.0] * N, dtype="Float64"),
            "score_change": pd.array([10.0] * N, dtype="Float64"),
            "improved": pd.array([i in multi for i in range(N)], dtype="boolean"),
        }
    )


JUDGES = {"a": scores({0, 1, 2}, {5}), "b": scores({2, 3}, {5})}
POSITIVE = {0, 1, 2, 3, 5}


# The sheet


def test_whatever_anyone_flags_is_on_the_sheet_with_as_many_others_of_the_model() -> None:
    sheet = draw_sheet(sample(), JUDGES, seed=42)
    numbers = {RESPONSES.index(response) for response in sheet["response"]}
    assert numbers >= POSITIVE
    assert len(sheet) == 2 * len(POSITIVE)
    for odd in (0, 1):
        mine = {n for n in numbers if n % 2 == odd}
        assert len(mine & POSITIVE) == len(mine - POSITIVE)


def test_the_sheet_is_blind_and_in_random_order() -> None:
    sheet = draw_sheet(sample(), JUDGES, seed=42)
    assert list(sheet) == SHEET
    assert sheet[[*FILLED, "remark"]].isna().all(axis=None)
    text = sheet.to_csv()
    for hint in ("planted", "twin", "steered", "label", "m/"):
        assert hint not in text
    flagged_first = [RESPONSES.index(r) in POSITIVE for r in sheet["response"]]
    assert flagged_first != sorted(flagged_first, reverse=True)


def test_a_seed_fixes_the_sheet() -> None:
    first, again, other = (draw_sheet(sample(), JUDGES, seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not first["row"].equals(other["row"])


def test_a_trial_that_drops_out_changes_one_row_and_the_order_of_none() -> None:
    first = draw_sheet(sample(), JUDGES, seed=1)["row"].tolist()
    rows = [row_id(f"Explain {i}.", RESPONSES[i]) for i in range(N)]
    gone = [i for i, row in enumerate(rows) if row in first and i not in POSITIVE]
    assert len(gone) == len(POSITIVE)
    for i in gone:
        judges = {name: one.drop(i).reset_index(drop=True) for name, one in JUDGES.items()}
        fewer = sample().drop(i).reset_index(drop=True)
        again = draw_sheet(fewer, judges, seed=1)["row"].tolist()
        assert set(first) - set(again) == {rows[i]}
        assert [row for row in first if row in again] == [row for row in again if row in first]


def test_what_people_found_does_not_decide_what_they_are_shown() -> None:
    people = scores(set(range(N)), status="not_labelled")
    assert flagged(JUDGES | {"people": people}).sum() == len(POSITIVE)


# Reading it back


def filled(path: Path, **rows: str) -> Path:
    """A sheet with the rows of some responses filled in."""
    sheet = draw_sheet(sample(), JUDGES, seed=42).astype(object).set_index("row", drop=False)
    for number, cells in rows.items():
        i = int(number.removeprefix("r"))
        for cell in cells.split("|"):
            column, value = cell.split("=")
            sheet.loc[row_id(f"Explain {i}.", RESPONSES[i]), column] = value
    sheet.to_csv(path / "anna.csv", index=False)
    return path / "anna.csv"


def one(i: int) -> JudgeInput:
    return JudgeInput(f"Explain {i}.", RESPONSES[i])


def test_attempts_begin_where_the_annotator_says(tmp_path: Path) -> None:
    path = filled(tmp_path, r0="score_1=10|begins_2=wait, that's not|score_2=90", r1="score_1= 70 ")
    judge = SheetJudge(path)
    assert judge.served_as == "human/anna"
    two, single, nothing = judge.judge([one(0), one(1), one(2)])
    texts = [RESPONSES[0][a.start : a.end] for a in two.attempts]
    assert texts == ["Boats 0.", "Wait, that's not right. Bread 0."]
    assert [a.score for a in two.attempts] == [10, 90]
    assert [(a.start, a.end, a.score) for a in single.attempts] == [(0, len(RESPONSES[1]), 70)]
    assert nothing.status == "not_labelled"
    for judgment, i in ((two, 0), (single, 1)):
        check_spans(judgment, RESPONSES[i])


def test_nothing_attempted_is_a_status_and_not_a_score_of_0(tmp_path: Path) -> None:
    path = filled(tmp_path, r0="score_1=none", r1="score_1=0")
    none, zero = SheetJudge(path).judge([one(0), one(1)])
    assert (none.status, none.first_score) == ("no_attempts", None)
    assert (zero.status, zero.first_score) == ("ok", 0)


def test_a_beginning_that_is_not_in_the_response_is_flagged(tmp_path: Path) -> None:
    path = filled(tmp_path, r0="score_1=1|begins_2=Nothing of the kind at all|score_2=2")
    (judgment,) = SheetJudge(path).judge([one(0)])
    assert [a.located for a in judgment.attempts] == ["exact", "not_found"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("score_1=much", "score_1 is 'much'; give points from 0 to 100"),
        ("score_1=101", "score_1 is '101'"),
        ("begins_2=Wait|score_2=3", "score_1 is ''"),
        ("score_1=3|begins_2=Wait", "score_2 is ''"),
        ("score_1=3|score_2=3", "begins_2 is empty"),
        ("score_1=3|begins_3=Wait|score_3=3", "attempt 2 is empty"),
        ("score_1=none|begins_2=Wait|score_2=3", "there are further attempts"),
    ],
)
def test_a_row_that_makes_no_sense_is_named(tmp_path: Path, cells: str, message: str) -> None:
    path = filled(tmp_path, r0=cells)
    with pytest.raises(EsrError, match=rf"anna\.csv: 1 rows:\n +line \d+, row-\w+: .*{message}"):
        SheetJudge(path)


def test_changed_texts_and_doubled_rows_are_named(tmp_path: Path) -> None:
    path = filled(tmp_path, r0="score_1=5")
    sheet = pd.read_csv(path, dtype=str)
    doubled = tmp_path / "doubled.csv"
    pd.concat([sheet, sheet]).to_csv(doubled, index=False)
    with pytest.raises(EsrError, match="twice"):
        SheetJudge(doubled)
    path.write_text(path.read_text().replace("Boats 0", "Goats 0"))
    with pytest.raises(EsrError, match="prompt or response was changed"):
        SheetJudge(path)
    sheet.drop(columns="row").to_csv(path, index=False)
    with pytest.raises(EsrError, match=r"lacks columns \['row'\]"):
        SheetJudge(path)


def test_all_rows_that_make_no_sense_are_named_at_once(tmp_path: Path) -> None:
    path = filled(tmp_path, r0="score_1=much", r1="score_1=5|begins_2=#NAME?|score_2=3")
    with pytest.raises(EsrError, match="2 rows") as caught:
        SheetJudge(path)
    assert "give points from 0 to 100" in str(caught.value)
    assert "type an apostrophe before them" in str(caught.value)


# Through a spreadsheet

AWKWARD = [
    "1. Boats sail.\n2. Wait, no.\n3. Bread.",
    "- Boats\n- Bread\r\nWait, that's not right.",
    "=SUM of parts.\rWait, no: bread.  ",
    "+1 to boats",
    "@home",
    "Crème “brûlée”. Wait, no.",
]
NUMBERED = re.compile(r"\d+|\d+e\d+|\d+\.\d*", re.IGNORECASE)


def awkward(**cells: str) -> pd.DataFrame:
    """A drawn sheet of responses that spreadsheets change, every row filled in the same way."""
    n = len(AWKWARD)
    table = sample().head(n).assign(response=AWKWARD)
    judge = {"all": scores(set(range(N))).head(n)}
    given = {"score_1": "40"} | cells
    return draw_sheet(table, judge, seed=1).astype(object).assign(**given).fillna("")


def read_back(path: Path, content: str | bytes) -> list[str]:
    """Statuses of the awkward responses as this sheet's judge sees them."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    inputs = [JudgeInput(f"Explain {i}.", text) for i, text in enumerate(AWKWARD)]
    return [judgment.status for judgment in SheetJudge(path).judge(inputs)]


SPREADSHEETS: dict[str, Callable[[pd.DataFrame], str | bytes]] = {
    "as drawn": lambda sheet: sheet.to_csv(index=False),
    "byte order mark": lambda sheet: sheet.to_csv(index=False).encode("utf-8-sig"),
    "CRLF in cells and rows": lambda sheet: sheet.to_csv(index=False).replace("\n", "\r\n"),
    "semicolons": lambda sheet: sheet.to_csv(index=False, sep=";"),
    "UTF-16, tabs": lambda sheet: sheet.to_csv(index=False, sep="\t").encode("utf-16"),
    "blanks trimmed, quotes curled": lambda sheet: sheet.assign(
        response=sheet["response"].str.strip().str.replace("'", "’")
    ).to_csv(index=False),
    "formulas lost": lambda sheet: sheet.assign(
        response=sheet["response"].mask(sheet["response"].str.startswith("'"), "#NAME?")
    ).to_csv(index=False),
    "ids as numbers": lambda sheet: sheet.assign(row="4.1E+11").to_csv(index=False),
    "decimal comma": lambda sheet: sheet.assign(score_1="40,5").to_csv(index=False),
    "sorted, empty rows": lambda sheet: (
        sheet.sort_values("row").to_csv(index=False) + "," * (len(SHEET) - 1) + "\n"
    ),
}


@pytest.mark.parametrize("saved", SPREADSHEETS)
def test_an_annotators_afternoon_comes_back_from_a_spreadsheet(tmp_path: Path, saved: str) -> None:
    statuses = read_back(tmp_path / "anna.csv", SPREADSHEETS[saved](awkward()))
    assert statuses == ["ok"] * len(AWKWARD)


def test_no_cell_of_a_sheet_is_a_formula_or_breaks_its_row() -> None:
    sheet = awkward()
    for column in ("row", "prompt", "response"):
        assert not sheet[column].str.strip().str.startswith(tuple("=+-@")).any()
        assert not sheet[column].str.contains("\r").any()
    assert not any(NUMBERED.fullmatch(row_id("p", str(i))) for i in range(2000))


def test_a_sheet_in_another_encoding_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(EsrError, match=r"anna\.csv, line \d+: byte .*; save it as UTF-8"):
        read_back(tmp_path / "anna.csv", awkward().to_csv(index=False).encode("cp1252"))


def test_an_id_beside_the_texts_of_another_row_is_refused(tmp_path: Path) -> None:
    sheet = awkward()
    sheet["row"] = sheet["row"].to_list()[1:] + sheet["row"].to_list()[:1]
    with pytest.raises(EsrError, match=rf"{len(AWKWARD)} rows:\n.*was changed"):
        read_back(tmp_path / "anna.csv", sheet.to_csv(index=False))


def test_the_kind_selects_the_judge(tmp_path: Path) -> None:
    from esr.config import HumanJudgeConfig

    judge = open_judge(HumanJudgeConfig(kind="human", sheet=filled(tmp_path, r0="score_1=5")))
    assert judge.judge([one(0)])[0].first_score == 5


# One more row of agreement


def labelled(on_sheet: set[int], multi: set[int]) -> pd.DataFrame:
    table = scores(multi)
    outside = ~table.index.isin(on_sheet)
    table.loc[outside, "status"] = "not_labelled"
    for column in ("multi_attempt", "n_attempts", "first_score", "last_score", "improved"):
        table.loc[outside, column] = pd.NA
    return table


def test_trials_on_the_sheet_stand_for_those_that_are_not() -> None:
    on_sheet = {RESPONSES.index(r) for r in draw_sheet(sample(), JUDGES, 42)["response"]}
    people = labelled(on_sheet, {0, 1})
    weights = sheet_weights(sample(), JUDGES | {"people": people}, ("people", "a"))
    assert (weights > 0).sum() == len(on_sheet)
    assert weights.sum() == pytest.approx(sample()["weight"].sum())
    for model in ("planted", "twin"):
        mine = sample()["model"].eq(model)
        assert weights[mine].sum() == pytest.approx(sample()["weight"][mine].sum())
    untouched = sheet_weights(sample(), JUDGES | {"people": people}, ("a", "b"))
    assert untouched.tolist() == sample()["weight"].tolist()


def test_people_are_one_more_judge_whose_rate_is_not_that_of_the_rich_sheet() -> None:
    on_sheet = {RESPONSES.index(r) for r in draw_sheet(sample(), JUDGES, 42)["response"]}
    judges = JUDGES | {"people": labelled(on_sheet, {0, 1, 2})}
    table = compare_judges(sample(), judges, StatisticsConfig(bootstrap=200))
    table = table[table["arm"].eq("all")].set_index(
        ["quantity", "judge_a", "judge_b", "statistic", "weighting"]
    )
    mine = "multi_attempt", "people", "people", "rate"
    assert table.loc[(*mine, "sample"), "estimate"] == pytest.approx(3 / 10)
    # They flag what judge a flags, who saw everything: so their rates are the same.
    assert table.loc[(*mine, "population"), "estimate"] == pytest.approx(
        3 / sample()["weight"].sum()
    )
    pair = "multi_attempt", "a", "people", "agreement", "population"
    assert table.loc[pair, "estimate"] == pytest.approx(1)
    assert table.loc[pair, "n"] == len(on_sheet)
