"""Unsteered text of a model, as tokens: what an SAE is compared on, and boosts are probed on."""

from pathlib import Path
from typing import Any

from esr.arms.chat import prompt_tokens
from esr.arms.prompts import read_prompts
from esr.arms.responses import requests_of
from esr.assets.sae_fit import Text
from esr.config import Config
from esr.tables import read_table


def read_texts(inputs: Any, tokenizer: Any, config: Config) -> list[Text]:
    """Unsteered answers after their prompts, in the order of the plan; or the prompts.

    Args:
        inputs: Of a job: `answers` (plan and responses of an arm, or nothing) and `prompts`.
        tokenizer: The model's.
        config: The study.
    """
    doubled = config.generation.doubled_header
    if not inputs.get("answers"):
        prompts = read_prompts(Path(inputs.prompts))["prompt"]
        return [Text(prompt_tokens(tokenizer, p, doubled_header=doubled), 1) for p in prompts]
    plan = read_table(Path(inputs.answers[0]), "plan")
    responses = read_table(Path(inputs.answers[1]), "responses")
    requests = requests_of(plan, tokenizer, doubled)
    return [
        Text((*request.tokens, *tokens), len(request.tokens))
        for request, tokens, status in zip(
            requests, responses["tokens"], responses["status"], strict=True
        )
        if status == "ok"
    ]
