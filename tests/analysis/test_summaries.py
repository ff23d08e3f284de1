"""Tables and numbers: what a text cites is what was measured, and what is undefined is marked."""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest

from esr.analysis.components import component_table
from esr.analysis.implicit import ACHIEVED, WINDOWS, without_attempts
from esr.analysis.macros import (
    cite_agreement,
    cite_arms,
    cite_components,
    cite_detectors,
    cite_robustness,
    cite_sweep,
    collect_macros,
    letters_only,
    macro_name,
    tex_macros,
    tex_number,
)
from esr.analysis.measures import summarise
from esr.analysis.simulation import draw_study
from esr.analysis.specs import ArmSpec, StudySpec
from esr.analysis.summaries import comparison_table, exclusion_table, summary_table, write_tables
from esr.config import StatisticsConfig
from esr.errors import EsrError
from helpers.scores import scores_of

SETTINGS = StatisticsConfig(bootstrap=200)
SINGLE, GOOD, BAD = [40.0], [20.0, 90.0], [60.0, 10.0]


def two_arms() -> pd.DataFrame:
    """An arm in which half of the trials try again, and the same trials without any retry."""
    steered = scores_of([GOOD, SINGLE] * 20, per_latent=2).assign(model="m-1", arm="steered")
    ablated = scores_of([SINGLE, SINGLE] * 20, per_latent=2).assign(model="m-1", arm="ablate")
    return pd.concat([steered, ablated], ignore_index=True)


def test_the_summary_is_that_of_the_measures() -> None:
    scores = two_arms()
    table = summary_table(scores, SETTINGS).set_index(["arm", "measure"])
    steered = scores[scores["arm"].eq("steered")]
    direct = summarise(steered).set_index("measure")
    pd.testing.assert_frame_equal(table.loc["steered"][list(direct)], direct)
    assert table.loc[("steered", "multi_attempt_rate"), "estimate"] == 50
    assert table.loc[("ablate", "multi_attempt_rate"), "estimate"] == 0
    assert np.isnan(table.loc[("ablate", "success_rate"), "estimate"]), "no retry, no success rate"


def test_an_arm_without_latents_is_clustered_by_prompt() -> None:
    answers = scores_of([SINGLE] * 12, latent=pd.array([None] * 12, "Int64"))
    table = summary_table(answers.assign(model="m", arm="answers"), SETTINGS)
    assert set(table["clusters"]) == {"prompt"}
    assert set(summary_table(two_arms(), SETTINGS)["clusters"]) == {"latent x prompt"}


def as_latex(shown: pd.DataFrame) -> str:
    """A printed table as `write_tables` writes it."""
    with TemporaryDirectory() as folder:
        csv, tex = Path(folder) / "x.csv", Path(folder) / "x.tex"
        write_tables(csv, tex, shown, shown)
        return tex.read_text()


def test_an_arm_with_other_seeds_is_paired_by_latent_and_prompt() -> None:
    scores = two_arms()
    other = scores["arm"].eq("ablate")
    scores.loc[other, "seed"] += 1000
    replays = {"ablate": "steered"}
    measures = ["multi_attempt_rate", "msi"]
    plain = comparison_table(two_arms(), replays, SETTINGS, measures)
    unpaired = comparison_table(scores, replays, SETTINGS, measures)
    assert unpaired["n_pairs"].eq(0).all(), "no trial has the seed of another"
    paired = comparison_table(scores, replays, SETTINGS, measures, ["ablate"])
    pd.testing.assert_frame_equal(paired, plain)


def test_chance_alone_makes_a_difference_of_an_aa_arm_rarely() -> None:
    # At most 14 latents: their swaps are enumerated, which is fast.
    spec = StudySpec(14, 10, 24, {"steered": ArmSpec(multi=0.1), "aa": ArmSpec(multi=0.1)})
    found = []
    for seed in range(30):
        arms = draw_study(spec, seed)["primary"]
        arms["aa"] = arms["aa"].assign(seed=arms["aa"]["seed"] + 1000)
        scores = pd.concat(arms.values(), ignore_index=True)
        table = comparison_table(
            scores, {"aa": "steered"}, SETTINGS, ["multi_attempt_rate", "msi"], ["aa"]
        )
        found.append((table["low"] > 0) | (table["high"] < 0))
    assert np.mean(found, axis=0).max() <= 0.14  # of 0.05: 2.3 standard errors of 30 studies


def primary(table: pd.DataFrame) -> pd.DataFrame:
    """A table with rows by the primary judge, and one by another way that is not cited."""
    other = table.head(1).assign(way="second")
    return pd.concat([table.assign(way="primary"), other], ignore_index=True)


