"""The dataset folder for the Hub: Parquet files, a card with its schema, Croissant metadata."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from esr.deposit.about import About, is_open
from esr.deposit.crate import description
from esr.deposit.croissant import croissant
from esr.deposit.tables import Part, columns_of, merge_parts, provenance_of
from esr.tables import TABLES

IMPORTED = (
    "They are not this project's to license: whoever publishes this dataset needs leave of those "
    "who wrote them."
)
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))


def write_dataset(folder: Path, about: About, parts: Iterable[Part]) -> dict[str, int]:
    """Write the folder; rows by kind of table."""
    by_table: dict[str, list[Part]] = {}
    for part in parts:
        by_table.setdefault(part.table, []).append(part)
    names = [name for name in TABLES if name in by_table]
    rows = {
        name: merge_parts(name, by_table[name], folder / f"data/{name}.parquet") for name in names
    }
    origins = provenance_of(part for name in names for part in by_table[name])
    _write(folder / "provenance.json", json.dumps(origins, indent=1, sort_keys=True))
    metadata = croissant(about, folder, names)
    _write(folder / "croissant.json", json.dumps(metadata, indent=1, ensure_ascii=False))
    _write(folder / "README.md", card(about, rows))
    return rows


def card(about: About, rows: Mapping[str, int]) -> str:
    """The dataset card: a YAML header that the Hub reads, then Markdown."""
    header = yaml.safe_dump(header_of(about, rows), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{header}---\n\n# {about.title}\n\n{description(about)}\n",
        _how_to_read(about),
        _terms(about),
        _citation(about),
        "## Tables\n\nMissing values are nulls. A failure is a `status`, never a number.\n",
        *(_schema(name, count) for name, count in rows.items()),
    ]
    return "\n".join(parts)


def header_of(about: About, rows: Mapping[str, int]) -> dict[str, Any]:
    """The YAML header of the card."""
    header: dict[str, Any] = {"pretty_name": about.title, "language": ["en"]}
    if is_open(about):
        header["license"] = "mit"
    else:
        header |= {"license": "other", "license_name": "terms-of-the-models"}
        header["license_link"] = "README.md#terms"
    total = sum(rows.values())
    header["size_categories"] = [next((name for n, name in SIZES if total < n), "1M<n<10M")]
    header["tags"] = ["activation-steering", "sparse-autoencoders", "interpretability"]
    header["configs"] = [
        {"config_name": name, "data_files": f"data/{name}.parquet"}
        | ({"default": True} if name == "scores" else {})
        for name in rows
    ]
    return header


def _how_to_read(about: About) -> str:
    return (
        "```python\nfrom datasets import load_dataset\n\n"
        f'scores = load_dataset("<owner>/{about.name}", "scores", split="train")\n```\n\n'
        f"Written by esr at revision `{about.git}`, configuration `{about.config}`. "
        "`provenance.json` has the origin of every file that was merged into a table, "
        "`croissant.json` the same schema for machines. The bundle, from which every figure is "
        "rebuilt without a GPU, is in the RO-Crate of the same deposit.\n"
    )


def _terms(about: About) -> str:
    lines = [
        "## Terms\n",
        "Tables, scores and figures are under the MIT License. Responses were written by language "
        "models, and their use is also bound by the terms of these:\n",
        "| model | source | commit | terms |",
        "|---|---|---|---|",
    ]
    for model in about.models:
        terms = model.licence
        shown = f"[{terms.name}]({terms.link})" if terms.link else terms.name
        made = f" (adapter on {model.base})" if model.base else ""
        commit = f"`{model.revision}`" if model.revision else "in the project"
        lines.append(f"| {model.label}{made} | `{model.source}` | {commit} | {shown} |")
    judges = ", ".join(f"{name} ({model})" for name, model in about.judges.items())
    lines += ["", f"Judgments are by: {judges}."]
    if about.imported:
        arms = ", ".join(f"`{arm}`" for arm in about.imported)
        lines += ["", f"Responses of {arms} were imported from a file. {IMPORTED}"]
    return "\n".join(lines) + "\n"


def _citation(about: About) -> str:
    authors = ", ".join(author.name for author in about.authors)
    software = about.software
    return (
        f"## Citation\n\n{authors}: *{software['title']}*, version {software['version']}. "
        "Cite also McKenzie et al., *Endogenous Resistance to Activation Steering in Language "
        "Models*, ICML 2026 (arXiv:2602.06941).\n"
    )


def _schema(name: str, rows: int) -> str:
    table = TABLES[name]
    lines = [
        f"### {name}\n",
        f"One row is {table.row}. {rows:,} rows.\n",
        "| column | type | meaning | may be missing |",
        "|---|---|---|---|",
    ]
    for key, column in columns_of(name).items():
        kind = str(column.type).replace("list<element: ", "list<").replace("list<item: ", "list<")
        meaning = column.meaning.replace("|", "\\|")
        lines.append(f"| {key} | {kind} | {meaning} | {'yes' if column.optional else ''} |")
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
