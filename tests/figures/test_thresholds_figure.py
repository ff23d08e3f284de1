"""Figure B1 and the table of thresholds: how every search ended is shown, and what it achieves."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from esr.thresholds.dose import with_dose
from esr.thresholds.outcomes import count_statuses, in_words, threshold_table
from helpers.checkout import load_script

MODELS: dict[str, dict[str, Any]] = {
    "small": {"label": "Small", "parameters": 1e6},
    "large": {"label": "Large", "parameters": 1e9},
}
STATUSES = ["converged", "not_converged", "not_converged", "out_of_bounds", "no_data", "inert"]

script = load_script("plot_figB1")


def thresholds(statuses: list[str], target: float = 50) -> pd.DataFrame:
    """A search that ended so; the k-th latent achieves the target plus 5 k points."""
    n = len(statuses)
    known = ~np.isin(statuses, ["no_data", "out_of_bounds", "inert"])
    boosts = np.where(known, 100.0 + np.arange(n), np.nan)
    return pd.DataFrame(
        {
            "latent": range(n),
            "label": None,
            "method": "logistic",
            "target": target,
            "threshold": boosts,
            "low": boosts - 10,
            "high": boosts + 10,
            "achieved": np.where(known, target + 5.0 * np.arange(n), np.nan),
            "n_samples": 4,
            "n_missing": 0,
            "lower": 0.0,
            "upper": 300.0,
            "n_widened": 0,
            "status": statuses,
            "norm": 0.5,
            "kl": np.where(known, 0.25, np.nan),
        }
    )


def trials(latents: int) -> pd.DataFrame:
    """Two responses at each of two boosts; the second boost has one score, the last latent none."""
    rows = [
        {"latent": latent, "boost": boost, "first_score": score if latent < latents - 1 else None}
        for latent in range(latents)
        for boost, score in ((90.0, 80.0), (90.0, 60.0), (110.0, 10.0), (110.0, None))
    ]
    return pd.DataFrame(rows).astype({"first_score": "Float64"})


def table_of(statuses: list[str], usual_norm: float = 100.0) -> pd.DataFrame:
    found = {"large": thresholds(statuses)}
    norms = {"large": usual_norm}
    return script.figure_table(found, {"large": trials(len(statuses))}, MODELS, norms)


def texts(table: pd.DataFrame) -> str:
    figure = script.draw(table, "Title", 0.95)
    figure.draw_without_rendering()
    found = "\n".join(text.get_text() for text in figure.findobj(plt.Text))
    plt.close(figure)
    return found


def test_every_latent_and_every_boost_that_was_tried_has_a_row() -> None:
    table = table_of(STATUSES)
    latents = table[table["model"].eq("large") & table["kind"].eq("threshold")]
    assert latents["status"].tolist() == STATUSES
    responses = table[table["kind"].eq("response")].set_index(["latent", "boost"])
    assert responses.loc[(0, 90), "value"] == 70
    assert tuple(responses.loc[(0, 110), ["value", "n", "missing"]]) == (10, 1, 1)
    unscored = responses.loc[(len(STATUSES) - 1, 90)]
    assert pd.isna(unscored["value"]), "no score is not a score of 0"
    assert unscored["status"] == "no_data"


def test_every_boost_has_its_dose_in_norms_of_the_stream() -> None:
    """Rows of norm 0.5 at a boost of 90 add 45, in a stream whose median norm is 100."""
    table = table_of(STATUSES)
    large = table[table["model"].eq("large")].set_index(["kind", "latent", "boost"])["dose"]
    assert large.loc["response", 0, 90] == pytest.approx(0.45)
    assert large.loc["threshold", 0, 100] == pytest.approx(0.5)
    assert large.xs(3, level="latent").loc["threshold"].isna().all(), (
        "without a threshold there is no dose"
    )


@pytest.mark.parametrize("usual_norm", [100.0, np.nan])
def test_the_axis_of_doses_is_drawn_where_the_norm_was_measured(usual_norm: float) -> None:
    shown = texts(table_of(STATUSES, usual_norm))
    assert ("dose (median norms" in shown) == (not np.isnan(usual_norm))


def test_the_drawn_latents_run_from_the_nearest_to_the_farthest_from_the_target() -> None:
    many = script.latent_rows(thresholds(["not_converged"] * 100))
    drawn = many.dropna(subset="panel").sort_values("panel")
    assert drawn["latent"].tolist() == [0, 20, 40, 59, 79, 99]


def test_the_picture_names_the_status_of_each_and_counts_them() -> None:
    shown = texts(table_of(STATUSES))
    for text in ("converged: 1", "not converged: 2", "out of bounds: 1", "no data: 1"):
        assert text in shown
    assert "achieved n/a" in shown, "an unknown score is not a number"
    assert "not run" in shown, "the other model has no search"


@pytest.mark.parametrize("status", ["not_converged", "no_data"])
def test_a_search_that_failed_for_all_is_drawn(status: str) -> None:
    shown = texts(table_of([status] * 3))
    assert f"{status.replace('_', ' ')}: 3" in shown
    assert ("no threshold" in shown) == (status == "no_data")


def test_the_table_has_all_targets_and_the_summary_has_their_outcomes() -> None:
    both = [
        ("m", None, with_dose(thresholds(STATUSES), usual_norm=100.0)),
        ("m", "random", thresholds(["converged"] * 2, target=30)),
    ]
    counts = count_statuses(threshold_table(both)).to_dict("records")
    assert [in_words(row) for row in counts] == [
        "1 of 6 latents converged, 2 not_converged, 1 out_of_bounds, 1 no_data, 1 inert; "
        "median dose 0.51, KL at the first token 0.25 nats",
        "2 of 2 random directions converged; median KL at the first token 0.25 nats",
    ]
    assert [row["target"] for row in counts] == [50, 30]
    assert threshold_table([]).empty
    printed = load_script("tabulate_thresholds").printed(threshold_table(both))
    assert printed["achieved"].tolist() == ["55.0", "32.5"]
    assert printed["dose"].tolist() == ["0.51", "n/a"]
