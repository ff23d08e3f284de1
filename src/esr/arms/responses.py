"""Requests from a plan, and the table `responses` from the generations."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from esr.arms.chat import is_unfinished_thought, prompt_tokens, response_text
from esr.arms.plan import prefix_of, shown_prompt
from esr.engines.base import Generation, Intervention, Request, Window
from esr.errors import EsrError
from esr.tables import TABLES
from esr.text import common_prefix_length

PREFIX_SIZES = ["n_prefix_tokens", "prefix_end"]
"""Columns of `responses` about the prefix: tokens and characters."""
NO_DETECTORS = "no_detectors"
"""Status of trials that would ablate detectors of a model that has none."""


def requests_of(plan: pd.DataFrame, tokenizer: Any, doubled_header: bool) -> list[Request]:
    """Requests of a plan, one a trial, in the order of its rows; a prefix follows the prompt.

    Raises:
        EsrError: a window ends before the first token of a prompt.
    """
    found = []
    for row in plan.itertuples():
        tokens = prompt_tokens(tokenizer, shown_prompt(row), row.prefill, doubled_header)
        intervention = Intervention(
            latent=None if pd.isna(row.latent) or row.boost == 0 else int(row.latent),
            boost=float(row.boost),
            ablated=tuple(int(latent) for latent in row.ablated),
            strength=1.0 if pd.isna(row.strength) else float(row.strength),
            window=window_of(row.window_start, row.window_stop, len(tokens)),
            directions=None if pd.isna(row.directions) or row.boost == 0 else row.directions,
        )
        prefix = tuple(prefix_of(row.prefix))
        found.append(Request(tokens + prefix, int(row.seed), intervention))
    return found


def steered_window(prompt: bool, n_prompt: int) -> Window | None:
    """Positions that are steered where no arm says which: all, or those after the prompt."""
    return None if prompt else Window(n_prompt, None)


def window_of(start: Any, stop: Any, n_prompt: int) -> Window | None:
    """Positions of a window that a plan counts from the first token of the response.

    Args:
        start: First steered token; missing: the first of the prompt.
        stop: Token after the last one; missing: none.
        n_prompt: Tokens before that one; those of a prefix are none of them.

    Raises:
        EsrError: the window ends before the first token of the prompt.
    """
    if pd.isna(start) and pd.isna(stop):
        return None
    begin = 0 if pd.isna(start) else max(0, n_prompt + int(start))
    end = None if pd.isna(stop) else n_prompt + int(stop)
    if end is not None and end <= begin:
        raise EsrError(
            f"window of an arm: stop {stop} lies before the first token of a prompt of {n_prompt} "
            "tokens, so that nothing is steered; raise `window.stop`"
        )
    return Window(begin, end)


def response_status(done: Generation, tokenizer: Any, prefix: Sequence[int] = ()) -> str:
    """`ok`, or why there is no answer: `engine_error`, or `unfinished_thought`."""
    if done.finish_reason == "error":
        return "engine_error"
    tokens = [*prefix, *done.tokens]
    return "unfinished_thought" if is_unfinished_thought(tokenizer, tokens) else "ok"


def responses_table(
    plan: pd.DataFrame,
    requests: Sequence[Request],
    generations: Sequence[Generation],
    tokenizer: Any,
) -> pd.DataFrame:
    """Assemble the table `responses`: one row a trial; a failed generation is a status."""
    rows = []
    for trial, request, done in zip(plan.itertuples(), requests, generations, strict=True):
        prefix = prefix_of(trial.prefix)
        status = response_status(done, tokenizer, prefix)
        ok = status == "ok"
        tokens = [*prefix, *done.tokens]
        text = response_text(tokenizer, tokens, trial.prefill) if ok else None
        rows.append(
            {
                "trial_id": trial.trial_id,
                "status": status,
                "response": text,
                "tokens": tokens if ok else None,
                "n_prompt_tokens": len(request.tokens) - len(prefix),
                "finish_reason": done.finish_reason if ok else None,
                "n_prefix_tokens": len(prefix) or None,
                "prefix_end": prefix_end(tokenizer, prefix, trial.prefill, text),
            }
        )
    table = pd.DataFrame(rows, columns=list(TABLES["responses"].columns))
    return table.astype(dict.fromkeys(PREFIX_SIZES, "Int64"))


def prefix_end(tokenizer: Any, prefix: Sequence[int], prefill: str, text: str | None) -> int | None:
    """First character of a response that a continuation wrote; None without a prefix or a text."""
    if not prefix or text is None:
        return None
    # A blank at the end of the prefix may vanish before the continuation.
    return common_prefix_length(response_text(tokenizer, prefix, prefill), text)


def not_generated(plan: pd.DataFrame, status: str) -> pd.DataFrame:
    """The table `responses` of trials that are not run, for the reason that `status` names."""
    empty = dict.fromkeys(TABLES["responses"].columns.keys() - {"trial_id", "status"})
    return plan[["trial_id"]].assign(status=status, **empty)
