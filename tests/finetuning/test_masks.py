"""Masks: which tokens of a prepared row are trained on."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pytest

from esr.config import (
    FinetuneConfig,
)
from esr.engines import open_tokenizer
from esr.errors import EsrError
from esr.finetuning.axolotl import end_of_turn
from esr.finetuning.masks import UNTRAINED, check_chats, check_rows, label_chat, training_spans
from esr.finetuning.mixtures import draw_mixture, to_chat
from helpers.tokenizers import DATA, LLAMA, TWIN, byte_level


@pytest.fixture(scope="module")
def chats(examples: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        to_chat(one)
        for one in draw_mixture(examples, FinetuneConfig(data=DATA), 50).to_dict("records")
    ]


Row = tuple[list[int], list[int]]


def prepared(chats: Sequence[dict[str, Any]], tokenizer: Any) -> list[Row]:
    """Rows as they must be, in another spec than the chats."""
    rows = []
    for one in chats:
        ids, parts = label_chat(one, tokenizer)
        labels = [
            i if p in ("trained", "end") else UNTRAINED for i, p in zip(ids, parts, strict=True)
        ]
        rows.append((list(ids), labels))
    random.Random(0).shuffle(rows)
    return rows


def test_what_is_trained_on_reads_as_correction_and_answer(
    chats: list[dict[str, Any]], tokenizer: Any
) -> None:
    for one in chats:
        ids, parts = label_chat(one, tokenizer)
        response = one["messages"][1]["content"]
        trained = [i for i, part in zip(ids, parts, strict=True) if part == "trained"]
        wanted = "".join(part["text"] for part in response if part["train"])
        assert (
            tokenizer.decode(trained).split()
            == tokenizer.decode(tokenizer.encode(wanted, add_special_tokens=False)).split()
        )
        assert parts.count("end") == 1
        assert ids[parts.index("end")] == tokenizer.convert_tokens_to_ids(end_of_turn(tokenizer))
        assert ("off_topic" in parts) == (len(response) == 2)
        assert ids.count(tokenizer.bos_token_id) == 1


def test_rows_with_the_right_masks_pass_and_are_counted(
    chats: list[dict[str, Any]], tokenizer: Any
) -> None:
    counts = check_rows(prepared(chats, tokenizer), chats, tokenizer)
    assert counts["rows"] == counts["end"] == 40
    assert min(counts["prompt"], counts["off_topic"], counts["trained"]) > 40


def of_part(part: str, change: Callable[[int], int]) -> Callable[[list[Row], Any, Any], None]:
    """Changes the first label of a part, in the first row that has it."""

    def spoil(rows: list[Row], chats: Any, tokenizer: Any) -> None:
        parts = {one.ids: one.parts for one in (label_chat(each, tokenizer) for each in chats)}
        for ids, labels in rows:
            if part in parts[tuple(ids)]:
                place = parts[tuple(ids)].index(part)
                labels[place] = change(ids[place])
                return

    return spoil


def double_bos(rows: list[Row], chats: Any, tokenizer: Any) -> None:
    ids, labels = rows[0]
    rows[0] = [ids[0], *ids], [UNTRAINED, *labels]


def stale(rows: list[Row], chats: Any, tokenizer: Any) -> None:
    rows[3] = rows[4]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (of_part("prompt", lambda token: token), "a token of the prompt is trained on"),
        (of_part("off_topic", lambda token: token), "an off-topic token is trained on"),
        (of_part("trained", lambda _: UNTRAINED), "correction or answer is not trained on"),
        (of_part("end", lambda _: UNTRAINED), "the end of the turn is not trained on"),
        (of_part("trained", lambda token: token + 1), "the label is another token"),
        (double_bos, "They are of another dataset"),
        (stale, "1 prepared rows are not in the dataset and 1 of the dataset are missing"),
    ],
)
def test_every_wrong_mask_is_found(
    chats: list[dict[str, Any]], tokenizer: Any, spoil: Any, message: str
) -> None:
    rows = prepared(chats, tokenizer)
    spoil(rows, chats, tokenizer)
    with pytest.raises(EsrError, match=message):
        check_rows(rows, chats, tokenizer)


def test_a_template_that_writes_two_bos_is_refused(chats: list[dict[str, Any]]) -> None:
    doubled = byte_level("{{ bos_token }}" + LLAMA, ["a b c"], "<|eot_id|>")
    with pytest.raises(EsrError, match="exactly one BOS"):
        label_chat(chats[0], doubled)


def test_a_row_is_split_into_spans(chats: list[dict[str, Any]]) -> None:
    tokenizer = open_tokenizer(TWIN)
    row = next(row for row in prepared(chats, tokenizer) if "wait" in tokenizer.decode(row[0]))
    assert [trained for trained, _ in training_spans(*row, tokenizer)] == [False, True]
    assert training_spans(*row, tokenizer)[1][1].startswith("wait")


def test_a_dataset_that_axolotl_would_cut_is_refused_before_it_starts(
    chats: list[dict[str, Any]],
) -> None:
    tokenizer = open_tokenizer(TWIN)
    longest = max(len(label_chat(one, tokenizer).ids) for one in chats)
    check_chats(chats, tokenizer, longest)
    with pytest.raises(EsrError, match=f"a chat of the dataset has {longest} tokens"):
        check_chats(chats, tokenizer, longest - 1)
