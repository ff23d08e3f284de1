"""Error rates and power of every claim at its study's size, simulated; makes claims.csv.

    uv run python benchmarks/claims.py [studies] [name of a claims file]...

What claims.csv has is kept while it holds: error rates of the primary judge until the claim, its
world or the size of its arm changes, what the second judge adds until its sample does, too. The
file is written after every claim, and a run that was stopped goes on where it was.

One row a claim and intra-latent correlation: `study`, `claim`, `stated` (row, region and null),
`rho`, `latents`, `trials` (of the study), `own` (latents x trials of the claim's arm, if others),
`sampled` (trials of an arm that the second judge grades), `per_stratum` (flagged ones among these,
at most), `trainings` (of a share), `spread` (between random sets, `ArmSpec.spread`), `simulated`
(False: `why` gives the reason, and the numbers are missing), `value` (claimed, in the claim's
unit), `studies` (simulated, in each world),
`confirmed_true`, `refuted_true`, `confirmed_null`, `refuted_null` (% of them by the primary judge,
in the world of the claim and under its null), `power` and `agreed` (%: confirmed by the primary
judge in `power_studies`, and by all ways in `agreed_studies`), `latents_80` (latents for a power of
80 %; inf: none are enough), `sets_80` (random sets with which enough latents give it), `label`.

With judges that err (`esr.analysis.misjudged`; at the larger correlation), % of `judged_studies` by
the verdict of all ways: `judged_true`, `judged_refuted_true`, `judged_null`, `judged_refuted_null`
as above; `habit`: confirmed under the null because the primary judge alone sees what the claim
says, and `habit_primary`: by that judge. Missing where a judge that miscounts restarts cannot show
the claim.

`rehearsed`: True of claims that `esr.analysis.rehearsals` simulates (other tables). Judges that err
are not simulated for them. Their error rates are those with `TRAININGS` of each share, since a
single one decides nothing; their power is that of the study as configured.

An error above 5 % of the first studies is simulated again in `AGAIN` others (fewer with judges that
err, and of rehearsed claims), and the row has their shares. Without errors of judges, the verdict
of all ways confirms and refutes no more than the primary judge does, so that its errors are at most
as large.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from esr.analysis.claims import read_claims, stated
from esr.analysis.misjudged import has_habit, judged_characteristics
from esr.analysis.needed import fewest_sets
from esr.analysis.operating import characteristics, scenarios, simulate
from esr.analysis.power import CORRELATIONS, label_of, power_row, rehearsed_power
from esr.analysis.rehearsals import Rehearsal, rehearsal, rehearse_studies
from esr.analysis.scenarios import Scenario, not_simulated
from esr.analysis.specs import StudySpec
from esr.analysis.truths import TRUTHS
from esr.config.files import study_config
from esr.planning.power import design_of

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
ROOT = HERE.parent
TABLE = HERE / "claims.csv"
CLAIMS = ROOT / "resources" / "claims"
STUDIES = {"organism": "organism", "january": "paper", "published": "arxiv"}
STUDIES["introspection"] = "introspection"
"""Study by claims file."""
ERRORS = ["refuted_true", "confirmed_null"]
PRIMARY = ["stated", "latents", "trials", "own", "spread"]
"""Columns on which the primary judge's verdicts depend."""
SECOND = [*PRIMARY, "sampled", "per_stratum", "trainings"]
"""Columns on which those of all ways do, too."""
LIMIT = 0.05
STUDIED, AGAIN = 120, 600
JUDGED, JUDGED_AGAIN = 30, 200
"""Studies in each world with judges that err; others if an error of the first ones is above 5 %."""
REHEARSED, REHEARSED_AGAIN = 30, 200
"""The same of claims that `esr.analysis.rehearsals` simulates."""
POWERED, AGREED, REHEARSED_POWERED = 60, 30, 20
"""Studies that give the power. What more studies gave is kept."""
TRAININGS = 3
JUDGED_ERRORS = ["judged_refuted_true", "judged_null", "habit"]

