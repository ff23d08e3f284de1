r"""Make numbers.json and numbers.tex: every number that a text can cite, by name.

JSON: name -> value (null if undefined), unit, part, and what it is of (model, arm, measure, ...).
TeX: a macro a number, for example \esrPlantedSteeredMultiAttemptRate, with its bounds
\esrPlantedSteeredMultiAttemptRateLow and ...High; digits in names are spelled out.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from esr.analysis.implicit import ACHIEVED, WINDOWS
from esr.analysis.macros import (
    cite_activations,
    cite_agreement,
    cite_arms,
    cite_components,
    cite_detectors,
    cite_finetuning,
    cite_hazards,
    cite_recovery,
    cite_robustness,
    cite_sweep,
    collect_macros,
    tex_macros,
)
from esr.analysis.summaries import CHANCE
from esr.job import output, start
from esr.tables import read_table


def main(job: Any) -> None:
    """Write both forms."""
    agreement = read_table(Path(job.input.agreement), "agreement")
    tables = {name: pd.read_csv(path) for name, path in job.input.items() if path.endswith(".csv")}
    found = collect_macros(
        cite_arms(tables["summary"], tables["comparisons"]),
        cite_recovery(tables["recovery"]),
        cite_sweep(tables["fig3"]),
        cite_detectors(tables["fig5"]),
        cite_finetuning(tables["fig6"]),
        cite_activations(tables["contrasts"], tables["lead"]),
        cite_hazards(tables["hazards"]),
        cite_components(tables["components"]),
        cite_robustness(tables["robustness"], (WINDOWS, ACHIEVED, CHANCE)),
        cite_agreement(agreement),
    )
    output(job, "json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    output(job, "tex").write_text(tex_macros(found), encoding="utf-8")


if __name__ == "__main__":
    main(start(snakemake))
