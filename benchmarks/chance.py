"""False positives of comparisons: A/A arms, simulated; makes chance.csv.

    uv run python benchmarks/chance.py [studies]

Every study has two arms with the same truth and other seeds, run through `comparison_table` as an
A/A arm of a real study is. One row a design and measure: `design`, `latents`, `trials`, `rho`
(intra-latent correlation of restarts), `measure`, `studies`, `n_missing` (of them: without interval
or p), `interval` and `test` (% of the other studies in which the interval excludes 0, and in which
p is below 5 %).
"""

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from esr.analysis.simulation import draw_study
from esr.analysis.specs import ArmSpec, StudySpec
from esr.analysis.summaries import comparison_table
from esr.config import StatisticsConfig

log = logging.getLogger(__name__)

ORGANISM = ArmSpec(multi=0.12, success=0.75, gain=45, loss=15, first=50)
DESIGNS = {
    "organism, other-seeds": StudySpec(12, 16, 48, {"steered": ORGANISM}),
    "organism, all latents": StudySpec(36, 16, 48, {"steered": ORGANISM}),
}
CORRELATIONS = (0.05, 0.2)
MEASURES = ["first_score", "multi_attempt_rate", "esr_rate", "msi", "restart_rate"]
SETTINGS = StatisticsConfig()


def one_study(spec: StudySpec, seed: int) -> pd.DataFrame:
    """Whether interval and test find a difference, by measure."""
    (truth,) = spec.arms.values()
    arms = {"steered": truth, "other-seeds": truth}
    drawn = draw_study(
        StudySpec(spec.latents, spec.trials, spec.prompts, arms, rho=spec.rho), seed
    )["primary"]
    drawn["other-seeds"] = drawn["other-seeds"].assign(seed=drawn["steered"]["seed"] + 10**6)
    scores = pd.concat(drawn.values(), ignore_index=True)
    replays = {"other-seeds": "steered"}
    table = comparison_table(scores, replays, SETTINGS, MEASURES, list(replays))
    return findings(table)


def findings(table: pd.DataFrame) -> pd.DataFrame:
    """Whether interval (`low`, `high`) and test (`p_value`) find a difference, by measure.

    Both are missing where one of the three is: no difference was looked for.
    """
    found = pd.DataFrame(
        {
            "measure": table["measure"],
            "interval": ((table["low"] > 0) | (table["high"] < 0)).astype(float),
            "test": (table["p_value"] < 0.05).astype(float),
        }
    )
    missing = table[["low", "high", "p_value"]].isna().any(axis=1)
    found.loc[missing, ["interval", "test"]] = np.nan
    return found


def shares(found: pd.DataFrame) -> dict[str, float]:
    """Studies without a result, and % of the others with a difference."""
    percent = {name: 100 * found[name].mean() for name in ("interval", "test")}
    return {"n_missing": int(found["interval"].isna().sum()), **percent}


def benchmark(studies: int) -> pd.DataFrame:
    """False positives of every design."""
    rows: list[dict[str, Any]] = []
    for design, spec in DESIGNS.items():
        for rho in CORRELATIONS:
            sized = StudySpec(spec.latents, spec.trials, spec.prompts, spec.arms, rho=rho)
            found = pd.concat([one_study(sized, seed) for seed in range(studies)])
            for measure, of in found.groupby("measure", sort=False):
                row = {"design": design, "latents": spec.latents, "trials": spec.trials}
                row |= {"rho": rho, "measure": measure, "studies": studies}
                row |= shares(of)
                log.info("%s", row)
                rows.append(row)
    return pd.DataFrame(rows).round(2)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    number = int(sys.argv[1]) if sys.argv[1:] else 300
    benchmark(number).to_csv(Path(__file__).parent / "chance.csv", index=False)
