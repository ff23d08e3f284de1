"""Checks of the files that sets of directions come from, before any job runs."""

from collections.abc import Iterator

from esr.assets.checkpoints import folder_model_shape
from esr.config import Config, ModelConfig
from esr.config.directions import ContrastDirectionsConfig, FileDirectionsConfig
from esr.directions.pairs import check_pairs
from esr.errors import EsrError


def check_directions(config: Config) -> Iterator[str]:
    """A line for every set in use whose file is missing, does not fit, or has too few vectors."""
    settings = config.introspection
    injected = None if settings is None else settings.directions
    used = {injected, *(config.directions_of(arm) for arm in config.arms)}
    for name, found in config.directions.items():
        if name not in used or found.kind == "random":
            continue
        if found.kind == "contrast":
            yield from _check_contrasts(config, name, found, name == injected)
        else:
            yield from _check_vectors(config, name, found, name == injected)


def _check_contrasts(
    config: Config, name: str, found: ContrastDirectionsConfig, is_injected: bool
) -> Iterator[str]:
    if not found.pairs.is_file():
        yield f"directions.{name}.pairs: {found.pairs} does not exist"
        return
    try:
        count = len({row["direction"] for row in check_pairs(found.pairs)})
    except EsrError as error:
        yield f"directions.{name}.{error}"
        return
    if is_injected:
        yield from _check_count(config, name, f"{found.pairs}", count)


def _check_vectors(
    config: Config, name: str, found: FileDirectionsConfig, is_injected: bool
) -> Iterator[str]:
    from esr.directions.headers import check_vector_values, read_vector_header

    where = f"directions.{name}.path"
    for model, settings in config.base_models.items():
        if name not in sets_of(config, model):
            continue
        path = found.file_of(model)
        if not path.is_file():
            yield f"{where}: {path} does not exist (model {model})"
            continue
        try:
            names = read_vector_header(path, settings.steer_layer, _width(settings)).names
            check_vector_values(path)
        except EsrError as error:
            yield f"{where}: {error} (model {model})"
            continue
        if is_injected:
            yield from _check_count(config, name, f"{path}", len(names))


def sets_of(config: Config, model: str) -> set[str | None]:
    """Sets of directions that a base model, or one fine-tuned from it, is steered along."""
    mine = [other for other in config.models if config.base_of(other) == model]
    used = {config.directions_of(arm) for other in mine for arm in config.arms_of(other)}
    settings = config.introspection
    if settings is not None and model in config.engine_models:
        used.add(settings.directions)
    return used


def check_vector_widths(config: Config, model: str, d_model: int) -> Iterator[str]:
    """A line for every file whose vectors do not fit a model, once its width is known."""
    from esr.directions.headers import read_vector_header

    for name in sorted(one for one in sets_of(config, model) if one is not None):
        found = config.directions[name]
        if found.kind != "file" or not found.file_of(model).is_file():
            continue
        try:
            read_vector_header(found.file_of(model), config.models[model].steer_layer, d_model)
        except EsrError as error:
            yield f"directions.{name}.path: {error} (model {model})"


def _width(model: ModelConfig) -> int | None:
    """Width of a local checkpoint's residual stream; None if it is not known yet, or not readable.

    What is wrong with the checkpoint is a line of another check.
    """
    try:
        shape = folder_model_shape(model.folder) if model.is_local else None
    except EsrError:
        return None
    return None if shape is None else int(shape["d_model"])


def _check_count(config: Config, name: str, file: str, count: int) -> Iterator[str]:
    """A line if fewer vectors can be injected than questions about them need."""
    settings = config.introspection
    assert settings is not None
    left = min(count, settings.latents or count)
    if left < 2:
        yield (
            f"introspection.directions: {name!r} has {count} vector ({file}), and a mean over "
            "directions needs two or more; add some"
        )
    elif left < settings.choices:
        limit = "" if left == count else f", and introspection.latents is {settings.latents}"
        yield (
            f"introspection.choices: {settings.choices} options, but {name!r} has {count} vectors "
            f"({file}){limit}; lower `choices` (0 = no forced choice), or inject more"
        )
