"""The process that runs the transformers engine for `esr.engines.remote`.

It starts as `python -m esr.engines.host <file descriptor>`. The loop is in
`esr.engines.hosts.serving`.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from traceback import format_exception
from typing import Any

from esr.assets.sae import load_sae
from esr.directions.vectors import load_directions
from esr.engines.hosts.serving import serve
from esr.engines.loading import Load
from esr.engines.remote import VERSION, Done, Readouts, Sequences, Work
from esr.engines.transformers import TransformersEngine, load_engine
from esr.errors import EsrError


class Host:
    """The engine and its unfinished jobs."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine = engine
        self.jobs: dict[str, Work] = {}

    def facts(self) -> dict[str, Any]:
        """Return the device."""
        return {"device": str(self.engine.device)}

    def submit(self, job: Work) -> None:
        """Queue a job."""
        self.jobs[job.id] = job

    def step(self) -> list[Done]:
        """Compute the job that has waited longest."""
        id_, job = next(iter(self.jobs.items()))
        found = self._compute(job)
        del self.jobs[id_]
        return [Done(id_, found)]

    def rest(self) -> None:
        """Nothing is left behind by a job."""

    def _compute(self, job: Work) -> Any:
        if isinstance(job, Sequences):
            return self.engine.encode(job.requests, job.latents, job.pool)
        if isinstance(job, Readouts):
            return self.engine.log_probs(job.requests)
        responses = self.engine.generate_batch(list(job.requests.values()), job.sampling)
        return dict(zip(job.requests, responses, strict=True))


def load_here(load: Load, identity: dict[str, Any]) -> TransformersEngine:
    """Load model, SAE and directions in this process."""
    return load_engine(
        load.source,
        load_sae(Path(load.sae_file)),
        revision=load.revision,
        dtype=load.dtype,
        device=load.device,
        steer_layer=load.steer_layer,
        read_layer=load.read_layer,
        batch_size=load.batch_size,
        threads=load.threads,
        identity=identity,
        ablate_layer=load.ablate_layer,
        directions=[load_directions(Path(path)) for path in load.directions],
    )


def describe(error: Exception) -> str:
    """The message of an error, with its trace if it is a bug."""
    return str(error) if isinstance(error, EsrError) else "".join(format_exception(error))


def main(arguments: Sequence[str]) -> None:
    """Serve the clients of a file descriptor."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    serve(int(arguments[0]), lambda load: Host(load_here(load, {})), VERSION, describe)


if __name__ == "__main__":
    main(sys.argv[1:])
