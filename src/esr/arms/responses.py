"""Requests from a plan, and the table `responses` from the generations."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from esr.arms.chat import prompt_tokens, response_text
from esr.arms.plan import shown_prompt
from esr.engines.base import Generation, Intervention, Request


def requests_of(plan: pd.DataFrame, tokenizer: Any, doubled_header: bool) -> list[Request]:
    """Requests of a plan, one a trial, in the order of its rows."""
    return [
        Request(
            tokens=prompt_tokens(tokenizer, shown_prompt(row), row.prefill, doubled_header),
            seed=int(row.seed),
            intervention=Intervention(
                latent=None if pd.isna(row.latent) or row.boost == 0 else int(row.latent),
                boost=float(row.boost),
                ablated=tuple(int(latent) for latent in row.ablated),
            ),
        )
        for row in plan.itertuples()
    ]


def responses_table(
    plan: pd.DataFrame,
    requests: Sequence[Request],
    generations: Sequence[Generation],
    tokenizer: Any,
) -> pd.DataFrame:
    """Assemble the table `responses`: one row a trial; a failed generation is a status."""
    rows = []
    for trial, request, done in zip(plan.itertuples(), requests, generations, strict=True):
        ok = done.finish_reason != "error"
        rows.append(
            {
                "trial_id": trial.trial_id,
                "status": "ok" if ok else "engine_error",
                "response": response_text(tokenizer, done.tokens, trial.prefill) if ok else None,
                "tokens": list(done.tokens) if ok else None,
                "n_prompt_tokens": len(request.tokens),
                "finish_reason": done.finish_reason if ok else None,
            }
        )
    return pd.DataFrame(rows)
