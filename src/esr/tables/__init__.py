"""Every table of a study: its specification, one module a stage, and how it is read and written.

`docs/files.md` is generated from `TABLES`. Files are Parquet, one row a unit, with the provenance
as JSON under the schema metadata key `esr`.
"""

from esr.tables.files import (
    TABLES,
    check_rows,
    read_provenance,
    read_table,
    read_tables,
    write_table,
)
from esr.tables.spec import FLAG, FLOAT, FLOATS, INT, INTS, TEXT, TEXTS, Column, Table

__all__ = [
    "FLAG",
    "FLOAT",
    "FLOATS",
    "INT",
    "INTS",
    "TABLES",
    "TEXT",
    "TEXTS",
    "Column",
    "Table",
    "check_rows",
    "read_provenance",
    "read_table",
    "read_tables",
    "write_table",
]
