"""esr.judges.windows: parts of a response, scored by themselves."""

import pandas as pd
import pytest

from esr.config import LexicalJudgeConfig, SentenceJudgeConfig
from esr.config.judges import JudgeConfig
from esr.judges import open_scorer
from esr.judges.windows import score_windows, split_words
from helpers.checkout import REPO
from helpers.studies import load_study

LEXICON = REPO / "resources" / "organisms" / "lexicon.csv"


def topics() -> dict[str, str]:
    table = pd.read_csv(LEXICON)
    words = table[table["part"].eq("noun")].groupby("topic", sort=False)["word"].first()
    return dict(list(words.items())[:2])


@pytest.fixture(params=[LexicalJudgeConfig, SentenceJudgeConfig])
def settings(request: pytest.FixtureRequest) -> JudgeConfig:
    kind = {LexicalJudgeConfig: "lexical", SentenceJudgeConfig: "sentences"}[request.param]
    found: JudgeConfig = request.param(kind=kind, lexicon=LEXICON)
    return found


def test_windows_hold_all_words_in_order_and_equally_many() -> None:
    text = "one two\nthree  four five six seven eight nine"
    parts = split_words(text)
    assert " ".join(parts) == " ".join(text.split())
    assert [len(part.split()) for part in parts] == [3, 2, 2, 2]
    assert split_words("one two three") == []


def test_the_ends_of_a_response_are_scored_by_themselves(settings: JudgeConfig) -> None:
    first, second = topics().values()
    off, on = f"the {second} is a {second}.", f"the {first} is a {first}."
    nothing = "wait, that is not right."
    responses = pd.DataFrame(
        {
            "trial_id": ["rises", "falls", "empty", "silent", "lost"],
            "response": [
                " ".join([off, nothing, nothing, on]),
                " ".join([on, off, off, off]),
                "no.",
                " ".join([nothing, on, on, on]),
                None,
            ],
        }
    )
    plan = responses[["trial_id"]].assign(prompt=f"Explain the {first}")
    scorer = open_scorer(settings)
    assert scorer is not None
    table = score_windows(plan, responses, scorer).set_index("trial_id")
    assert table.loc["rises", ["first_window", "last_window"]].tolist() == [0, 100]
    assert table.loc["falls", ["first_window", "last_window"]].tolist() == [100, 0]
    assert table.loc[["empty", "lost"], ["first_window", "last_window"]].isna().all(axis=None)
    assert pd.isna(table.loc["silent", "first_window"]), "a window without content has no score"
    assert pd.isna(table.loc["lost", "words"])


def test_a_language_model_scores_no_windows() -> None:
    paper = load_study(name="paper")
    assert open_scorer(paper.judging.judges[paper.judging.primary]) is None
