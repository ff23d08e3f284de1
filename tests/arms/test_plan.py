"""Trials and arms: who draws what, what a replay keeps, and what names a trial."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from esr.arms.plan import (
    apply_condition,
    first_latents,
    latent_trials,
    new_trials,
    on_own_prompts,
    other_seeds,
    prompt_trials,
    shard,
    shown_prompt,
    sweep,
    sweep_levels,
    trial_id,
    trial_seed,
)
from esr.config import ArmConfig, LevelsConfig, WindowConfig
from esr.errors import EsrError
from esr.tables import TABLES, read_table, write_table
from helpers.checkout import load_script
from helpers.studies import load_study

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
STEERED = ArmConfig(over="latents", trials=2)
SWEEP: dict[str, Any] = {"over": "latents", "trials": 2, "boost": LevelsConfig()}
OWNER = {"model": "m", "arm": "steered"}
SAME = ["prompt_id", "prompt", "latent", "boost", "seed"]


def steered(**changes: Any) -> pd.DataFrame:
    settings: dict[str, Any] = {"latents": LATENTS, "thresholds": THRESHOLDS, "prompts": PROMPTS}
    drawn = latent_trials(**settings | {"trials": 2, "seed": 44} | changes)
    return apply_condition(new_trials(drawn, 44), STEERED)


def replay(plan: pd.DataFrame, folder: Path, **condition: Any) -> pd.DataFrame:
    """Replay a plan as rules do: through its file."""
    write_table(plan.assign(**OWNER), folder / "plan.parquet", "plan", {})
    arm = ArmConfig(replay="steered", **condition)
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


def seeds_of(plan: pd.DataFrame) -> dict[int, list[int]]:
    return plan.groupby("latent")["seed"].agg(list).to_dict()


def test_the_seed_of_a_trial_follows_from_base_latent_and_repetition() -> None:
    first, second = seeds_of(steered())[7]
    assert (first, second) == (877037234, 1993994786)
    assert first == trial_seed(44, 7, 0)
    assert len(set(steered()["seed"])) == 4


def test_a_latent_that_loses_its_threshold_changes_no_other_latents_seeds() -> None:
    lost = THRESHOLDS.assign(status=["no_data", "converged", "converged"], threshold=5.0)
    assert seeds_of(steered(thresholds=lost))[3] == seeds_of(steered())[3]


def test_the_order_of_latents_changes_no_seed() -> None:
    assert seeds_of(steered(latents=LATENTS[::-1])) == seeds_of(steered())


def test_more_trials_keep_the_seeds_of_the_first_ones() -> None:
    assert seeds_of(steered(trials=3))[3][:2] == seeds_of(steered())[3]


def test_a_replay_of_the_first_latents_has_their_trials_alone() -> None:
    plan = steered(trials=3)
    first = first_latents(plan, 1)
    assert first["latent"].unique().tolist() == [plan["latent"].iloc[0]]
    pd.testing.assert_frame_equal(first, plan.head(3))
    assert first_latents(plan, None) is plan


def test_a_trial_without_latent_is_seeded_by_its_prompt() -> None:
    arm = ArmConfig(over="prompts", trials=2, boost="none")
    plan = apply_condition(new_trials(prompt_trials(PROMPTS, 2), 44), arm)
    assert plan["seed"].tolist()[2:4] == [trial_seed(44, "q", 0), trial_seed(44, "q", 1)]


def test_another_latent_changes_no_other_ones_prompts() -> None:
    alone = steered(latents=LATENTS[LATENTS["latent"] == 3])
    together = steered()
    assert (
        alone["prompt_id"].tolist() == together.loc[together["latent"] == 3, "prompt_id"].tolist()
    )


def test_an_arm_with_prompts_of_its_own_leaves_out_those_a_latent_is_relevant_to() -> None:
    own = PROMPTS.assign(prompt_id=["h1", "h2", "h3", "h4"], prompt="Explain anew.")
    relevance = pd.DataFrame(
        {
            "prompt_id": ["h1", "h2", "h3", "h4"] * 2,
            "latent": [7] * 4 + [3] * 4,
            "relevant": [False, True, False, False, True, False, True, False],
        }
    )
    drawn = steered(latents=on_own_prompts(LATENTS, relevance), prompts=own)
    found = drawn.groupby("latent")["prompt_id"].agg(set)
    assert found[3] == {"h2", "h4"}
    assert found[7] < {"h1", "h3", "h4"}
    assert set(drawn["prompt"]) == {"Explain anew."}


def test_too_few_prompts_for_the_trials_is_an_error() -> None:
    with pytest.raises(EsrError, match="latent 3 may be steered on 3 prompts, but `trials` is 4"):
        steered(trials=4)


def test_no_usable_threshold_at_all_is_an_error() -> None:
    with pytest.raises(EsrError, match="nothing to steer"):
        steered(thresholds=THRESHOLDS.assign(status="no_data"))


@pytest.mark.parametrize(
    "changes",
    [
        {"window": {"start": 0}},
        {"window": {"stop": 4}},
        {"ablate": (3,), "ablate_to": 2.0},
        {"ablate": (3,), "strength": 0.5, "layers": [1], "prefill": "So"},
    ],
)
def test_an_arm_without_trials_is_a_plan_without_rows(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Random directions may have no threshold at all; arms may replay an arm without trials."""
    none = THRESHOLDS.assign(status="out_of_bounds")
    drawn = new_trials(latent_trials(LATENTS, none, PROMPTS, 2, 44, may_be_none=True), 44)
    arm = ArmConfig.model_validate({"over": "latents", "trials": 2, "directions": "r"} | changes)
    for prompt in (True, False):
        plan = apply_condition(drawn, arm, prompt=prompt).assign(**OWNER)
        write_table(plan, tmp_path / "plan.parquet", "plan", {})
        assert read_table(tmp_path / "plan.parquet", "plan").empty


