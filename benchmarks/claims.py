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

With judges that err (`esr.analysis.misjudged`), % of `judged_studies` by the verdict of all ways:
`judged_true`, `judged_refuted_true`, `judged_null`, `judged_refuted_null` as above; `habit`:
confirmed under the null because the primary judge alone sees what the claim says, and
`habit_primary`: by that judge. Missing where a judge that miscounts restarts cannot show the claim.

`rehearsed`: True of claims that `esr.analysis.rehearsals` simulates (other tables): their power is
the primary judge's, and neither the latents for 80 % nor judges that err are simulated.

An error above 5 % of the first studies is simulated again in `AGAIN` others (fewer with judges that
err, and of rehearsed claims), and the row has their shares. Without errors of judges, the verdict
of all ways confirms and refutes no more than the primary judge does, so that its errors are at most
as large.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from esr.analysis.claims import read_claims, stated
from esr.analysis.misjudged import has_habit, judged_characteristics
from esr.analysis.operating import CORRELATIONS, characteristics, power_row, scenarios
from esr.analysis.rehearsals import Rehearsal, rehearsal, rehearse_studies
from esr.analysis.scenarios import Scenario, not_simulated
from esr.analysis.simulation import StudySpec
from esr.analysis.truths import TRUTHS
from esr.analysis.verdicts import DECIDABLE
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
JUDGED, JUDGED_AGAIN = 30, 100
"""Studies in each world with judges that err; others if an error of the first ones is above 5 %."""
REHEARSED, REHEARSED_AGAIN = 30, 100
"""The same of claims that `esr.analysis.rehearsals` simulates."""
JUDGED_ERRORS = ["judged_refuted_true", "judged_null", "habit"]


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


def rehearsed_row(case: Rehearsal, spec: StudySpec) -> dict[str, Any]:
    """Error rates of a claim of another table; its power is that of the primary judge."""
    found, studies = rehearse_studies(case, spec, REHEARSED), REHEARSED
    if (found[ERRORS] > LIMIT * studies).any():
        found, studies = (
            rehearse_studies(case, spec, REHEARSED_AGAIN, first=studies),
            REHEARSED_AGAIN,
        )
    row: dict[str, Any] = {"simulated": True, "value": case.value, "studies": studies}
    row |= {name: 100 * count / studies for name, count in found.items()}
    decided = row["confirmed_true"] >= 100 * DECIDABLE
    label = "decidable" if decided else "underpowered"
    return row | {"rehearsed": True, "power": row["confirmed_true"], "label": label}


def judged_row(case: Scenario, spec: StudySpec) -> dict[str, Any]:
    """Error rates of a claim by all ways, with judges that err."""
    found, studies = judged_characteristics(case, spec, JUDGED), JUDGED
    if (found[JUDGED_ERRORS] > LIMIT * studies).any():
        found = judged_characteristics(case, spec, JUDGED_AGAIN, first=studies)
        studies = JUDGED_AGAIN
    shares = {name: 100 * count / studies for name, count in found.items()}
    if not has_habit(case):
        shares |= {"habit": np.nan, "habit_primary": np.nan}
    return {"judged_studies": studies} | shares


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
                row = done.get(tuple(row[name] for name in KEY), row)
                spec, other = replace(design, rho=rho), rehearsal(claim, TRUTHS[study])
                if case is not None and "simulated" not in row:
                    row |= row_of(case, spec, studies)
                if case is not None and not row.get("judged_studies", np.nan) > 0:
                    row |= judged_row(case, spec)
                if other is not None and row.get("simulated") is not True:
                    row |= rehearsed_row(other, spec) | {"why": np.nan}
                if case is None and other is None:
                    row |= {"simulated": False, "why": not_simulated(claim, TRUTHS[study])}
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
