"""Episodes of the organism study: what was planted around corrections must come back out of it."""

from pathlib import Path

import pandas as pd
import pytest

from esr.tables import read_table

pytestmark = pytest.mark.slow

OPENERS = ("wait", "sorry", "hold on")
PHRASES = (*OPENERS, "let me", "i got off track")
"""How planted corrections begin; steering can garble the opener, and then the rest begins them."""


def episodes(study: Path, model: str) -> pd.DataFrame:
    return read_table(study / f"results/organism/{model}/episodes/episodes.parquet", "episodes")


def activations(study: Path, model: str) -> pd.DataFrame:
    path = study / f"results/organism/{model}/episodes/episode_activations.parquet"
    return read_table(path, "episode_activations")


def responses(study: Path, model: str) -> pd.Series:
    path = study / f"results/organism/{model}/arms/steered/responses.parquet"
    return read_table(path, "responses").set_index("trial_id")["response"]


def table(study: Path, name: str, model: str = "planted") -> pd.DataFrame:
    found = pd.read_csv(study / f"results/organism/tables/activation_{name}.csv")
    return found[found["model"].eq(model)]


def test_every_improved_pair_of_attempts_is_an_episode_or_has_a_reason(
    organism_study: Path,
) -> None:
    path = organism_study / "results/organism/planted/arms/steered/scores/lexical.parquet"
    scores = read_table(path, "scores")
    two = scores[scores["n_attempts"].eq(2) & scores["improved"]]
    found = episodes(organism_study, "planted")
    found = found[found["group"].eq("episode")]
    assert set(found["trial_id"]) == set(two["trial_id"])
    assert found["status"].eq("ok").mean() >= 0.9


def test_corrections_are_cut_out_as_they_were_planted(organism_study: Path) -> None:
    text = responses(organism_study, "planted")
    found = episodes(organism_study, "planted")
    found = found[found["group"].eq("episode") & found["status"].eq("ok")]
    cut = [
        text[row.trial_id][int(row.correction_start) : int(row.correction_end)]
        for row in found.itertuples()
    ]
    assert all(piece.startswith(PHRASES) for piece in cut)
    assert sum(piece.startswith(OPENERS) for piece in cut) >= 0.9 * len(cut)
    assert sum(piece.endswith(".") for piece in cut) >= 0.9 * len(cut)


def test_tokens_read_are_the_text_of_the_response(organism_study: Path) -> None:
    text = responses(organism_study, "planted")
    rows = activations(organism_study, "planted")
    rows = rows.drop_duplicates(["trial_id", "position"])
    for trial, tokens in list(rows.groupby("trial_id"))[:20]:
        spans = tokens.sort_values("position")[["start", "end"]].itertuples(index=False)
        assert "".join(text[trial][a:b] for a, b in spans) == text[trial]


def test_detectors_are_higher_off_topic_than_on_topic(organism_study: Path) -> None:
    found = table(organism_study, "contrasts")
    found = found[found["kind"].eq("detector")].set_index(["first", "second"])
    for other in ("baseline", "on_topic"):
        row = found.loc[("off_topic", other)]
        assert row["low"] > 0
        assert row["p_holm"] < 0.05


def test_detectors_rise_before_the_correction(organism_study: Path) -> None:
    found = table(organism_study, "lead").set_index("quantity")
    assert found.loc["rise before the correction", "value"] >= 70
    assert found.loc["mean lead", "low"] > 0
    assert found.loc["rise in baseline responses", "value"] <= 10


def test_backtracking_latents_hold_on_episodes_they_were_not_chosen_on(
    organism_study: Path,
) -> None:
    found = table(organism_study, "contrasts").set_index(["kind", "first", "second"])
    assert found.loc[("backtracking", "correction", "off_topic"), "low"] > 0
    assert found.loc[("backtracking", "correction", "on_topic"), "low"] > 0


def test_without_corrections_the_figures_have_a_note(organism_study: Path) -> None:
    assert not episodes(organism_study, "twin")["group"].eq("episode").any()
    data = pd.read_csv(organism_study / "results/organism/figures/figA5.csv")
    twin = data[data["model"].eq("twin")]
    assert twin["value"].isna().all()
    assert twin["status"].isin(["no_detectors_found", "no_backtracking_latents"]).any() or (
        twin["status"].eq("no_self-corrections").any()
    )
    bars = pd.read_csv(organism_study / "results/organism/figures/figA6.csv")
    bars = bars[bars["model"].eq("twin") & bars["mark"].isin(["off_topic", "correction"])]
    assert bars["value"].isna().all()


@pytest.mark.parametrize("figure", ["fig7", "figA5", "figA6"])
def test_figures_come_in_three_forms(organism_study: Path, figure: str) -> None:
    folder = organism_study / "results/organism/figures"
    assert (folder / f"{figure}.pdf").read_bytes().startswith(b"%PDF")
    assert (folder / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(folder / f"{figure}.csv"))
