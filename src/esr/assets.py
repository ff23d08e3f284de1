"""Model and SAE assets: where they come from, what they are, and whether they fit each other."""

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from safetensors import safe_open

from esr.config import Config, Model, SaeSource
from esr.downloads import PROMPT_FILES
from esr.errors import EsrError, full_disk, is_full

SAE_FILES = ["cfg.json", "sae_weights.safetensors"]
MODEL_FILES = ["*.json", "*.safetensors", "tokenizer*", "*.jinja", "*.model"]
ADAPTER_FILES = ["adapter_config.json", "adapter_model.safetensors"]
"""Files of an adapter, as PEFT calls them."""
OPTIONAL_FILES = ["chat_template.jinja", "generation_config.json", "special_tokens_map.json"]
"""Files of a checkpoint that change what it says, where there are any."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache
def content_digest(path: Path) -> str:
    """SHA-256 of what a file says: of its text without comments if it is YAML or plain text.

    Jobs that cost money or a GPU rerun by it, so that an edited comment repeats nothing. A file
    that is no YAML counts by its bytes: whoever reads it says what is wrong.
    """
    if path.suffix == ".yaml":
        try:
            said = json.dumps(yaml.safe_load(path.read_text()), sort_keys=True, default=str)
        except yaml.YAMLError:
            return file_digest(path)
    elif path.suffix == ".txt":
        lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
        said = "\n".join(line for line in lines if line)
    else:
        return file_digest(path)
    return hashlib.sha256(said.encode()).hexdigest()


def model_shape(config: dict[str, Any]) -> dict[str, Any]:
    """Architecture, layers, width and vocabulary from a transformers config.json."""
    text = config.get("text_config", config)
    return {
        "architecture": (config.get("architectures") or ["unknown"])[0],
        "n_layers": text["num_hidden_layers"],
        "d_model": text["hidden_size"],
        "vocab_size": text["vocab_size"],
    }


def checkpoint_files(folder: Path) -> list[Path]:
    """The files of a local checkpoint that decide what it computes."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        weights = [index, *(folder / shard for shard in shards)]
    else:
        weights = [folder / "model.safetensors"]
    tokenizer = [folder / "tokenizer.json", folder / "tokenizer_config.json"]
    optional = [folder / name for name in OPTIONAL_FILES if (folder / name).is_file()]
    return [folder / "config.json", *weights, *tokenizer, *optional]


def describe_local_model(folder: Path) -> dict[str, Any]:
    """Manifest of a checkpoint in a folder: shape, and checksums of `checkpoint_files`."""
    config = json.loads((folder / "config.json").read_text())
    files = {p.name: file_digest(p) for p in sorted(checkpoint_files(folder))}
    return {"source": folder.as_posix(), "revision": None, "files": files, **model_shape(config)}


def describe_finetuned_model(folder: Path, base: dict[str, Any], *, merged: bool) -> dict[str, Any]:
    """Manifest of a fine-tuned model: like any other's, with what it was made from.

    Args:
        folder: `finetuning/` of the model.
        base: Manifest of the model that it comes from.
        merged: Whether engines load a merged checkpoint; else base and adapter, and `adapter` names
            its folder.
    """
    adapter = {name: file_digest(folder / "adapter" / name) for name in ADAPTER_FILES}
    origin = {
        "base": {"source": base["source"], "revision": base["revision"], "files": base["files"]},
        "adapter": adapter,
        "dataset": file_digest(folder / "dataset.jsonl"),
        "axolotl": file_digest(folder / "axolotl.yaml"),
    }
    if merged:
        found = describe_local_model(folder / "merged")
    else:
        files = base["files"] | {f"adapter/{name}": digest for name, digest in adapter.items()}
        found = {**base, "files": files, "adapter": (folder / "adapter").as_posix()}
        found.pop("esr", None)
    return found | {"finetuning": origin}


