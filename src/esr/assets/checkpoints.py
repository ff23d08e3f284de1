"""Checkpoints: local folders and hub repositories, their shape, revision and checksums."""

from pathlib import Path
from typing import Any

from esr.assets.json_files import read_json
from esr.assets.remote_code import find_remote_code
from esr.errors import EsrError, full_disk, is_full
from esr.provenance import file_digest

MODEL_FILES = ["*.json", "*.safetensors", "tokenizer*", "*.jinja", "*.model"]
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
"""Weights in one file, or the index of weights in several."""


ADAPTER_FILES = ["adapter_config.json", "adapter_model.safetensors"]
"""Files of an adapter, as PEFT calls them."""


OPTIONAL_FILES = ["chat_template.jinja", "generation_config.json", "special_tokens_map.json"]
"""Files that change the output of a checkpoint, if it has them."""


def model_shape(config: dict[str, Any], where: str = "config.json") -> dict[str, Any]:
    """Architecture, layers, width and vocabulary from a transformers config.json.

    A nested configuration may leave out what equals the default of its class (as in Gemma 3 4B),
    so its values are read through transformers.

    Args:
        config: Contents of the file.
        where: Name of the file, for the error.

    Raises:
        EsrError: the architecture is unknown, or has no such shape.
    """
    text = config.get("text_config", config)
    names = {"n_layers": "num_hidden_layers", "d_model": "hidden_size", "vocab_size": "vocab_size"}
    if not all(isinstance(text.get(name), int) for name in names.values()):
        text = _with_defaults(config, where)
    missing = [name for name in names.values() if not isinstance(text.get(name), int)]
    if missing:
        raise EsrError(
            f"{where}: model_type {config.get('model_type')!r} has no {missing[0]}; supported are "
            "Llama, Gemma 2, Gemma 3, Qwen 2 and Qwen 3"
        )
    architecture = (config.get("architectures") or ["unknown"])[0]
    return {"architecture": architecture, **{name: text[key] for name, key in names.items()}}


def _with_defaults(config: dict[str, Any], where: str) -> dict[str, Any]:
    """The configuration of the language model, with the defaults of its class."""
    from transformers import AutoConfig

    try:
        own = {name: value for name, value in config.items() if name != "model_type"}
        found = AutoConfig.for_model(str(config.get("model_type")), **own)
        return dict(found.get_text_config().to_dict())
    except Exception as error:  # of third-party code, on a file from outside
        raise EsrError(
            f"{where}: transformers cannot read model_type {config.get('model_type')!r}: {error}"
        ) from None


def folder_model_shape(folder: Path) -> dict[str, Any] | None:
    """Shape of a checkpoint in a folder; None without a config.json.

    Raises:
        EsrError: as in `read_json` and `model_shape`.
    """
    path = folder / "config.json"
    return model_shape(read_json(path), path.as_posix()) if path.is_file() else None


def checkpoint_files(folder: Path) -> list[Path]:
    """The files of a local checkpoint that determine its output."""
    index = folder / INDEX
    if index.is_file():
        shards = sorted(set(weight_map(index).values()))
        weights = [index, *(folder / shard for shard in shards)]
    else:
        weights = [folder / WEIGHTS]
    tokenizer = [folder / "tokenizer.json", folder / "tokenizer_config.json"]
    optional = [folder / name for name in OPTIONAL_FILES if (folder / name).is_file()]
    return [folder / "config.json", *weights, *tokenizer, *optional]


def weight_map(index: Path) -> dict[str, str]:
    """Names of weights, and of the file that holds each, in an index of weights.

    Raises:
        EsrError: it names none.
    """
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(n, str) for n in named.values()):
        raise EsrError(f"{index} has no weight_map of file names; download it again")
    return named


def refuse_code(folder: Path) -> None:
    """Refuse a folder whose configuration names Python files to run (`auto_map` and the like).

    Raises:
        EsrError: naming the file and the key.
    """
    for path in sorted(folder.glob("*config.json")):
        key = find_remote_code(read_json(path))
        if key is not None:
            raise EsrError(
                f"{path}: `{key}` would run Python files of the checkpoint, which esr never does; "
                "if transformers itself has this architecture, delete the key"
            )


def describe_local_model(folder: Path) -> dict[str, Any]:
    """Manifest of a checkpoint in a folder: shape, and checksums of `checkpoint_files`.

    Raises:
        EsrError: the checkpoint brings code of its own.
    """
    path = folder / "config.json"
    shape = model_shape(read_json(path), path.as_posix())
    refuse_code(folder)
    files = {p.name: file_digest(p) for p in sorted(checkpoint_files(folder))}
    return {"source": folder.as_posix(), "revision": None, "files": files, **shape}


def describe_finetuned_model(folder: Path, base: dict[str, Any], *, merged: bool) -> dict[str, Any]:
    """Manifest of a fine-tuned model: that of any model, and its origin.

    Args:
        folder: `finetuning/` of the model.
        base: Manifest of the base.
        merged: Whether engines load a merged checkpoint; else base and adapter, and `adapter` names
            its folder.
    """
    refuse_code(folder / "adapter")
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

    Without a network, a complete copy in the cache is enough.

    Raises:
        EsrError: the repository cannot be downloaded, and the cache lacks a file of it.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    try:
        # Files first: without a network, this call gives a clear error and `model_info` does not.
        folder = Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=MODEL_FILES,
                local_files_only=constants.HF_HUB_OFFLINE,
            )
        )
    except Exception as error:  # also those of its HTTP library, which has changed before
        if is_full(error):
            raise full_disk(error) from error
        raise EsrError(
            f"model {repository} at revision {revision}: {hub_remedy(repository, error)}"
        ) from error
    commit: str | None = folder.name
    files: dict[str, Any]
    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
        commit = info.sha
        files = {s.rfilename: s.lfs.sha256 if s.lfs else s.blob_id for s in info.siblings or []}
    except Exception as error:
        files = _cached_files(folder)
        if not files:
            raise EsrError(
                f"model {repository} at revision {revision}: {hub_remedy(repository, error)}"
            ) from error
    shape = model_shape(read_json(folder / "config.json"), f"{repository}: config.json")
    return {"source": repository, "revision": commit, "files": files, **shape}


def hub_remedy(repository: str, error: BaseException) -> str:
    """What the hub answered, and what to do about it."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return (
            f"access denied (HTTP {status}); accept the terms of the model at "
            f"https://huggingface.co/{repository} and set HF_TOKEN to a token of that account"
        )
    if status == 429:
        return "too many requests (HTTP 429); wait some minutes, or set HF_TOKEN"
    if status == 404:
        return "no such repository or revision (HTTP 404); correct source and revision"
    if status is not None:
        return f"the hub failed (HTTP {status}); run the same command again later"
    return (
        f"not complete in the hub's cache, and the hub cannot be reached ({error}); on a node that "
        "has a network run `snakemake downloads`"
    )


def _cached_files(folder: Path) -> dict[str, str]:
    """Checksums of a checkpoint in the hub's cache; empty if a file is missing.

    The cache links a file to a blob that is named by its checksum. A copy without links is read.
    """
    try:
        paths = checkpoint_files(folder)
    except EsrError:
        return {}
    if not all(path.is_file() for path in paths):
        return {}
    return {
        path.name: path.resolve().name if path.is_symlink() else file_digest(path)
        for path in sorted(paths)
    }
