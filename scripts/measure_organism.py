"""Makes `measured.csv` of a built organism: what was planted, measured, with intervals.

Inputs: `labels` (beside `model/` and `sae/`), `lexicon`, `prompts`, `discovery`; parameter
`controls`: number of matched random ablations (0: no ablations).
"""

from pathlib import Path
from typing import Any

from esr.job import output, start
from esr.organism.evaluation import Organism, evaluate, summarise


def main(job: Any) -> None:
    """Run the evaluation and write its summary."""
    folder = Path(job.input.labels).parent
    organism = Organism.load(folder, Path(job.input.lexicon), threads=job.threads)
    prompts, discovery = Path(job.input.prompts), Path(job.input.discovery)
    found = evaluate(organism, prompts, discovery, controls=job.params.controls)
    summarise(found.trials).round(2).to_csv(output(job), index=False)


if __name__ == "__main__":
    main(start(snakemake))
