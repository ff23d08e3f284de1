"""Tables of a study as one Parquet file a kind, as dataset hubs read them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from esr.errors import EsrError
from esr.tables import TABLES, TEXT, Column, Table, read_provenance

EXTRA = {
    "model": Column(TEXT, "Model, as named in `models`."),
    "arm": Column(TEXT, "Arm, as named in `arms`."),
    "judge": Column(TEXT, "Judge, as named in `judging.judges`."),
    "along": Column(TEXT, "Set of directions that was searched; empty: decoder rows."),
    "directions": Column(TEXT, "Set of directions."),
    "file": Column(TEXT, "Path of the table in the bundle, below results/<study>/."),
}
"""Columns that stand in the path of a table and not in it."""
ROWS = 50_000
"""Rows that are read and written at a time."""


@dataclass(frozen=True)
class Part:
    """A file of a kind of table, and the values of its path's wildcards."""

    table: str
    path: Path
    values: Mapping[str, str]


def parts_of(files: Iterable[Path], results: Path) -> list[Part]:
    """Files that are tables of `esr.tables`, by their path below the results of a study."""
    patterns = {name: _pattern(table.path) for name, table in TABLES.items()}
    found = []
    for file in files:
        inside = file.relative_to(results).as_posix()
        for name, pattern in patterns.items():
            if match := pattern.fullmatch(inside):
                values = {key: value or "" for key, value in match.groupdict().items()}
                if "along" in values:
                    values["along"] = values["along"].removeprefix("directions/").rstrip("/")
                found.append(Part(name, file, values | {"file": inside}))
                break
    return found


def _pattern(path: str) -> re.Pattern[str]:
    escaped = re.escape(path).replace(r"\{", "{").replace(r"\}", "}")
    wildcards = {"along": r"(?P<along>(?:directions/[^/]+/)?)"}
    return re.compile(
        re.sub(r"{(\w+)}", lambda m: wildcards.get(m[1], rf"(?P<{m[1]}>[^/]+)"), escaped)
    )


def columns_of(name: str) -> dict[str, Column]:
    """Columns of a merged table: those of its path that it lacks, then its own."""
    table: Table = TABLES[name]
    wildcards = [*re.findall(r"{(\w+)}", table.path), "file"]
    added = {key: EXTRA[key] for key in wildcards if key not in table.columns}
    return {**added, **table.columns}


def merge_parts(name: str, parts: Iterable[Part], target: Path) -> int:
    """Write the parts of a kind of table as one file, part by part; number of rows.

    Raises:
        EsrError: a part has other columns than the table.
    """
    columns = columns_of(name)
    own = TABLES[name].schema
    schema = pa.schema([pa.field(key, column.type) for key, column in columns.items()])
    rows = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for part in parts:
            with pq.ParquetFile(part.path) as file:
                if not file.schema_arrow.equals(own):
                    raise EsrError(
                        f"{part.path}: its columns are not those of a {name} table; it was written "
                        "by another version. Rebuild it, or make the deposit with that version"
                    )
                for batch in file.iter_batches(ROWS):
                    writer.write_batch(_with_path(batch, part, columns, schema))
                    rows += batch.num_rows
    return rows


def _with_path(
    batch: pa.RecordBatch, part: Part, columns: Mapping[str, Column], schema: pa.Schema
) -> pa.RecordBatch:
    arrays = [
        batch.column(key)
        if key in batch.schema.names
        else pa.array([part.values[key]] * batch.num_rows, TEXT)
        for key in columns
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def provenance_of(parts: Iterable[Part]) -> dict[str, Any]:
    """Provenance of every part, by its path in the bundle."""
    return {part.values["file"]: read_provenance(part.path) for part in parts}