def test_an_arm_over_prompts_runs_every_prompt_unsteered(tmp_path: Path) -> None:
    arm = ArmConfig(over="prompts", trials=2, boost="none")
    plan = apply_condition(new_trials(prompt_trials(PROMPTS, 2), 44), arm)
    assert plan["prompt_id"].tolist() == list("ppqqrrss")
    assert plan["latent"].isna().all()
    assert plan["boost"].eq(0).all()
    assert plan["trial_id"].is_unique
    write_table(plan.assign(**OWNER), tmp_path / "plan.parquet", "plan", {})


# Conditions


def test_a_replayed_arm_keeps_latent_prompt_seed_and_boost(tmp_path: Path) -> None:
    plan = steered()
    again = replay(plan, tmp_path, meta_prompt="{prompt} Stay on topic.")
    pd.testing.assert_frame_equal(again[SAME], plan[SAME], check_dtype=False)
    assert set(again["trial_id"]).isdisjoint(plan["trial_id"])


def test_replaying_without_any_change_names_the_same_trials(tmp_path: Path) -> None:
    plan = steered()
    assert replay(plan, tmp_path)["trial_id"].tolist() == plan["trial_id"].tolist()


def test_an_aa_arm_differs_in_its_seeds_alone(tmp_path: Path) -> None:
    plan = steered()
    write_table(plan.assign(**OWNER), tmp_path / "plan.parquet", "plan", {})
    script = load_script("plan_arm")
    config = load_study(
        {"arms": {name: {"replay": "steered", "seeds": "other"} for name in ("aa", "aa-2")}}
    )
    arms = {name: config.arms[name] for name in ("aa", "aa-2")}
    inputs = SimpleNamespace(replayed=tmp_path / "plan.parquet")
    drawn = {name: script.draw_trials(config, name, inputs, "planted") for name in arms}
    again = {name: apply_condition(drawn[name], arms[name]) for name in arms}
    kept = [name for name in SAME if name != "seed"]
    for name in arms:
        pd.testing.assert_frame_equal(again[name][kept], plan[kept], check_dtype=False)
    seeds = [set(each["seed"]) for each in (plan, *again.values())]
    assert len(set.union(*seeds)) == 3 * len(plan), "every arm has seeds of its own"
    other = other_seeds(plan.head(2), "aa")["seed"].tolist()
    assert other == again["aa"]["seed"].tolist()[:2], "and they do not depend on other trials"


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
    meta = ArmConfig(replay="steered", meta_prompt="{prompt} No {label}, {{please}}.")
    shown = [shown_prompt(row) for row in apply_condition(plan, meta).itertuples()]
    assert shown == [f"{prompt} No boats, {{please}}." for prompt in plan["prompt"]]


