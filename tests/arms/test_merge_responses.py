"""Shards of an arm become one table with exactly the planned trials."""

import pandas as pd
import pytest

from esr.errors import EsrError
from helpers.checkout import load_script

PLAN = pd.DataFrame({"trial_id": list("abcde")})
SHARDS = [PLAN[:3], PLAN[3:]]


def merge_shards(shards: list[pd.DataFrame]) -> pd.DataFrame:
    merged: pd.DataFrame = load_script("merge_responses").merge_shards(PLAN, shards)
    return merged


def test_shards_follow_the_plan() -> None:
    pd.testing.assert_frame_equal(merge_shards(SHARDS), PLAN)


@pytest.mark.parametrize(
    "shards",
    [SHARDS[:1], SHARDS[::-1], [*SHARDS, PLAN[:1]], [PLAN[:3], PLAN[2:]], [PLAN[:3], PLAN[4:]]],
    ids=["too few", "other order", "a trial twice", "overlap", "a gap"],
)
def test_anything_else_is_refused_with_the_remedy(shards: list[pd.DataFrame]) -> None:
    with pytest.raises(EsrError, match="delete the arm's shards and run again"):
        merge_shards(shards)
