"""Make episodes/episode_activations.parquet: detectors and backtracking latents, token by token.

Every episode and control is encoded in one teacher-forced pass over the sampled tokens of the
response, under its own intervention if `episodes.steer` is set. Activations are in SAE units.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from esr.arms.chat import response_text
from esr.arms.responses import requests_of
from esr.engines import open_engine, open_tokenizer
from esr.engines.base import EncodeRequest, Engine, Intervention, Request
from esr.episodes.extract import REGIONS, Span, choose_backtracking
from esr.episodes.tokens import token_regions, token_spans
from esr.errors import EsrError
from esr.job import config_of, origin, output, start
from esr.tables import TABLES, read_table, write_table

log = logging.getLogger(__name__)


class Trace(NamedTuple):
    """A response to encode: its trial, the request, and characters and region of each token."""

    trial: str
    request: EncodeRequest
    spans: list[Span]
    regions: list[str | None]


def make_traces(
    trials: pd.DataFrame, requests: Sequence[Request], tokenizer: Any, steer: bool
) -> list[Trace]:
    """Lay out the tokens of every trial (columns of `plan`, `responses` and `episodes`)."""
    traces = []
    for (_, row), request in zip(trials.iterrows(), requests, strict=True):
        tokens = tuple(int(token) for token in row["tokens"])
        if response_text(tokenizer, tokens, row["prefill"]) != row["response"]:
            raise EsrError(
                f"trial {row['trial_id']}: its tokens do not decode to its response; "
                "generate the responses again with the current tokenizer"
            )
        spans = token_spans(tokenizer, tokens, row["prefill"])
        intervention = request.intervention if steer else Intervention()
        encode = EncodeRequest((*request.tokens, *tokens), len(request.tokens), intervention)
        traces.append(Trace(row["trial_id"], encode, spans, token_regions(spans, row)))
    return traces


def region_means(engine: Engine, traces: Sequence[Trace], region: str) -> np.ndarray:
    """Mean activation of every latent over a region: (traces, d_sae).

    Later tokens do not change earlier activations, so each sequence is cut at the end of the
    region. Only the means are kept, since activations of all latents would not fit in memory.
    """
    passes = []
    for trace in traces:
        inside = [i for i, found in enumerate(trace.regions) if found == region]
        begin = trace.request.start
        cut = trace.request.tokens[: begin + inside[-1] + 1]
        passes.append(EncodeRequest(cut, begin + inside[0], trace.request.intervention))
    return np.stack(engine.encode(passes, pool="mean")) if passes else np.zeros((0, 0))


def encode_tokens(
    engine: Engine, traces: Sequence[Trace], latents: Sequence[int], kind: str
) -> pd.DataFrame:
    """Activations of some latents at every token: rows of `episode_activations`."""
    columns = [c for c in TABLES["episode_activations"].columns if c != "model"]
    if not latents or not traces:
        return pd.DataFrame(columns=columns)
    found = engine.encode([trace.request for trace in traces], latents, pool=None)
    parts = []
    for trace, activations in zip(traces, found, strict=True):
        n, wide = activations.shape
        position = np.repeat(np.arange(n), wide)
        spans = np.array(trace.spans)[position]
        regions = np.array(trace.regions, dtype=object)[position]
        values = (position, *spans.T, regions, np.tile(latents, n), kind, activations.ravel())
        parts.append(pd.DataFrame(dict(zip(columns, (trace.trial, *values), strict=True))))
    return pd.concat(parts, ignore_index=True)


def complete(trace: Trace) -> bool:
    """Whether every region has a token of its own."""
    return set(REGIONS) <= set(trace.regions)


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    name = job.wildcards.model
    manifest = json.loads(Path(job.input.model).read_text(encoding="utf-8"))
    episodes = read_table(Path(job.input.episodes), "episodes")
    episodes = episodes[episodes["status"].eq("ok")]
    plan = read_table(Path(job.input.plan), "plan")
    plan = plan.set_index("trial_id", drop=False).loc[episodes["trial_id"]]
    responses = read_table(Path(job.input.responses), "responses").drop(columns="status")
    added = episodes[[c for c in episodes if c == "trial_id" or c not in plan]]
    trials = plan.reset_index(drop=True).merge(responses).merge(added)
    tokenizer = open_tokenizer(manifest, config.models[name].template)
    requests = requests_of(trials, tokenizer, config.generation.doubled_header)
    traces = make_traces(trials, requests, tokenizer, config.episodes.steer)
    detectors = read_table(Path(job.input.detectors), "detectors")
    detecting = detectors.loc[detectors["detector"], "latent"].astype(int).tolist()
    engine = open_engine(config, name, manifest, Path(job.input.sae))
    backtracking = list(config.models[name].backtracking)
    if not backtracking:
        choosing = [t for t, held in zip(traces, trials["held_out"], strict=True) if not held]
        choosing = [trace for trace in choosing if complete(trace)]
        off, correction, on = (region_means(engine, choosing, region) for region in REGIONS)
        count = config.episodes.backtracking
        backtracking = choose_backtracking(off, correction, on, count, detecting)
        log.info("chosen on %d episodes: backtracking latents %s", len(choosing), backtracking)
    kinds = {"detector": detecting, "backtracking": backtracking}
    parts = [encode_tokens(engine, traces, latents, kind) for kind, latents in kinds.items()]
    table = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    facts = origin(job, engine=engine.identity, steered=config.episodes.steer)
    write_table(table.assign(model=name), output(job), "episode_activations", facts)


if __name__ == "__main__":
    main(start(snakemake))
