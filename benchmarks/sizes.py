"""What other sizes of the large studies could decide, and at what cost; makes sizes.csv.

    uv run python benchmarks/sizes.py [studies]

One row a study, design and core claim: `study`, `latents`, `trials` (of each latent), `gpu_hours`
(of the whole study, `esr.planning.hours`), `second` (replies of a second judge if it graded every
trial of the sampled arms), `claim`, and `power_<rho>` (% of simulated studies that confirm the
claim by the primary judge if it is true, at that intra-latent correlation). Powers of a design that
sizes.csv has are kept, and its costs are counted again: delete rows of claims that have changed.
"""

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from esr.agreement.arms import sampled_cells
from esr.analysis.claims import read_claims
from esr.analysis.operating import scenarios, simulate
from esr.analysis.power import CORRELATIONS
from esr.analysis.truths import TRUTHS
from esr.config import Config
from esr.config.files import study_config
from esr.planning.hours import estimate_compute
from esr.planning.power import design_of
from esr.planning.work import arm_trials

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
ROOT = HERE.parent
TABLE = HERE / "sizes.csv"
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


Known = dict[tuple[str, int, int, str], dict[str, Any]]


def sized(study: str, latents: int, trials: int) -> Config:
    """A study with other numbers of latents and trials in its main arms."""
    arms = study_config(ROOT, study).arms
    steered = [name for name, arm in arms.items() if name.startswith("steered") and arm.trials]
    changes = {name: {"trials": trials} for name in steered}
    return study_config(ROOT, study, latents={"count": latents}, arms=changes)


def rows_of(
    study: str, latents: int, trials: int, studies: int, known: Known
) -> list[dict[str, Any]]:
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
        row |= known.get((study, latents, trials, claim["claim"]), {})
        for rho in CORRELATIONS:
            if f"power_{rho:g}" not in row:
                found = simulate(case, replace(design_of(config), rho=rho), studies)
                row[f"power_{rho:g}"] = round(100 * found["verdict"].eq("confirmed").mean())
        log.info("%s", row)
        rows.append(row)
    return rows


def benchmark(studies: int, known: Known) -> pd.DataFrame:
    """Every design of the large studies."""
    designs = [(study, *size) for study, (_, sizes) in DESIGNS.items() for size in sizes]
    rows = [row for design in designs for row in rows_of(*design, studies, known)]
    return pd.DataFrame(rows)


def read_known() -> Known:
    """Powers of the table, by study, latents, trials and claim; none without a table."""
    if not TABLE.is_file():
        return {}
    rows = pd.read_csv(TABLE).set_index(["study", "latents", "trials", "claim"])
    powers = rows[[name for name in rows if str(name).startswith("power_")]]
    return {key: row.to_dict() for key, row in powers.iterrows()}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    count = int(sys.argv[1]) if sys.argv[1:] else 40
    benchmark(count, read_known()).to_csv(TABLE, index=False)