def test_without_meta_prompt_the_prompt_itself_is_shown_braces_and_all(tmp_path: Path) -> None:
    plan = steered().assign(prompt="Explain {x}.")
    again = replay(plan, tmp_path)
    assert [shown_prompt(row) for row in again.itertuples()] == ["Explain {x}."] * 4


# Sweeps

DRAWN = pd.DataFrame(
    {
        "latent": [1, 2, 3, 4],
        "threshold": [10.0, 14.0, None, 99.0],
        "status": ["converged", "not_converged", "no_data", "out_of_bounds"],
    }
)


def test_levels_are_means_and_sds_of_the_usable_thresholds() -> None:
    levels = sweep_levels(DRAWN, LevelsConfig(count=4, lowest=-1.5, highest=3))
    assert levels == {-1.5: 9.0, 0.0: 12.0, 1.5: 15.0, 3.0: 18.0}  # mean 12, sd 2


def test_levels_below_zero_are_left_out_not_clamped() -> None:
    levels = sweep_levels(DRAWN, LevelsConfig(count=5, lowest=-8, highest=8))
    assert levels == {-4.0: 4.0, 0.0: 12.0, 4.0: 20.0, 8.0: 28.0}


def test_negative_levels_steer_away_where_they_are_wanted() -> None:
    levels = sweep_levels(DRAWN, LevelsConfig(count=5, lowest=-10, highest=2, negative=True))
    assert levels == {-10.0: -8.0, -7.0: -2.0, -4.0: 4.0, -1.0: 10.0, 2.0: 16.0}
    nothing = LevelsConfig(count=3, lowest=-12, highest=0, negative=True)
    assert sweep_levels(DRAWN, nothing) == {-12.0: -12.0, 0.0: 12.0}, "-6 sd is a boost of 0"


def test_trials_of_either_sign_differ_in_nothing_but_the_boost() -> None:
    drawn = new_trials(latent_trials(LATENTS, THRESHOLDS, PROMPTS, 2, 44), 44)
    plan = apply_condition(sweep(drawn, {-2.0: -5.0, 2.0: 5.0}), ArmConfig(**SWEEP))
    away, towards = (plan[plan["boost"].eq(boost)].reset_index(drop=True) for boost in (-5.0, 5.0))
    same = [name for name in plan if name not in ("boost", "sweep_level", "trial_id")]
    pd.testing.assert_frame_equal(away[same], towards[same])
    assert plan["trial_id"].is_unique


def test_a_sweep_of_which_no_level_is_left_names_the_remedy() -> None:
    with pytest.raises(EsrError, match=r"no boost is positive .* `negative: true`"):
        sweep_levels(DRAWN, LevelsConfig(count=2, lowest=-9, highest=-8))


@pytest.mark.parametrize("thresholds", [DRAWN[:1], DRAWN[2:], DRAWN.assign(threshold=7.0)])
def test_thresholds_without_spread_have_no_levels(thresholds: pd.DataFrame) -> None:
    with pytest.raises(EsrError, match=r"\d usable thresholds without spread"):
        sweep_levels(thresholds, LevelsConfig())


def test_every_level_has_the_same_latents_prompts_and_seeds() -> None:
    drawn = new_trials(latent_trials(LATENTS, THRESHOLDS, PROMPTS, 2, 44), 44)
    plan = apply_condition(sweep(drawn, {-1.0: 2.5, 0.0: 5.0, 2.0: 9.0}), ArmConfig(**SWEEP))
    assert plan.groupby("sweep_level")["boost"].agg(set).tolist() == [{2.5}, {5.0}, {9.0}]
    same = [part[["latent", "prompt_id", "seed"]] for _, part in plan.groupby("sweep_level")]
    for other in same[1:]:
        assert other.to_numpy().tolist() == same[0].to_numpy().tolist()
    assert plan["trial_id"].is_unique


