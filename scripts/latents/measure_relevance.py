"""Make relevance.parquet: for every prompt and candidate, largest activation and rank.

Encoded are the tokens of the prompt's unsteered answers (criterion `top_n`), or, without answers,
those of the prompt (criterion `zero`). Activations are in the SAE's own units.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.arms.chat import prompt_tokens
from esr.arms.prompts import read_prompts
from esr.arms.responses import requests_of
from esr.engines import open_engine, open_tokenizer
from esr.engines.base import EncodeRequest
from esr.job import config_of, origin, output, start
from esr.latents.relevance import relevance_table
from esr.tables import read_table, write_table


def prompt_passes(prompts: pd.DataFrame, tokenizer: Any, doubled: bool) -> list[EncodeRequest]:
    """Passes over the prompts in their chat template, without the BOS."""
    return [
        EncodeRequest(prompt_tokens(tokenizer, prompt, doubled_header=doubled), start=1)
        for prompt in prompts["prompt"]
    ]


def answer_passes(
    plan: pd.DataFrame, responses: pd.DataFrame, tokenizer: Any, doubled: bool
) -> list[EncodeRequest]:
    """Passes over prompts and answers, from the first token of the answer."""
    requests = requests_of(plan, tokenizer, doubled)
    return [
        EncodeRequest((*request.tokens, *answer), start=len(request.tokens))
        for request, answer in zip(requests, responses["tokens"], strict=True)
    ]


def pool_by_prompt(
    prompt_ids: list[str], rows: list[Float[np.ndarray, " d_sae"]]
) -> tuple[list[str], Float[np.ndarray, "prompts d_sae"]]:
    """Largest activation over all passes of a prompt."""
    ids = list(dict.fromkeys(prompt_ids))
    pooled = np.stack(
        [np.max([r for r, p in zip(rows, prompt_ids, strict=True) if p == i], axis=0) for i in ids]
    )
    return ids, pooled


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    name = job.wildcards.model
    manifest = json.loads(Path(job.input.model).read_text(encoding="utf-8"))
    tokenizer = open_tokenizer(manifest, config.models[name].template)
    doubled = config.generation.doubled_header
    if job.input.get("answers"):
        plan = read_table(Path(job.input.answers[0]), "plan")
        responses = read_table(Path(job.input.answers[1]), "responses")
        has_response = responses["status"].eq("ok") & responses["tokens"].map(len, "ignore").gt(0)
        plan, responses = plan[has_response.to_numpy()], responses[has_response]
        ids = plan["prompt_id"]
        passes = answer_passes(plan, responses, tokenizer, doubled)
    else:
        prompts = read_prompts(Path(job.input.prompts))
        ids = prompts["prompt_id"]
        passes = prompt_passes(prompts, tokenizer, doubled)
    engine = open_engine(config, name, manifest, Path(job.input.sae))
    prompt_ids, activations = pool_by_prompt(list(ids), engine.encode(passes))
    candidates = read_table(Path(job.input.candidates), "candidates")["latent"].tolist()
    table = relevance_table(prompt_ids, activations, candidates, config.latents.relevance)
    write_table(table, output(job), "relevance", origin(job, engine=engine.identity))


if __name__ == "__main__":
    main(start(snakemake))
