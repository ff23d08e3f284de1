"""Checks of the files that a study names; they run at every start and load no model."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from esr.assets.checkpoints import checkpoint_files, folder_model_shape
from esr.assets.downloads import PROMPT_FILES
from esr.assets.sae_origin import contradictions
from esr.assets.saelens import SAE_FILES, SaeShape, check_folder, folder_origin, folder_shape
from esr.assets.weights import check_weights
from esr.config import Config, ModelConfig
from esr.errors import EsrError
from esr.handwritten import read_csv_rows
from esr.planning.directions import check_directions
from esr.text import fold

IF_MEANT = "if it is meant to be so: `accept_sae: [metadata]`"


def check_files(config: Config) -> list[str]:
    """Check that the files of a study exist and match; loads no model.

    Returns:
        One line a problem, each naming the key to change; empty if all is well.
    """
    problems = [] if _exists(config.prompts) else [f"prompts: {config.prompts} does not exist"]
    phrases = config.judging.restart_phrases
    if not phrases.is_file():
        problems.append(f"judging.restart_phrases: {phrases} does not exist")
    lexicon = config.latents.concreteness.lexicon
    if lexicon is not None and not lexicon.is_file():
        problems.append(f"latents.concreteness.lexicon: {lexicon} does not exist")
    for name, judge in config.judging.judges.items():
        for file, path in judge.files.items():
            if not path.is_file():
                problems.append(f"judging.judges.{name}.{file}: {path} does not exist")
    for name, local in config.judging.local.items():
        where = f"judging.judges.{name}"
        if local.is_local and not (local.folder / "config.json").is_file():
            problems.append(f"{where}.source: {local.folder / 'config.json'} does not exist")
        elif local.source.startswith((".", "/", "resources/", "results/")) and not local.is_local:
            problems.append(f"{where}.source: folder {local.source} does not exist")
        elif not local.is_local and local.revision is None:
            problems.append(f"{where}.revision: {local.source} is a hub model; add its commit")
    prices = config.judging.prices
    if config.judging.llms and not prices.is_file():
        problems.append(f"judging.prices: {prices} does not exist")
    problems += [
        f"arms.{name}.prompts: {arm.prompts} does not exist"
        for name, arm in config.arms.items()
        if arm.prompts is not None and not _exists(arm.prompts)
    ]
    problems += [
        f"arms.{name}.responses: {arm.responses} does not exist"
        for name, arm in config.arms.items()
        if arm.responses is not None and not arm.responses.is_file()
    ]
    problems += check_directions(config)
    problems += _check_questions(config)
    problems += [f"claims: {path} does not exist" for path in config.claims if not path.is_file()]
    problems += _check_discovery(config)
    problems += _check_finetuning(config)
    for name, model in config.base_models.items():
        problems += _check_model_files(config, name, model)
    return problems


def _check_questions(config: Config) -> Iterator[str]:
    """A line if the questions of self-report cannot be read."""
    if config.introspection is not None:
        # Loads pandas, for which every job of another study would wait.
        from esr.introspection.questions import read_questions

        try:
            read_questions(config.introspection.questions)
        except EsrError as error:
            yield str(error)


def _check_model_files(config: Config, name: str, model: ModelConfig) -> Iterator[str]:
    """A line for every problem with the files of a model and its SAE."""
    try:
        yield from (f"models.{name}.{line}" for line in _check_model(model))
        shape = folder_model_shape(model.folder)
        if shape is not None and all(path.is_file() for path in checkpoint_files(model.folder)):
            check_weights(model.folder, shape)
    except EsrError as error:
        yield f"models.{name}.source: {error}"
        return
    folder = model.sae.path
    try:
        width = None if folder is None else folder_shape(folder)
        yield from check_shapes(config, name, shape, width)
        if folder is None or width is None:
            return
        if (folder / SAE_FILES[1]).is_file():
            check_folder(folder)
        if "metadata" in model.accept_sae:
            return
        for line in contradictions(folder_origin(folder), model):
            file = folder / "cfg.json"
            yield f"models.{name}.sae.path: {file}: {line}; {IF_MEANT}"
    except EsrError as error:
        yield f"models.{name}.sae.path: {error}"


def check_shapes(
    config: Config, name: str, model: Mapping[str, Any] | None, sae: SaeShape | None
) -> list[str]:
    """A line for every key of a model that exceeds the shape of its checkpoint or SAE.

    Args:
        config: The study.
        name: The model.
        model: Shape of its checkpoint (`model_shape`), if known.
        sae: Shape of its SAE, if known.
    """
    keys = config.models[name]
    problems: list[str] = []
    if model is not None:
        problems += _check_size(name, keys.parameters, model)
        problems += [
            f"models.{name}.{layer}: {getattr(keys, layer)}, but the model has layers 0 to "
            f"{model['n_layers'] - 1}"
            for layer in ("steer_layer", "read_layer", "ablate_layer")
            if (getattr(keys, layer) or 0) >= model["n_layers"]
        ]
        problems += [
            f"arms.{arm}.layers: {layer}, but {name} has layers 0 to {model['n_layers'] - 1}; "
            "choose others, or name the arm's `models`"
            for arm in config.arms_of(name)
            for layer in config.layers_of(arm)
            if layer >= model["n_layers"]
        ]
    if sae is None:
        return problems
    if model is not None and sae.d_model != model["d_model"]:
        problems.append(
            f"models.{name}.sae.{'id' if keys.sae.path is None else 'path'}: the SAE has input "
            f"width {sae.d_model}, but the model's residual is {model['d_model']} wide; use an SAE "
            "of this model"
        )
    return problems + _check_latents(config, name, sae.d_sae)


def _check_size(name: str, parameters: float, shape: Mapping[str, Any]) -> Iterator[str]:
    """A line if a checkpoint is far larger than the study states.

    A block of width d has about 12 d^2 parameters; those of Gemma and of wide MLPs have more.
    """
    width = shape["d_model"]
    least = 12 * shape["n_layers"] * width**2 + shape["vocab_size"] * width
    if 4 * parameters < least:
        yield (
            f"models.{name}.parameters: {parameters:g}, but {shape['n_layers']} layers of width "
            f"{width} and {shape['vocab_size']} tokens have about {least:.2g}; job sizes and "
            "trends over models depend on it, so write it out, as in 2.6e+9"
        )


def _exists(path: Path) -> bool:
    """Whether a file exists, or is downloaded by a rule."""
    return path.is_file() or path in PROMPT_FILES


def _check_discovery(config: Config) -> list[str]:
    """Detectors must be searched on prompts that nothing else uses."""
    files = {name: arm.prompts or config.prompts for name, arm in config.arms.items()}
    source = config.detectors.arm
    wanted = any(isinstance(arm.ablate, str) for arm in config.arms.values())
    if not wanted or not all(path.is_file() for path in set(files.values())):
        return []
    own = {_words(text) for text in _prompt_texts(files[source])}
    for path in dict.fromkeys(path for name, path in files.items() if name != source):
        shared = [text for text in _prompt_texts(path) if _words(text) in own]
        if shared:
            return [
                f"arms.{source}.prompts: detectors are searched on prompts that are evaluated, "
                f"too: {len(shared)} of {path}, e.g. {shared[0]!r}; give the arm prompts of its own"
            ]
    return []


def _check_finetuning(config: Config) -> list[str]:
    """Files for fine-tuning must exist, and their prompts must not be evaluated."""
    if not config.finetuned:
        return []
    data = config.finetune.data
    corpus = data.writer == "corpus"
    names = ["lexicon", "phrases"] if corpus else ["subjects", "rubric", "answer_rubric"]
    problems = [
        f"finetune.data.{name}: {getattr(data, name)} does not exist"
        for name in names
        if not getattr(data, name).is_file()
    ]
    for name in config.finetune.models:
        model = config.models[name]
        if model.is_local and not _has_chat_template(model.folder):
            problems.append(
                f"finetune.models: {name} ({model.source}) has no chat template; put a "
                "chat_template.jinja into its folder, or fine-tune an instruction-tuned checkpoint"
            )
    if not data.prompts.is_file():
        return [*problems, f"finetune.data.prompts: {data.prompts} does not exist"]
    used = [config.prompts, *(config.arms[name].prompts for name in config.finetune.arms)]
    own = {_words(text) for text in _prompt_texts(data.prompts)}
    for path in dict.fromkeys(path for path in used if path and path.is_file()):
        shared = [text for text in _prompt_texts(path) if _words(text) in own]
        if shared and not data.share_prompts:
            problems.append(
                f"finetune.data.prompts: {len(shared)} of them are evaluated, too ({path}), e.g. "
                f"{shared[0]!r}; take others, or set finetune.data.share_prompts"
            )
    return problems


def _has_chat_template(folder: Path) -> bool:
    tokenizer = folder / "tokenizer_config.json"
    if (folder / "chat_template.jinja").is_file():
        return True
    if not tokenizer.is_file():
        return False
    return "chat_template" in json.loads(tokenizer.read_text(encoding="utf-8"))


def _prompt_texts(path: Path) -> list[str]:
    # Not `read_prompts`: every job parses the workflow, and pandas would slow each of them down.
    return [row.get("prompt", "") for row in read_csv_rows(path).rows]


def _words(prompt: str) -> tuple[str, ...]:
    """Normalised words of a prompt, to compare prompts."""
    return tuple(re.findall(r"\w+", fold(prompt)))


def _check_model(model: ModelConfig) -> list[str]:
    problems = []
    if isinstance(model.labels, Path) and not model.labels.is_file():
        problems.append(f"labels: {model.labels} does not exist")
    if model.source.startswith((".", "/", "resources/", "results/")) and not model.is_local:
        return [*problems, f"source: folder {model.source} does not exist"]
    if model.sae.path is not None:
        problems += [
            f"sae.path: {model.sae.path / name} does not exist"
            for name in SAE_FILES
            if not (model.sae.path / name).is_file()
        ]
    if not model.is_local:
        if model.revision is None:
            problems.append(
                f"revision: {model.source} is not a local folder, so it is a hub model, "
                "which needs a commit; add it"
            )
        return problems
    config_file = model.folder / "config.json"
    if not config_file.is_file():
        return [*problems, f"source: {config_file} does not exist"]
    problems += [
        f"source: {path} does not exist"
        for path in checkpoint_files(model.folder)
        if not path.is_file()
    ]
    return problems


def _check_latents(config: Config, name: str, d_sae: int) -> list[str]:
    named = {f"models.{name}.detectors": config.models[name].detectors}
    named[f"models.{name}.backtracking"] = config.models[name].backtracking
    for arm, settings in config.arms.items():
        if not isinstance(settings.ablate, str):
            named[f"arms.{arm}.ablate"] = settings.ablate
    return [
        f"{key}: latent {latent} is not in the SAE (0 to {d_sae - 1}) (model {name})"
        for key, latents in named.items()
        for latent in latents
        if not 0 <= latent < d_sae
    ]
