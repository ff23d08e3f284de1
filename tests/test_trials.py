"""Trials and arms: who draws what, what a replay keeps, and what names a trial."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from esr.config import Arm
from esr.errors import EsrError
from esr.tables import read_table, write_table
from esr.trials import (
    apply_condition,
    latent_trials,
    new_trials,
    prompt_trials,
    shard,
    shown_prompt,
    trial_id,
)

PROMPTS = pd.DataFrame(
    {"prompt_id": list("pqrs"), "category": "x", "prompt": [f"Explain {c}." for c in "pqrs"]}
)
LATENTS = pd.DataFrame(
    {
        "latent": [7, 3, 5, 9],
        "label": ["boats", None, "bread", "wool"],
        "selected": [True, True, True, False],
        "prompts": [list("pqrs"), list("pqr"), list("pqrs"), list("pqrs")],
    }
)
THRESHOLDS = pd.DataFrame(
    {
        "latent": [7, 3, 5],
        "threshold": [4.25, 6.0, None],
        "status": ["converged", "not_converged", "out_of_bounds"],
    }
)
STEERED = Arm(over="latents", trials=2)
SAME = ["prompt_id", "prompt", "latent", "boost", "seed"]


def steered(**changes: Any) -> pd.DataFrame:
    settings: dict[str, Any] = {"latents": LATENTS, "thresholds": THRESHOLDS, "prompts": PROMPTS}
    drawn = latent_trials(**settings | {"trials": 2, "seed": 44} | changes)
    return apply_condition(new_trials(drawn, 44), STEERED)


def replay(plan: pd.DataFrame, folder: Path, **condition: Any) -> pd.DataFrame:
    """Replay a plan as rules do: through its file."""
    write_table(plan, folder / "plan.parquet", "plan", {})
    arm = Arm(replay="steered", **condition)
    return apply_condition(read_table(folder / "plan.parquet", "plan"), arm)


# Drawing


def test_only_selected_latents_with_a_usable_threshold_are_steered_each_at_its_own() -> None:
    plan = steered()
    assert plan["latent"].tolist() == [7, 7, 3, 3]
    assert plan["boost"].tolist() == [4.25, 4.25, 6.0, 6.0]


def test_prompts_of_a_latent_are_drawn_without_replacement_from_its_own() -> None:
    plan = steered(trials=3)
    drawn = plan.groupby("latent")["prompt_id"].agg(list)
    assert sorted(drawn[3]) == list("pqr")
    assert len(set(drawn[7])) == 3


def test_trial_i_of_an_arm_samples_with_seed_generation_plus_i() -> None:
    assert steered()["seed"].tolist() == [44, 45, 46, 47]


def test_another_latent_changes_no_other_ones_prompts() -> None:
    alone = steered(latents=LATENTS[LATENTS["latent"] == 3])
    together = steered()
    assert (
        alone["prompt_id"].tolist() == together.loc[together["latent"] == 3, "prompt_id"].tolist()
    )


def test_too_few_prompts_for_the_trials_is_an_error() -> None:
    with pytest.raises(EsrError, match="latent 3 may be steered on 3 prompts, but `trials` asks"):
        steered(trials=4)


def test_no_usable_threshold_at_all_is_an_error() -> None:
    with pytest.raises(EsrError, match="nothing to steer"):
        steered(thresholds=THRESHOLDS.assign(status="no_data"))


def test_an_arm_over_prompts_runs_every_prompt_unsteered(tmp_path: Path) -> None:
    arm = Arm(over="prompts", trials=2, boost="none")
    plan = apply_condition(new_trials(prompt_trials(PROMPTS, 2), 44), arm)
    assert plan["prompt_id"].tolist() == list("ppqqrrss")
    assert plan["latent"].isna().all()
    assert plan["boost"].eq(0).all()
    assert plan["trial_id"].is_unique
    write_table(plan, tmp_path / "plan.parquet", "plan", {})


# Conditions


def test_a_replayed_arm_keeps_latent_prompt_seed_and_boost(tmp_path: Path) -> None:
    plan = steered()
    again = replay(plan, tmp_path, meta_prompt="{prompt} Stay on topic.")
    pd.testing.assert_frame_equal(again[SAME], plan[SAME], check_dtype=False)
    assert set(again["trial_id"]).isdisjoint(plan["trial_id"])


def test_replaying_without_any_change_names_the_same_trials(tmp_path: Path) -> None:
    plan = steered()
    assert replay(plan, tmp_path)["trial_id"].tolist() == plan["trial_id"].tolist()


def test_the_unsteered_arm_keeps_the_latent_and_loses_the_boost(tmp_path: Path) -> None:
    plan = steered()
    again = replay(plan, tmp_path, boost="none")
    assert again["boost"].eq(0).all()
    assert again["latent"].tolist() == plan["latent"].tolist()
    assert again["trial_id"].is_unique


def test_conditions_add_up_from_replay_to_replay(tmp_path: Path) -> None:
    ablated = replay(steered(), tmp_path, ablate=(1, 2))
    both = replay(ablated, tmp_path, prefill="Sure")
    assert [list(found) for found in both["ablated"]] == [[1, 2]] * 4
    assert both["prefill"].eq("Sure").all()


def test_a_meta_prompt_that_names_the_label_needs_labels(tmp_path: Path) -> None:
    with pytest.raises(EsrError, match="names the label, but 2 trials have unlabelled"):
        replay(steered(), tmp_path, meta_prompt="{prompt} Do not speak of {label}.")


def test_the_meta_prompt_is_shown_to_the_model_around_the_prompt_and_the_label() -> None:
    plan = steered(latents=LATENTS[LATENTS["latent"] == 7])
    meta = Arm(replay="steered", meta_prompt="{prompt} No {label}, {{please}}.")
    shown = [shown_prompt(row) for row in apply_condition(plan, meta).itertuples()]
    assert shown == [f"{prompt} No boats, {{please}}." for prompt in plan["prompt"]]


def test_without_meta_prompt_the_prompt_itself_is_shown_braces_and_all(tmp_path: Path) -> None:
    plan = steered().assign(prompt="Explain {x}.")
    again = replay(plan, tmp_path)
    assert [shown_prompt(row) for row in again.itertuples()] == ["Explain {x}."] * 4


# Names

TRIAL = {
    "prompt": "Explain how to bake bread.",
    "latent": 7,
    "boost": 4.25,
    "seed": 44,
    "meta_prompt": None,
    "prefill": "",
    "ablated": [],
}


def test_a_trial_is_named_by_what_determines_it() -> None:
    assert trial_id(TRIAL) == "8b5dca3e10aa5be3"


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "Explain how to bake cake."},
        {"latent": 8},
        {"latent": None},
        {"boost": 4.26},
        {"seed": 45},
        {"meta_prompt": "{prompt}!"},
        {"prefill": "Sure"},
        {"ablated": [1]},
    ],
    ids=str,
)
def test_any_change_renames_it(changes: dict[str, Any]) -> None:
    assert trial_id(TRIAL | changes) != trial_id(TRIAL)


@pytest.mark.parametrize(
    "same",
    [
        {"latent": np.int64(7), "boost": np.float64(4.25), "seed": np.int64(44)},
        {"meta_prompt": np.nan, "ablated": np.array([], dtype=int)},
        {"meta_prompt": pd.NA, "label": "boats", "prompt_id": "p"},
    ],
    ids=str,
)
def test_its_name_depends_neither_on_dtypes_nor_on_anything_else(same: dict[str, Any]) -> None:
    assert trial_id(TRIAL | same) == trial_id(TRIAL)


# Shards


@pytest.mark.parametrize(("rows", "count"), [(10, 3), (3, 3), (2, 5), (0, 2), (7, 1)])
def test_shards_partition_the_plan_in_order_and_evenly(rows: int, count: int) -> None:
    plan = pd.DataFrame({"trial_id": range(rows)})
    parts = [shard(plan, i, count) for i in range(count)]
    assert [t for part in parts for t in part["trial_id"]] == list(range(rows))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
