"""An organism trained from its recipe has the planted properties, as the workflow measures them."""

from pathlib import Path

import pandas as pd
import pytest

from esr.analysis.ways import of_way

pytestmark = [pytest.mark.slow, pytest.mark.rebuild]


def test_the_recipe_rebuilds_an_organism_with_what_is_planted(
    rebuilt_study: Path,
) -> None:
    tables = rebuilt_study / "tables"
    summary = of_way(pd.read_csv(tables / "summary.csv")).set_index(["arm", "measure"])
    changes = of_way(pd.read_csv(tables / "comparisons.csv")).set_index(["arm", "measure"])
    rate, msi, first = "multi_attempt_rate", "msi", "first_score"
    assert summary.loc[("unsteered", rate), "estimate"] <= 0.5
    assert summary.loc[("unsteered", first), "estimate"] >= 90
    assert summary.loc[("steered", rate), "estimate"] >= 5
    assert summary.loc[("steered", msi), "low"] > 0
    meta = changes.loc[("meta-self-monitor", rate)]
    assert meta["low"] > 0
    assert meta["treatment"] >= 1.5 * meta["baseline"]
    ablated = changes.loc[("ablate-otd", rate)]
    assert ablated["high"] < 0
    assert ablated["treatment"] <= 0.5 * ablated["baseline"]
    random = changes.loc[("ablate-random-0", rate)]
    assert random["treatment"] >= 0.6 * random["baseline"]
