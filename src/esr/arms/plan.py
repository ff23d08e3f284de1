"""Plans: the trials of an arm, drawn from latents and prompts or replayed from another arm.

`esr.arms.continuing` draws the trials that continue texts of another arm.
"""

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import pandas as pd

from esr.config import ArmConfig, LevelsConfig, WindowConfig
from esr.errors import EsrError
from esr.journal import content_key

Number = TypeVar("Number", int, float)
TRIAL = ["trial_id", "prompt_id", "latent", "boost", "seed"]
WINDOW = ["window_start", "window_stop"]
CONDITION = ["directions", "label", "sweep_level", "meta_prompt", "prefill", "ablated"]
PREFIX = ["prefix_where", "prefix_cut", "prefix_seed"]
CONDITION += ["strength", "ablated_to", "layers", *WINDOW, *PREFIX]
COLUMNS = [*TRIAL, *CONDITION, "prompt", "prefix"]
"""Columns of a plan but those that name its owner, `model` and `arm`."""


def trial_id(row: dict[str, Any]) -> str:
    """Id of a trial: a hash of what determines it. The same trial of another model has the same id.

    Args:
        row: prompt, latent, boost, seed, meta_prompt, prefill, ablated, strength, ablated_to,
            layers, window, directions and prefix, of which missing or empty ones leave the id as it
            is without them; other entries do not count.
    """
    content = {
        "prompt": row["prompt"],
        "latent": None if pd.isna(row["latent"]) else int(row["latent"]),
        "boost": float(row["boost"]),
        "seed": int(row["seed"]),
        "meta_prompt": None if pd.isna(row["meta_prompt"]) else row["meta_prompt"],
        "prefill": row["prefill"],
        "ablated": [int(k) for k in row["ablated"]],
    }
    later: dict[str, Any] = {name: row.get(name) for name in ("strength", *WINDOW)}
    content |= {name: float(value) for name, value in later.items() if not pd.isna(value)}
    if not pd.isna(row.get("directions")):
        content["directions"] = row["directions"]
    lists = {"prefix": int, "layers": int, "ablated_to": float}
    content |= {
        name: values for name, kind in lists.items() if (values := listed(row.get(name), kind))
    }
    return content_key(content)[:16]


def prefix_of(tokens: Any) -> list[int]:
    """Token ids of a trial's prefix; none where it is missing."""
    return listed(tokens, int)


def listed(values: Any, kind: Callable[[Any], Number]) -> list[Number]:
    """Numbers in a cell of a plan that holds a list; none where it is missing."""
    missing = values is None or values is pd.NA or isinstance(values, float)
    return [] if missing else [kind(value) for value in values]


def prompt_trials(prompts: pd.DataFrame, trials: int) -> pd.DataFrame:
    """Trials without a latent: every prompt, `trials` times."""
    rows = [
        {"prompt_id": p.prompt_id, "prompt": p.prompt, "latent": None, "label": None, "boost": 0.0}
        for p in prompts.itertuples()
        for _ in range(trials)
    ]
    return pd.DataFrame(rows)


def usable_thresholds(thresholds: pd.DataFrame) -> pd.Series:
    """Thresholds (decoder units) by latent; a search that did not converge counts, too."""
    usable = thresholds[thresholds["status"].isin(["converged", "not_converged"])]
    return usable.set_index("latent")["threshold"].astype(float)


def on_own_prompts(latents: pd.DataFrame, relevance: pd.DataFrame) -> pd.DataFrame:
    """Latents with the prompts of an arm's own file that they may be steered on.

    Args:
        latents: Table `latents`.
        relevance: Table `relevance` of these prompts; those that a latent is relevant to are left
            out.
    """
    allowed = relevance[~relevance["relevant"]].groupby("latent")["prompt_id"].agg(list)
    return latents.assign(prompts=[allowed.get(latent, []) for latent in latents["latent"]])


