"""The report in a real browser, opened from disk: what a reader sees, clicks and types."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from esr.analysis.claims import VERDICTS
from helpers.browser import DESK, PHONE, Reader, expect
from helpers.report_fixture import (
    ARMS,
    CONTINUED,
    FIRST,
    HOSTILE,
    RESTART,
    SECOND,
    heat,
    trials,
    write_site,
)

MANY, SOME = 25_000, 600
PAGES = ["index", "figures", "tables", "transcripts", "graph", "provenance"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "report"
    assert write_site(folder, SOME) == SOME
    return folder


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large") / "report"
    assert write_site(folder, MANY) >= MANY
    return folder


@pytest.fixture(scope="module")
def desk(browser: Any, folder: Path) -> Iterator[Reader]:
    reader = Reader(browser, folder)
    yield reader
    reader.context.close()


@pytest.fixture
def reader(desk: Reader) -> Iterator[Reader]:
    desk.clear()
    yield desk
    assert desk.page.evaluate("localStorage.length + sessionStorage.length") == 0, (
        "nothing to clear"
    )
    assert desk.errors == []
    assert all(url.startswith(desk.folder.as_uri()) for url in desk.requests)


@pytest.fixture(
    params=[(size, scheme) for size in (DESK, PHONE) for scheme in ("light", "dark")],
    ids=["desk-light", "desk-dark", "phone-light", "phone-dark"],
)
def screen(reader: Reader, request: pytest.FixtureRequest) -> Iterator[Reader]:
    with reader.on(*request.param):
        yield reader


@cache
def index_rows() -> list[dict[str, Any]]:
    return [row["index"] | {"prompt": row["text"]["prompt"]} for row in trials(SOME)]


def expected(**wanted: Any) -> int:
    """Number of trials with these values in the index."""
    return sum(all(row[name] == value for name, value in wanted.items()) for row in index_rows())


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_from_disk_and_fits_the_screen(screen: Reader, name: str) -> None:
    page = screen.open(name)
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert page.locator("nav a[aria-current]").inner_text() in page.title()


class TestFilters:
    @pytest.mark.parametrize(
        ("control", "option", "wanted"),
        [
            ("model", "Small model", {"model": "small"}),
            ("arm", "ablate-otd", {"arm": "ablate-otd"}),
            ("prompt", "Explain how to bake bread 3", {"prompt": "Explain how to bake bread 3"}),
            ("attempts", "two or more", {"n_attempts": 2}),
            ("status", "refused", {"status": "refused"}),
            ("change", "better by 20 or more", {"n_attempts": 2}),
            ("flag", "activations read", {"traced": True}),
        ],
    )
    def test_each_filter_leaves_what_it_names(
        self, reader: Reader, control: str, option: str, wanted: dict[str, Any]
    ) -> None:
        page = reader.open()
        page.locator(f"[name={control}]").select_option(label=option)
        assert reader.count() == expected(**wanted) > 0

    def test_filters_combine_and_are_cleared(self, reader: Reader) -> None:
        page = reader.open()
        page.locator("[name=arm]").select_option(label="steered")
        page.locator("[name=label]").fill("VIOLINS: 13")
        assert reader.count() == expected(arm="steered", latent=13) > 0
        page.get_by_role("button", name="Clear filters").click()
        expect(page.locator("#count")).to_have_text(re.compile(f"^{SOME} of"))

    def test_the_search_finds_words_of_label_and_prompt_numbers_and_markup(
        self, reader: Reader
    ) -> None:
        page = reader.open()
        for words, wanted in [
            ("violins: 4 bread", {"prompt": "Explain how to bake bread 4"}),
            ("<i>strings</i>", {}),
            ("nowhere", {"arm": "nowhere"}),
        ]:
            page.locator("[name=q]").fill(words)
            if wanted.get("prompt"):
                assert 0 < reader.count() < SOME
            else:
                assert reader.count() == expected(**wanted)

    def test_words_of_responses_are_found_too(self, reader: Reader) -> None:
        page = reader.open()
        page.locator("[name=texts]").check()
        page.locator("[name=q]").fill("That is not right")
        wanted = expected(n_attempts=2)
        expect(page.locator("#count")).to_have_text(f"{wanted} of {SOME} trials")
        page.locator("[name=model]").select_option(label="Small model")
        wanted = expected(n_attempts=2, model="small")
        expect(page.locator("#count")).to_have_text(f"{wanted} of {SOME} trials")
        assert "texts=1" in page.url

    def test_only_what_is_seen_of_25_000_trials_is_drawn(self, browser: Any, large: Path) -> None:
        reader = Reader(browser, large)
        page = reader.open()
        assert reader.count() >= MANY
        assert 0 < page.locator(".trial").count() < 40
        page.locator("#list").evaluate("list => { list.scrollTop = list.scrollHeight }")
        last = page.locator(".trial").last
        expect(last).to_have_attribute("aria-posinset", str(reader.count()))
        assert page.locator(".trial").count() < 40
        page.locator("[name=label]").fill("violins: 19")
        assert 0 < reader.count() < MANY
        assert 0 < page.locator(".trial").count() < 40
        assert reader.errors == []
        reader.context.close()

    def test_texts_are_loaded_when_they_are_opened(self, reader: Reader) -> None:
        page = reader.open()
        assert not any("chunk-" in url for url in reader.requests)
        page.locator(".trial").first.click()
        page.locator(".response").wait_for()
        assert [url.rsplit("/", 1)[1] for url in reader.requests if "chunk-" in url] == [
            "chunk-0.js"
        ]


class TestTranscript:
    def open_first(self, reader: Reader) -> Any:
        page = reader.open()
        page.locator(".trial").first.click()
        page.locator(".response").wait_for()
        return page

    def test_what_the_model_wrote_is_text_and_never_html(self, reader: Reader) -> None:
        page = self.open_first(reader)
        text = page.locator(".words").evaluate_all(
            "all => all.map(each => each.textContent).join('')"
        )
        assert text == HOSTILE + FIRST + RESTART + SECOND
        kinds = page.locator(".reader *").evaluate_all("all => all.map(each => each.tagName)")
        assert not {"SCRIPT", "IMG", "A", "STRONG", "I", "B"} & set(kinds)
        assert page.evaluate("globalThis.broken") is None

    def test_attempts_have_their_scores_and_begin_where_the_judge_says(
        self, reader: Reader
    ) -> None:
        page = self.open_first(reader)
        assert page.locator(".tag").all_inner_texts() == [
            "Attempt 1 · 12 points",
            "Attempt 2 · 81 points",
        ]
        second = page.locator(".attempt").nth(1).locator(".words")
        assert second.inner_text().strip() == (RESTART + SECOND).strip()  # after two emoji
        assert "low" in page.locator(".attempt").first.get_attribute("class")
        assert "".join(page.locator("mark").all_inner_texts()) == "Wait, that is not"

    def test_a_prefix_is_grey_up_to_where_the_continuation_begins(self, reader: Reader) -> None:
        page = reader.open(state=f"#model=large&open=large/steered/steered-{CONTINUED}")
        article = page.locator("article.transcript")
        expect(article.locator(".given")).to_have_text(FIRST)
        expect(article.locator(".own")).to_have_text("Wait, that is not")
        first, second = article.locator(".tag").all()
        expect(first).to_have_text("Attempt 1 · 12 points · begins in the given text")
        expect(second).to_have_text("Attempt 2 · 81 points")
        told = f"an off-topic text: {len(FIRST)} of at most {len(FIRST)} characters, in grey"
        expect(article.locator("dd", has_text="an off-topic text")).to_have_text(told)

    def test_the_heat_strip_lies_under_the_tokens_it_is_of(self, reader: Reader) -> None:
        page = self.open_first(reader)
        shown = page.locator(".token").evaluate_all(
            "all => all.map(each => [each.textContent, each.style.getPropertyValue('--heat')])"
        )
        response = HOSTILE + FIRST + RESTART + SECOND
        tokens = heat(response)
        assert "".join(text for text, _ in shown) == "".join(
            response[int(a) : int(b)] for a, b, _ in tokens
        )
        assert float(shown[0][1]) == pytest.approx(min(1, tokens[0][2] / 100), abs=0.001)
        assert float(shown[0][1]) > float(shown[-1][1])
        page.locator("[name=heat]").select_option("")
        expect(page.locator(".token")).to_have_count(0)

    def test_the_same_trial_under_another_condition_is_shown_beside_it(
        self, reader: Reader
    ) -> None:
        page = self.open_first(reader)
        beside = page.locator("[name=beside]")
        assert beside.locator("option").all_inner_texts() == ["nothing", *ARMS[1:]]
        beside.select_option(label="ablate-otd")
        expect(page.locator(".transcript")).to_have_count(2)
        first, second = page.locator(".transcript").all()
        assert first.locator("h3").inner_text() == "steered"
        assert second.locator("h3").inner_text() == "ablate-otd"
        about = second.locator(".about").inner_text()
        assert "2 latents, 50 % of their contribution" in about
        assert "from the first of the prompt until before 40" in about
        assert "1, 2" in about
        assert "the set random" in about
        boxes = [each.bounding_box() for each in (first, second)]
        assert boxes[0]["y"] == boxes[1]["y"]
        assert boxes[0]["x"] < boxes[1]["x"]

    def test_a_failure_is_a_status_and_no_score(self, reader: Reader) -> None:
        page = reader.open()
        page.locator("[name=status]").select_option(label="refused")
        assert page.locator(".scores").first.inner_text() == "refused"
        page.locator(".trial").first.click()
        page.get_by_text("No response: refused").wait_for()

    def test_a_view_can_be_sent_as_an_address(self, reader: Reader) -> None:
        page = self.open_first(reader)
        page.locator("[name=beside]").select_option(label="unsteered")
        page.locator("[name=attempts]").select_option(label="two or more")
        expect(page.locator(".transcript")).to_have_count(2)
        address = page.url
        assert "open=large%2Fsteered%2Fsteered-0" in address
        reader.visit(address)
        expect(page.locator(".transcript")).to_have_count(2)
        assert page.locator("[name=attempts]").input_value() == "2+"
        assert page.locator(".trial[aria-selected=true]").count() == 1


class TestKeyboardAndPhone:
    def test_a_transcript_can_be_found_and_read_without_a_mouse(self, reader: Reader) -> None:
        page = reader.open()
        page.keyboard.press("/")
        page.keyboard.type("violins: 3")
        page.keyboard.press("Enter")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        assert page.locator(".trial[aria-selected=true]").get_attribute("aria-posinset") == "2"
        chosen = page.locator("#list").get_attribute("aria-activedescendant")
        assert page.locator(f"#{chosen}").get_attribute("aria-selected") == "true"
        page.keyboard.press("Enter")
        expect(page.locator("#reader")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator("#list")).to_be_focused()
        page.keyboard.press("End")
        last = page.locator(".trial[aria-selected=true]")
        assert last.get_attribute("aria-posinset") == str(reader.count())

    def test_on_a_phone_a_transcript_takes_the_screen_and_gives_it_back(
        self, reader: Reader
    ) -> None:
        with reader.on(PHONE):
            page = reader.open()
            assert not page.locator("#reader").is_visible()
            page.locator(".trial").first.click()
            page.locator(".response").wait_for()
            assert not page.locator("#list").is_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
            page.get_by_role("button", name="Trials").click()
            assert page.locator("#list").is_visible()


def test_the_policy_forbids_scripts_in_the_page(reader: Reader) -> None:
    page = reader.open()
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'globalThis.ran = 1';"
        " document.body.append(s) }"
    )
    assert page.evaluate("globalThis.ran") is None
    assert any("Content Security Policy" in error for error in reader.errors)
    reader.errors.clear()


def test_a_table_is_sorted_by_the_head_of_a_column(reader: Reader) -> None:
    page = reader.open("tables")
    table = page.locator("#summary table")
    table.get_by_role("button", name="estimate").click()
    column = table.locator("tbody td:nth-child(5)")
    assert column.all_inner_texts() == ["1.5", "4", "6", "9", "60"]
    table.get_by_role("button", name="estimate").click()
    assert column.all_inner_texts() == ["60", "9", "6", "4", "1.5"]


def test_a_table_of_many_rows_is_searched(reader: Reader) -> None:
    page = reader.open("tables")
    assert page.locator("#summary .find").count() == 0, "five rows are seen at a glance"
    whole = page.locator("#exclusions details")
    whole.locator("summary").click()
    box = whole.get_by_role("searchbox")
    box.fill("OK arm-7")
    assert whole.locator("tbody tr:visible").all_inner_texts() == ["small\tarm-7\tok\t400\t100"]
    assert whole.locator("output").inner_text() == "1 of 13 rows"
    box.fill("")
    assert whole.locator("tbody tr:visible").count() == 13


class TestSummary:
    def test_it_opens_on_one_sentence_a_model_and_figure_2(self, reader: Reader) -> None:
        page = reader.open("index")
        heads = page.locator("h2").all_inner_texts()
        assert heads[:3] == ["Answer", "Claims", "Scorecard"]
        first, second = page.locator(".answers li > p").all_inner_texts()
        assert first.startswith(
            "Large <b>model</b> restarts and improves its score in 4.0 % [3.0, 5.0] of 500"
        )
        assert first.endswith(
            "Detectors contribute more than random latents: not measured. "
            "Depends on the way of grading: yes (second judge)."
        )
        assert second.startswith("Small model restarts and improves its score in 1.5 %")
        picture = page.locator("figure.first img")
        assert picture.evaluate("each => each.complete && each.naturalWidth > 0")

    def test_every_verdict_has_a_shape_and_a_colour_of_its_own_track(self, reader: Reader) -> None:
        page = reader.open("index")
        tracks = page.locator(".forest .track")
        assert tracks.count() == len(VERDICTS)
        shapes = tracks.locator(".mark").evaluate_all("all => all.map(each => each.outerHTML)")
        assert len({re.sub(r'[mc]?x="[^"]*"|M[^ ]* ', "", shape) for shape in shapes}) == len(
            VERDICTS
        )
        colours = tracks.evaluate_all("all => all.map(each => getComputedStyle(each).color)")
        assert len(set(colours)) == 4

    def test_a_claim_leads_to_its_figure_its_row_and_its_transcripts(self, reader: Reader) -> None:
        page = reader.open("index")
        row = page.locator(".forest tbody tr").first
        assert row.get_by_role("link", name="Figure 2").get_attribute("href") == "figures.html#fig2"
        assert not page.locator("#confirmed").is_visible()
        row.get_by_role("link", name="It is <b>more</b>").click()
        expect(page.locator("#confirmed")).to_be_visible()
        assert page.locator("#confirmed code").is_visible() is False, "selectors are disclosed"
        row.get_by_role("link", name="transcripts").click()
        expect(page.locator("#count")).to_have_text(re.compile(r"^\d+ of"))
        assert page.locator("[name=model] option:checked").inner_text() == "Large <b>model</b>"
        assert page.locator("[name=change] option:checked").inner_text() == "better"
        assert reader.count() == expected(model="large", arm="steered", n_attempts=2) > 0


def test_what_was_excluded_comes_first(reader: Reader) -> None:
    page = reader.open("tables")
    table = page.locator("#exclusions table").first
    assert table.locator("tbody tr").count() == 1
    assert "refused" in table.locator("tbody").inner_text()


class TestGraph:
    def test_a_picture_fits_its_frame_is_zoomed_and_moved(self, reader: Reader) -> None:
        page = reader.open("graph")
        frame = page.locator(".frame")
        picture = frame.locator("img")
        assert picture.bounding_box() == pytest.approx(frame.evaluate(INNER), abs=1)
        page.get_by_role("button", name="Zoom in").click()
        assert picture.bounding_box()["width"] == pytest.approx(1.4 * self.width(frame), abs=2)
        before = picture.bounding_box()["x"]
        box = frame.bounding_box()
        page.mouse.move(box["x"] + 200, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + 150, box["y"] + 100)
        page.mouse.up()
        assert picture.bounding_box()["x"] == pytest.approx(before - 50, abs=1)
        frame.press("ArrowRight")
        assert picture.bounding_box()["x"] == pytest.approx(before - 110, abs=1)
        frame.press("0")
        assert picture.bounding_box() == pytest.approx(frame.evaluate(INNER), abs=1)

    def width(self, frame: Any) -> float:
        return float(frame.evaluate("each => each.clientWidth"))


INNER = (
    "each => { const box = each.getBoundingClientRect(); return {x: box.x + 1, y: box.y + 1,"
    " width: each.clientWidth, height: each.clientHeight} }"
)
"""Box of a frame without its border."""


def test_a_latent_leads_to_its_public_page_where_there_is_one(reader: Reader) -> None:
    page = reader.open()
    page.locator("[name=model]").select_option(label="Small model")
    page.locator(".trial").first.click()
    link = page.get_by_role("link", name="Neuronpedia")
    assert link.get_attribute("href") == "https://www.neuronpedia.org/small/3-res/0"
    page.locator("[name=model]").select_option(label="Large <b>model</b>")
    page.locator(".trial").first.click()
    expect(link).to_have_count(0)
    page.locator("[name=model]").select_option(label="Small model")
    page.locator("[name=arm]").select_option(label="ablate-otd")  # steered along random directions
    page.locator(".trial").first.click()
    expect(link).to_have_count(0)
