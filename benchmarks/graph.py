"""How long Snakemake takes to plan a study, by number of models: benchmarks/graph.csv.

    uv run python benchmarks/graph.py 1 5 10 25 50

Models are copies of one of the paper's; nothing is run. Columns: models, jobs, seconds (CPU time of
`snakemake --dry-run --profile slurm all`), seconds_per_job.
"""

import csv
import logging
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

log = logging.getLogger(__name__)
PARTS = ["Snakefile", "config.yaml", "rules", "scripts", "envs", "profiles", "slurm", "studies"]


def plan(models: int) -> tuple[int, float]:
    """Jobs of the paper study with so many models, and CPU seconds to plan them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        installed = shutil.ignore_patterns(".venv")
        for part in PARTS:
            if Path(part).is_dir():
                shutil.copytree(part, folder / part, ignore=installed)
            else:
                shutil.copy(part, folder / part)
        for part in ("resources", "docs"):
            (folder / part).symlink_to(Path(part).resolve())
        study = folder / "studies/paper.yaml"
        settings = yaml.safe_load(study.read_text())
        one = settings["models"]["llama-3.1-8b"]
        settings["models"] = {f"m{i}": {**one, "label": f"M{i}"} for i in range(models)}
        settings.pop("finetune", None)  # models made of others, whose number is another matter
        study.write_text(yaml.safe_dump(settings))
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules"]
        plan = subprocess.run(
            [*command, "--profile", "slurm", "all"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    jobs = next(int(line.split()[1]) for line in plan.splitlines() if line.startswith("total"))
    return jobs, seconds


def main(numbers: list[int]) -> None:
    """Plan studies of these sizes; write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with Path("benchmarks/graph.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["models", "jobs", "seconds", "seconds_per_job"])
        for models in numbers:
            jobs, seconds = plan(models)
            table.writerow([models, jobs, round(seconds, 2), round(seconds / jobs, 5)])
            log.info("%d models: %d jobs in %.1f s", models, jobs, seconds)


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]] or [1, 5, 10, 25, 50])
