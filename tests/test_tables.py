"""Tables: documented columns, whole files or none, nothing lost on the way to disk and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esr import tables
from esr.errors import EsrError
from esr.provenance import provenance
from esr.tables import (
    FLAG,
    FLOAT,
    FLOATS,
    INT,
    INTS,
    TABLES,
    TEXT,
    TEXTS,
    read_provenance,
    read_table,
)

EXAMPLES: dict[pa.DataType, list[Any]] = {
    TEXT: ["a", "b"],
    INT: [1, 2],
    FLOAT: [0.5, -1.0],
    FLAG: [True, False],
    INTS: [[3, 4], []],
    FLOATS: [[0.5, 2.0], []],
    TEXTS: [["p1"], []],
}


def frame(table: str, **changes: Any) -> pd.DataFrame:
    """Two rows of a table."""
    columns = {name: EXAMPLES[column.type] for name, column in TABLES[table].columns.items()}
    return pd.DataFrame(columns | changes)


def write(data: pd.DataFrame, path: Path, table: str, **facts: Any) -> None:
    tables.write_table(data, path, table, facts)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_has_a_path_a_key_and_columns_with_meanings(table: str) -> None:
    spec = TABLES[table]
    assert spec.path.endswith(".parquet")
    assert spec.row
    assert set(spec.key) <= set(spec.columns)
    for name, column in spec.columns.items():
        assert len(column.meaning) > 5, name
        assert column.meaning.endswith("."), name
        assert column.type in EXAMPLES, name


def test_no_two_tables_share_a_path() -> None:
    assert len({spec.path for spec in TABLES.values()}) == len(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_what_is_written_is_read_back(tmp_path: Path, table: str) -> None:
    path = tmp_path / "deep" / "table.parquet"
    write(frame(table), path, table)
    back = read_table(path, table)
    assert list(back.columns) == list(TABLES[table].columns)
    for name, column in TABLES[table].columns.items():
        assert [v.tolist() if isinstance(v, np.ndarray) else v for v in back[name]] == EXAMPLES[
            column.type
        ]


def test_missing_values_come_back_missing_with_nullable_dtypes(tmp_path: Path) -> None:
    optional = {name: [None, None] for name, c in TABLES["scores"].columns.items() if c.optional}
    path = tmp_path / "scores.parquet"
    write(frame("scores", **optional), path, "scores")
    back = read_table(path, "scores")
    assert back[list(optional)].isna().all(axis=None)
    assert back["n_attempts"].dtype == pd.Int64Dtype()
    assert back["first_score"].dtype == pd.Float64Dtype()
    assert back["multi_attempt"].dtype == pd.BooleanDtype()
    write(back, tmp_path / "again.parquet", "scores")
    pd.testing.assert_frame_equal(read_table(tmp_path / "again.parquet", "scores"), back)


def test_nan_is_a_missing_value_and_not_a_number(tmp_path: Path) -> None:
    write(frame("scores", first_score=[np.nan, 0.0]), tmp_path / "s.parquet", "scores")
    assert read_table(tmp_path / "s.parquet", "scores")["first_score"].isna().tolist() == [
        True,
        False,
    ]
    with pytest.raises(EsrError, match="'boost' of scores has 1 missing"):
        write(frame("scores", boost=[np.nan, 1.0]), tmp_path / "b.parquet", "scores")


def test_columns_are_written_in_their_order_whatever_the_frame_has(tmp_path: Path) -> None:
    backwards = frame("labels")[["label", "latent", "model"]]
    write(backwards, tmp_path / "t.parquet", "labels")
    assert pq.read_schema(tmp_path / "t.parquet").names == ["model", "latent", "label"]


# What is refused


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (frame("labels").drop(columns="label"), r"missing columns \['label'\]"),
        (frame("labels", extra=[1, 2]), r"unknown columns \['extra'\]"),
        (frame("labels", latent=[1, None]), "'latent' of labels has 1 missing"),
        (frame("labels", latent=["x", "y"]), "not a labels table.*latent"),
        (frame("labels", latent=[0.5, 1.0]), "not a labels table.*latent"),
        (frame("labels", label=[1, 2]), "not a labels table.*label"),
        (
            frame("labels", model="m", latent=[7, 7]),
            r"1 rows of labels repeat a key \('model', 'latent'\), first",
        ),
    ],
)
def test_a_frame_that_is_not_the_table_is_refused_and_nothing_is_written(
    tmp_path: Path, data: pd.DataFrame, message: str
) -> None:
    path = tmp_path / "labels.parquet"
    with pytest.raises(EsrError, match=message) as caught:
        write(data, path, "labels")
    assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(EsrError, match="'score' of judgments has values that are not finite"):
        write(frame("judgments", score=[value, 1.0]), tmp_path / "j.parquet", "judgments")


def test_a_nullable_column_cannot_smuggle_nan_past_its_mask(tmp_path: Path) -> None:
    score = pd.Series(
        pd.arrays.FloatingArray(np.array([np.nan, 1.0]), np.array([False, False])), name="score"
    )
    data = frame("judgments").assign(score=score)
    with pytest.raises(EsrError, match="'score' of judgments has values that are not finite"):
        write(data, tmp_path / "j.parquet", "judgments")


def test_a_key_may_have_a_missing_part_but_only_once(tmp_path: Path) -> None:
    none = {"trial_id": ["a", "b"], "attempt": [None, None]}
    write(frame("judgments", **none), tmp_path / "j.parquet", "judgments")
    with pytest.raises(EsrError, match="repeat a key"):
        write(
            frame("judgments", **none | {"trial_id": ["a", "a"]}),
            tmp_path / "k.parquet",
            "judgments",
        )


def test_a_file_with_other_columns_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write(frame("labels"), path, "labels")
    with pytest.raises(EsrError, match="snakemake --force") as caught:
        read_table(path, "candidates")
    assert str(path) in str(caught.value)


def test_a_file_from_before_a_later_column_is_read_without_its_values(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    later = [name for name, column in TABLES["plan"].columns.items() if column.later]
    assert later
    write(frame("plan"), path, "plan")
    before = pq.read_table(path)
    pq.write_table(before.drop_columns(later), path)
    found = read_table(path, "plan")
    assert list(found) == list(TABLES["plan"].columns)
    assert found[later].isna().all(axis=None)
    rest = [name for name in found if name not in later]
    assert pa.Table.from_pandas(found[rest]).num_rows == before.num_rows
    pq.write_table(before.drop_columns(["strength"]), path)
    with pytest.raises(EsrError, match="snakemake --force"):
        read_table(path, "plan")


def test_a_file_with_other_types_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"latent": [1.5], "label": ["x"]}), tmp_path / "t.parquet")
    with pytest.raises(EsrError, match="'latent': 'double'"):
        read_table(tmp_path / "t.parquet", "labels")


# Files are whole


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "labels.parquet"
    write(frame("labels"), path, "labels")
    before = path.read_bytes()

    def fail(_: pa.Table, target: Path) -> None:
        target.write_bytes(b"half a")
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        write(frame("labels", latent=[8, 9]), path, "labels")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_equal_tables_with_equal_provenance_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(frame("scores"), tmp_path / name, "scores", **provenance(study="s", seeds={"x": 1}))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# Provenance


def test_provenance_records_the_origin_without_time_and_place(tmp_path: Path) -> None:
    facts = provenance(study="organism", config="0123456789abcdef", seeds={"latents": 42})
    tables.write_table(frame("labels"), tmp_path / "t.parquet", "labels", facts)
    back = read_provenance(tmp_path / "t.parquet")
    assert back == facts
    assert back["study"] == "organism"
    assert set(back) == {"git", "versions", "study", "config", "seeds"}
    assert {"esr", "numpy", "pandas", "torch"} <= set(back["versions"])


def test_a_file_without_provenance_has_none(tmp_path: Path) -> None:
    pq.write_table(pa.table({"latent": [1]}), tmp_path / "t.parquet")
    assert read_provenance(tmp_path / "t.parquet") == {}