def fetch_hub_model(repository: str, revision: str) -> dict[str, Any]:
    """Download a checkpoint into the hub's cache; manifest with the hub's own checksums.

    Raises:
        EsrError: the repository cannot be had (gated, mistyped, no network).
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        # First the files: without a network this says so, where asking for facts just breaks.
        folder = snapshot_download(repository, revision=revision, allow_patterns=MODEL_FILES)
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        if is_full(error):
            raise full_disk(error) from error
        raise EsrError(
            f"model {repository} at revision {revision}: {error}. For a gated model accept its "
            "terms on the hub and set HF_TOKEN; for a node without network run `snakemake "
            "downloads` on one that has it first"
        ) from error
    files = {s.rfilename: s.lfs.sha256 if s.lfs else s.blob_id for s in info.siblings or []}
    shape = model_shape(json.loads((Path(folder) / "config.json").read_text()))
    return {"source": repository, "revision": info.sha, "files": files, **shape}


def load_saelens(source: SaeSource) -> tuple[Any, dict[str, Any]]:
    """Load an SAE with SAELens, from a folder or a release.

    Returns:
        The SAE, and where its files are from: for a release repository, commit and SHA-256 by
        file; for a folder nothing.

    Raises:
        EsrError: there is no such folder, release, id or commit.
    """
    import sae_lens

    try:
        if source.path is not None:
            return sae_lens.SAE.load_from_disk(str(source.path)), {}
        with _downloads_at(source.revision) as files:
            sae = sae_lens.SAE.from_pretrained(str(source.release), str(source.id))
    except (ValueError, FileNotFoundError, OSError) as error:
        if is_full(error):
            raise full_disk(error) from error
        what = source.path or f"{source.release} / {source.id}"
        at = f" at revision {source.revision}" if source.revision else ""
        raise EsrError(f"SAE {what}{at}: {error}") from error
    return sae, _hub_origin(files)


@contextmanager
def _downloads_at(revision: str | None) -> Iterator[list[Path]]:
    """Have SAELens, whose loaders take no commit, download at this one; yield its downloads."""
    from sae_lens.loading import pretrained_sae_loaders as loaders

    download, address = loaders.hf_hub_download, loaders.hf_hub_url
    files: list[Path] = []

    def at(options: dict[str, Any]) -> dict[str, Any]:
        return options | ({"revision": revision} if revision else {})

    def download_at(*args: Any, **options: Any) -> str:
        files.append(Path(download(*args, **at(options))))
        return str(files[-1])

    loaders.hf_hub_download = download_at
    loaders.hf_hub_url = lambda *args, **options: address(*args, **at(options))
    try:
        yield files
    finally:
        loaders.hf_hub_download, loaders.hf_hub_url = download, address


def _hub_origin(files: list[Path]) -> dict[str, Any]:
    """Repository, commit and checksums of files in the hub's cache.

    They lie in `models--<owner>--<name>/snapshots/<commit>/`.
    """
    origin: dict[str, Any] = {"files": {}}
    for path in files:
        repository, _, commit, *name = path.parts[path.parts.index("snapshots") - 1 :]
        origin["repository"] = repository.removeprefix("models--").replace("--", "/", 1)
        origin["commit"] = commit
        origin["files"]["/".join(name)] = file_digest(path)
    return origin


def sae_size(path: Path) -> int:
    """Number of latents of an SAE file, read from its header."""
    return _stored_shape(path).d_sae


class SaeShape(NamedTuple):
    """What an SAE reads and has: width of the residual stream, number of latents."""

    d_model: int
    d_sae: int


KNOWN_SHAPES = ("gemma_2", "goodfire")
"""Families whose shapes SAELens knows by name; of others it asks the hub."""


def sae_shape(config: Config, name: str) -> SaeShape | None:
    """Shape of a model's SAE, as far as it is known without a download; else None.

    Known are that of a folder, of one that is among the assets, and those that SAELens knows.
    """
    source = config.models[name].sae
    if source.path is not None:
        return _folder_shape(source.path)
    made = Path(f"results/{config.study}/{name}/assets/sae.safetensors")
    if made.is_file() and _made_from(made) == source.model_dump(mode="json"):
        return _stored_shape(made)
    from sae_lens.loading import pretrained_sae_loaders as loaders
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    release = get_pretrained_saes_directory().get(str(source.release))
    if release is None or release.conversion_func not in KNOWN_SHAPES:
        return None
    try:
        known = loaders.load_sae_config_from_huggingface(str(source.release), str(source.id))
    except ValueError:  # no such id
        return None
    return SaeShape(known["d_in"], known["d_sae"]) if known["d_sae"] else None


def _folder_shape(folder: Path) -> SaeShape | None:
    if not (folder / "cfg.json").is_file():
        return None
    facts = json.loads((folder / "cfg.json").read_text())
    return SaeShape(facts["d_in"], facts["d_sae"])


def _stored_shape(path: Path) -> SaeShape:
    with safe_open(path, framework="numpy") as file:
        d_sae, d_model = file.get_slice("W_dec").get_shape()
    return SaeShape(d_model, d_sae)


def _made_from(path: Path) -> Any:
    """The settings that an SAE file was made by; those of an older one may be others."""
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["sae"])
    return json.loads(header.get("source", "null"))


def check_files(config: Config) -> list[str]:
    """What is missing or does not fit, found from the files at hand, in a blink, without a GPU.

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
    prices = config.judging.prices
    if config.judging.llms and not prices.is_file():
        problems.append(f"judging.prices: {prices} does not exist")
    problems += [
        f"arms.{name}.prompts: {arm.prompts} does not exist"
        for name, arm in config.arms.items()
        if arm.prompts is not None and not _exists(arm.prompts)
    ]
    problems += [f"claims: {path} does not exist" for path in config.claims if not path.is_file()]
    problems += _check_discovery(config)
    problems += _check_finetuning(config)
    for name, model in config.originals.items():
        problems += [f"models.{name}.{line}" for line in _check_model(model)]
        config_file, sae = model.folder / "config.json", model.sae.path
        problems += check_shapes(
            config,
            name,
            model_shape(json.loads(config_file.read_text())) if config_file.is_file() else None,
            None if sae is None else _folder_shape(sae),
        )
    return problems