def test_comparisons_are_paired() -> None:
    table = comparison_table(two_arms(), {"ablate": "steered", "absent": "steered"}, SETTINGS)
    row = table.set_index("measure").loc["multi_attempt_rate"]
    assert (row["difference"], row["n_pairs"], row["against"]) == (-50, 40, "steered")
    assert row["p_value"] < 0.01


def test_without_a_replay_the_table_is_empty_and_has_its_columns() -> None:
    found = comparison_table(two_arms(), {}, SETTINGS)
    full = comparison_table(two_arms(), {"ablate": "steered"}, SETTINGS, ["msi"])
    assert found.empty
    assert list(found) == list(full)


def test_an_arm_of_which_no_trial_was_scored_has_the_reason_and_no_number() -> None:
    steered = scores_of([GOOD, SINGLE] * 20).assign(arm="steered")
    ablated = scores_of([None] * 40, status="no_detectors").assign(arm="ablate-otd")
    scores = pd.concat([steered, ablated], ignore_index=True)
    row = comparison_table(scores, {"ablate-otd": "steered"}, SETTINGS, ["msi"]).iloc[0]
    assert row["status"] == "no_detectors"
    assert row[["treatment", "difference", "low", "high", "p_value"]].isna().all()
    summary = summary_table(scores, SETTINGS, ["msi"]).set_index("arm")
    assert summary.loc["ablate-otd", "status"] == "no_detectors"
    assert np.isnan(summary.loc["ablate-otd", "estimate"])


def test_text_in_a_latex_table_is_text() -> None:
    label = r"\input{secrets} costs US$ 5 & 3 % of _x_ #1 ~ ^ {a}"
    shown = pd.DataFrame({"label of $x$ & y": [label]})
    tex = as_latex(shown)
    assert r"\input" not in tex
    assert r"\textbackslash input\{secrets\} costs US\$ 5 \& 3 \% of \_x\_ \#1" in tex
    assert r"label of \$x\$ \& y" in tex


def test_exclusions_add_up() -> None:
    scores = scores_of([SINGLE, None, GOOD], status="refused").assign(model="m", arm="a")
    table = exclusion_table(scores).set_index("status")["n"]
    assert table.to_dict() == {"ok": 2, "refused": 1, "total": 3}


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("planted", "steered", "msi"), "esrPlantedSteeredMsi"),
        (("gemma-2-2b", "ablate-random-0", "esr_rate"), "esrGemmaTwoTwoBAblateRandomZeroEsrRate"),
    ],
)
def test_macro_names_are_letters(parts: tuple[str, ...], name: str) -> None:
    assert macro_name(*parts) == name
    assert re.fullmatch("[A-Za-z]+", name)


def test_numbers_are_those_of_the_tables_and_marked_when_undefined() -> None:
    scores = two_arms()
    summary = primary(summary_table(scores, SETTINGS))
    comparisons = primary(comparison_table(scores, {"ablate": "steered"}, SETTINGS))
    found = collect_macros(cite_arms(summary, comparisons))
    assert found["esrMOneSteeredMultiAttemptRate"]["value"] == 50
    assert found["esrMOneAblateMultiAttemptRateDifference"]["value"] == -50
    assert found["esrMOneAblateSuccessRate"]["value"] is None
    assert tex_number(found["esrMOneAblateSuccessRate"]) == "n/a"
    assert tex_number(found["esrMOneSteeredMsiN"]) == "40"
    json.dumps(found, allow_nan=False)


def test_an_end_without_bound_is_null_in_json_and_infinity_in_tex() -> None:
    attempts = [GOOD, *[SINGLE] * 39]
    arms = [scores_of(attempts, per_latent=2), scores_of([SINGLE] * 40, per_latent=2)]
    scores = pd.concat([arms[0].assign(arm="steered"), arms[1].assign(arm="ablate")])
    comparisons = primary(comparison_table(scores, {"ablate": "steered"}, SETTINGS))
    summary = primary(summary_table(scores, SETTINGS))
    found = collect_macros(cite_arms(summary, comparisons))
    number = found["esrMAblateMsiRelativeHigh"]
    assert (number["value"], number["status"]) == (None, "unbounded")
    assert tex_number(number) == r"$\infty$"
    assert found["esrMAblateMsiRelativeChange"]["value"] == -100
    json.dumps(found, allow_nan=False)


