"""The label sheet in a real browser: what an annotator types comes back as judgments."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from esr.agreement.label_page import label_page
from esr.judges.base import JudgeInput
from esr.judges.human import NOT_LABELLED, SHEET, SheetJudge, row_id
from helpers.browser import DESK, PHONE, Reader, expect
from helpers.checkout import REPO

TWICE = "No, wait. Go on. No, wait. Go on. No, wait. Go on with it."
RESPONSES = [
    "Boats are fast. Wait, that's not right. Mix flour, water and salt.",
    TWICE,
    '</script><b>bold</b> & "quoted", with\r\na line\rand\n\nblanks  . ',
    "Boats.",
    "=1+1 is no formula. é ’ 中",
]
INPUTS = [JudgeInput(f"Explain {i}, <i>please</i>.", text) for i, text in enumerate(RESPONSES)]


def written(folder: Path, inputs: list[JudgeInput]) -> Path:
    """A sheet's page in a folder."""
    rows = [{"row": row_id(i.prompt, i.response), "prompt": i.prompt} for i in inputs]
    sheet = pd.DataFrame(rows).assign(response=[one.response for one in inputs])
    parts = ["labels/sheet.html", "labels/sheet.js", "report/style.css", "labels/sheet.css"]
    html, script, *styles = ((REPO / "resources" / part).read_text() for part in parts)
    page = label_page(sheet.reindex(columns=SHEET), html, "\n".join(styles), script)
    (folder / "sheet.html").write_text(page, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("sheet"), INPUTS)


@pytest.fixture(scope="module")
def desk(browser: Any, folder: Path) -> Iterator[Reader]:
    reader = Reader(browser, folder)
    yield reader
    reader.context.close()


@pytest.fixture
def reader(desk: Reader, folder: Path) -> Iterator[Reader]:
    desk.clear()
    yield desk
    desk.page.evaluate("localStorage.clear()")
    assert desk.errors == []
    assert all(url.startswith((folder.as_uri(), "blob:")) for url in desk.requests)


def saved(page: Any, folder: Path) -> Path:
    with page.expect_download() as download:
        page.click("#save")
    path = folder / "labels.csv"
    download.value.save_as(path)
    return path


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_a_sheet_filled_in_by_keyboard_is_read_back(reader: Reader, tmp_path: Path) -> None:
    page = reader.open("sheet")
    expect(page.locator("#count")).to_have_text("0 of 5 labelled")
    press(page, "4", "0", "ArrowDown", "Space", "9", "0", "Enter")  # a second attempt
    press(page, "5", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "Space", "7", "Enter")
    press(page, "r")
    page.keyboard.type('a "remark", = with commas')
    press(page, "Escape", "1", "0", "0", "Enter")
    press(page, "n", "Enter")
    expect(page.locator("#count")).to_have_text("4 of 5 labelled")
    path = saved(page, tmp_path)
    judgments = SheetJudge(path).judge(INPUTS)
    found = [one.status for one in judgments]
    assert found == ["ok", "ok", "ok", "no_attempts", NOT_LABELLED]
    spans = [[(a.start, a.score) for a in one.attempts] for one in judgments]
    assert spans[0] == [(0, 40), (RESPONSES[0].index("Wait"), 90)]
    assert spans[1] == [(0, 5), (TWICE.rindex("No, wait."), 7)], "not the same words before"
    assert spans[2] == [(0, 100)]
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert list(table) == SHEET
    assert table["remark"][2] == 'a "remark", = with commas'


def test_labels_outlive_the_page(reader: Reader, tmp_path: Path) -> None:
    page = reader.open("sheet")
    press(page, "3", "0", "Enter")
    page = reader.open("sheet")
    expect(page.locator("#place")).to_have_text("Response 2 of 5")
    expect(page.locator("#count")).to_have_text("1 of 5 labelled")
    first, *_ = SheetJudge(saved(page, tmp_path)).judge(INPUTS)
    assert first.status == "ok"


def test_a_word_is_marked_by_a_click_and_the_mark_taken_back(reader: Reader) -> None:
    page = reader.open("sheet")
    page.click(".response >> text=Mix")
    expect(page.locator(".begin")).to_have_text("Mix")
    expect(page.locator("q")).to_have_text("Mix flour, water and salt.")
    press(page, "u")
    expect(page.locator(".begin")).to_have_count(0)
    page.click(".response span >> nth=0")
    expect(page.locator(".begin")).to_have_count(0), "the first attempt begins there already"
    for word in ("are", "fast.", "right.", "salt."):
        page.click(f".response >> text={word}")
    expect(page.locator(".begin")).to_have_count(3)
    expect(page.locator("#problem")).to_have_text("The sheet has room for 4 attempts.")


def test_points_out_of_range_are_not_passed_over(reader: Reader) -> None:
    page = reader.open("sheet")
    press(page, "1", "0", "1", "x", "Enter")
    expect(page.locator("#problem")).to_have_text("Give points from 0 to 100.")
    expect(page.locator("#place")).to_have_text("Response 1 of 5")
    expect(page.locator("#count")).to_have_text("0 of 5 labelled")


def test_texts_are_shown_as_text(reader: Reader) -> None:
    page = reader.open("sheet")
    press(page, "ArrowRight", "ArrowRight")
    shown = page.locator("#response").evaluate("box => box.textContent")
    assert shown == RESPONSES[2]
    assert page.locator("#response b, #prompt i").count() == 0


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen(reader: Reader, size: Any, scheme: str) -> None:
    with reader.on(size, scheme):
        page = reader.open("sheet")
        page.click(".response >> text=Wait,")
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert page.locator("h1").count() == 1
        expect(page.locator("summary")).to_be_visible()


def test_a_response_takes_little_of_its_18_seconds(browser: Any, tmp_path: Path) -> None:
    """At 200 responses an hour each has 18 seconds, which belong to the annotator."""
    many = [JudgeInput(f"Explain {i}.", f"{i} " + "Some boats. " * 200) for i in range(200)]
    reader = Reader(browser, written(tmp_path, many))
    page = reader.open("sheet")
    begun = time.monotonic()
    for _ in range(3):
        press(page, "5", "0", "ArrowDown", "Space", "8", "0", "Enter")
    assert time.monotonic() - begun < 3 * 9
    expect(page.locator("#count")).to_contain_text("3 of 200 labelled")
    reader.context.close()
