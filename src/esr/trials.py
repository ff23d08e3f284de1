"""Trials and arms: what an arm runs, drawn from latents and prompts or replayed."""

import random
from typing import Any

import pandas as pd

from esr.config import Arm
from esr.errors import EsrError
from esr.journal import content_key

CONDITION = ["label", "meta_prompt", "prefill", "ablated"]
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
    usable = thresholds[thresholds["status"].isin(["converged", "not_converged"])]
    boost = usable.set_index("latent")["threshold"]
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


def apply_condition(trials: pd.DataFrame, arm: Arm) -> pd.DataFrame:
    """Put trials under an arm's condition: no steering, meta-prompt, prefill, ablation.

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
    if arm.ablate:
        plan["ablated"] = [list(arm.ablate)] * len(plan)
    plan["trial_id"] = [trial_id(row) for row in plan.to_dict("records")]
    return plan[COLUMNS]


def new_trials(trials: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Add what new trials have before any condition: seeds (seed + i), no changes."""
    plain = trials.copy()
    plain["seed"] = [seed + i for i in range(len(plain))]
    plain["meta_prompt"], plain["prefill"] = None, ""
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
