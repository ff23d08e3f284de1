"""The normaliser: which differences between texts do not count, and where characters come from."""

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from esr.text import INVISIBLE, LOOKALIKES, fold, normalise

# Characters that normalisation treats in a special way are as likely as all others together.
UNSEEN = ["\u200b", "\u200d", "\ufeff", "\u00ad", "\u00a0", "\u2028"]
SPECIAL = st.sampled_from(
    [
        *"'\"’“—… \n\t*_#`aAiI.,ßİẞſﬁ½Å\u0301\u0308\u0345\u0f73가각ᄀ",
        *[*INVISIBLE, *UNSEEN, *LOOKALIKES],
    ]
)
TEXTS = st.text(st.one_of(SPECIAL, st.characters()))


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("I’m", "I'm"),
        ("Iʼm", "I'm"),
        ("“Wait,” she said", '"wait," she said'),
        ("«Wait»", '"wait"'),
        ("Wait — no", "wait - no"),
        ("Wait…", "wait..."),
        ("WAIT", "wait"),
        ("STRASSE", "straße"),
        ("café", "cafe\u0301"),
        ("q\u0323\u0307", "q\u0307\u0323"),
        ("각", "\u1100\u1161\u11a8"),
        ("wa\u200bit", "wait"),
        ("\ufeffwait", "wait"),
        ("wa\u00adit", "wait"),
        ("wait\ufe0f", "wait"),
        ("off\u00a0topic", "off topic"),
        ("off \n\t topic", "off topic"),
        ("**Wait**, `no`", "wait, no"),
        ("## Wait", "wait"),
        ("W\u0430it", "wait"),  # Cyrillic
        ("\u0421\u041errection", "correction"),
        ("\u0406'm", "i'm"),
        ("W\u03b1it", "wait"),  # Greek
        ("ｗａｉｔ", "wait"),
        ("𝐖𝐚𝐢𝐭", "wait"),
        ("ﬁre", "fire"),
    ],
)
def test_texts_that_read_the_same_are_the_same(text: str, same_as: str) -> None:
    assert fold(text) == fold(same_as)


@pytest.mark.parametrize(
    ("one", "other"),
    [("cafe", "café"), ("its", "it's"), ("boat", "boot"), ("there fore", "therefore")],
)
def test_texts_that_read_differently_differ(one: str, other: str) -> None:
    assert fold(one) != fold(other)


def test_words_of_another_alphabet_keep_their_letters() -> None:
    assert fold("Хорошо") == "хорошо"
    assert fold("соре") == "соре"  # only look-alikes, but no Latin letter
    assert fold("νοῦς") == unicodedata.normalize("NFKD", "νοῦσ")


def test_line_breaks_are_kept_on_request() -> None:
    assert normalise("One \n\n two  three", lines=True).text == "one\ntwo three"
    assert normalise("One \n\n two  three").text == "one two three"


def test_a_span_of_the_normalised_text_maps_to_the_original() -> None:
    text = "Boats…  W\u200ba\u0301it — **I’m** off."
    plain = normalise(text)
    start = plain.text.index("wa\u0301it")
    first, last = plain.span(start, start + len("wa\u0301it"))
    assert text[first:last] == "W\u200ba\u0301it"
    start = plain.text.index("i'm")
    assert slice(*plain.span(start, start + 3)) == slice(text.index("I’m"), text.index("I’m") + 3)


def test_a_span_never_cuts_a_letter_from_its_marks() -> None:
    plain = normalise("xe\u0301y")
    assert plain.span(1, 2) == plain.span(2, 3) == plain.span(1, 3) == (1, 3)


@given(TEXTS, st.booleans())
@example("A\u0345", False)
@settings(max_examples=400)
def test_normalising_twice_changes_nothing(text: str, lines: bool) -> None:
    once = normalise(text, lines).text
    assert normalise(once, lines).text == once


@given(TEXTS)
def test_composed_and_decomposed_texts_are_the_same(text: str) -> None:
    for form in ("NFC", "NFD"):
        assert normalise(unicodedata.normalize(form, text)).text == normalise(text).text


@given(TEXTS, st.booleans())
def test_offsets_are_sorted_and_lie_in_the_text(text: str, lines: bool) -> None:
    plain = normalise(text, lines)
    assert len(plain.text) == len(plain.starts) == len(plain.ends)
    assert list(plain.starts) == sorted(plain.starts)
    assert list(plain.ends) == sorted(plain.ends)
    pairs = zip(plain.starts, plain.ends, strict=True)
    assert all(0 <= start < end <= len(text) for start, end in pairs)


@given(TEXTS, st.data())
def test_the_original_of_a_span_normalises_to_it(text: str, data: st.DataObject) -> None:
    plain = normalise(text)
    if not plain.text:
        return
    start = data.draw(st.integers(0, len(plain.text) - 1))
    end = data.draw(st.integers(start + 1, len(plain.text)))
    first, last = plain.span(start, end)
    # Whole letters: a span widens to the marks of its first and last one, and a look-alike is read
    # by the word around it, so words are compared where the text has no look-alikes.
    if not set(text) & set(LOOKALIKES):
        assert plain.text[start:end].strip() in normalise(text[first:last]).text


@given(st.text(st.characters(codec="ascii")))
def test_plain_text_only_loses_case_markup_and_blanks(text: str) -> None:
    words = "".join(one for one in text.lower() if one not in "*_`#").split()
    assert normalise(text).text.split() == words


@given(st.text(st.sampled_from(" \n\t\r\x1c\x1f*_`#aA.'")), st.booleans())
@example("Wait. \nNo", True)
@example("Wait.\nNo", False)
def test_plain_text_is_read_as_any_other(text: str, lines: bool) -> None:
    plain, other = normalise(text, lines), normalise(text + "é", lines)
    assert plain.text + "e\u0301" == other.text
    assert list(plain.starts) == other.starts[:-2]
    assert list(plain.ends) == other.ends[:-2]
