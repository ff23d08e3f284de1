"""Error rates and power of every claim at its study's size, simulated; makes claims.csv.

    uv run python benchmarks/claims.py [studies] [name of a claims file]...

Rows that claims.csv has are kept: delete those of a claim, or the file, to simulate them again.

One row a claim and intra-latent correlation: `study`, `claim`, `stated` (row, region and null: if
these change, the claim is simulated again), `rho`, `latents`, `trials`, `sampled` (trials of an arm
that the second judge grades), `simulated` (False: `why` says why not, and the numbers are missing),
`value` (claimed, in the claim's unit), `studies` (simulated, in each world), `confirmed_true`,
`refuted_true`, `confirmed_null`, `refuted_null` (% of them by the primary judge, in the world of
the claim and under its null), `power` and `agreed` (%: confirmed by the primary judge, and by all
ways), `latents_80` (latents for a power of 80 %; inf: none are enough), `label`.

An error above 5 % of the first studies is simulated again in `AGAIN` others, and the row has their
shares. The verdict of all ways confirms and refutes no more than the primary judge does, so that
its errors are at most as large.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from esr.analysis.claims import read_claims, stated
from esr.analysis.operating import CORRELATIONS, characteristics, power_row, scenarios
from esr.analysis.scenarios import Scenario, not_simulated
from esr.analysis.simulation import StudySpec
from esr.analysis.truths import TRUTHS
from esr.config.files import study_config
from esr.planning.power import design_of

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
ROOT = HERE.parent
CLAIMS = ROOT / "resources" / "claims"
STUDIES = {"organism": "organism", "january": "paper", "published": "arxiv"}
"""Study by claims file."""
ERRORS = ["refuted_true", "confirmed_null"]
KEY = ["study", "claim", "stated", "rho", "latents", "trials", "sampled"]
LIMIT = 0.05
AGAIN = 600


def row_of(case: Scenario, spec: StudySpec, studies: int) -> dict[str, Any]:
    """Error rates and power of a claim."""
    found = characteristics(case, spec, studies)
    if (found[ERRORS] > LIMIT * studies).any():
        found, studies = characteristics(case, spec, AGAIN, first=studies), AGAIN
    row: dict[str, Any] = {"simulated": True, "value": case.value, "studies": studies}
    row |= {name: 100 * count / studies for name, count in found.items()}
    power = power_row(case, spec)
    shares = {name: 100 * power[name] for name in ("power", "agreed")}
    return row | shares | {name: power[name] for name in ("latents_80", "label")}


def benchmark(
    specs: Mapping[str, StudySpec], studies: int = 120, known: Sequence[dict[str, Any]] = ()
) -> pd.DataFrame:
    """Every claim of every file, at the design of its study, unless its row is known."""
    rows = []
    done = {tuple(row[name] for name in KEY): row for row in known}
    for study, design in specs.items():
        for claim, case in scenarios(read_claims([CLAIMS / f"{study}.csv"]), TRUTHS[study]):
            for rho in CORRELATIONS:
                row: dict[str, Any] = {"study": study, "claim": claim["claim"]}
                row |= {"stated": stated(claim), "rho": rho}
                row |= {name: getattr(design, name) for name in ("latents", "trials", "sampled")}
                if tuple(row[name] for name in KEY) in done:
                    row = done[tuple(row[name] for name in KEY)]
                elif case is None:
                    row |= {"simulated": False, "why": not_simulated(claim, TRUTHS[study])}
                else:
                    row |= row_of(case, replace(design, rho=rho), studies)
                log.info("%s", row)
                rows.append(row)
    return pd.DataFrame(rows).round(2)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    table = HERE / "claims.csv"
    count, names = int(sys.argv[1]) if sys.argv[1:] else 120, sys.argv[2:] or list(STUDIES)
    designs = {name: design_of(study_config(ROOT, STUDIES[name])) for name in names}
    kept = pd.read_csv(table).to_dict("records") if table.is_file() else []
    others = [row for row in kept if row["study"] not in names]
    parts = [pd.DataFrame(others), benchmark(designs, count, kept)]
    found = pd.concat(parts, ignore_index=True)
    order = found["study"].map(list(STUDIES).index)
    found.loc[order.sort_values(kind="stable").index].to_csv(table, index=False)
