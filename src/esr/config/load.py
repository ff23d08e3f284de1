"""From merged mappings to a checked configuration, and to values that can be compared."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from esr.config.study import Config
from esr.errors import EsrError

FORMS = {"constrained-str", "LevelsConfig", "str"}


def merge(base: Mapping[str, Any], *overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings deeply, later ones winning; what Snakemake does with its config files."""
    result = dict(base)
    for override in overrides:
        for name, value in override.items():
            old = result.get(name)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            result[name] = merge(old, value) if both else value  # type: ignore[arg-type]
    return result


def plain_settings(config: Config, keys: Iterable[str]) -> dict[str, Any]:
    """Values of dotted keys as plain data, which Snakemake compares between runs.

    Raises:
        EsrError: there is no such key.
    """
    return {dotted: _plain(_look_up(config, dotted)) for dotted in keys}


def _look_up(config: Config, dotted: str) -> Any:
    value: Any = config
    rest = dotted
    while rest:
        if isinstance(value, Mapping):  # names may contain dots: the longest that is there
            names = [name for name in value if f"{rest}.".startswith(f"{name}.")]
            part = max(names, key=len, default="")
        else:
            part = rest.split(".")[0]
        try:
            value = value[part] if isinstance(value, Mapping) else getattr(value, part)
        except (KeyError, AttributeError):
            raise EsrError(f"there is no configuration key {dotted!r} (at {rest!r})") from None
        rest = rest[len(part) + 1 :]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value.as_posix() if isinstance(value, Path) else value


def drop_disabled(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Remove arms, models and judges that a study sets to null (`arms: {unsteered: null}`).

    A model that is disabled is not fine-tuned, either.
    """
    result = dict(raw)
    for section in ("arms", "models"):
        if isinstance(result.get(section), Mapping):
            result[section] = _enabled(result[section])
    finetune, models = result.get("finetune"), raw.get("models")
    if isinstance(finetune, Mapping) and isinstance(models, Mapping):
        wanted = finetune.get("models") or ()
        kept = [name for name in wanted if name not in models or name in result["models"]]
        result["finetune"] = {**finetune, "models": kept}
    judging = result.get("judging")
    if isinstance(judging, Mapping) and isinstance(judging.get("judges"), Mapping):
        result["judging"] = {**judging, "judges": _enabled(judging["judges"])}
    return result


def _enabled(named: Mapping[str, Any]) -> dict[str, Any]:
    # Snakemake passes what is nested in `--config` on as text, so null arrives as "null".
    return {name: value for name, value in named.items() if value not in (None, "null")}


def load(raw: Mapping[str, Any]) -> Config:
    """Validate a merged configuration; fine-tuned models are among its `models`.

    Raises:
        EsrError: naming every offending key, its value, and what it should be.
    """
    try:
        return _with_finetuned(Config.model_validate(drop_disabled(raw)))
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        study = raw.get("study", "?")
        raise EsrError(
            f"The configuration of study {study!r} is not valid:\n"
            + "\n".join(f"  - {line}" for line in lines)
            + "\nEvery key is described in docs/config.md."
        ) from None


def _with_finetuned(config: Config) -> Config:
    added = {name: config.finetuned_model(name) for name in config.finetuned}
    return config.model_copy(update={"models": {**config.models, **added}})


def _explain(problem: Any) -> str:
    # Where a key has several forms, pydantic adds the form it tried ("tuple[...]") to the place.
    parts = [str(part) for part in problem["loc"]]
    if parts[:2] == ["judging", "judges"]:
        del parts[3:4]  # the kind of judge
    if problem["type"].startswith("union_tag"):
        parts.append("kind")
        problem = problem | {"input": problem["input"].get("kind")}
    where = ".".join(p for p in parts if "[" not in p and p not in FORMS) or "config"
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key (value {problem['input']!r}); remove it or mend its spelling"
    if problem["type"] in ("missing", "union_tag_not_found"):
        return f"{where}: missing; add it"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    # Who takes `key_variable` for the place of the key itself should not find it in a log.
    hidden = isinstance(value, Mapping) or "key_variable" in parts
    shown = "" if hidden else f" (got {value!r})"
    return f"{where}: {message}{shown}"