Case = Scenario | Rehearsal
Row = dict[str, Any]
Part = tuple[str, int, bool, Callable[[], Row]]
"""Column with a number of studies, the fewest, whether known ones hold, and what simulates them."""


def error_columns(case: Case, spec: StudySpec, studies: int) -> Row:
    """Error rates by the primary judge."""
    run: Any = characteristics
    again = AGAIN
    if isinstance(case, Rehearsal):
        run, studies, again = rehearse_studies, REHEARSED, REHEARSED_AGAIN
        spec = replace(spec, trainings=TRAININGS)
    found = run(case, spec, studies)
    if (found[ERRORS] > LIMIT * studies).any():
        found, studies = run(case, spec, again, first=studies), again
    shares = {name: 100 * count / studies for name, count in found.items()}
    return {"value": case.value, "studies": studies} | shares


def power_columns(case: Scenario, spec: StudySpec) -> Row:
    """Power by the primary judge, in percent, and the latents for 80 %."""
    found = power_row(case, replace(spec, sampled=0), POWERED)
    needed = found["latents_80"]
    return {"power": 100 * found["power"], "power_studies": POWERED, "latents_80": needed}


def agreed_columns(case: Scenario, spec: StudySpec) -> Row:
    """Power by all ways, in percent."""
    agreed = simulate(case, spec, AGREED, ways=True)["agreed"]
    return {"agreed": 100 * agreed.eq("confirmed").mean(), "agreed_studies": AGREED}


def rehearsed_columns(case: Rehearsal, spec: StudySpec) -> Row:
    """Power in both ways, and the latents for 80 %, of a claim of another table."""
    studies = REHEARSED_POWERED
    found = rehearsed_power(case, spec, studies)
    shares = {name: 100 * found[name] for name in ("power", "agreed")}
    sizes = {"power_studies": studies, "agreed_studies": studies}
    return shares | sizes | {"latents_80": found["latents_80"]}


def judged_columns(case: Scenario, spec: StudySpec) -> Row:
    """Error rates of a claim by all ways, with judges that err."""
    found, studies = judged_characteristics(case, spec, JUDGED), JUDGED
    if (found[JUDGED_ERRORS] > LIMIT * studies).any():
        found = judged_characteristics(case, spec, JUDGED_AGAIN, first=studies)
        studies = JUDGED_AGAIN
    shares = {name: 100 * count / studies for name, count in found.items()}
    if not has_habit(case):
        shares |= {"habit": np.nan, "habit_primary": np.nan}
    return {"judged_studies": studies} | shares


def row_of(case: Case, spec: StudySpec, head: Row, known: Row, studies: int) -> Row:
    """A claim's row; columns that still hold are taken from the known one."""
    row = head | {"simulated": True, "rehearsed": isinstance(case, Rehearsal)}
    least = REHEARSED if row["rehearsed"] else min(studies, 100)
    same_world = abs(known.get("value", np.inf) - case.value) < 0.006
    first = same_world and all(known.get(name) == head[name] for name in PRIMARY)
    both = first and all(known.get(name) == head[name] for name in SECOND)
    parts: list[Part] = [("studies", least, first, lambda: error_columns(case, spec, studies))]
    if isinstance(case, Rehearsal):
        parts += [
            ("agreed_studies", REHEARSED_POWERED, both, lambda: rehearsed_columns(case, spec))
        ]
    else:
        parts += [
            ("power_studies", POWERED, first, lambda: power_columns(case, spec)),
            ("agreed_studies", AGREED, both, lambda: agreed_columns(case, spec)),
        ]
        if spec.rho == max(CORRELATIONS):
            parts += [("judged_studies", JUDGED, both, lambda: judged_columns(case, spec))]
    for count, needed, holds, run in parts:
        columns = POWERS if isinstance(case, Rehearsal) and count != "studies" else OF_PART[count]
        done = holds and known.get(count, 0) >= needed
        row |= {name: known.get(name) for name in columns} if done else run()
    row["sets_80"] = np.nan if isinstance(case, Rehearsal) else fewest_sets(case)
    return row | {"label": label_of(row["power"] / 100, row["agreed"] / 100)}


