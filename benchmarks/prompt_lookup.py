"""Tokens that a judge writes a pass when drafts are looked up in its call; makes prompt_lookup.csv.

    uv run --with dashscope==2.0.2 --with tiktoken python benchmarks/prompt_lookup.py

No model runs. The judge is ideal: it writes a few sentences of feedback where its rubric wants
them (one for `openings`), copies every attempt, or its first twelve words, and gives a score.
vLLM's search for n-grams is simulated on the tokens of call and reply, with Qwen's own vocabulary
(151,643 tokens, which dashscope brings). A draft is kept up to the first token that the reply has
not. A real judge that copies with errors keeps fewer.

Responses are of three kinds, at most 512 tokens each: those of the organism study (`--responses`),
whose few words repeat; paragraphs of this documentation (`prose`); the same pages as they are, with
lists, tables, code and a line break after every 25 tokens (`markdown`). Half of each kind have two
attempts.

Columns of the CSV: `text`, `rubric`, `match` (which of several equal n-grams is taken: `latest` on
GPUs, `earliest` on the CPU), `drafted` (K, tokens a pass at most), `replies`, `tokens` (of one),
`copied` (share of the reply), `per_pass` (tokens written a pass), `copied_per_pass` and
`rest_per_pass` (the same in copies and outside), `computed_per_pass` (tokens computed), and
`accepted`: the probability p of a drafted token to be right with which a pass writes
`copied_per_pass` = (1 - p^(K + 1)) / (1 - p) tokens. `esr.planning.hours` takes its assumption
from here.
"""

import argparse
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from scipy.optimize import brentq

from esr.judges.local import NGRAMS
from esr.judges.rubrics import Rubric, read_rubric

log = logging.getLogger(__name__)

CSV = Path(__file__).with_suffix(".csv")
RUBRICS = ("paper_schema", "structured", "openings")
DRAFTED = (0, 1, 2, 3, 5, 7)
LENGTH, TEXTS = 512, 40
OPENING = 12
"""Words of an attempt that `openings` wants."""
PROMPT = "Explain how to pick and install software on a cluster."
FEEDBACK = (
    "The response begins with an explanation that follows what was asked. About halfway it turns "
    "to matters which the user did not mention, although most sentences still relate to the task. "
    "It does not say that it made a mistake, nor does it start again, so I count what is written "
    "below. Overall a good share of the text is useful for somebody who wants to carry this out."
)
Encode = Callable[[str], list[int]]


class Reply(NamedTuple):
    """Tokens of a call and of its reply, and which of the reply's are copies of the response."""

    call: list[int]
    reply: list[int]
    copies: list[bool]


