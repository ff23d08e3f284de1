"""Make measured.csv of an organism: does it have what was planted? One row an (arm, meta-prompt).

Columns: arm, meta, n (trials), n_unscored, n_ablated (latents), ablated_activation (SAE units),
multi and esr (percent of trials), first, change (paired, to the arm `steered`) and msi (points),
each but esr with its 95 % interval (_low, _high).
"""

from pathlib import Path
from typing import Any

from esr.job import output, start
from esr.organisms.evaluation import Organism, evaluate, summarise


def main(job: Any) -> None:
    """Measure the organism beside its labels."""
    folder = Path(job.input.labels).parent
    organism = Organism.load(folder, Path(job.input.lexicon), threads=job.threads)
    found = evaluate(organism, Path(job.input.prompts), Path(job.input.discovery))
    table = summarise(found.trials)
    table.round(2).to_csv(output(job), index=False)


if __name__ == "__main__":
    main(start(snakemake))
