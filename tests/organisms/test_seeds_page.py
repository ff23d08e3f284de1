"""The page of the organisms shows the truths over three seeds as the benchmark measured them."""

import pandas as pd
import pytest

from helpers.checkout import REPO

TABLE = pd.read_csv(REPO / "benchmarks/organism_seeds.csv", dtype={"seed": str})
PAGE = (REPO / "docs/organism.md").read_text()


@pytest.mark.parametrize("row", TABLE[TABLE["seed"].eq("all")].to_dict("records"), ids=str)
def test_the_page_has_the_number_of_the_table(row: dict[str, float]) -> None:
    assert "{value:.1f} [{low:.1f}, {high:.1f}]".format(**row) in PAGE


def test_every_truth_holds_over_all_seeds_in_every_way() -> None:
    assert TABLE.loc[TABLE["seed"].eq("all"), "holds"].all()
    assert len(TABLE) - TABLE["holds"].sum() == 1, "the page names one row that does not hold"
    assert f"{TABLE['holds'].sum()} of {len(TABLE)} rows" in PAGE
