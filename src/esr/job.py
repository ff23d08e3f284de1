"""What all scripts share: logging to the log of the rule, provenance of its tables."""

import logging
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from esr.config import Config, load
from esr.errors import EsrError, full_disk, is_full
from esr.orphans import end_with_snakemake
from esr.provenance import provenance

LAYOUT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def start(job: Any) -> Any:
    """Send logging, and any uncaught error, to the rule's log and to the terminal.

    The job ends when its Snakemake does, however that ends.

    Args:
        job: Snakemake's job object, as scripts find it in the global `snakemake`.

    Returns:
        The same object, so that a script ends in `main(start(snakemake))`.
    """
    sys.excepthook = _log_uncaught
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if job.log:
        handlers.append(logging.FileHandler(job.log[0], mode="w"))
    logging.basicConfig(level=logging.INFO, format=LAYOUT, handlers=handlers, force=True)
    for name in (
        "httpx",
        "httpx2",
        "anthropic",
        "openai",
        "transformers",
        "urllib3",
        "matplotlib",
        "fontTools",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    end_with_snakemake()
    return job


def config_of(job: Any) -> Config:
    """Validated configuration of the study the job belongs to."""
    return load(job.config)


def origin(job: Any, **facts: Any) -> dict[str, Any]:
    """Provenance of a table written by this job."""
    config = config_of(job)
    return provenance(
        study=config.study,
        config=config.digest,
        rule=job.rule,
        wildcards=dict(job.wildcards.items()),
        seeds=config.seeds.model_dump(),
        **facts,
    )


def output(job: Any, name: str | int = 0) -> Path:
    """Path of an output, by name or position."""
    return Path(job.output[name])


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if is_full(error) and not isinstance(error, EsrError):
        kind, error = EsrError, full_disk(error)
        logging.raiseExceptions = False  # the log may be on that disk, too
    # An EsrError is written for the user and needs no trace; anything else is a bug and shows one.
    details = None if isinstance(error, EsrError) else (kind, error, trace)
    logging.getLogger("esr").critical("%s: %s", kind.__name__, error, exc_info=details)