SHARES = ["confirmed_true", "refuted_true", "confirmed_null", "refuted_null"]
OF_PART = {
    "studies": ["value", "studies", *SHARES],
    "power_studies": ["power", "power_studies", "latents_80"],
    "agreed_studies": ["agreed", "agreed_studies"],
    "judged_studies": ["judged_studies", "judged_true", *JUDGED_ERRORS[:2], "judged_refuted_null"],
}
"""Columns by the one that holds their number of studies."""
POWERS = [*OF_PART["power_studies"], *OF_PART["agreed_studies"]]
OF_PART["judged_studies"] += ["habit_primary", "habit"]


def benchmark(
    specs: Mapping[str, StudySpec], known: Mapping[tuple[str, str, float], Row], studies: int
) -> Iterator[Row]:
    """Every claim of every file, at the design of its study."""
    for study, design in specs.items():
        for claim, scenario in scenarios(read_claims([CLAIMS / f"{study}.csv"]), TRUTHS[study]):
            case = scenario or rehearsal(claim, TRUTHS[study])
            head: Row = {"study": study, "claim": claim["claim"], "stated": stated(claim)}
            head |= {name: getattr(design, name) for name in ("latents", "trials")}
            head["own"] = own_size(scenario, design)
            head["spread"] = scenario.spread if scenario else 0.0
            head |= {name: getattr(design, name) for name in SECOND[len(PRIMARY) :]}
            for rho in CORRELATIONS:
                row = head | {"rho": rho}
                if case is None:
                    yield row | {"simulated": False, "why": not_simulated(claim, TRUTHS[study])}
                    continue
                old = known.get((study, claim["claim"], rho), {})
                yield row_of(case, replace(design, rho=rho), row, old, studies)


def own_size(case: Scenario | None, design: StudySpec) -> str:
    """Latents and trials of the claim's arm, if they are not those of the study."""
    size = design.sizes.get(case.rows[0].arm) if case else None
    return f"{size[0]} x {size[1]}" if size else ""


def save(rows: Mapping[tuple[str, str, float], Row]) -> None:
    """Write the table, in the order of the claims files; claims that are gone are left out."""
    order = [
        (study, claim, rho)
        for study in STUDIES
        for claim in read_claims([CLAIMS / f"{study}.csv"])["claim"]
        for rho in CORRELATIONS
    ]
    found = pd.DataFrame([rows[key] for key in order if key in rows])
    found.reindex(columns=COLUMNS).round(2).to_csv(TABLE, index=False)


def read_known() -> dict[tuple[str, str, float], Row]:
    """Rows of the table by study, claim and correlation; none without a table."""
    if not TABLE.is_file():
        return {}
    rows = pd.read_csv(TABLE, dtype={"own": str}).fillna({"own": ""}).to_dict("records")
    return {
        (str(row["study"]), str(row["claim"]), float(row["rho"])): {
            str(k): v for k, v in row.items()
        }
        for row in rows
    }


COLUMNS = ["study", "claim", "stated", "rho", *SECOND[1:], "simulated", "rehearsed", "why"]
COLUMNS += [name for columns in OF_PART.values() for name in columns] + ["sets_80", "label"]

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    count, names = int(sys.argv[1]) if sys.argv[1:] else STUDIED, sys.argv[2:] or list(STUDIES)
    designs = {name: design_of(study_config(ROOT, STUDIES[name])) for name in names}
    kept = (
        pd.read_csv(TABLE, dtype={"own": str}).fillna({"own": ""})
        if TABLE.is_file()
        else pd.DataFrame()
    )
    table = {
        (str(row["study"]), str(row["claim"]), float(row["rho"])): row
        for row in kept.to_dict("records")
    }
    for row in benchmark(designs, dict(table), count):
        log.info("%s", {name: value for name, value in row.items() if name != "stated"})
        table[row["study"], row["claim"], row["rho"]] = row
        save(table)
