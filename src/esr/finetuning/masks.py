"""Which tokens are trained on: prepared rows, decoded and held against the chats they came from.

What is expected is worked out from the texts alone, by the character at which training begins; how
axolotl came to its labels does not matter.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from esr.errors import EsrError
from esr.finetuning.axolotl import UNTRAINED


class Expected(NamedTuple):
    """A chat as tokens: ids, and for each of them the part that it belongs to.

    Parts: `prompt` (special tokens and headers included), `off_topic`, `trained` (correction and
    answer), `end` (of the turn), `after`.
    """

    ids: tuple[int, ...]
    parts: tuple[str, ...]


RULES = {
    "prompt": (False, "a token of the prompt is trained on"),
    "off_topic": (False, "an off-topic token is trained on"),
    "trained": (True, "a token of correction or answer is not trained on"),
    "end": (True, "the end of the turn is not trained on"),
    "after": (False, "a token after the end of the turn is trained on"),
}
"""Whether tokens of a part are trained on, and what is wrong if it is otherwise."""


def expect(chat: Mapping[str, Any], tokenizer: Any) -> Expected:
    """Work out how a chat is to be tokenized, and where training begins and ends.

    Raises:
        EsrError: the template changes the response, or the row has not exactly one BOS.
    """
    user, assistant = chat["messages"]
    asked = "".join(part["text"] for part in user["content"])
    response = "".join(part["text"] for part in assistant["content"])
    left_out = "".join(part["text"] for part in assistant["content"] if not part["train"])
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": response}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    begin = text.rfind(response)
    if begin < 0:
        raise EsrError(f"masks: the chat template changes the response {response[:60]!r}")
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    bos = tokenizer.bos_token_id
    if bos is not None and (coded["input_ids"].count(bos) != 1 or coded["input_ids"][0] != bos):
        raise EsrError(f"masks: not exactly one BOS, at the beginning of {text[:60]!r}")
    cut, end = begin + len(left_out), begin + len(response)
    parts, ended = [], False
    for first, last in coded["offset_mapping"]:
        if last <= begin:
            parts.append("prompt")
        elif last <= cut:
            parts.append("off_topic")
        elif first < end:
            parts.append("trained")
        else:
            parts.append("after" if ended else "end")
            ended = True
    return Expected(tuple(coded["input_ids"]), tuple(parts))


def check_rows(
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    chats: Sequence[Mapping[str, Any]],
    tokenizer: Any,
) -> dict[str, int]:
    """Check that prepared rows are the chats, each once, with the right tokens trained on.

    Args:
        rows: Token ids and labels (`UNTRAINED`, or the id) of every prepared row.
        chats: The dataset.
        tokenizer: The base's.

    Returns:
        Rows, and tokens by part, for the report.

    Raises:
        EsrError: naming the first row that is not as it must be, decoded.
    """
    expected = [expect(chat, tokenizer) for chat in chats]
    found = Counter(tuple(ids) for ids, _ in rows)
    wanted = Counter(one.ids for one in expected)
    stray = next(iter(found - wanted or wanted - found), None)
    if stray is not None:
        raise EsrError(
            f"masks: {(found - wanted).total()} prepared rows are not in the dataset and "
            f"{(wanted - found).total()} of the dataset are missing, e.g. "
            f"{tokenizer.decode(stray)!r}: rows of another dataset, or cut at `sequence`; delete "
            "finetuning/prepared, or raise finetune.training.sequence"
        )
    parts = {one.ids: one.parts for one in expected}
    for ids, labels in rows:
        _check_labels(ids, labels, parts[tuple(ids)], tokenizer)
    totals = Counter(part for one in expected for part in one.parts)
    return {"rows": len(rows), **{part: totals[part] for part in RULES}}


def _check_labels(
    ids: Sequence[int], labels: Sequence[int], parts: Sequence[str], tokenizer: Any
) -> None:
    for place, (token, label, part) in enumerate(zip(ids, labels, parts, strict=True)):
        trained, wrong = RULES[part]
        if label not in (UNTRAINED, token):
            wrong = f"the label is another token ({tokenizer.decode([label])!r})"
        elif (label != UNTRAINED) == trained:
            continue
        raise EsrError(
            f"masks: {wrong}: token {place} ({tokenizer.decode([token])!r}) of "
            f"{tokenizer.decode(ids)!r}"
        )


def shown(ids: Sequence[int], labels: Sequence[int], tokenizer: Any) -> list[tuple[bool, str]]:
    """A prepared row for people: stretches that are trained on or not, as text."""
    stretches: list[tuple[bool, list[int]]] = []
    for token, label in zip(ids, labels, strict=True):
        trained = label != UNTRAINED
        if not stretches or stretches[-1][0] != trained:
            stretches.append((trained, []))
        stretches[-1][1].append(token)
    return [(trained, tokenizer.decode(tokens)) for trained, tokens in stretches]