def test_levels_keep_their_names_on_the_way_through_the_file(tmp_path: Path) -> None:
    drawn = new_trials(latent_trials(LATENTS, THRESHOLDS, PROMPTS, 2, 44), 44)
    plan = apply_condition(sweep(drawn, {-1.5: 2.5, 0.0: 5.0}), ArmConfig(**SWEEP))
    write_table(plan.assign(**OWNER), tmp_path / "plan.parquet", "plan", {})
    back = read_table(tmp_path / "plan.parquet", "plan")
    assert back["sweep_level"].tolist() == [-1.5] * 4 + [0.0] * 4
    assert steered()["sweep_level"].isna().all()


# Ablations


def detector_tables(folder: Path) -> SimpleNamespace:
    """Detectors 4 and 2 (3 is known, but not in use), and two random sets, one not in order."""
    numbers = [name for name, c in TABLES["detectors"].columns.items() if str(c.type) == "double"]
    latents = {"model": "m", "latent": [4, 2, 3], "label": None}
    detectors = pd.DataFrame(latents | dict.fromkeys(numbers, 0.0))
    flags = {"found": True, "given": False, "detector": [True, True, False]}
    write_table(detectors.assign(**flags), folder / "detectors.parquet", "detectors", {})
    controls = pd.DataFrame({"set": [0, 0, 1, 1], "latent": [8, 9, 9, 6], "detector": [4, 2, 4, 2]})
    activity = dict.fromkeys(("frequency", "mean", "detector_frequency", "detector_mean"), 0.5)
    write_table(controls.assign(model="m", **activity), folder / "controls.parquet", "controls", {})
    return SimpleNamespace(
        detectors=folder / "detectors.parquet", controls=folder / "controls.parquet"
    )


@pytest.mark.parametrize(
    ("ablate", "latents"),
    [("detectors", [4, 2]), ("random-0", [8, 9]), ("random-1", [6, 9]), ((5, 1), []), ((), [])],
)
def test_an_arm_ablates_the_detectors_in_use_or_a_set_matched_to_them(
    tmp_path: Path, ablate: Any, latents: list[int]
) -> None:
    arm = ArmConfig(replay="steered", ablate=ablate)
    found = load_script("plan_arm").ablated_latents(arm, detector_tables(tmp_path))
    assert found == latents
    plan = apply_condition(steered(), arm, found)
    assert plan["ablated"].tolist() == [latents or list(ablate)] * 4


def test_an_ablated_arm_replays_its_trials_under_other_names(tmp_path: Path) -> None:
    plan = steered()
    arm = ArmConfig(replay="steered", ablate="detectors")
    write_table(plan.assign(**OWNER), tmp_path / "plan.parquet", "plan", {})
    again = apply_condition(read_table(tmp_path / "plan.parquet", "plan"), arm, [4, 2])
    pd.testing.assert_frame_equal(again[SAME], plan[SAME], check_dtype=False)
    assert set(again["trial_id"]).isdisjoint(plan["trial_id"])


def test_a_study_whose_prompts_are_not_steered_has_it_in_every_steered_trial() -> None:
    bare = ArmConfig(replay="steered", boost="none")
    windows = {"start": 3, "stop": 9}, {"stop": 9}, {"start": -2}
    late, first, before = (
        ArmConfig(replay="steered", window=WindowConfig.model_validate(w)) for w in windows
    )
    plan = steered()
    starts = {}
    for name, arm in {"all": STEERED, "late": late, "first": first, "before": before}.items():
        found = apply_condition(plan, arm, prompt=False)
        starts[name] = set(found["window_start"])
        assert set(apply_condition(plan, arm)["window_start"]) <= {None, 3, -2}
    assert starts == {"all": {0}, "late": {3}, "first": {0}, "before": {-2}}
    steered_alone = apply_condition(plan, STEERED, prompt=False)
    assert set(steered_alone["trial_id"]).isdisjoint(plan["trial_id"])
    again = apply_condition(steered_alone, bare, prompt=False)
    unsteered = apply_condition(plan, bare)
    assert again["trial_id"].tolist() == unsteered["trial_id"].tolist(), "nothing to leave out"
    early = ArmConfig(replay="steered", window=WindowConfig(stop=-3))
    with pytest.raises(EsrError, match=r"stop -3 lies in the prompt, which `steering.prompt"):
        apply_condition(plan, early, prompt=False)


