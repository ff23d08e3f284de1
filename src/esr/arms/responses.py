"""Requests from a plan, and the table `responses` from the generations."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import pandas as pd

from esr.arms.chat import is_unfinished_thought, prompt_tokens, response_text
from esr.arms.plan import listed, prefix_of, shown_prompt
from esr.engines.base import Generation, Intervention, Operation, Request, Window
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

    @cache
    def rendered(prompt: str, prefill: str) -> tuple[int, ...]:
        return prompt_tokens(tokenizer, prompt, prefill, doubled_header)

    found = []
    for row in plan.itertuples():
        tokens = rendered(shown_prompt(row), row.prefill)
        prefix = tuple(prefix_of(row.prefix))
        intervention = intervention_of(row, len(tokens))
        found.append(Request(tokens + prefix, int(row.seed), intervention))
    return found


def steered_window(prompt: bool, n_prompt: int) -> Window | None:
    """Positions that are steered where no arm has a window: all, or those after the prompt."""
    return None if prompt else Window(n_prompt, None)


def intervention_of(row: Any, n_prompt: int) -> Intervention:
    """Intervention of a trial.

    Args:
        row: Row of a plan.
        n_prompt: Tokens before the first one of the response.

    Raises:
        EsrError: its window ends before the first token of the prompt.
    """
    ablated, clamped = listed(row.ablated, int), listed(row.ablated_to, float)
    window = window_of(row.window_start, row.window_stop, n_prompt)
    steers = row.boost != 0 and not pd.isna(row.latent)
    directions = None if pd.isna(row.directions) or not steers else row.directions
    layers = listed(row.layers, int) if steers else []
    short = steers and not layers
    operations = [
        Operation("add", int(row.latent), float(row.boost), layer, window, directions)
        for layer in layers
    ]
    if clamped:
        pairs = zip(ablated, clamped, strict=True)
        operations += [Operation("clamp", latent, value) for latent, value in pairs]
    return Intervention(
        latent=int(row.latent) if short else None,
        boost=float(row.boost) if short else 0.0,
        ablated=() if clamped else tuple(ablated),
        strength=1.0 if pd.isna(row.strength) else float(row.strength),
        window=None if layers else window,
        directions=directions if short else None,
        operations=tuple(operations),
    )


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
