"""Disk that a study needs, and disks that are too small for it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from esr.assets.saelens import sae_shape
from esr.config import Config, VllmJudgeConfig
from esr.planning.hardware import BYTES, weight_bytes
from esr.planning.work import arm_trials

UNKNOWN_SAE = 1e9
"""Bytes of an SAE whose shape is unknown before the download; few are larger."""
TRIAL = 20e3
"""Bytes per trial on disk, in tables, judgments and journals."""
CACHED = ("checkpoints in the hub's cache", "SAEs in the hub's cache", "judges in the hub's cache")
"""Entries of `disk_bytes` that are in the hub's cache."""


def check_disk(config: Config, cache: Path, missing: list[str]) -> Iterator[str]:
    """A line for every disk that is too small for the files of a study.

    Args:
        config: The study.
        cache: Folder of the hub's cache.
        missing: Models, and judges, whose checkpoints are not downloaded yet.
    """
    judges = own_weights(config)
    weights = sum(weight_bytes(judges[name]) for name in missing if name in judges)
    missing = [name for name in missing if name in config.models]
    weights += sum(weight_bytes(config.models[name]) for name in missing)
    weights += sum(sae_bytes(config, name) for name in missing if config.models[name].sae.release)
    results = sum(size for what, size in disk_bytes(config).items() if what not in CACHED)
    for what, path, needed, remedy in (
        ("checkpoints and SAEs", cache, weights, "set HF_HOME to a larger disk"),
        ("results", Path(), results, "check out the project on a larger disk"),
    ):
        there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
        free = shutil.disk_usage(there).free
        if free < needed:
            yield (
                f"{what} need {needed / 1e9:.0f} GB below {path.absolute()}, where "
                f"{free / 1e9:.0f} GB are free; make room, or {remedy}"
            )


def disk_bytes(config: Config) -> dict[str, float]:
    """Bytes that a study needs on disk, by kind of file."""
    hub = [model for model in config.base_models.values() if not model.is_local]
    merged = config.finetuned if config.finetune.serve == "merged" else ()
    saes = {name: sae_bytes(config, name) for name in config.base_models}
    trials = sum(arm_trials(config, arm) for name in config.models for arm in config.arms_of(name))
    released = [name for name, model in config.base_models.items() if model.sae.release]
    return {
        CACHED[0]: sum(weight_bytes(model) for model in hub),
        CACHED[2]: sum(weight_bytes(judge) for judge in own_weights(config).values()),
        CACHED[1]: sum(saes[name] for name in released),
        "fine-tuned checkpoints": sum(weight_bytes(config.models[name]) for name in merged),
        "SAEs": sum(saes.values()),
        "results": trials * TRIAL,
    }


def own_weights(config: Config) -> dict[str, VllmJudgeConfig]:
    """Judges from the hub that the workflow runs and whose weights no model of the study has."""
    sources = {(model.source, model.revision) for model in config.models.values()}
    found = {}
    for name, judge in config.judging.local.items():
        if not judge.is_local and (judge.source, judge.revision) not in sources:
            found[name] = judge
            sources.add((judge.source, judge.revision))
    return found


def sae_bytes(config: Config, name: str) -> float:
    """Bytes of a model's stored SAE: encoder, decoder, biases and thresholds in float32."""
    shape = sae_shape(config, name)
    if shape is None:
        return UNKNOWN_SAE
    return BYTES["float32"] * (2 * shape.d_model * shape.d_sae + shape.d_model + 2 * shape.d_sae)