def test_a_window_and_a_partial_ablation_survive_the_file_and_a_replay(tmp_path: Path) -> None:
    plan = steered()
    arm = ArmConfig(replay="steered", ablate=(5, 1), strength=0.5, window=WindowConfig(stop=40))
    changed = apply_condition(plan, arm)
    write_table(changed.assign(**OWNER), tmp_path / "plan.parquet", "plan", {})
    back = read_table(tmp_path / "plan.parquet", "plan")
    assert back["strength"].eq(0.5).all()
    assert back["window_start"].isna().all()
    assert back["window_stop"].eq(40).all()
    again = apply_condition(back, ArmConfig(replay="windowed"))
    assert again["trial_id"].tolist() == changed["trial_id"].tolist()
    assert set(changed["trial_id"]).isdisjoint(plan["trial_id"])
    unsteered = apply_condition(back, ArmConfig(replay="windowed", boost="none"))
    assert unsteered[["window_start", "window_stop"]].isna().all(axis=None)


def test_a_clamp_and_layers_survive_the_file_and_a_replay(tmp_path: Path) -> None:
    plan, means = steered(), {1: 0.75, 5: 2.5}
    arm = ArmConfig(replay="steered", ablate=(5, 1), ablate_to="mean", layers=(1, 3))
    changed = apply_condition(plan, arm, means=means)
    write_table(changed.assign(**OWNER), tmp_path / "plan.parquet", "plan", {})
    back = read_table(tmp_path / "plan.parquet", "plan")
    assert [list(values) for values in back["ablated_to"]] == [[2.5, 0.75]] * 4
    assert [list(layers) for layers in back["layers"]] == [[1, 3]] * 4
    again = apply_condition(back, ArmConfig(replay="clamped"))
    assert again["trial_id"].tolist() == changed["trial_id"].tolist()
    assert set(changed["trial_id"]).isdisjoint(plan["trial_id"])
    unsteered = apply_condition(back, ArmConfig(replay="clamped", boost="none"))
    assert unsteered["layers"].isna().all()
    removed = apply_condition(back, ArmConfig(replay="clamped", ablate=(5, 1)))
    assert removed["ablated_to"].isna().all()


def test_a_clamp_to_a_number_holds_for_every_ablated_latent() -> None:
    found = apply_condition(steered(), ArmConfig(replay="steered", ablate=(5, 1), ablate_to=3))
    assert found["ablated_to"].tolist() == [[3.0, 3.0]] * 4


def test_a_latent_without_a_mean_activation_is_an_error() -> None:
    arm = ArmConfig(replay="steered", ablate=(5, 1), ablate_to="mean")
    with pytest.raises(EsrError, match=r"no mean activation of latents \[1\] is known"):
        apply_condition(steered(), arm, means={5: 1.0})


def test_means_are_read_from_their_table(tmp_path: Path) -> None:
    facts = {"latent": [0, 1], "mean": [0.5, 2.0], "frequency": [0.1, 0.9], "tokens": [9, 9]}
    write_table(pd.DataFrame(facts).assign(model="m"), tmp_path / "means.parquet", "means", {})
    inputs, script = SimpleNamespace(means=tmp_path / "means.parquet"), load_script("plan_arm")
    to_mean = ArmConfig(replay="steered", ablate=(1,), ablate_to="mean")
    assert script.mean_activations(to_mean, inputs) == {0: 0.5, 1: 2.0}
    assert script.mean_activations(ArmConfig(replay="steered", ablate=(1,)), inputs) == {}


