"""Files of an arm are grouped by their folder, whatever the order of the lists."""

from pathlib import Path

import pandas as pd
import pytest

from esr.arms.files import ArmFiles, group_files
from esr.errors import EsrError
from esr.tables import TABLES, write_table


def plan(results: Path, model: str, arm: str, trials: int = 1) -> str:
    """The plan of an arm in its place."""
    path = results / model / "arms" / arm / "plan.parquet"
    row = {"trial_id": "t", "prompt_id": "p", "boost": 1.0, "seed": 1, "prefill": "", "prompt": "x"}
    row |= dict.fromkeys(TABLES["plan"].columns.keys() - row.keys())
    table = pd.DataFrame([row | {"model": model, "arm": arm, "ablated": []}])
    write_table(table.iloc[:trials], path, "plan", {})
    return str(path)


def test_files_are_grouped_by_folder_and_named_by_their_plan(tmp_path: Path) -> None:
    plans = [plan(tmp_path, "large", "steered"), plan(tmp_path, "small", "steered")]
    large, small = (Path(path).parent for path in plans)
    arms = group_files(
        plans,
        responses=[f"{small}/responses.parquet", f"{large}/responses.parquet"],
        scores=[f"{small}/scores/lexical.parquet"],
    )
    assert arms == [
        ArmFiles("large", "steered", Path(plans[0]), large / "responses.parquet"),
        ArmFiles(
            "small",
            "steered",
            Path(plans[1]),
            small / "responses.parquet",
            scores=small / "scores/lexical.parquet",
        ),
    ]


def test_an_arm_without_trials_is_left_out(tmp_path: Path) -> None:
    plans = [plan(tmp_path, "large", "steered", trials=0), plan(tmp_path, "small", "steered")]
    assert [arm.model for arm in group_files(plans)] == ["small"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["small/arms/other/scores/a.parquet"], "belongs to none of the plans"),
        (
            ["small/arms/steered/scores/a.parquet", "small/arms/steered/scores/b.parquet"],
            "belong to one arm",
        ),
    ],
)
def test_a_file_without_a_plan_or_beside_another_is_an_error(
    tmp_path: Path, names: list[str], message: str
) -> None:
    plans = [plan(tmp_path, "small", "steered")]
    with pytest.raises(EsrError, match=message):
        group_files(plans, scores=[str(tmp_path / name) for name in names])