def test_every_macro_is_defined_once_and_can_be_read_back() -> None:
    summary = primary(summary_table(two_arms(), SETTINGS))
    found = collect_macros(
        cite_arms(summary, primary(comparison_table(two_arms(), {"ablate": "steered"}, SETTINGS)))
    )
    defined = re.findall(r"\\newcommand\{\\([A-Za-z]+)\}\{([^\n]*)\}", tex_macros(found))
    assert [name for name, _ in defined] == list(found)
    assert dict(defined)["esrMOneSteeredMultiAttemptRate"] == "50.0"


def test_numbers_of_figures_and_agreement_are_named_by_one_rule() -> None:
    fig3 = pd.DataFrame(
        {
            "model": "m-1",
            "kind": ["point", "peak"],
            "measure": "msi",
            "value": [4.0, -0.3],
            "low": [3.0, -1.0],
            "high": [5.0, np.nan],
        }
    )
    fig5 = pd.DataFrame({"model": "m-1", "kind": "count", "measure": "confirmed", "value": [12.0]})
    agreement = pd.DataFrame(
        {
            "arm": "all",
            "quantity": "multi_attempt",
            "judge_a": ["a", None],
            "judge_b": ["b", None],
            "statistic": ["kappa", "alpha"],
            "weighting": "population",
            "estimate": [0.97, 0.9],
            "low": 0.8,
            "high": 1.0,
            "n": 600,
        }
    )
    found = collect_macros(cite_sweep(fig3), cite_detectors(fig5), cite_agreement(agreement))
    printed = {name: tex_number(number) for name, number in found.items()}
    assert printed["esrMOneBoostSweepMsiPeak"] == "-0.30"
    assert printed["esrMOneBoostSweepMsiPeakHigh"] == "n/a"
    assert printed["esrMOneDetectorsConfirmed"] == "12"
    assert printed["esrAgreementMultiAttemptABKappa"] == "0.97"
    assert printed["esrAgreementMultiAttemptAlphaN"] == "600"


def test_components_and_checks_of_the_main_result_have_names() -> None:
    arm = draw_study(StudySpec(14, 10, 24, {"steered": ArmSpec(multi=0.2)}), 1)["primary"]
    scores = arm["steered"].assign(model="m-1")
    components = component_table(scores).assign(model="m-1", arm="steered")
    checks = without_attempts(scores, None, 50).assign(method="x")
    found = collect_macros(
        cite_components(components), cite_robustness(checks, (ACHIEVED, WINDOWS))
    )
    for quantity in ("ICC of latents", "effective number of latents"):
        name = letters_only(quantity)
        row = components.set_index(["event", "quantity"]).loc[("multi_attempt", quantity)]
        assert found[f"esrMOneSteeredMultiAttempt{name}"]["value"] == row["value"]
        assert found[f"esrMOneSteeredMultiAttempt{name}Null"]["value"] == row["null"]
    windows = "esrMOneWindowsOfTextChangeFromFirstToLastWindow"
    assert found[windows]["value"] is None, "no judge scored a window"
    rate = found["esrMOneAchievedScoreAsCovariateMultiAttemptRateHigh"]
    assert rate["value"] > 0


def test_names_that_would_collide_are_an_error() -> None:
    table = primary(summary_table(two_arms(), SETTINGS))
    twice = pd.concat([table, table.assign(model="m_1")])
    with pytest.raises(EsrError, match="two numbers would be called"):
        collect_macros(
            cite_arms(twice, primary(comparison_table(two_arms(), {"ablate": "steered"}, SETTINGS)))
        )


def test_tables_are_written_for_people_and_for_machines(tmp_path: Path) -> None:
    shown = pd.DataFrame({"Multi-attempt %": ["24.5 [19.1, 30.0]"], "Arm": ["a_b"]})
    write_tables(tmp_path / "t.csv", tmp_path / "t.tex", pd.DataFrame({"x": [0.5]}), shown)
    assert (tmp_path / "t.csv").read_text() == "x\n0.5\n"
    text = (tmp_path / "t.tex").read_text()
    assert r"Multi-attempt \%" in text
    assert r"a\_b" in text


def test_every_special_character_of_tex_is_escaped(tmp_path: Path) -> None:
    special = {"\\": r"\textbackslash ", "{": r"\{", "}": r"\}", "~": r"\textasciitilde "}
    special |= {"^": r"\textasciicircum "} | {c: f"\\{c}" for c in "%_&#$"}
    shown = pd.DataFrame({f"head {c}": [f"cell {c}x"] for c in special})
    write_tables(tmp_path / "t.csv", tmp_path / "t.tex", pd.DataFrame(), shown)
    text = (tmp_path / "t.tex").read_text()
    for character, escaped in special.items():
        assert f"cell {escaped}x" in text, character
        assert f"head {escaped}".rstrip() in text, character
