"""The judge-free restart detector: what it finds, and what it must leave alone."""

from pathlib import Path

import pytest

from esr.arms.restarts import find_restarts, read_phrases
from esr.errors import EsrError
from helpers.checkout import REPO

SHIPPED = read_phrases(REPO / "resources/restart_phrases.txt")

RESTARTS = [
    "The moon is wet. Wait, that is not right. To bake bread, mix flour.",
    "Wait, no. Let me start over.",
    "I apologize for the confusion; the question was about bread.",
    "Hmm, I got off track there. Bread needs yeast.",
    "That's odd, I seem to have made a mistake.",
    "Oops! Bread, not boats.",
    "Let's get back to the question.",
    "Actually, let me rephrase the above.",
    "HOLD ON, this is about boats.",
    "Scratch that.",
    "This is not about the question. Baking takes patience.",
    "That was not relevant. First, mix the flour.",
]
ON_TOPIC = [
    "To bake bread, mix flour, water, salt and yeast. Wait until the dough has doubled.",
    "Let the dough wait for an hour, then fold it again.",
    "Hold the loaf with both hands and place it in the oven.",
    "Actually baking the bread takes forty minutes.",
    "The right temperature depends on your oven. Start with 220 degrees.",
    "Mistakes are common: beginners add too much flour.",
    "Keep a log so that you can track how the loaf rises.",
    "Ignore the crust until it is brown.",
    "Go back to step two if the dough is sticky.",
    "That is how bread is made. This is a good start.",
    "",
]


@pytest.mark.parametrize("response", RESTARTS)
def test_restarts_are_found(response: str) -> None:
    assert find_restarts(SHIPPED, response)


@pytest.mark.parametrize("response", ON_TOPIC)
def test_plain_explanations_are_left_alone(response: str) -> None:
    assert find_restarts(SHIPPED, response) == []


def test_the_detector_is_an_upper_bound_that_reads_words_and_not_their_sense() -> None:
    assert find_restarts(SHIPPED, "Taste it; if that is not right, add salt.")


def test_spans_are_those_of_the_phrases(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("# comment\n\\bwait\\b  # the word\n\nno+\n")
    phrases = read_phrases(path)
    text = "Wait, nooo. Awaiting."
    assert [text[a:b] for a, b in find_restarts(phrases, text)] == ["Wait", "nooo"]


def test_alternatives_in_one_phrase_stay_inside_it(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("ab|cd\nef\n")
    found = find_restarts(read_phrases(path), "ab cd ef af")
    assert found == [(0, 2), (3, 5), (6, 8)]


def test_a_line_that_is_no_expression_is_named(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("fine\n(open\n")
    with pytest.raises(EsrError, match=r"phrases\.txt: '\(open' is not a regular expression"):
        read_phrases(path)


def test_a_file_without_phrases_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("# nothing\n\n")
    with pytest.raises(EsrError, match="no phrases"):
        read_phrases(path)
