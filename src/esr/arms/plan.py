"""Trials and arms: what an arm runs, drawn from latents and prompts or replayed."""

import random
from collections.abc import Sequence
from typing import Any

import pandas as pd

from esr.config import ArmConfig, LevelsConfig
from esr.errors import EsrError
from esr.journal import content_key

CONDITION = ["label", "level", "meta_prompt", "prefill", "ablated"]
COLUMNS = ["trial_id", "prompt_id", "latent", "boost", "seed", *CONDITION, "prompt"]


def trial_id(row: dict[str, Any]) -> str:
    """Name a trial by what determines it: prompt, latent, boost, seed, meta-prompt, prefill, ..."""
    content = {
        "prompt": row["prompt"],
        "latent": None if pd.isna(row["latent"]) else int(row["latent"]),
        "boost": float(row["boost"]),
        "seed": int(row["seed"]),
        "meta_prompt": None if pd.isna(row["meta_prompt"]) else row["meta_prompt"],
        "prefill": row["prefill"],
        "ablated": [int(k) for k in row["ablated"]],
    }
    return content_key(content)[:16]


def prompt_trials(prompts: pd.DataFrame, trials: int) -> pd.DataFrame:
    """Trials without a latent: every prompt, `trials` times."""
    rows = [
        {"prompt_id": p.prompt_id, "prompt": p.prompt, "latent": None, "label": None, "boost": 0.0}
        for p in prompts.itertuples()
        for _ in range(trials)
    ]
    return pd.DataFrame(rows)


def usable_thresholds(thresholds: pd.DataFrame) -> pd.Series:
    """Threshold by latent, of those that have one (converged or not)."""
    usable = thresholds[thresholds["status"].isin(["converged", "not_converged"])]
    return usable.set_index("latent")["threshold"].astype(float)


def latent_trials(
    latents: pd.DataFrame, thresholds: pd.DataFrame, prompts: pd.DataFrame, trials: int, seed: int
) -> pd.DataFrame:
    """Trials of selected latents at their thresholds, each on prompts drawn without replacement.

    Args:
        latents: Table `latents`; `prompts` lists those a latent may be steered on.
        thresholds: Table `thresholds`; latents without a usable one are left out, and logged by
            `plan_arm` with the reason.
        prompts: Prompt file.
        trials: Trials per latent.
        seed: Seed of the draw; each latent has its own stream, so adding one changes no other.

    Raises:
        EsrError: a latent has fewer admissible prompts than trials.
    """
    text = prompts.set_index("prompt_id")["prompt"]
    boost = usable_thresholds(thresholds)
    rows = []
    for latent in latents[latents["selected"] & latents["latent"].isin(boost.index)].itertuples():
        if len(latent.prompts) < trials:
            raise EsrError(
                f"latent {latent.latent} may be steered on {len(latent.prompts)} prompts, "
                f"but `trials` asks for {trials}; lower it or add prompts"
            )
        draw = random.Random(f"{seed}/{latent.latent}").sample(list(latent.prompts), trials)
        rows += [
            {
                "prompt_id": prompt_id,
                "prompt": text[prompt_id],
                "latent": latent.latent,
                "label": latent.label,
                "boost": float(boost[latent.latent]),
            }
            for prompt_id in draw
        ]
    if not rows:
        raise EsrError("no selected latent has a usable threshold: nothing to steer")
    return pd.DataFrame(rows)


def sweep_levels(thresholds: pd.DataFrame, levels: LevelsConfig) -> dict[float, float]:
    """Boost of each level of a sweep: mean + level x sd (population) of the model's thresholds.

    Levels whose boost would not be positive are left out: clamped to zero they would be the same
    condition under several names.

    Raises:
        EsrError: thresholds do not differ, so that levels do not, either.
    """
    boost = usable_thresholds(thresholds)
    mean, sd = boost.mean(), boost.std(ddof=0)
    if not sd > 0:
        raise EsrError(
            f"{len(boost)} usable thresholds without spread: levels of a boost sweep are in sd of "
            "thresholds; steer more latents or disable the sweep (`<arm>: null`)"
        )
    step = (levels.highest - levels.lowest) / (levels.count - 1)
    found = {
        level: round(float(mean + level * sd), 6)
        for level in (round(levels.lowest + i * step, 6) for i in range(levels.count))
    }
    return {level: boost for level, boost in found.items() if boost > 0}


def sweep(trials: pd.DataFrame, levels: dict[float, float]) -> pd.DataFrame:
    """Repeat trials, seeds included, at every level of a sweep."""
    parts = [trials.assign(level=level, boost=boost) for level, boost in levels.items()]
    return pd.concat(parts, ignore_index=True)


def apply_condition(
    trials: pd.DataFrame, arm: ArmConfig, ablated: Sequence[int] = ()
) -> pd.DataFrame:
    """Put trials under an arm's condition: no steering, meta-prompt, prefill, ablation.

    Args:
        trials: With the columns of a plan but `trial_id`.
        arm: The condition.
        ablated: Latents that the arm ablates, where it does not list them itself.

    Raises:
        EsrError: the meta-prompt wants a label that a latent does not have.
    """
    plan = trials.copy()
    if arm.boost == "none":
        plan["boost"] = 0.0
    if arm.meta_prompt is not None:
        unlabelled = plan["label"].isna().sum()
        if "{label}" in arm.meta_prompt and unlabelled:
            raise EsrError(
                f"meta_prompt {arm.meta_prompt!r} names the label, but {unlabelled} trials have "
                "unlabelled latents; give the model labels or disable the arm (`<arm>: null`)"
            )
        plan["meta_prompt"] = arm.meta_prompt
    if arm.prefill:
        plan["prefill"] = arm.prefill
    latents = ablated if isinstance(arm.ablate, str) else arm.ablate
    if arm.ablate:
        plan["ablated"] = [[int(latent) for latent in latents]] * len(plan)
    plan["trial_id"] = [trial_id(row) for row in plan.to_dict("records")]
    return plan[COLUMNS]


def new_trials(trials: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Add what new trials have before any condition: seeds (seed + i), no changes."""
    plain = trials.copy()
    plain["seed"] = [seed + i for i in range(len(plain))]
    plain["level"], plain["meta_prompt"], plain["prefill"] = None, None, ""
    plain["ablated"] = [[] for _ in range(len(plain))]
    return plain


def shown_prompt(row: Any) -> str:
    """Text of the user turn: the prompt, or the meta-prompt around it."""
    if pd.isna(row.meta_prompt):
        return row.prompt
    return row.meta_prompt.format(prompt=row.prompt, label=row.label)


def shard(plan: pd.DataFrame, index: int, count: int) -> pd.DataFrame:
    """Part `index` (from 0) of `count` contiguous parts of a plan, as equal as can be."""
    cuts = [len(plan) * i // count for i in range(count + 1)]
    return plan.iloc[cuts[index] : cuts[index + 1]]
