"""Generation with a journal: run what is missing, keep every response the moment it is there."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from esr.chat import prompt_tokens, response_text
from esr.engines.base import Engine, Generation, Intervention, Request, Sampling
from esr.journal import Journal, content_key
from esr.trials import shown_prompt

log = logging.getLogger(__name__)


def generate_journaled(
    engine: Engine, requests: Sequence[Request], sampling: Sampling, journal: Journal
) -> list[Generation]:
    """Responses to requests, in order; only those not in the journal are computed.

    Groups of which any member is missing are computed whole, since only then are the bytes those
    of an uninterrupted run; members that the journal has keep their recorded response. Equal
    requests are computed once.
    """
    keys = [
        content_key({**engine.identity, **asdict(sampling), **request.content()})
        for request in requests
    ]
    distinct = dict(zip(keys, requests, strict=True))
    names = list(distinct)
    groups = [[names[i] for i in group] for group in engine.partition(list(distinct.values()))]
    missing = [group for group in groups if any(key not in journal for key in group)]
    done = engine.generate([[distinct[key] for key in group] for group in missing], sampling)
    for group, generations in zip(missing, _progress(done, len(missing)), strict=True):
        journal.append(
            {"key": key, **asdict(generation)}
            for key, generation in zip(group, generations, strict=True)
        )
    return [
        Generation(tuple(record["tokens"]), record["finish_reason"])
        for record in (journal[key] for key in keys)
    ]


def requests_of(plan: pd.DataFrame, tokenizer: Any, doubled_header: bool) -> list[Request]:
    """Turn the trials of a plan into requests."""
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
    """Assemble the table `responses`: one row a trial, a failed generation being a status."""
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


def _progress(batches: Iterator[list[Generation]], total: int) -> Iterator[list[Generation]]:
    """Show progress: a bar on a terminal, about ten log lines elsewhere."""
    every = max(1, total // 10)
    with logging_redirect_tqdm():
        bar = tqdm(batches, total=total, unit="batch", disable=None, leave=False)
        for number, batch in enumerate(bar, start=1):
            yield batch
            if bar.disable and total > 1 and number % every == 0:
                log.info("generated %d of %d batches", number, total)
