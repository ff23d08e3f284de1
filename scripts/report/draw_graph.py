"""Make graph/*.{svg,png} and graph/dependencies.csv: which rules a study and its figures need.

One picture of the study and one of each figure. CSV, one row a figure: figure, script, rules and
jobs (numbers of all that the figure needs), arms and models (names, separated by spaces).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from esr.errors import EsrError
from esr.job import output, start
from esr.report.graph import Jobs, dependencies, draw, read_jobs, write

OWN = {"all", "draw_graph", "build_report"}
"""Rules left out of the pictures: the target, this one, and the one that shows them."""


def jobs_of(config: dict[str, Any], snakefile: str) -> Jobs:
    """All jobs of the study, as Snakemake plans them.

    Raises:
        EsrError: Snakemake cannot plan the study.
    """
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as file:
        json.dump(config, file)
        file.flush()
        command = [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--dag", "dot"]
        command += ["--configfile", file.name, "--", "all"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EsrError(f"graph: Snakemake cannot plan the study:\n{done.stderr[-2000:]}")
    return read_jobs(done.stdout)


def main(job: Any) -> None:
    """Draw everything and write the table."""
    jobs = jobs_of(job.config, job.input.snakefile)
    everything = {each for each, rule in jobs.rules.items() if rule not in OWN}
    for svg, png in zip(job.output.svg, job.output.png, strict=True):
        name = Path(svg).stem
        behind = everything if name == "all" else jobs.behind(job.params.makers[name])
        write(draw(jobs.edges(behind), job.params.stages), svg, png)
    dependencies(jobs, job.params.makers).to_csv(output(job, "csv"), index=False)


if __name__ == "__main__":
    main(start(snakemake))