def test_a_replay_along_random_directions_changes_nothing_but_the_direction(
    tmp_path: Path,
) -> None:
    plan = steered()
    changed = apply_condition(plan, ArmConfig(replay="steered", directions="random"))
    write_table(changed.assign(**OWNER), tmp_path / "plan.parquet", "plan", {})
    back = read_table(tmp_path / "plan.parquet", "plan")
    assert back["directions"].eq("random").all()
    assert back["label"].isna().all(), "a random direction has no label"
    same = ["prompt_id", "latent", "boost", "seed", "prompt"]
    pd.testing.assert_frame_equal(back[same], plan[same], check_dtype=False)
    assert set(back["trial_id"]).isdisjoint(plan["trial_id"])
    again = apply_condition(back, ArmConfig(replay="random", ablate=(5, 1)))
    assert again["directions"].eq("random").all()
    unsteered = apply_condition(back, ArmConfig(replay="random", boost="none"))
    assert unsteered["directions"].isna().all()


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"over": "prompts", "trials": 1, "boost": "none"}, "this arm steers nothing"),
        ({"replay": "steered", "boost": "none"}, "this arm steers nothing"),
        ({"replay": "steered", "meta_prompt": "{prompt} {label}"}, "`directions` replace the"),
    ],
    ids=str,
)
def test_directions_of_an_arm_that_cannot_have_them_are_refused(
    keys: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        ArmConfig(directions="random", **keys)


def test_a_strength_of_one_is_the_full_ablation() -> None:
    full, one = (
        apply_condition(steered(), ArmConfig(replay="steered", ablate=(5, 1), strength=strength))
        for strength in (None, 1)
    )
    assert full["trial_id"].tolist() == one["trial_id"].tolist()


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"window": {}}, "give `start`, `stop` or both"),
        ({"window": {"start": 4, "stop": 4}}, "need start < stop, got 4 and 4"),
        ({"window": {"start": 0}, "boost": "none"}, "`window` says where the boost is added"),
        ({"strength": 0.5}, "`strength` is that of an ablation"),
        ({"ablate": (1,), "strength": 0}, "greater than 0"),
        ({"ablate": (1,), "strength": 1.2}, "less than or equal to 1"),
        ({"ablate_to": "mean"}, "`ablate_to` clamps latents: name them in `ablate`"),
        ({"ablate": (1,), "ablate_to": 2, "strength": 0.5}, "give one of them"),
        ({"ablate": (1,), "ablate_to": 0}, "is what `ablate` does without it"),
        ({"ablate": (1,), "ablate_to": "median"}, "ablate_to"),
        ({"ablate": (1,), "ablate_to": float("nan")}, "finite number"),
        ({"layers": (1, 2), "boost": "none"}, "this arm steers nothing"),
        ({"layers": ()}, "lists no layer"),
        ({"layers": (1, 1)}, "lists a layer twice, whose boosts would add up"),
        ({"layers": (-1,)}, "greater than or equal to 0"),
    ],
    ids=str,
)
def test_an_invalid_window_strength_clamp_or_layer_is_refused(
    keys: dict[str, Any], problem: str
) -> None:
    settings: dict[str, Any] = {"replay": "steered", **keys}
    with pytest.raises(ValidationError, match=problem):
        ArmConfig(**settings)


def test_without_detectors_an_ablation_repeats_the_arm_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inputs = detector_tables(tmp_path)
    none = read_table(inputs.detectors, "detectors").assign(detector=False)
    write_table(none, inputs.detectors, "detectors", {})
    arm, plan = ArmConfig(replay="steered", ablate="detectors"), steered()
    assert load_script("plan_arm").ablated_latents(arm, inputs) == []
    assert "no detectors: nothing to ablate" in caplog.text
    assert apply_condition(plan, arm, [])["trial_id"].tolist() == plan["trial_id"].tolist()


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
        {"strength": 0.5},
        {"window_start": 0},
        {"window_stop": 40},
        {"directions": "random"},
        {"layers": [1, 2]},
        {"ablated": [1], "ablated_to": [0.5]},
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
        {"strength": None, "window_start": pd.NA, "window_stop": np.nan, "directions": None},
        {"layers": None, "ablated_to": np.nan},
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
