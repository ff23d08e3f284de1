"""The judge-free restart detector: what it finds, and what it must leave alone."""

import csv
import re
import tempfile
from itertools import product
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from esr.analysis.statistics import wilson
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


# From an earlier detector's misses and false alarms.
MISSED = [
    "I apologize for the confusion in my previous answer.",
    "Wait, that's not right.",
    "Wait — that isn't about bread.",
    "Wait. Let me reconsider.",
    "Hmm, no. Let me go back to the question.",
    "Actually, that has nothing to do with the question.",
    "Sorry about that, back to baking.",
    "Let me try again.",
    "No, that's wrong. Start again:",
    "I got sidetracked.",
    "I’m getting off topic.",
    "I've gotten off track.",
    "Oops, I drifted.",
    "Let me refocus on your question.",
    "I seem to be rambling about boats.",
    "That was off-topic.",
    "Hang on, this isn't what you asked.",
    "Correction: the first step is flour.",
    "Let's get back to the topic.",
    "Let me correct myself.",
    "Wait, wait, no.",
    "Wait! I was asked about bread.",
    "Hold on — bread.",
    "I should be talking about bread, not boats.",
    "Scratch that.",
    "Let me rephrase that.",
    "Anyway, to return to your question:",
    "My apologies, here is the real answer.",
    "Wait...\n\nThat's not what you asked.",
    "Never mind that.",
    "Okay, I need to stop talking about boats.",
    "Let me start from the beginning.",
    "I don't know why I keep mentioning boats.",
    "Disregard the previous paragraph.",
    "This response isn't relevant to your question. Here's the answer:",
    "Wait, the user asked about bread.",
    "No, that's not right.",
    "Wait a minute,",
    "I misunderstood the question",
]
FALSE_ALARMS = [
    "Wait 30 minutes for the dough to rise.",
    "Don't wait; that is how yeast dies.",
    "Wait, then add the eggs.",
    "If you wait that long, it dries out.",
    "To apologize sincerely, say sorry first.",
    "A sorry state of affairs.",
    "The answer is right, so we are done.",
    "Check that this is correct before you go on.",
    "Is this right for me?",
    "Make sure that is correct.",
    "Let's try this again with x = 3 to verify.",
    "Start over with a new batch if it burns.",
    "If the engine stalls, start over.",
    "Hold on to the railing.",
    "Keep the train on track; if it comes off track, call.",
    "Ignore the above warning light at your peril.",
    "Let us correct for inflation.",
    "That is not relevant to the tax form.",
    "I made a mistake once when I learned to knit.",
    "Wait, I hear you say: how?",
    "The patient said 'I am sorry'.",
    "Wait until this sets.",
    "Hold on for five seconds.",
    "Explain to the customer: my mistake, we will refund.",
    "Let me correct the units: 3 m = 300 cm.",
    "Whoops is what children say.",
    "Then wait. This takes an hour.",
    "If this is wrong, consult a doctor.",
    "Taste it; if that is not right, add salt.",
    "I'm sorry, but I can't help with that.",
]


@pytest.mark.parametrize("response", MISSED)
def test_restarts_that_an_earlier_detector_missed_are_found(response: str) -> None:
    assert find_restarts(SHIPPED, response)


@pytest.mark.parametrize("response", FALSE_ALARMS)
def test_sentences_that_an_earlier_detector_flagged_are_left_alone(response: str) -> None:
    assert find_restarts(SHIPPED, response) == []


@pytest.mark.parametrize(
    ("plain", "typed"),
    [
        ("That isn't right.", "That isn’t right."),
        ("Let's start over", "Let’s start over"),
        ("Wait - that isn't about bread.", "Wait — that isn’t about bread."),
        ("Scratch that.", "S\u0441r\u0430tch th\u0430t."),
        ("I'm off topic.", "I'm\u00a0o\u200bff topic."),
        ("Wait, no.", "**Wait**, no."),
    ],
)
def test_typography_does_not_hide_a_restart(plain: str, typed: str) -> None:
    for text in (plain, typed):
        ((start, end),) = find_restarts(SHIPPED, text)
        assert start == 0 or not text[:start].strip("*")
        assert len(text[end:]) < len(text) / 2


def test_a_span_is_in_characters_of_the_response_as_it_is() -> None:
    response = "Boats…  \u200bI’m off-topic. Bread."
    ((start, end),) = find_restarts(SHIPPED, response)
    assert response[start:end] == "I’m off-topic"


def test_every_correction_that_the_organisms_learn_is_found_in_their_text() -> None:
    corpus = yaml.safe_load((REPO / "resources/organisms/phrases.yaml").read_text())
    for before, correction in product(corpus["sentences"], corpus["corrections"]):
        text = f"{before} {correction} {before}"
        spans = find_restarts(SHIPPED, text)
        assert spans
        assert all(len(before) < a < b <= len(before) + 1 + len(correction) for a, b in spans)
    assert not any(find_restarts(SHIPPED, sentence) for sentence in corpus["sentences"])


# Precision and recall

SENTENCES = REPO / "resources/restart_sentences.csv"


def measured(split: str) -> dict[str, tuple[int, int]]:
    """Precision and recall of the detector on sentences: events of cases."""
    with SENTENCES.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    found = [bool(find_restarts(SHIPPED, row["sentence"])) for row in rows]
    restart = [row["is_restart"] == "yes" for row in rows]
    hits = sum(a and b for a, b in zip(found, restart, strict=True))
    return {"precision": (hits, sum(found)), "recall": (hits, sum(restart))}


