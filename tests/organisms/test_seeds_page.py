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


PREFIXES = pd.read_csv(REPO / "benchmarks/prefix_seeds.csv", dtype={"seed": str})


@pytest.mark.parametrize("row", PREFIXES[PREFIXES["seed"].eq("all")].to_dict("records"), ids=str)
def test_the_page_has_the_numbers_of_truths_about_prefixes(row: dict[str, float]) -> None:
    assert "{value:.1f} [{low:.1f}, {high:.1f}]".format(**row) in PAGE


def test_truths_about_prefixes_hold_over_all_seeds_but_for_those_that_the_page_names() -> None:
    every = PREFIXES[PREFIXES["seed"].eq("all")]
    assert set(PREFIXES["seed"]) == {"44", "45", "46", "all"}
    failed = every.loc[~every["holds"], ["truth", "way"]].values.tolist()
    ways = ("primary", "judge_free", "second")
    sets = [["branch: specificity", way] for way in ways]
    assert sorted(failed) == sorted([["prefix: dependence", "judge_free"], *sets])
    assert f"{PREFIXES['holds'].sum()} of {len(PREFIXES)} rows hold" in PAGE