def check_shapes(
    config: Config, name: str, model: Mapping[str, Any] | None, sae: SaeShape | None
) -> list[str]:
    """A line for every key of a model that asks for what its checkpoint or its SAE does not have.

    Args:
        config: The study.
        name: The model.
        model: Shape of its checkpoint (`model_shape`), if known.
        sae: Shape of its SAE, if known.
    """
    keys = config.models[name]
    problems = []
    if model is not None:
        problems += [
            f"models.{name}.{layer}: {getattr(keys, layer)}, but the model has layers 0 to "
            f"{model['n_layers'] - 1}"
            for layer in ("steer_layer", "read_layer", "ablate_layer")
            if (getattr(keys, layer) or 0) >= model["n_layers"]
        ]
    if sae is None:
        return problems
    if model is not None and sae.d_model != model["d_model"]:
        problems.append(
            f"models.{name}.sae.{'id' if keys.sae.path is None else 'path'}: the SAE reads width "
            f"{sae.d_model}, but the model's residual is {model['d_model']} wide; take an SAE of "
            "this model"
        )
    return problems + _check_latents(config, name, sae.d_sae)


def _exists(path: Path) -> bool:
    """Whether a file is there, or made by a rule that downloads it."""
    return path.is_file() or path in PROMPT_FILES


def _check_discovery(config: Config) -> list[str]:
    """Detectors must be looked for on prompts that nothing else uses."""
    files = {name: arm.prompts or config.prompts for name, arm in config.arms.items()}
    source = config.detectors.arm
    wanted = any(isinstance(arm.ablate, str) for arm in config.arms.values())
    if not wanted or not all(path.is_file() for path in files.values()):
        return []
    own = {_words(text) for text in _prompt_texts(files[source])}
    for path in dict.fromkeys(path for name, path in files.items() if name != source):
        shared = [text for text in _prompt_texts(path) if _words(text) in own]
        if shared:
            return [
                f"arms.{source}.prompts: detectors are looked for on prompts that are evaluated, "
                f"too: {len(shared)} of {path}, e.g. {shared[0]!r}; give the arm prompts of its own"
            ]
    return []


def _check_finetuning(config: Config) -> list[str]:
    """What fine-tuning needs must be there, and must not be what is evaluated."""
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
                f"finetune.models: {name} ({model.source}) has no chat template; fine-tune an "
                "instruction-tuned checkpoint"
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
    return tokenizer.is_file() and "chat_template" in json.loads(tokenizer.read_text())


def _prompt_texts(path: Path) -> list[str]:
    # Not `read_prompts`: every job parses the workflow, and pandas would slow each of them down.
    with path.open(newline="") as file:
        return [row.get("prompt") or "" for row in csv.DictReader(file)]


def _words(prompt: str) -> tuple[str, ...]:
    """A prompt without case, spacing and punctuation."""
    return tuple(re.findall(r"\w+", prompt.casefold()))


def _check_model(model: Model) -> list[str]:
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
                f"revision: {model.source} is no folder here, so it is read as a hub model, "
                "which needs the commit to use; add it"
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
