"""esr.analysis.graded: every arm corrected by the reference, which is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from esr.agreement.sample import draw_sample, strata
from esr.analysis.graded import (
    COLUMNS,
    Reference,
    choose_reference,
    corrected_table,
    second_phase,
)
from esr.arms.scores import KEY, check_scores
from esr.config import AgreementConfig, JudgingConfig
from helpers.checkout import REPO, load_script
from helpers.studies import load_study

LATENTS, PROMPTS = 30, 20
N = LATENTS * PROMPTS
MISSED = {"steered": 0.0, "ablate-otd": 0.6}
"""Share of the several attempts of an arm that the primary judge takes for one."""
TRUTH = {"steered": 0.2, "ablate-otd": 0.1}
SECOND = Reference("b", "second judge")


def scores(arm: str, several: np.ndarray, judge: str) -> pd.DataFrame:
    change = np.where(several, 20.0, 0.0)
    table = pd.DataFrame(
        {
            "trial_id": [f"t{i}" for i in range(N)],
            "model": "m",
            "arm": arm,
            "judge": judge,
            "latent": pd.array(np.repeat(np.arange(LATENTS), PROMPTS), "Int64"),
            "prompt_id": [f"p{i % PROMPTS}" for i in range(N)],
            "boost": 1.0,
            "seed": np.arange(N),
            "status": "ok",
            "n_attempts": pd.array(np.where(several, 2, 1), "Int64"),
            "first_score": 40.0,
            "last_score": 40.0 + change,
            "score_change": change,
            "multi_attempt": pd.array(several, "boolean"),
            "improved": pd.array(several, "boolean"),
            "gated_multi_attempt": pd.array(several, "boolean"),
            "gated_improved": pd.array(several, "boolean"),
            "restart_detected": pd.array(several, "boolean"),
            "degraded": False,
        }
    )
    check_scores(table)
    return table


def both_phases(size: int = 400, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of two arms by a judge that misses more in one of them, and the second phase."""
    rng = np.random.default_rng(seed)
    primary, truth = [], []
    for arm, rate in TRUTH.items():
        order = rng.permutation(N)
        several = order < rate * N
        seen = order < rate * N * (1 - MISSED[arm])
        truth.append(scores(arm, several, "b"))
        # The restart detector finds half of what the judge misses.
        detected = pd.array(seen | (several & (rng.random(N) < 0.5)), "boolean")
        primary.append(scores(arm, seen, "a").assign(restart_detected=detected))
    first, second = (pd.concat(parts, ignore_index=True) for parts in (primary, truth))
    keys = zip(*(first[name] for name in KEY), strict=True)
    named = first.assign(trial_id=["/".join(key) for key in keys], stratum=strata(first))
    sample = draw_sample(named, AgreementConfig(size=size))
    graded = second.assign(trial_id=named["trial_id"]).set_index("trial_id")
    judged = {"b": graded.loc[sample["trial_id"]].reset_index()}
    return first, second_phase(sample, judged, SECOND)


def table_of(size: int = 400, seed: int = 0) -> pd.DataFrame:
    first, second = both_phases(size, seed)
    replays = {"ablate-otd": "steered", "not-run": "steered"}
    found = corrected_table(first, second, SECOND, replays)
    assert list(found) == COLUMNS
    return found


def row(table: pd.DataFrame, arm: str, kind: str = "rate") -> pd.Series:
    keep = table["arm"].eq(arm) & table["kind"].eq(kind)
    return table[keep & table["measure"].eq("multi_attempt_rate")].iloc[0]


def test_a_judge_that_misses_more_in_one_arm_is_corrected_in_that_arm() -> None:
    table = table_of(size=2 * N)  # all trials are graded again, up to the cap of a stratum
    ablated = row(table, "ablate-otd")
    assert ablated["raw"] == pytest.approx(100 * TRUTH["ablate-otd"] * (1 - MISSED["ablate-otd"]))
    for estimator in ("rogan_gladen", "ppi"):
        assert ablated[estimator] == pytest.approx(100 * TRUTH["ablate-otd"], abs=3)
        assert ablated[f"{estimator}_low"] < ablated[estimator] < ablated[f"{estimator}_high"]
    assert ablated["sensitivity"] == pytest.approx(100 * (1 - MISSED["ablate-otd"]), abs=15)
    assert ablated["specificity"] == pytest.approx(100)
    assert row(table, "steered")["sensitivity"] == pytest.approx(100)
    assert (ablated["reference"], ablated["reference_kind"]) == ("b", "second judge")


