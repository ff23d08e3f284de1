"""Tables on disk: checked against their specification, and never partly written."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esr.errors import EsrError
from esr.tables import (
    agreement,
    arms,
    detectors,
    episodes,
    finetuning,
    introspection,
    latents,
    thresholds,
)
from esr.tables.spec import FLAG, FLOAT, INT, Table

TABLES: dict[str, Table] = {
    **latents.TABLES,
    **thresholds.TABLES,
    **detectors.TABLES,
    **episodes.TABLES,
    **finetuning.TABLES,
    **arms.TABLES,
    **introspection.TABLES,
    **agreement.TABLES,
}
"""Every table of a study by name, in the order of `docs/files.md`."""


def write_table(frame: pd.DataFrame, path: Path, table: str, provenance: Mapping[str, Any]) -> None:
    """Check a frame against its table and write it; a killed job leaves no partial file.

    Raises:
        EsrError: wrong, missing or mistyped columns, missing or non-finite values, repeated keys.
    """
    spec = TABLES[table]
    _check_columns(frame, spec, path)
    try:
        arrow = pa.Table.from_pandas(
            frame[list(spec.columns)], schema=spec.schema, preserve_index=False
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise EsrError(f"{path}: not a {table} table: {'; '.join(map(str, error.args))}") from None
    check_rows(arrow, table, path)
    arrow = arrow.replace_schema_metadata({"esr": json.dumps(dict(provenance), sort_keys=True)})
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    try:
        pq.write_table(arrow, scratch)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def read_table(path: Path, table: str) -> pd.DataFrame:
    """Read a table with nullable dtypes. `later` columns that a file lacks have no values.

    Raises:
        EsrError: other columns, or other types, than the table has.
    """
    spec = TABLES[table]
    arrow = _with_later_columns(pq.read_table(path), spec)
    if not arrow.schema.equals(spec.schema):
        found = {field.name: str(field.type) for field in arrow.schema}
        wanted = {field.name: str(field.type) for field in spec.schema}
        raise EsrError(
            f"{path}: columns {found} are not those of a {table} table ({wanted}); "
            f"rebuild it with `snakemake --force -- {path}`"
        )
    return arrow.to_pandas(types_mapper=_NULLABLE.get)


def _with_later_columns(arrow: pa.Table, spec: Table) -> pa.Table:
    """Add the columns that did not exist when a file was written."""
    for place, (name, column) in enumerate(spec.columns.items()):
        if column.later and name not in arrow.column_names and place <= arrow.num_columns:
            empty = pa.nulls(arrow.num_rows, column.type)
            arrow = arrow.add_column(place, pa.field(name, column.type), empty)
    return arrow


def read_tables(paths: Iterable[str | Path], table: str) -> pd.DataFrame:
    """Rows of several tables of one kind, in the order of the paths; no paths give no rows.

    Raises:
        EsrError: a file is not of that kind, x.
    """
    parts = [read_table(Path(path), table) for path in paths]
    if not parts:
        return TABLES[table].schema.empty_table().to_pandas(types_mapper=_NULLABLE.get)
    return pd.concat(parts, ignore_index=True)


def read_provenance(path: Path) -> dict[str, Any]:
    """Provenance stored in a table."""
    metadata = pq.read_schema(path).metadata or {}
    return json.loads(metadata.get(b"esr", b"{}"))


def check_rows(arrow: pa.Table, table: str, path: Path) -> None:
    """Raise unless keys are unique, numbers finite, and only optional columns miss values."""
    spec = TABLES[table]
    for name, column in spec.columns.items():
        nulls = arrow[name].null_count
        if nulls and not column.optional:
            raise EsrError(f"{path}: column {name!r} of {table} has {nulls} missing values")
        if column.type == FLOAT and pc.all(pc.is_finite(arrow[name])).as_py() is False:
            raise EsrError(f"{path}: column {name!r} of {table} has values that are not finite")
    keys = arrow.select(list(spec.key)).to_pandas()
    repeated = keys[keys.duplicated()]
    if len(repeated):
        raise EsrError(
            f"{path}: {len(repeated)} rows of {table} repeat a key {spec.key}, "
            f"first {tuple(repeated.iloc[0])}"
        )


def _check_columns(frame: pd.DataFrame, spec: Table, path: Path) -> None:
    missing = [name for name in spec.columns if name not in frame]
    extra = [name for name in frame if name not in spec.columns]
    if missing or extra:
        raise EsrError(f"{path}: missing columns {missing}, unknown columns {extra}")


_NULLABLE: dict[pa.DataType, Any] = {
    INT: pd.Int64Dtype(),
    FLAG: pd.BooleanDtype(),
    FLOAT: pd.Float64Dtype(),
}
