r"""Make numbers.json and numbers.tex: every number of the summary and the comparisons, by name.

JSON: name -> value (null if undefined), unit, model, arm, measure, part. TeX: a macro a number,
named \esr<Model><Arm><Measure><Part> (digits spelled out), for example
\esrPlantedSteeredMultiAttemptRate and \esrPlantedSteeredMultiAttemptRateLow.
"""

import json
from typing import Any

import pandas as pd

from esr.job import output, start
from esr.summaries import numbers, tex_macros


def main(job: Any) -> None:
    """Write both forms."""
    found = numbers(pd.read_csv(job.input.summary), pd.read_csv(job.input.comparisons))
    output(job, "json").write_text(json.dumps(found, indent=1) + "\n")
    output(job, "tex").write_text(tex_macros(found))


if __name__ == "__main__":
    main(start(snakemake))