def test_a_change_between_arms_is_corrected_too() -> None:
    table = table_of(size=2 * N)
    relative, difference = (row(table, "ablate-otd", k) for k in ("relative_change", "difference"))
    assert relative["against"] == "steered"
    assert relative["raw"] == pytest.approx(-80)  # what the judge makes of a change by half
    assert relative["rogan_gladen_high"] > -60
    assert relative["rogan_gladen"] == pytest.approx(-50, abs=15)
    expected = row(table, "ablate-otd")["ppi"] - row(table, "steered")["ppi"]
    assert difference["ppi"] == pytest.approx(expected)
    assert np.isnan(difference["sensitivity"])


def test_intervals_hold_the_true_rate_in_most_samples_of_a_part() -> None:
    held = 0
    for seed in range(12):
        first, second = both_phases(300, seed)
        found = row(corrected_table(first, second, SECOND, {}), "ablate-otd")
        held += found["rogan_gladen_low"] <= 100 * TRUTH["ablate-otd"] <= found["rogan_gladen_high"]
    assert held >= 10


def test_without_a_second_judge_there_are_raw_rates_and_a_status() -> None:
    first, _ = both_phases()
    table = corrected_table(first, None, "no_reference", {"ablate-otd": "steered"})
    assert table["status"].eq("no_reference").all()
    assert table[["rogan_gladen", "ppi", "sensitivity"]].isna().all(axis=None)
    assert table["raw"].notna().all()
    load_script("tabulate_corrected").printed(table)


GRADED = pd.DataFrame({"status": ["ok"] * 3})
LEXICAL = {"kind": "lexical", "lexicon": "resources/organisms/lexicon.csv"}
TOLD, BLIND = (REPO / f"resources/rubrics/{name}.yaml" for name in ("paper_schema", "structured"))


def judges(**named: dict[str, Any]) -> JudgingConfig:
    """Judges of a study, the first one as the primary one."""
    absent = {"lexical": None, "sentences": None}
    config = load_study({"judging": {"primary": next(iter(named)), "judges": absent | named}})
    return config.judging


def claude(model: str, rubric: Path) -> dict[str, Any]:
    return {"kind": "anthropic", "model": model, "rubric": str(rubric)}


def test_people_come_before_the_second_judge_once_their_sheet_is_filled_in() -> None:
    sheet = {"kind": "human", "sheet": "anna.csv"}
    found = judges(a=LEXICAL, anna=sheet, b=LEXICAL | {"kind": "sentences"})
    empty = pd.DataFrame({"status": ["not_labelled"] * 3})
    filled = pd.DataFrame({"status": ["not_labelled", "ok", "ok"]})
    judged = {"a": GRADED, "b": GRADED}
    assert choose_reference(judged | {"anna": empty}, found) == SECOND
    assert choose_reference(judged | {"anna": filled}, found) == ("anna", "people")
    assert choose_reference({"a": GRADED}, judges(a=LEXICAL)) == "no_reference"


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({"a": ("sonnet", BLIND), "b": ("haiku", TOLD), "c": ("haiku", BLIND)}, "c"),
        ({"a": ("sonnet", BLIND), "b": ("haiku", TOLD)}, "shared_blinding"),
        ({"a": ("sonnet", BLIND)}, "shared_rule"),
        ({"b": ("haiku", TOLD), "people": None}, "shared_blinding"),
    ],
)
def test_the_reference_shares_neither_rule_nor_blinding_with_the_primary_judge(
    others: dict[str, Any], expected: str
) -> None:
    named = {"first": claude("sonnet", TOLD)}
    named |= {name: claude(*each) for name, each in others.items() if each}
    found = choose_reference(dict.fromkeys(named, GRADED), judges(**named))
    assert (found if isinstance(found, str) else found.name) == expected


def test_judges_that_are_both_blind_share_nothing() -> None:
    """A blind judge cannot favour a condition."""
    found = judges(first=claude("sonnet", BLIND), b=claude("haiku", BLIND))
    assert found.shared == {"b": ""}
    assert found.second == "b"


def test_the_second_judge_is_the_reference_where_there_is_one() -> None:
    told, blind = claude("haiku", TOLD), claude("haiku", BLIND)
    found = judges(first=claude("sonnet", TOLD), same=claude("sonnet", BLIND), b=told, c=blind)
    assert found.second == "c"
    without = judges(first=claude("sonnet", TOLD), same=claude("sonnet", BLIND), b=told)
    assert without.second == "b", "a judge that shares one thing is better than none"


def test_a_table_without_a_reference_names_the_reason() -> None:
    first, _ = both_phases()
    table = corrected_table(first, None, "shared_rule", {"ablate-otd": "steered"})
    assert table["status"].eq("shared_rule").all()
