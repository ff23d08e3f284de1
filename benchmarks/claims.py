"""Error rates of every claim at its study's planned size, simulated; makes claims.csv.

    uv run python benchmarks/claims.py [studies]

One row a claim, intra-latent correlation and method of intervals: `study`, `claim`, `latents`,
`trials`, `rho`, `method`, `value` (claimed), `confirmed_true`, `refuted_true`, `confirmed_null`,
`refuted_null` (% of simulated studies in which the claim, or its null, is true), `latents_80`
(latents for 80 % power; inf: never). Claims whose statistic is not simulated have a row
without numbers.
"""

import logging
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from esr.analysis.claims import read_claims
from esr.analysis.operating import characteristics, power_row, scenario
from esr.analysis.simulation import StudySpec
from esr.analysis.truths import TRUTHS

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
CLAIMS = HERE.parent / "resources" / "claims"
DESIGNS = {
    "organism": StudySpec(36, 16, 24),
    "january": StudySpec(500, 5, 38),
    "published": StudySpec(1000, 5, 38),
}
"""Sizes in studies/organism.yaml, paper.yaml, arxiv.yaml."""
CORRELATIONS = (0.05, 0.2)


def row_of(study: str, claim: dict[str, Any], rho: float, studies: int) -> dict[str, Any]:
    """Error rates of a claim."""
    spec = DESIGNS[study]
    spec = StudySpec(spec.latents, spec.trials, spec.prompts, rho=rho)
    row: dict[str, Any] = {"study": study, "claim": claim["claim"], "rho": rho}
    row |= {"latents": spec.latents, "trials": spec.trials}
    case = scenario(claim, TRUTHS[study])
    if case is None:
        return row | {"simulated": False}
    shares = {k: 100 * v for k, v in characteristics(case, spec, studies).items()}
    power = power_row(case, spec, min(studies, 60))
    return (
        row
        | {"simulated": True, "value": case.value, **shares}
        | {
            "latents_80": power["latents_80"],
            "label": "decidable" if shares["confirmed_true"] >= 80 else "underpowered",
        }
    )


def benchmark(studies: int = 200) -> pd.DataFrame:
    """Every claim of every study."""
    rows = []
    for study in DESIGNS:
        claims = read_claims([CLAIMS / f"{study}.csv"]).to_dict("records")
        for claim, rho in product(claims, CORRELATIONS):
            rows.append(row_of(study, {str(k): v for k, v in claim.items()}, rho, studies))
            log.info("%s", rows[-1])
    return pd.DataFrame(rows).round(2)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    benchmark(*map(int, sys.argv[1:])).to_csv(HERE / "claims.csv", index=False)