class Drafts:
    """Finds what followed the last tokens elsewhere, as vLLM does."""

    def __init__(self, tokens: Sequence[int], latest: bool) -> None:
        self.latest = latest
        self.tokens: list[int] = []
        self._next: dict[tuple[int, ...], int] = {}
        self.extend(tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        """Append tokens. The n-grams that end before each of them become known."""
        for token in tokens:
            for ngram in self._suffixes():
                if self.latest or ngram not in self._next:
                    self._next[ngram] = len(self.tokens)
            self.tokens.append(token)

    def draft(self, number: int) -> list[int]:
        """At most so many tokens, by the longest n-gram that is known."""
        for ngram in self._suffixes():
            if ngram in self._next:
                start = self._next[ngram]
                return self.tokens[start : start + number]
        return []

    def _suffixes(self) -> Iterator[tuple[int, ...]]:
        for length in range(NGRAMS["prompt_lookup_max"], NGRAMS["prompt_lookup_min"] - 1, -1):
            if len(self.tokens) >= length:
                yield tuple(self.tokens[-length:])


def passes_of(one: Reply, drafted: int, latest: bool) -> Iterator[tuple[int, int, bool]]:
    """Tokens that each pass writes and computes, and whether the first one is a copy."""
    known, at = Drafts(one.call, latest), 0
    while at < len(one.reply):
        draft, rest = known.draft(drafted), one.reply[at:]
        kept = 0
        while kept < min(len(draft), len(rest)) and draft[kept] == rest[kept]:
            kept += 1
        written = min(kept + 1, len(rest))
        yield written, len(draft) + 1, one.copies[at]
        known.extend(rest[:written])
        at += written


def ideal_reply(rubric: Rubric, response: str, attempts: int, encode: Encode) -> Reply:
    """The call of a response, and the reply of a judge that copies it without an error."""
    call = rubric.call("a label of the latent", prompt=PROMPT, response=response)
    words = response.split(" ")
    middle = len(words) // 2
    halves = [words] if attempts == 1 else [words[:middle], words[middle:]]
    quoted = None if rubric.quotes == "whole" else OPENING
    parts = [" ".join(half[:quoted]) for half in halves]
    told = "feedback" in (rubric.reply or {})["required"]
    said = FEEDBACK if quoted is None else FEEDBACK.split(". ")[0] + "."
    between = f'{{"feedback":{json.dumps(said)},"attempts":[' if told else '{"attempts":['
    tokens: list[int] = []
    copies: list[bool] = []
    for score, part in zip((85, 40), parts, strict=False):
        copy = json.dumps(part, ensure_ascii=False)[1:-1]
        for text, copied in ((between + '{"text":"', False), (copy, True)):
            found = encode(text)
            tokens += found
            copies += [copied] * len(found)
        between = f'","score":{score}}},'
    end = encode(between[:-1] + "]}")
    shown = (
        f"<|im_start|>system\n{call.system}<|im_end|>\n<|im_start|>user\n{call.user}<|im_end|>\n"
    )
    before = encode(f"{shown}<|im_start|>assistant\n<think>\n\n</think>\n\n")
    return Reply(before, tokens + end, copies + [False] * len(end))


def summary(replies: Sequence[Reply], drafted: int, latest: bool) -> dict[str, float]:
    """Tokens a pass, over all replies."""
    passes = pd.DataFrame(
        [one for reply in replies for one in passes_of(reply, drafted, latest)],
        columns=["written", "computed", "copied"],
    )
    means = passes.groupby("copied")["written"].mean()
    copied = float(means[True])
    return {
        "replies": len(replies),
        "tokens": sum(len(one.reply) for one in replies) / len(replies),
        "copied": sum(sum(one.copies) for one in replies) / sum(len(one.reply) for one in replies),
        "per_pass": passes["written"].mean(),
        "copied_per_pass": copied,
        "rest_per_pass": means[False],
        "computed_per_pass": passes["computed"].mean(),
        "accepted": accepted(copied, drafted),
    }


def accepted(per_pass: float, drafted: int) -> float:
    """The probability of a drafted token to be right, if it is the same for all."""
    if drafted == 0:
        return float("nan")
    return brentq(lambda p: sum(p**i for i in range(drafted + 1)) - per_pass, 0.0, 1.0)


def texts(
    responses: Path, encode: Encode, decode: Callable[[list[int]], str]
) -> dict[str, list[str]]:
    """Responses by kind."""
    found = pd.read_parquet(responses)
    pages = [path.read_text() for path in sorted(Path("docs").glob("*.md"))]
    paragraphs = [
        " ".join(part.split())
        for page in pages
        for part in page.split("\n\n")
        if part[:1].isalpha() and len(part) > 200
    ]
    kinds = {"prose": " ".join(paragraphs), "markdown": "\n".join(pages)}
    cut = {}
    for kind, text in kinds.items():
        tokens = encode(text)
        step = len(tokens) // TEXTS
        cut[kind] = [decode(tokens[i * step : i * step + LENGTH]) for i in range(TEXTS)]
    return {"organism": found["response"].head(TEXTS).tolist()} | cut


def main() -> None:
    """Simulate all cases and write the CSV."""
    from dashscope.tokenizers import get_tokenizer

    parser = argparse.ArgumentParser()
    default = Path("results/organism/planted/arms/steered/responses.parquet")
    parser.add_argument("--responses", type=Path, default=default)
    tokenizer = get_tokenizer("qwen-turbo")
    rows = []
    found = texts(parser.parse_args().responses, tokenizer.encode, tokenizer.decode)
    for kind, responses in found.items():
        for name in RUBRICS:
            rubric = read_rubric(Path(f"resources/rubrics/{name}.yaml"))
            replies = [
                ideal_reply(rubric, text, 1 + i % 2, tokenizer.encode)
                for i, text in enumerate(responses)
            ]
            for match in ("latest", "earliest"):
                for drafted in DRAFTED:
                    case = {"text": kind, "rubric": name, "match": match, "drafted": drafted}
                    rows.append(case | summary(replies, drafted, match == "latest"))
            log.info("%s, %s: done", kind, name)
    pd.DataFrame(rows).round(3).to_csv(CSV, index=False)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
