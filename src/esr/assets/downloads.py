"""Downloads other than models and SAEs: labels from Neuronpedia, the original prompts.

Both come from public addresses and are checked. A JSON file beside each records its origin.
"""

import csv
import gzip
import hashlib
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from esr.config import DOWNLOADS
from esr.errors import EsrError

log = logging.getLogger(__name__)

Fetch = Callable[[str], bytes | None]
"""Reads an address; None if there is nothing at it."""

EXPORTS = "https://neuronpedia-datasets.s3.us-east-1.amazonaws.com/v1"
REPOSITORY = "https://raw.githubusercontent.com/agencyenterprise/endogenous-steering-resistance"
TIMEOUT = 60
"""Timeout of a request, in seconds."""


class PromptList(NamedTuple):
    """A list of prompts in the authors' repository, one a line.

    Attributes:
        commit: The commit.
        path: Its path in the repository.
        sha256: Of its lines, stripped and joined by newlines, blank ones left out.
    """

    commit: str
    path: str
    sha256: str


ORIGINAL_PROMPTS = {
    "original": PromptList(
        "bc30cd8927f27c7cf90f64827529249639470e50",
        "data/prompts.txt",
        "a3bcbf82a44046c3fdcb9b65c58b1254ee8976401214533a5a550f0aa00a55d3",
    ),
    "original_discovery": PromptList(
        "a806d69a14bb6f35a1d3ba4b870c769fb63ea52e",
        "experiment_3_off_topic_detectors/prompts_otd_discovery.txt",
        "19a6f72d2dae0e1cbbb615cdce59f23340b02a5c7b64c2553923a322f1575bd8",
    ),
}
PROMPT_FILES = [DOWNLOADS / f"prompts/{name}.csv" for name in ORIGINAL_PROMPTS]


def fetch(address: str) -> bytes | None:
    """Read an address; None if there is nothing at it.

    Raises:
        EsrError: no network, or a server error.
    """
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as response:
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise EsrError(f"{address}: {error}; try again later") from error
    except OSError as error:
        raise EsrError(
            f"{address}: {error}. On a node without network, run `snakemake downloads` on one "
            "that has it"
        ) from error


def fetch_labels(identifier: str, folder: Path, fetch: Fetch = fetch) -> tuple[Path, Path]:
    """Download the labels of an SAE from Neuronpedia's exports.

    A latent explained several times keeps its last explanation, as in the export.

    Args:
        identifier: `<model>/<sae>`, as SAELens lists it.
        folder: Where `<model>/<sae>.csv` (latent, label) and `.json` (origin) go.
        fetch: Reads an address.

    Raises:
        EsrError: no export has this id, or one is damaged.
    """
    labels: dict[int, str] = {}
    batches: dict[str, str] = {}
    for address, content in _batches(identifier, fetch):
        batches[address] = hashlib.sha256(content).hexdigest()
        labels |= _labels(address, content)
    if not labels:
        raise EsrError(
            f"labels: neuronpedia has no explanations of {identifier}; see the ids that SAELens "
            "lists by release, or give a CSV of your own"
        )
    rows: list[list[object]] = [["latent", "label"]]
    rows.extend([index, labels[index]] for index in sorted(labels))
    return _write(folder / f"{identifier}.csv", rows, {"id": identifier, "sha256": batches})


def _batches(identifier: str, fetch: Fetch) -> Iterator[tuple[str, bytes]]:
    number = 0
    while True:
        address = f"{EXPORTS}/{identifier}/explanations/batch-{number}.jsonl.gz"
        content = fetch(address)
        if content is None:
            return
        yield address, content
        number += 1


def _labels(address: str, content: bytes) -> dict[int, str]:
    """Labels of a batch by latent; an empty one is left out."""
    try:
        lines = gzip.decompress(content).decode().splitlines()
        entries = [json.loads(line) for line in lines if line.strip()]
        found = {int(entry["index"]): str(entry["description"]).strip() for entry in entries}
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise EsrError(f"{address}: not an export of explanations ({error!r})") from error
    return {index: label for index, label in found.items() if label}


def fetch_prompts(name: str, folder: Path, fetch: Fetch = fetch) -> tuple[Path, Path]:
    """Download a list of the original prompts; each is a category of its own.

    Raises:
        EsrError: the file does not exist, or its lines have another checksum.
    """
    source = ORIGINAL_PROMPTS[name]
    address = f"{REPOSITORY}/{source.commit}/{source.path}"
    content = fetch(address)
    if content is None:
        raise EsrError(f"{address}: nothing there; use prompts of resources/prompts/")
    prompts = [line.strip() for line in content.decode().splitlines() if line.strip()]
    digest = hashlib.sha256("\n".join(prompts).encode()).hexdigest()
    if digest != source.sha256:
        raise EsrError(f"{address}: SHA-256 of its lines is {digest}, not {source.sha256}")
    ids = [f"{name}-{number:02}" for number in range(1, len(prompts) + 1)]
    rows = [["prompt_id", "category", "prompt"], *map(list, zip(ids, ids, prompts, strict=True))]
    return _write(folder / f"{name}.csv", rows, {"address": address, "sha256": digest})


def _write(
    path: Path, rows: Sequence[Sequence[object]], origin: Mapping[str, object]
) -> tuple[Path, Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    beside = path.with_suffix(".json")
    beside.write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
    log.info("%s: %d rows", path, len(rows) - 1)
    return path, beside
