"""Validate a deposit with the tools of its standards; run with the Python of envs/deposit.

`python validate_deposit.py DEPOSIT CRATE ...` prints JSON: issues by severity of the RO-Crate in
the deposit and of other RO-Crates, issues of Croissant, the first record of every table, and the
cells of every page that Trackio finds. The validator of RO-Crates needs the standard's JSON-LD
context, which lies on the web: the one that the library `rocrate` ships stands in for it. It is
that of RO-Crate 1.3, which renames the terms of Bioschemas alone.
"""

import gc
import json
import logging
import sys
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

CONTEXT = "https://w3id.org/ro/crate/1.1/context"


def _stored_context(_: Any, address: str, **__: Any) -> Any:
    """What the web would send for the context of RO-Crate 1.1."""
    import requests

    response = requests.Response()
    response.status_code = 404
    if address == CONTEXT:
        stored = files("rocrate").joinpath("data/ro-crate.jsonld").read_text("utf8")
        terms = json.loads(stored)["@context"]
        old = {
            name: term.replace("https://bioschemas.org/terms/", "https://bioschemas.org/")
            for name, term in terms.items()
            if isinstance(term, str)
        }
        response.status_code = 200
        response._content = json.dumps({"@context": old}).encode()
        response.headers["Content-Type"] = "application/ld+json"
    return response


def crate_issues(folder: Path) -> dict[str, list[str]]:
    """Issues of an RO-Crate under the profile `workflow-run-crate`."""
    from rocrate_validator import models, services
    from rocrate_validator.utils import http

    http.HttpRequester.get = _stored_context
    settings = services.ValidationSettings(
        rocrate_uri=str(folder),
        profile_identifier="workflow-run-crate",
        requirement_severity=models.Severity.RECOMMENDED,
        skip_availability_check=True,
        offline=True,
    )
    found: dict[str, list[str]] = {}
    for issue in services.validate(settings).get_issues():
        found.setdefault(issue.severity.name, []).append(
            f"{issue.check.identifier}: {issue.message} ({issue.violatingEntity})"
        )
    return found


def croissant_issues(folder: Path) -> tuple[list[str], dict[str, Any]]:
    """Issues of the metadata, and the first record of every table."""
    import mlcroissant

    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("absl")
    logger.addHandler(handler)
    dataset = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    first = {}
    for records in dataset.metadata.record_sets:
        rows = list(islice(dataset.records(records.id), 1))
        first[records.id] = {key: str(value) for key, value in rows[0].items()} if rows else None
    return [text for text in messages if "WARNING" in text or "error" in text.lower()], first


def logbook_pages(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Cells by page, as Trackio reads them."""
    from trackio import logbook

    project = logbook.require_project_dir(folder)
    logbook.write_site_files(project)
    return {
        page["slug"]: [
            {"title": cell["title"], "type": cell["type"], "body": cell["body"]}
            for cell in logbook._parse_cells_from_text(
                (project / "logbook" / page["file"]).read_text(), page["slug"], page["title"]
            )
        ]
        for page in logbook._walk(logbook.build_manifest(project)["root"])
    }


def main(deposit: Path, crates: list[Path]) -> None:
    """Print what the tools find in a deposit, and in further RO-Crates."""
    gc.disable()  # graphs of RDF are full of cycles, and soon this process ends
    found: dict[str, Any] = {"crate": crate_issues(deposit / "crate")}
    found["crates"] = [crate_issues(crate) for crate in crates]
    found["croissant"], found["records"] = croissant_issues(deposit / "dataset")
    found["logbook"] = logbook_pages(deposit / "logbook")
    sys.stdout.write("\n" + json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(crate) for crate in sys.argv[2:]])
