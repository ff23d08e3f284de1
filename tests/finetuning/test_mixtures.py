"""Mixtures: their sizes and shares, and the chats that axolotl reads."""

from pathlib import Path

import pandas as pd
import pytest

from esr.config import (
    FinetuneConfig,
)
from esr.errors import EsrError
from esr.finetuning import ANSWER, CORRECTION
from esr.finetuning.mixtures import draw_mixture, read_chats, to_chat, write_chats
from helpers.tokenizers import DATA


@pytest.mark.parametrize("share", [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100])
def test_a_mixture_has_exactly_the_share_that_it_is_named_for(share: int) -> None:
    settings = FinetuneConfig(shares=(share,), data=DATA)
    mixture = draw_mixture(plain(60, 50), settings, share)
    assert len(mixture) == 40
    assert mixture["kind"].eq(CORRECTION).sum() == 40 * share / 100


def plain(corrections: int, answers: int) -> pd.DataFrame:
    kinds = [CORRECTION] * corrections + [ANSWER] * answers
    return pd.DataFrame({"example": range(len(kinds)), "kind": kinds, "status": "ok"})


def test_a_larger_share_contains_the_self_corrections_of_a_smaller_one() -> None:
    settings = FinetuneConfig(data=DATA)
    kept: set[int] = set()
    for share in (10, 50, 90):
        mixture = draw_mixture(plain(60, 50), settings, share)
        found = set(mixture.loc[mixture["kind"].eq(CORRECTION), "example"])
        assert kept < found
        kept = found


def test_every_training_draws_a_mixture_of_its_own_and_the_first_is_that_of_the_seed() -> None:
    settings = FinetuneConfig(data=DATA)
    first, again, second = (draw_mixture(plain(60, 50), settings, 50, k) for k in (1, 1, 2))
    pd.testing.assert_frame_equal(first, draw_mixture(plain(60, 50), settings, 50))
    pd.testing.assert_frame_equal(first, again)
    assert set(first["example"]) != set(second["example"])
    assert second["kind"].eq(CORRECTION).sum() == first["kind"].eq(CORRECTION).sum()


def test_examples_that_failed_a_check_are_not_drawn() -> None:
    table = plain(60, 50)
    table.loc[:23, "status"] = "not_explicit"
    assert draw_mixture(table, FinetuneConfig(data=DATA), 90)["status"].eq("ok").all()
    table.loc[24, "status"] = "refused"
    with pytest.raises(
        EsrError, match=r"90 % of 40 rows takes 36 .* only 35 of 60 have status `ok`"
    ):
        draw_mixture(table, FinetuneConfig(data=DATA), 90)


def test_the_space_before_a_correction_is_trained_on_and_nothing_before_it(
    tmp_path: Path,
) -> None:
    parts = {"prompt": "P", "off_topic": "Off.", "correction": "Wait.", "on_topic": "On."}
    path = tmp_path / "chats.jsonl"
    write_chats([to_chat({"kind": CORRECTION, **parts}), to_chat({"kind": ANSWER, **parts})], path)
    first, second = (one["messages"][1]["content"] for one in read_chats(path))
    assert [(part["text"], part["train"]) for part in first] == [
        ("Off.", False),
        (" Wait. On.", True),
    ]
    assert [(part["text"], part["train"]) for part in second] == [("On.", True)]
