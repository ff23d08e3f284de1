"""Requests of a plan of self-report."""

from typing import Any

import pandas as pd

from esr.arms.readouts import Names
from esr.config.introspection import IntrospectionConfig
from esr.engines.base import Intervention
from esr.engines.readouts import ReadoutRequest, named_tokens
from esr.introspection.dialogue import Turns, dialogue
from esr.introspection.plan import CHOICE


def answer_tokens(settings: IntrospectionConfig, tokenizer: Any) -> tuple[Names, Names]:
    """Ids of yes and no, and of the letters of the options.

    Raises:
        EsrError: a spelling is not a single token.
    """
    answers = {"affirmed": settings.affirmed, "denied": settings.denied}
    yes_no = named_tokens(tokenizer, answers, "introspection")
    return yes_no, named_tokens(tokenizer, settings.options, "introspection.letters")


def self_report_requests(
    plan: pd.DataFrame, settings: IntrospectionConfig, tokenizer: Any, doubled_header: bool
) -> tuple[list[ReadoutRequest], list[Names]]:
    """Requests of a plan in the order of its rows, and the names that each is read for.

    Raises:
        EsrError: a spelling is not a single token, or the template does not fit.
    """
    yes_no, letters = answer_tokens(settings, tokenizer)
    earlier = Turns(settings.first_turn, settings.reply)
    rendered = {
        (prompt, window): dialogue(tokenizer, prompt, window, earlier, doubled_header)
        for prompt, window in plan[["prompt", "window"]].drop_duplicates().itertuples(index=False)
    }
    requests, names = [], []
    for row in plan.itertuples():
        shown = rendered[row.prompt, row.window]
        what = Intervention()
        if row.boost != 0:
            directions = None if pd.isna(row.directions) else str(row.directions)
            what = Intervention(
                int(row.latent), float(row.boost), window=shown.window, directions=directions
            )
        named = letters if row.kind == CHOICE else yes_no
        targets = tuple(token for ids in named.values() for token in ids)
        requests.append(ReadoutRequest(shown.tokens, targets, what))
        names.append(named)
    return requests, names