@pytest.mark.parametrize("split", ["development", "held_out"])
@pytest.mark.parametrize("quantity", ["precision", "recall"])
def test_the_documents_give_the_measured_precision_and_recall(split: str, quantity: str) -> None:
    events, cases = measured(split)[quantity]
    low, high = wilson(events, cases)
    row = f"{events} of {cases} | {100 * events / cases:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    method = (REPO / "docs/method.md").read_text(encoding="utf-8")
    assert f"| {quantity} | {split.replace('_', ' ')} | {row} |" in method


def test_precision_and_recall_on_held_out_sentences_do_not_fall() -> None:
    result = {name: events / cases for name, (events, cases) in measured("held_out").items()}
    assert result["precision"] >= 0.9
    assert result["recall"] >= 0.85


def test_no_sentence_is_in_both_halves_or_twice() -> None:
    with SENTENCES.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["sentence"] for row in rows}) == len(rows) >= 300
    assert {row["is_restart"] for row in rows} == {"yes", "no"}


# The phrase file


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


NO_EXPRESSIONS = {
    "(open": "fine\n(open\n",
    "*a": "fine\n*a\n",
    "a(": "a(\nb)\n",  # together they would compile
    "a[": "a[\nb]\n",
    "a\\": "a\\\nb\n",
    "(a)\\2": "(a)\\2\n(b)\n",
    "(?(1)a|b)": "(?(1)a|b)\n",
    "NAME = *a": "NAME = *a\nfine\n",  # and nothing uses it
}


@pytest.mark.parametrize("line", NO_EXPRESSIONS)
def test_a_line_that_is_no_expression_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text(NO_EXPRESSIONS[line])
    with pytest.raises(EsrError, match=re.escape(f"{line!r} is not a regular expression")):
        read_phrases(path)


@pytest.mark.parametrize("line", [r"a\(b", r"[(\]]+", "[])]", r"\[", "(?:a|b)(c)"])
def test_a_bracket_that_stands_for_itself_is_no_mistake(tmp_path: Path, line: str) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text(f"{line}\nwait\n")
    assert find_restarts(read_phrases(path), "wait") == [(0, 4)]


def test_a_file_without_phrases_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("# nothing\n\n")
    with pytest.raises(EsrError, match="no phrases"):
        read_phrases(path)


def test_named_parts_are_filled_in_and_hold_for_all_alternatives(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("START = ^|(?<=[.] )\n{START}ab|cd\nx{START}y\n")
    phrases = read_phrases(path)
    assert find_restarts(phrases, "ab. cd") == [(0, 2), (4, 6)]
    assert find_restarts(phrases, "zab zcd") == []


def test_a_part_that_is_not_defined_above_is_named(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("{START}ab\nSTART = ^\n")
    with pytest.raises(EsrError, match=r"uses \{START\}, which no line above it defines"):
        read_phrases(path)


def test_lines_match_only_where_matches_may_begin(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("BEGIN = (?<!\\w)|(?<=x)\nwait|ab\n! no wait\n")
    phrases = read_phrases(path)
    assert find_restarts(phrases, "await xab, no wait xno wait wait") == [(7, 9), (28, 32)]


@pytest.mark.parametrize("name", ["BEGIN", "START"])
def test_a_name_that_is_given_twice_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text(f"{name} = ^\n{name} = (?<!\\w)\nwait\n")
    with pytest.raises(EsrError, match=f"{name} is named twice"):
        read_phrases(path)


def _anywhere() -> re.Pattern[str]:
    """The shipped phrases, tried at every character."""
    lines = (REPO / "resources/restart_phrases.txt").read_text(encoding="utf-8").splitlines()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "phrases.txt"
        path.write_text("\n".join(line for line in lines if not line.startswith("BEGIN = ")))
        return read_phrases(path)


ANYWHERE = _anywhere()
PHRASES = [
    "wait, no",
    "sorry,",
    "oops.",
    "I mean",
    "wait, that is not",
    "errors in the above",
    "focus.",
]
PHRASES += ["I got off track", '"wait"', "'sorry,'", "so: wait", *RESTARTS, *ON_TOPIC]
WORDS = sorted({word for text in PHRASES for word in re.findall(r"[\w']+|[^\w\s]", text)})
LETTERS = ["x", "é", "e\u0301", "ß", "ſ", "İ", "ı", "\u0441", "字", "2", "\u200b", "\u00ad"]
PIECES = st.sampled_from(PHRASES) | st.sampled_from(WORDS) | st.sampled_from(LETTERS)
CASES = st.sampled_from([str, str.upper, str.title, str.swapcase])
GLUE = st.just(" ") | st.sampled_from(
    ["", *" \n-.,!?;:()'\"*_#’—“", " - ", "- ", ", ", ". ", '." ', "\n- ", " ("]
)


@given(st.lists(st.builds(lambda glue, case, text: glue + case(text), GLUE, CASES, PIECES)))
@settings(max_examples=200)
def test_no_shipped_phrase_begins_within_a_word(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert ANYWHERE.pattern != SHIPPED.pattern
    assert find_restarts(SHIPPED, text) == find_restarts(ANYWHERE, text)


def test_what_lies_in_a_passage_that_is_passed_over_is_no_restart(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("wait\n! say [a-z]+\n")
    phrases = read_phrases(path)
    assert find_restarts(phrases, "say wait. wait") == [(10, 14)]


def test_a_line_begins_after_a_line_break(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("^wait\n")
    assert find_restarts(read_phrases(path), "no wait\n\n  Wait") == [(11, 15)]


@pytest.mark.parametrize("text", ["i " * 3000, "wait, " * 2000, "no, so " * 2000, "'" * 5000])
def test_the_shipped_phrases_take_linear_time(text: str) -> None:
    find_restarts(SHIPPED, text)


def test_a_plain_pattern_works_as_phrases() -> None:
    assert find_restarts(re.compile("wait"), "A wait.") == [(2, 6)]
