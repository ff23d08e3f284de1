"""Load a configuration: merge, validate, and explain every problem."""

from collections.abc import Iterable, Mapping, Sequence, Set
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from esr.config.study import Config
from esr.errors import EsrError

FORMS = {"constrained-str", "LevelsConfig", "str"}
"""What pydantic adds to the location of a key that has several forms: the form that it tried."""
RENAMED = {
    "seeds.boosts": "thresholds",
    "models.*.boosts": "threshold_prior",
    "detectors.frequency": "min_frequency",
    "detectors.auroc": "min_auroc",
    "detectors.leak": "max_leak",
    "detectors.nearest": "matched_pool",
    "episodes.most": "max_episodes",
    "episodes.baseline": "max_baseline",
    "episodes.unrestarted": "max_unrestarted",
    "episodes.smooth": "smoothing_window",
    "finetune.ratios": "shares",
    "finetune.training.rank": "lora_r",
    "finetune.training.alpha": "lora_alpha",
    "finetune.training.dropout": "lora_dropout",
    "finetune.training.scheduler": "lr_scheduler",
    "finetune.training.warm_up": "warmup_steps",
    "finetune.training.epochs": "num_epochs",
    "finetune.training.micro_batch": "micro_batch_size",
    "finetune.training.accumulation": "gradient_accumulation_steps",
    "finetune.training.sequence": "sequence_len",
    "finetune.training.validation": "val_set_size",
    "jobs.*.parameters": "max_parameters",
    "jobs.*.calibrate": "thresholds",
    "jobs.*.read": "encode",
}
"""New names of keys that were renamed, by the location of the old key."""


def merge(base: Mapping[str, Any], *overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings recursively; later ones win. Snakemake merges its config files like this."""
    result = dict(base)
    for override in overrides:
        for name, value in override.items():
            old = result.get(name)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            result[name] = merge(old, value) if both else value
    return result


def plain_settings(config: Config, keys: Iterable[str]) -> dict[str, Any]:
    """Return values of dotted keys as plain data, which Snakemake compares between runs.

    Raises:
        EsrError: there is no such key.
    """
    return {dotted: _plain(_look_up(config, dotted)) for dotted in keys}


def _look_up(config: Config, dotted: str) -> Any:
    value: Any = config
    rest = dotted
    while rest:
        if isinstance(value, Mapping):  # names may contain dots: take the longest match
            names = [name for name in value if f"{rest}.".startswith(f"{name}.")]
            part = max(names, key=lambda name: len(name), default="")
        else:
            part = rest.split(".")[0]
        try:
            value = value[part] if isinstance(value, Mapping) else getattr(value, part)
        except (KeyError, AttributeError):
            raise EsrError(f"no configuration key {dotted!r} (unknown from {rest!r} on)") from None
        rest = rest[len(part) + 1 :]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value.as_posix() if isinstance(value, Path) else value


def drop_disabled(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Remove arms, models and judges that are null (`arms: {unsteered: null}`).

    A disabled model is not fine-tuned either, and no arm names it any more.
    """
    result = dict(raw)
    for section in ("arms", "models"):
        if isinstance(result.get(section), Mapping):
            result[section] = _enabled(result[section])
    finetune = result.get("finetune")
    models = raw.get("models")
    if isinstance(result.get("arms"), Mapping) and isinstance(models, Mapping):
        off = models.keys() - result["models"].keys()
        result["arms"] = {name: _without(arm, off) for name, arm in result["arms"].items()}
    if isinstance(finetune, Mapping) and isinstance(models, Mapping):
        wanted = finetune.get("models") or ()
        kept = [name for name in wanted if name not in models or name in result["models"]]
        result["finetune"] = {**finetune, "models": kept}
    judging = result.get("judging")
    if isinstance(judging, Mapping) and isinstance(judging.get("judges"), Mapping):
        result["judging"] = {**judging, "judges": _enabled(judging["judges"])}
    return result


def _without(arm: Any, models: Set[str]) -> Any:
    """An arm whose `models` do not name these."""
    if not isinstance(arm, Mapping) or not isinstance(arm.get("models"), list | tuple):
        return arm
    return {**arm, "models": [name for name in arm["models"] if name not in models]}


def _enabled(named: Mapping[str, Any]) -> dict[str, Any]:
    # Snakemake passes nested values of `--config` as text, so null arrives as "null".
    return {name: value for name, value in named.items() if value not in (None, "null")}


def load(raw: Mapping[str, Any]) -> Config:
    """Validate a merged configuration, and add its fine-tuned models to `models`.

    Raises:
        EsrError: the message names every invalid key, its value, and the remedy.
    """
    try:
        return _with_finetuned(Config.model_validate(drop_disabled(raw)))
    except ValidationError as error:
        lines = [explain(problem) for problem in _without_consequences(error.errors())]
        study = raw.get("study", "?")
        raise EsrError(
            f"The configuration of study {study!r} is not valid:\n"
            + "\n".join(f"  - {line}" for line in lines)
            + "\nEvery key is described in docs/config.md."
        ) from None


def _with_finetuned(config: Config) -> Config:
    added = {name: config.finetuned_model(name) for name in config.finetuned}
    return config.model_copy(update={"models": {**config.models, **added}})


def _without_consequences(problems: Sequence[Any]) -> list[Any]:
    """Drop "missing" for a required key that is given under its old name: one line is enough."""
    renamed = {
        (*problem["loc"][:-1], _new_name(problem["loc"]))
        for problem in problems
        if problem["type"] == "extra_forbidden"
    }
    return [p for p in problems if p["type"] != "missing" or p["loc"] not in renamed]


def _new_name(location: Sequence[Any]) -> str | None:
    """New name of the key at a location, if it was renamed."""
    dotted = ".".join(map(str, location))
    depth = len(location)
    for pattern, name in RENAMED.items():
        # A name may contain dots, which `*` matches; a deeper key may not.
        if pattern.count(".") + 1 == depth and fnmatchcase(dotted, pattern):
            return name
    return None


def explain(problem: Any) -> str:
    """Describe a problem that pydantic found: key, value, remedy."""
    parts = [str(part) for part in problem["loc"]]
    if parts[:2] == ["judging", "judges"]:
        del parts[3:4]  # the kind of judge
    if problem["type"].startswith("union_tag"):
        parts.append("kind")
        problem = problem | {"input": problem["input"].get("kind")}
    where = ".".join(p for p in parts if "[" not in p and p not in FORMS) or "config"
    if problem["type"] == "extra_forbidden":
        name = _new_name(problem["loc"])
        remedy = "remove it or fix its spelling" if name is None else f"it is now called `{name}`"
        return f"{where}: unknown key (value {problem['input']!r}); {remedy}"
    if problem["type"] in ("missing", "union_tag_not_found"):
        return f"{where}: missing; add it"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    # A user may put the key itself into `key_variable`; it must not appear in a log.
    hidden = isinstance(value, Mapping) or "key_variable" in parts
    shown = "" if hidden else f" (got {value!r})"
    return f"{where}: {message}{shown}"
