"""Judges: the lexical judge's attempts, spans and scores; how judgments are laid out."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esr.config import LexicalJudgeConfig as LexicalSettings
from esr.config import SentenceJudgeConfig as SentenceSettings
from esr.errors import EsrError
from esr.judges import open_judge
from esr.judges.base import Attempt, JudgeInput, Judgment, check_spans, judgments_table
from esr.judges.lexical import LexicalJudge, segments
from esr.judges.lexicon import Lexicon
from esr.judges.sentences import SentenceJudge
from esr.tables import write_table

LEXICON = Lexicon(
    {
        "baking": {"verb": ["bake"], "noun": ["bread", "dough", "oven"]},
        "sailing": {"verb": ["sail"], "noun": ["boat", "anchor", "harbor"]},
    }
)
JUDGE = LexicalJudge(LEXICON)
PROMPT = "Explain how to bake bread."


def judged(response: str, prompt: str = PROMPT) -> Judgment:
    (judgment,) = JUDGE.judge([JudgeInput(prompt, response)])
    check_spans(judgment, response)
    return judgment


def attempts(response: str) -> list[tuple[str, float]]:
    """Text and score of each attempt."""
    return [(response[a.start : a.end], a.score) for a in judged(response).attempts]


# Scores


@pytest.mark.parametrize(
    ("response", "score"),
    [
        ("Knead the dough, heat the oven.", 100),
        ("Set the anchor in the harbor.", 0),
        ("The dough and the boat.", 50),
        ("DOUGH dough boat; doughnuts and boats do not count.", 200 / 3),
    ],
)
def test_the_score_is_the_share_of_content_words_on_topic(response: str, score: float) -> None:
    assert judged(response).first_score == pytest.approx(score)


def test_the_topic_is_that_of_most_content_words_of_the_prompt() -> None:
    assert JUDGE.topic_of("Explain how to sail a boat to bread.") == "sailing"
    assert JUDGE.topic_of("Bread, boat.") == "baking"
    assert JUDGE.topic_of("Explain this.") is None


def test_a_prompt_without_topic_is_a_status_and_not_a_score() -> None:
    assert judged("bread", prompt="Explain this.") == Judgment("no_topic")


@pytest.mark.parametrize("response", ["", "  \n", "One moment please.", "Wait, that is not right."])
def test_text_without_content_words_attempts_nothing(response: str) -> None:
    judgment = judged(response)
    assert judgment == Judgment("no_attempts")
    assert judgment.first_score is None


# Attempts

RESTARTED = "Tie the boat. Wait, that is not right. Knead the dough."


def test_a_restart_begins_an_attempt() -> None:
    assert attempts(RESTARTED) == [
        ("Tie the boat.", 0),
        ("Wait, that is not right. Knead the dough.", 100),
    ]


@pytest.mark.parametrize(
    "phrase",
    [
        "Wait, that is not right.",
        "Sorry, I got off track.",
        "hold on, that was not about the question.",
        "WAIT boat that is",
        "wait made boat a mistake",
    ],
)
def test_each_opener_with_a_follower_nearby_restarts_even_garbled(phrase: str) -> None:
    assert len(attempts(f"Sail the boat. {phrase} Bake the bread.")) == 2


@pytest.mark.parametrize(
    "phrase",
    [
        "Wait.",
        "Wait for the oven.",
        "Awaiting that boat.",
        "A sorry boat.",
        "Hold the anchor, that is right.",
        "Wait one two three four five six that.",
    ],
)
def test_an_opener_alone_or_far_from_any_follower_does_not(phrase: str) -> None:
    assert len(attempts(f"Sail the boat. {phrase}")) == 1


def test_every_restart_counts() -> None:
    text = "boat. Wait, that is off. boat bread. Sorry, I was wrong. bread."
    assert [score for _, score in attempts(text)] == [0, 50, 100]


def test_a_restart_that_leads_nowhere_is_no_attempt() -> None:
    assert attempts("Bake bread. Wait, that is not right.") == [("Bake bread.", 100)]
    assert attempts("Wait, that is not right. Bake bread.") == [
        ("Wait, that is not right. Bake bread.", 100)
    ]


def test_spans_are_exact_in_text_that_changes_length_when_lowered() -> None:
    response = "İİİ boat. Wait, that is not right. Bread."
    assert [text for text, _ in attempts(response)] == [
        "İİİ boat.",
        "Wait, that is not right. Bread.",
    ]


words = st.sampled_from(["boat", "bread", "wait", "that", "sorry", "I", "the", "hold on", "is"])


@given(st.lists(st.tuples(words, st.sampled_from([" ", ". ", "\n", "  "]))))
def test_segments_are_in_order_and_hold_every_character_but_blanks(
    pieces: list[tuple[str, str]],
) -> None:
    text = "".join(word + blank for word, blank in pieces)
    spans = segments(text)
    assert "".join("".join(text[a:b] for a, b in spans).split()) == "".join(text.split())
    assert all(text[a:b] == text[a:b].strip() for a, b in spans)
    judgment = judged(text)
    assert {(a.start, a.end) for a in judgment.attempts} <= set(spans)


# The second judge

SENTENCES = SentenceJudge(LEXICON)


def by_sentence(response: str) -> list[tuple[str, float]]:
    """Text and score of each attempt by the second judge."""
    (judgment,) = SENTENCES.judge([JudgeInput(PROMPT, response)])
    check_spans(judgment, response)
    return [(response[a.start : a.end], a.score) for a in judgment.attempts]


@pytest.mark.parametrize(
    ("response", "score"),
    [
        ("Bake the dough. Sail.", 50),
        ("Bake dough boat. Sail boat bread.", 50),
        ("Bake the boat.", 50),
        ("The end. Bake.", 100),
    ],
)
def test_the_second_judge_counts_sentences_and_not_words(response: str, score: float) -> None:
    assert by_sentence(response)[0][1] == pytest.approx(score)


def test_the_judges_differ_in_score_on_the_same_text() -> None:
    text = "Bake bread dough oven. Sail."
    assert attempts(text)[0][1] == pytest.approx(80)
    assert by_sentence(text)[0][1] == pytest.approx(50)


def test_the_second_judge_needs_no_opener_and_joins_sentences_of_one_restart() -> None:
    text = "Tie the boat. I made a mistake. Let me try again. Knead the dough."
    assert by_sentence(text) == [
        ("Tie the boat.", 0),
        ("I made a mistake. Let me try again. Knead the dough.", 100),
    ]
    assert len(attempts(text)) == 1


@pytest.mark.parametrize("sentence", ["Wait.", "Start the oven, bake bread again.", "Hold it."])
def test_sentences_about_a_topic_or_with_one_word_are_no_restart(sentence: str) -> None:
    assert len(by_sentence(f"Sail the boat. {sentence} Bake the bread.")) == 1


def test_the_judges_share_no_rule() -> None:
    """An opener counts for one of them only, and words of the first person for the other only."""
    opener = "Tie the boat. Wait, that is off. Knead the dough."
    first_person = "Tie the boat. Let me try this again. Knead the dough."
    assert (len(attempts(opener)), len(by_sentence(opener))) == (2, 1)
    assert (len(attempts(first_person)), len(by_sentence(first_person))) == (1, 2)


def test_the_second_judge_is_no_kind_of_the_first() -> None:
    own = {name: value for name, value in vars(SentenceJudge).items() if callable(value)}
    assert SentenceJudge.__mro__ == (SentenceJudge, object)
    assert not {name for name, value in vars(LexicalJudge).items() if value in own.values()}


def test_the_second_judge_goes_by_the_topic_of_most_words_of_the_prompt() -> None:
    (judgment,) = SENTENCES.judge([JudgeInput("Explain this.", "Bread.")])
    assert judgment == Judgment("no_topic")
    (judgment,) = SENTENCES.judge([JudgeInput("Sail the boat to bread.", "Sail. Bake.")])
    assert judgment.first_score == pytest.approx(50)


@given(st.lists(st.tuples(words, st.sampled_from([" ", ". ", "\n", "! "]))))
def test_the_second_judges_attempts_fit_any_response(pieces: list[tuple[str, str]]) -> None:
    by_sentence("".join(word + blank for word, blank in pieces))


# The lexicon


def written(folder: Path, text: str) -> Path:
    path = folder / "lexicon.csv"
    path.write_text(text)
    return path


def test_a_judge_is_opened_from_its_configuration(tmp_path: Path) -> None:
    path = written(tmp_path, "topic,part,word\nbaking,noun,bread\nsailing,noun,boat\n")
    judge = open_judge(LexicalSettings(kind="lexical", lexicon=path))
    assert judge.served_as == "lexical/1"
    first, second = judge.judge([JudgeInput("bread", "boat"), JudgeInput("boat", "boat")])
    assert (first.first_score, second.first_score) == (0, 100)


def test_the_kind_selects_the_judge(tmp_path: Path) -> None:
    path = written(tmp_path, "topic,part,word\nbaking,noun,bread\n")
    judge = open_judge(SentenceSettings(kind="sentences", lexicon=path))
    assert judge.served_as == "sentences/2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("word,topic\nbread,baking\n", r"has columns \['word', 'topic'\], needs"),
        ("", r"has columns \[\], needs"),
        (
            "topic,part,word\nbaking,noun,roll\nsailing,verb,roll\n",
            "lists 'roll' under 'baking' and 'sailing'",
        ),
    ],
)
def test_a_lexicon_that_cannot_distinguish_topics_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(EsrError, match=message):
        Lexicon.read(written(tmp_path, text))


def test_a_word_may_be_two_parts_of_speech_of_one_topic(tmp_path: Path) -> None:
    path = written(tmp_path, "topic,part,word\nbaking,noun,roll\nbaking,verb,roll\n")
    assert Lexicon.read(path).topic_of == {"roll": "baking"}


# Judgments


def test_a_judgment_is_ok_only_with_attempts() -> None:
    with pytest.raises(ValueError, match="without attempts"):
        Judgment("ok")


@pytest.mark.parametrize(
    "bad",
    [
        [Attempt(0, 11, 50)],
        [Attempt(-1, 5, 50)],
        [Attempt(4, 4, 50)],
        [Attempt(0, 5, 50), Attempt(4, 8, 50)],
        [Attempt(5, 8, 50), Attempt(0, 5, 50)],
        [Attempt(0, 5, 101)],
        [Attempt(0, 5, -1)],
        [Attempt(0, 5, float("nan"))],
    ],
)
def test_spans_that_do_not_fit_and_scores_out_of_range_are_caught(bad: list[Attempt]) -> None:
    with pytest.raises(ValueError, match=r"attempt|score"):
        check_spans(Judgment("ok", tuple(bad)), "0123456789")


def test_spans_that_fit_pass() -> None:
    check_spans(Judgment("ok", (Attempt(0, 5, 0), Attempt(5, 10, 100))), "0123456789")
    check_spans(Judgment("refused"), "")


def test_judgments_are_one_row_an_attempt_and_one_for_a_trial_without(tmp_path: Path) -> None:
    judgments = [JUDGE.judge([JudgeInput(PROMPT, RESTARTED)])[0], Judgment("refused")]
    table = judgments_table(["a", "b"], judgments, JUDGE.served_as)
    rows: list[dict[str, Any]] = table.astype(object).where(table.notna(), None).to_dict("records")
    assert [(row["trial_id"], row["status"], row["attempt"], row["score"]) for row in rows] == [
        ("a", "ok", 0, 0),
        ("a", "ok", 1, 100),
        ("b", "refused", None, None),
    ]
    assert [(row["start"], row["end"]) for row in rows] == [(0, 13), (14, 55), (None, None)]
    assert [row["located"] for row in rows] == ["exact", "exact", None]
    write_table(table, tmp_path / "judgments.parquet", "judgments", {})