def latent_trials(
    latents: pd.DataFrame,
    thresholds: pd.DataFrame,
    prompts: pd.DataFrame,
    trials: int,
    seed: int,
    *,
    may_be_none: bool = False,
) -> pd.DataFrame:
    """Trials of selected latents at their thresholds, each on prompts drawn without replacement.

    Args:
        latents: Table `latents` or `directions`; `prompts` lists those a latent may be steered on.
        thresholds: Table `thresholds`; latents without a usable one are left out, and logged by
            `plan_arm` with the reason.
        prompts: Prompt file.
        trials: Trials per latent.
        seed: Seed of the draw; each latent has its own stream, so adding one changes no other.
        may_be_none: Whether there may be no usable threshold at all, and so no trial. That random
            directions lower no first score is a finding.

    Raises:
        EsrError: a latent has fewer admissible prompts than trials, or none has a usable threshold.
    """
    text = prompts.set_index("prompt_id")["prompt"]
    boost = usable_thresholds(thresholds)
    rows = []
    for latent in latents[latents["selected"] & latents["latent"].isin(boost.index)].itertuples():
        if len(latent.prompts) < trials:
            raise EsrError(
                f"latent {latent.latent} may be steered on {len(latent.prompts)} prompts, "
                f"but `trials` is {trials}; lower it or add prompts"
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
    if not rows and not may_be_none:
        raise EsrError(
            "no selected latent has a usable threshold: nothing to steer; see the statuses in "
            "thresholds.parquet"
        )
    return pd.DataFrame(rows, columns=["prompt_id", "prompt", "latent", "label", "boost"])


def sweep_levels(thresholds: pd.DataFrame, levels: LevelsConfig) -> dict[float, float]:
    """Boost of each level of a sweep: mean + level x sd (population) of the model's thresholds.

    A level whose boost is 0 is left out, and so are negative ones unless `levels.negative`: clamped
    to zero, they would all be the same condition.

    Raises:
        EsrError: all thresholds are equal, so all levels would be the same boost; or no level is
            left.
    """
    boost = usable_thresholds(thresholds)
    mean = boost.mean()
    sd = boost.std(ddof=0)
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
    kept = {
        level: boost
        for level, boost in found.items()
        if boost > 0 or (levels.negative and boost < 0)
    }
    if not kept:
        raise EsrError(
            f"levels of the sweep from {levels.lowest:g} to {levels.highest:g} sd: no boost is "
            f"positive (thresholds {mean:.4g}, sd {sd:.4g}); raise `highest`, or set "
            "`negative: true`"
        )
    return kept


def sweep(trials: pd.DataFrame, levels: dict[float, float]) -> pd.DataFrame:
    """Repeat every trial with the same seed at every level (sd) of a sweep."""
    parts = [trials.assign(sweep_level=level, boost=boost) for level, boost in levels.items()]
    return pd.concat(parts, ignore_index=True)


def apply_condition(
    trials: pd.DataFrame,
    arm: ArmConfig,
    ablated: Sequence[int] = (),
    prompt: bool = True,
    means: Mapping[int, float] | None = None,
) -> pd.DataFrame:
    """Apply an arm's condition to trials: direction, boost, layers, window, prompts, ablation.

    Args:
        trials: Trials with seeds and a condition (`new_trials`), or the plan of a replayed arm.
        arm: The condition.
        ablated: Latents to ablate, where `arm.ablate` names a kind of latents and lists none.
        prompt: Whether the prompt is steered where no window has a start.
        means: Mean activation of each latent on unsteered answers, where `arm.ablate_to` is `mean`.

    Returns:
        Columns `COLUMNS`.

    Raises:
        EsrError: the meta-prompt names the label of a latent that has none; a window ends in a
            prompt that is not steered.
    """
    plan = trials.copy()
    if arm.boost == "none":
        plan["boost"] = 0.0
        plan[["directions", "layers", *WINDOW]] = None
    if arm.directions is not None:
        plan["directions"] = arm.directions
        if arm.source is not None:  # the label is that of the replaced latent
            plan["label"] = None
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
        plan["strength"] = arm.strength if latents and arm.strength != 1 else None
        values = clamped_to(arm, latents, means or {})
        plan["ablated_to"] = [values] * len(plan)
    if arm.layers is not None:
        plan["layers"] = [list(arm.layers)] * len(plan)
    if arm.window is not None and len(plan):
        plan[WINDOW] = [window_bounds(arm.window, prefix) for prefix in plan["prefix"]]
    if not prompt:
        plan = without_prompt(plan)
    plan["trial_id"] = [trial_id(row) for row in plan.to_dict("records")]
    # Columns that are set from no list have a type that no list could have.
    return plan[COLUMNS] if len(plan) else plan[COLUMNS].astype(object)


def without_prompt(plan: pd.DataFrame) -> pd.DataFrame:
    """Trials whose steering starts at the first generated token unless a window has a start.

    Raises:
        EsrError: a window ends before that token.
    """
    bare = plan["boost"].ne(0) & plan["window_start"].isna()
    early = plan.loc[bare, "window_stop"].dropna().astype(int)
    if early.le(0).any():
        raise EsrError(
            f"window of an arm: stop {early.min()} lies in the prompt, which `steering.prompt: "
            "false` leaves out; give the window a `start`, or a larger `stop`"
        )
    return plan.assign(window_start=plan["window_start"].astype(object).mask(bare, 0))


def clamped_to(
    arm: ArmConfig, latents: Sequence[int], means: Mapping[int, float]
) -> list[float] | None:
    """Activations that an arm clamps latents to; None if it clamps none.

    Raises:
        EsrError: a latent has no mean activation.
    """
    if arm.ablate_to is None or not latents:
        return None
    if arm.ablate_to != "mean":
        return [float(arm.ablate_to)] * len(latents)
    unknown = [latent for latent in latents if latent not in means]
    if unknown:
        raise EsrError(f"ablate_to: mean: no mean activation of latents {unknown[:5]} is known")
    return [float(means[latent]) for latent in latents]


def window_bounds(window: WindowConfig, prefix: Any) -> list[int | None]:
    """Ends of a window of one trial, counted from the first token of the response.

    Raises:
        EsrError: no token lies between the ends that its prefix gives.
    """
    length = len(prefix_of(prefix))
    start, stop = (
        length if bound == "continuation" else bound for bound in (window.start, window.stop)
    )
    if start is not None and stop is not None and stop <= start:
        raise EsrError(
            f"window of an arm: start {window.start} and stop {window.stop} hold no token of a "
            f"trial whose prefix has {length} tokens; change them or lengthen the prefix"
        )
    return [start, stop]


def trial_seed(seed: int, unit: int | str, repetition: int) -> int:
    """Sampling seed of a trial, from what it is: 31 bits of a hash.

    It never depends on the trial's position in the plan, so a latent that loses its threshold
    changes the seeds of no other latent.

    Args:
        seed: `seeds.generation` of the study.
        unit: Latent, or prompt id where nothing is steered.
        repetition: Number of the trial among those of its unit, from 0.
    """
    digest = hashlib.sha256(f"{seed}/{unit}/{repetition}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def new_trials(trials: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Add seeds (`trial_seed`) and an empty condition, without prefix."""
    plain = trials.copy()
    steered = zip(plain["latent"], plain["prompt_id"], strict=True)
    units = [prompt if pd.isna(latent) else int(latent) for latent, prompt in steered]
    repetitions = pd.Series(units, dtype=object).groupby(units).cumcount()
    plain["seed"] = [trial_seed(seed, u, k) for u, k in zip(units, repetitions, strict=True)]
    plain["sweep_level"] = None
    plain["meta_prompt"] = None
    plain["prefill"] = ""
    plain["ablated"] = [[] for _ in range(len(plain))]
    plain[["directions", "strength", "ablated_to", "layers", *WINDOW, *PREFIX, "prefix"]] = None
    return plain


def first_latents(trials: pd.DataFrame, count: int | None) -> pd.DataFrame:
    """Trials of the first `count` latents of a replayed plan, in its order; all if None."""
    if count is None:
        return trials
    return trials[trials["latent"].isin(trials["latent"].unique()[:count])].reset_index(drop=True)


def other_seeds(trials: pd.DataFrame, arm: str) -> pd.DataFrame:
    """The same trials with other sampling seeds, which follow from theirs and the arm's name."""
    return trials.assign(seed=[trial_seed(int(seed), arm, 0) for seed in trials["seed"]])


def shown_prompt(row: Any) -> str:
    """Text of the user turn: the prompt, or the meta-prompt around it."""
    if pd.isna(row.meta_prompt):
        return row.prompt
    return row.meta_prompt.format(prompt=row.prompt, label=row.label)


def shard(plan: pd.DataFrame, index: int, count: int) -> pd.DataFrame:
    """Part `index` (from 0) of `count` contiguous parts of a plan of nearly equal size."""
    cuts = [len(plan) * i // count for i in range(count + 1)]
    return plan.iloc[cuts[index] : cuts[index + 1]]
