"""SAEs in SAELens' format: releases on the hub, local folders, their size and shape."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open

from esr.assets.json_files import LFS, read_json, refuse_pointer
from esr.assets.sae_origin import SaeOrigin, origin_of_metadata
from esr.config import Config, SaeConfig
from esr.errors import EsrError, full_disk, is_full
from esr.provenance import file_digest

SAE_FILES = ["cfg.json", "sae_weights.safetensors"]


def load_saelens(source: SaeConfig) -> tuple[Any, dict[str, Any]]:
    """Load an SAE with SAELens, from a folder or a release.

    Returns:
        The SAE, and where its files are from: for a release repository, commit and SHA-256 by
        file; for a folder nothing.

    Raises:
        EsrError: there is no such folder, release, id or commit.
    """
    import sae_lens

    files: list[Path] = []
    what = source.path or f"{source.release} / {source.id}"
    at = f" at revision {source.revision}" if source.revision else ""
    try:
        if source.path is not None:
            if (source.path / "cfg.json").is_file():
                check_folder(source.path)
            sae = sae_lens.SAE.load_from_disk(str(source.path))
        else:
            with _downloads_at(source.revision) as files:
                sae = sae_lens.SAE.from_pretrained(str(source.release), str(source.id))
    except EsrError:
        raise
    except Exception as error:  # SAELens passes on those of every library that it uses
        if is_full(error):
            raise full_disk(error) from error
        kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
        raise EsrError(f"SAE {what}{at}: {kind}{error}") from error
    _check_weights(sae, f"SAE {what}{at}")
    return sae, _hub_origin(files) if files else {}


def check_folder(folder: Path) -> None:
    """Check that the weights in a folder are whole and have the widths of its `cfg.json`.

    Reads headers only.

    Raises:
        EsrError: they do not, or `k` is not a number of latents of this SAE.
    """
    facts = read_cfg(folder)
    d_in, d_sae = facts["d_in"], facts["d_sae"]
    path = folder / "sae_weights.safetensors"
    with path.open("rb") as file:
        refuse_pointer(path, file.read(len(LFS)))
    try:
        with safe_open(path, framework="numpy") as weights:
            shapes = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    except Exception as error:  # the class is not public
        raise EsrError(f"{path} was cut or changed ({error}); download it again") from None
    for name, shape in {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in)}.items():
        if shapes.get(name) != shape:
            raise EsrError(
                f"{path}: {name} has shape {shapes.get(name)}, but by cfg.json it is {shape}; take "
                "both files from one SAE"
            )
    k = facts.get("k")
    if k is not None and (isinstance(k, bool) or not 1 <= k <= d_sae):
        raise EsrError(
            f"{folder / 'cfg.json'}: k is {k}; a TopK SAE of {d_sae} latents has 1 to {d_sae} "
            "active ones"
        )


def _check_weights(sae: Any, where: str) -> None:
    """Check the values of a loaded SAE.

    Raises:
        EsrError: a value is not finite, or every decoder row is zero.
    """
    for name, weights in sae.state_dict().items():
        if not weights.isfinite().all():
            raise EsrError(
                f"{where}: {name} has values that are NaN or infinite; export the SAE again"
            )
        if name == "W_dec" and not weights.any():
            raise EsrError(f"{where}: every decoder row is zero, so that no boost steers")


@contextmanager
def _downloads_at(revision: str | None) -> Iterator[list[Path]]:
    """Have SAELens, whose loaders take no commit, download at this one; yield its downloads."""
    from sae_lens.loading import pretrained_sae_loaders as loaders

    download = loaders.hf_hub_download
    address = loaders.hf_hub_url
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
"""Families whose shapes SAELens knows by name; those of others it reads from the hub."""


def sae_shape(config: Config, name: str) -> SaeShape | None:
    """Shape of a model's SAE, as far as it is known without a download; else None.

    Known are that of a folder, of one that is among the assets, and those that SAELens knows.
    """
    source = config.models[name].sae
    if source.path is not None:
        return folder_shape(source.path)
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


def folder_shape(folder: Path) -> SaeShape | None:
    """Shape of an SAE in a folder, from its `cfg.json`; None if there is none."""
    if not (folder / "cfg.json").is_file():
        return None
    facts = read_cfg(folder)
    return SaeShape(facts["d_in"], facts["d_sae"])


def read_cfg(folder: Path) -> dict[str, Any]:
    """The `cfg.json` of an SAE in a folder.

    Raises:
        EsrError: it is not JSON, or its widths are missing or no whole numbers above 0.
    """
    path = folder / "cfg.json"
    facts = read_json(path)
    for key in ("d_in", "d_sae"):
        width = facts.get(key)
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise EsrError(
                f"{path}: {key} is {width!r}, not the width of an SAE; export the SAE with SAELens"
            )
    return facts


def folder_origin(folder: Path) -> SaeOrigin:
    """Facts about an SAE in the metadata of its folder.

    Raises:
        EsrError: as in `read_cfg`.
    """
    facts = read_cfg(folder)
    nested = facts.get("metadata")
    return origin_of_metadata(facts | (nested if isinstance(nested, dict) else {}))


def _stored_shape(path: Path) -> SaeShape:
    with safe_open(path, framework="numpy") as file:
        d_sae, d_model = file.get_slice("W_dec").get_shape()
    return SaeShape(d_model, d_sae)


def _made_from(path: Path) -> Any:
    """The settings that an SAE file was made by; those of an older one may be others."""
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["sae"])
    return json.loads(header.get("source", "null"))
