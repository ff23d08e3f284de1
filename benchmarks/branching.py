"""What branching decides about the ablation, and for how many tokens; makes branching.csv.

    uv run python benchmarks/branching.py [studies]

One row a study, design and correlation: `study`, `design` (`whole` responses, or `branching`),
`size` (latents x trials, or prefixes x continuations), `rate` (% of continuations that restart
under steering; of whole responses, of these), `rho` (intra-latent correlation; intra-prefix in
branching, where that of latents is 0.05), `trials` (both arms), `tokens` (new ones of both arms, at
most), `with_texts` (and those of the responses that the prefixes are cut from), `gpu_hours` (of
`tokens`; missing where the study names no GPU), and of the simulated studies `sign` (% that show a
fall), `claim` (% that confirm the claimed size), `error` (% that show a fall where there is none).

The ablation lowers restarts by the same share in both designs. No source gives the rate at which a
text restarts again where it restarted, so there are several; the organism's is measured.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from esr.analysis.branching import STEERED, BranchSpec, draw_branches, draw_whole, shares
from esr.analysis.claims import Region
from esr.analysis.operating import Judged
from esr.analysis.truths import TRUTHS
from esr.config.files import study_config
from esr.planning.hardware import gpu_of
from esr.planning.hours import tokens_per_second
from esr.planning.power import design_of

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
FALL = Region(-np.inf, 0.0)
CORRELATIONS = (0.05, 0.2)
PREFIX_CORRELATIONS = (0.05, 0.3)
Draw = Callable[[list[int]], Judged]


class Case(NamedTuple):
    """An ablation claim, and the designs that are compared.

    `whole`: latents, at the study's trials. `branches`: prefixes and continuations. `rates`: share
    of continuations that restart. `tokens`: largest number of new tokens of a continuation.
    """

    study: str
    truths: str
    model: str
    region: Region
    whole: list[int]
    branches: list[tuple[int, int]]
    rates: list[float]
    tokens: int


CASES = [
    Case(
        *("arxiv", "published", "llama-3.3-70b", Region(-37.5, -12.5)),
        whole=[250, 500, 1000, 2400],
        branches=[(50, 10), (100, 10), (250, 10), (250, 20)],
        rates=[0.05, 0.1, 0.2, 0.3],
        tokens=64,
    ),
    Case(
        *("paper", "january", "llama-3.3-70b", Region(-76.5, -25.5)),
        whole=[250, 500, 1000, 1800],
        branches=[(40, 5), (40, 20), (40, 40)],
        rates=[0.05, 0.1, 0.2, 0.3],
        tokens=64,
    ),
    Case(
        *("organism", "organism", "planted", FALL),
        whole=[9, 12, 15, 18, 24, 36],
        branches=[(20, 1), (20, 4), (25, 4), (40, 4), (100, 4)],
        rates=[0.23],
        tokens=40,
    ),
]


def rows_of(case: Case, studies: int) -> Iterator[dict[str, Any]]:
    """Every design of a claim."""
    config = study_config(HERE.parent, case.study)
    spec, length = design_of(config), config.generation.max_new_tokens
    truths = TRUTHS[case.truths][case.model]
    arms = {name: truths[name] for name in (STEERED, "ablate-otd")}
    kept = arms["ablate-otd"].multi / arms[STEERED].multi
    gpu = gpu_of(config)
    rate = None
    if gpu is not None:
        per_gpu = tokens_per_second(config, "generate_responses", case.model, gpu)[0]
        rate = per_gpu / max(config.gpus(case.model), 1)

    def row(design: str, size: tuple[int, int], tokens: int, **facts: Any) -> dict[str, Any]:
        trials = 2 * size[0] * size[1]
        hours = np.nan if rate is None else trials * tokens / rate / 3600
        counts = {"trials": trials, "tokens": trials * tokens, "gpu_hours": hours}
        named = {"study": case.study, "design": design, "size": f"{size[0]} x {size[1]}"}
        return named | counts | facts

    def measured(draw: Draw, null: Draw) -> dict[str, float]:
        found = {
            "sign": shares(draw, FALL, studies, relative=False)[0],
            "claim": shares(draw, case.region, studies, relative=np.isfinite(case.region.lower))[0],
            "error": shares(null, FALL, studies, relative=False)[0],
        }
        log.info("%s %s", case.study, found)
        return found

    for latents in case.whole:
        for rho in CORRELATIONS:
            one = replace(spec, latents=latents, rho=rho)
            same = {STEERED: arms[STEERED], "again": arms[STEERED]}
            found = measured(
                partial(draw_whole, one, arms),
                partial(draw_whole, one, same),
            )
            head = row("whole", (latents, spec.trials), length, rho=rho)
            percent = 100 * arms[STEERED].multi
            yield head | {"rate": percent, "with_texts": head["tokens"]} | found
    texts = spec.latents * spec.trials * length
    source = replace(spec, arms={STEERED: arms[STEERED]}, rho=CORRELATIONS[0])
    for (prefixes, samples), rate_at in ((b, r) for r in case.rates for b in case.branches):
        for rho in PREFIX_CORRELATIONS:
            branch = BranchSpec(prefixes, samples, rho)
            changed = {STEERED: rate_at, "ablated": kept * rate_at}
            found = measured(
                partial(draw_branches, source, branch, changed),
                partial(draw_branches, source, branch, {STEERED: rate_at, "again": rate_at}),
            )
            head = row("branching", (prefixes, samples), case.tokens, rho=rho)
            yield head | {"rate": 100 * rate_at, "with_texts": texts + head["tokens"]} | found


def benchmark(studies: int = 100) -> pd.DataFrame:
    """All designs of all claims."""
    columns = ["study", "design", "size", "rate", "rho", "trials", "tokens", "with_texts"]
    columns += ["gpu_hours", "sign", "claim", "error"]
    table = pd.DataFrame([row for case in CASES for row in rows_of(case, studies)])
    return table[columns].round({"rate": 1, "gpu_hours": 3, "sign": 1, "claim": 1, "error": 1})


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    benchmark(*map(int, sys.argv[1:])).to_csv(HERE / "branching.csv", index=False)
