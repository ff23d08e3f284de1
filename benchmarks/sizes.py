"""What other sizes of the large studies could decide, and at what cost; makes sizes.csv.

    uv run python benchmarks/sizes.py [studies]

One row a study, design and core claim: `study`, `latents`, `trials` (of each latent), `gpu_hours`
(of the whole study, `esr.planning.hours`), `second` (replies of a second judge if it graded every
trial of the sampled arms), `claim`, and `power_<rho>` (% of simulated studies that confirm the
claim by the primary judge if it is true, at that intra-latent correlation).
"""

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from esr.agreement.arms import sampled_cells
from esr.analysis.claims import read_claims
from esr.analysis.operating import CORRELATIONS, scenarios, simulate
from esr.analysis.truths import TRUTHS
from esr.config import Config
from esr.config.files import study_config
from esr.planning.hours import arm_trials, estimate_compute
from esr.planning.power import design_of

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
ROOT = HERE.parent
DESIGNS = {
    "paper": ("january", [(500, 5), (2500, 1), (3000, 2)]),
    "arxiv": ("published", [(1000, 5), (5000, 1), (3000, 2)]),
}
"""Claims file of a study, and its designs: latents and trials of each; as configured first."""
CORE = {
    "january": [
        "multi-70b", "msi-70b", "largest-first", "meta-multi-rise", "ablation-msi",
        "ablation-multi", "random-beside",
    ],
    "published": [
        "esr-70b", "multi-70b", "largest-first", "meta-esr", "ablation-multi", "ablation-esr",
        "random-esr",
    ],
}  # fmt: skip


def sized(study: str, latents: int, trials: int) -> Config:
    """A study with other numbers of latents and trials in its main arms."""
    arms = study_config(ROOT, study).arms
    steered = [name for name, arm in arms.items() if name.startswith("steered") and arm.trials]
    changes = {name: {"trials": trials} for name in steered}
    return study_config(ROOT, study, latents={"count": latents}, arms=changes)


def rows_of(study: str, latents: int, trials: int, studies: int) -> list[dict[str, Any]]:
    """Cost of a design, and the power of the core claims."""
    config = sized(study, latents, trials)
    head: dict[str, Any] = {"study": study, "latents": latents, "trials": trials}
    head["gpu_hours"] = round(float(estimate_compute(config)["gpu_hours"].sum()))
    head["second"] = sum(arm_trials(config, arm) for _, arm in sampled_cells(config))
    name = DESIGNS[study][0]
    rows = []
    claims = read_claims([ROOT / "resources" / "claims" / f"{name}.csv"])
    for claim, case in scenarios(claims, TRUTHS[name]):
        if case is None or claim["claim"] not in CORE[name]:
            continue
        row = head | {"claim": claim["claim"]}
        for rho in CORRELATIONS:
            found = simulate(case, replace(design_of(config), rho=rho), studies)
            row[f"power_{rho:g}"] = round(100 * found["verdict"].eq("confirmed").mean())
        log.info("%s", row)
        rows.append(row)
    return rows


def benchmark(studies: int = 40) -> pd.DataFrame:
    """Every design of the large studies."""
    designs = [(study, *size) for study, (_, sizes) in DESIGNS.items() for size in sizes]
    return pd.DataFrame([row for design in designs for row in rows_of(*design, studies)])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    benchmark(*map(int, sys.argv[1:])).to_csv(HERE / "sizes.csv", index=False)
