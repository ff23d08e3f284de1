"""Make bundle.tar.gz: the costly files of a study, with a manifest of origins and checksums.

It also holds the journals of generations and replies.
"""

from pathlib import Path
from typing import Any

from esr.bundle.archive import write_bundle
from esr.job import config_of, origin, output, start


def main(job: Any) -> None:
    """Write the bundle."""
    journals = [Path(path) for path in job.params.journals if Path(path).is_file()]
    facts = origin(job, settings=config_of(job).model_dump(mode="json"))
    write_bundle(output(job), [*map(Path, job.input), *journals], facts)


if __name__ == "__main__":
    main(start(snakemake))
