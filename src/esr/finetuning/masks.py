"""Which tokens are trained on: prepared rows are compared with the chats they came from.

The expected labels follow from the texts alone, by the character at which training begins. They are
independent of how axolotl computes its labels. Axolotl's environment imports this module, too:
standard library only, as in `esr.finetuning.jobs`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from esr.errors import EsrError

UNTRAINED = -100
"""Label of a token that does not enter the loss."""


class LabelledChat(NamedTuple):
    """A chat as token ids, and the part that each token belongs to.

    Parts: `prompt` (with special tokens and headers), `off_topic`, `trained` (correction and
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
"""For each part: whether its tokens are trained on, and the error message if not so."""


def label_chat(chat: Mapping[str, Any], tokenizer: Any) -> LabelledChat:
    """Tokenize a chat and label each token with its part.

    Raises:
        EsrError: the template changes the response, or does not write exactly one BOS, first.
    """
    user, assistant = chat["messages"]
    prompt = "".join(part["text"] for part in user["content"])
    response = "".join(part["text"] for part in assistant["content"])
    untrained = "".join(part["text"] for part in assistant["content"] if not part["train"])
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    begin = text.rfind(response)
    if begin < 0:
        raise EsrError(f"masks: the chat template changes the response {response[:60]!r}")
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    bos = tokenizer.bos_token_id
    if bos is not None and (coded["input_ids"].count(bos) != 1 or coded["input_ids"][0] != bos):
        raise EsrError(
            f"masks: {text[:60]!r} does not begin with exactly one BOS; fix the base's "
            "chat template"
        )
    cut = begin + len(untrained)
    end = begin + len(response)
    parts: list[str] = []
    for first, last in coded["offset_mapping"]:
        if last <= begin:
            parts.append("prompt")
        elif last <= cut:
            parts.append("off_topic")
        elif first < end:
            parts.append("trained")
        else:
            parts.append("after" if "end" in parts else "end")
    return LabelledChat(tuple(coded["input_ids"]), tuple(parts))


def check_chats(chats: Sequence[Mapping[str, Any]], tokenizer: Any, most: int) -> None:
    """Check what can be checked of a dataset before axolotl starts: labels and lengths.

    Args:
        chats: The dataset.
        tokenizer: That of the base.
        most: Longest chat that axolotl keeps, in tokens.

    Raises:
        EsrError: a chat cannot be labelled, for a reason of `label_chat`, or is longer than `most`.
    """
    longest = max((len(label_chat(chat, tokenizer).ids) for chat in chats), default=0)
    if longest > most:
        raise EsrError(
            f"finetune.training.sequence_len: {most}, but a chat of the dataset has {longest} "
            f"tokens and would be dropped; set it to at least {longest}"
        )


def check_rows(
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    chats: Sequence[Mapping[str, Any]],
    tokenizer: Any,
) -> dict[str, int]:
    """Check that the prepared rows are the chats, each once, with the right labels.

    Args:
        rows: Token ids and labels (`UNTRAINED`, or the id) of every prepared row.
        chats: The dataset, as `read_chats` returns it.
        tokenizer: The tokenizer of the base.

    Returns:
        Number of rows, and of tokens by part.

    Raises:
        EsrError: a row is missing, extra or wrongly labelled; the message shows it decoded.
    """
    expected = [label_chat(chat, tokenizer) for chat in chats]
    found = Counter(tuple(ids) for ids, _ in rows)
    wanted = Counter(one.ids for one in expected)
    stray = next(iter(found - wanted or wanted - found), None)
    if stray is not None:
        raise EsrError(
            f"masks: {(found - wanted).total()} prepared rows are not in the dataset and "
            f"{(wanted - found).total()} of the dataset are missing, e.g. "
            f"{tokenizer.decode(stray)!r}. They are of another dataset or too long; run again with "
            "`snakemake --forcerun train_adapter`, or raise finetune.training.sequence_len"
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


def training_spans(
    ids: Sequence[int], labels: Sequence[int], tokenizer: Any
) -> list[tuple[bool, str]]:
    """A prepared row as text, in spans of tokens that are all trained on or all not."""
    spans: list[tuple[bool, list[int]]] = []
    for token, label in zip(ids, labels, strict=True):
        trained = label != UNTRAINED
        if not spans or spans[-1][0] != trained:
            spans.append((trained, []))
        spans[-1][1].append(token)
    return [(trained, tokenizer.decode(tokens)) for trained, tokens in spans]
