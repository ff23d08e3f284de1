"""What an SAE was trained on, by its own metadata, and whether the study agrees.

The metadata are those of `cfg.json` or of SAELens' list of releases: the hook (a stream of a
layer), the model, and the mean number of active latents (L0). They are compared with `read_layer`
and `source`. What the metadata leave out is measured (`esr.assets.sae_fit`).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from esr.assets.registry import listed_sae

if TYPE_CHECKING:
    from esr.config import ModelConfig, SaeConfig

RESIDUAL = "residual"
_TRANSFORMER_LENS = re.compile(r"blocks\.(\d+)\.(.+)")
_MODULE = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)(?:\.(.+))?$")
_LAYER = re.compile(r"layers?[._]?(\d+)")
_STREAMS = (
    (re.compile(r"embed"), "embeddings"),
    (re.compile(r"transcoder"), "transcoder"),
    (re.compile(r"mlp[_-]out|hook_mlp|[_-]mlp\b|(?:^|[-_/])mlp[-_/]"), "MLP output"),
    (re.compile(r"attn|hook_z|(?:^|[-_/])att[-_/]|[-_]att\b"), "attention output"),
    (re.compile(r"resid_mid"), "residual stream between attention and MLP"),
    (re.compile(r"resid|(?:^|[-_/])res[-_/]|[-_]res\b"), RESIDUAL),
)
_VARIANTS = re.compile(r"[-_](it|pt|instruct|chat|base|hf)(?=[-_]|$)")


@dataclass(frozen=True)
class SaeOrigin:
    """Facts about an SAE in its own metadata; None: it lacks them.

    Attributes:
        hook: Name of the hook, or path in the release.
        stream: `residual`, or another stream of a layer.
        layer: Decoder layer (0-based) at whose output the stream is read.
        model: The model, by the name that the trainers used.
        l0: Mean number of active latents per token.
    """

    hook: str | None = None
    stream: str | None = None
    layer: int | None = None
    model: str | None = None
    l0: float | None = None

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def origin_of_metadata(metadata: Mapping[str, Any]) -> SaeOrigin:
    """Origin by the metadata of a `cfg.json`; its keys may also be at the top of the file."""
    hook = _text(metadata.get("hook_name") or metadata.get("hook_point"))
    stream, layer = _site(hook) if hook else (None, None)
    if layer is None:
        layer = _whole(metadata.get("hook_layer"))
        stream = stream or (RESIDUAL if layer is not None and not hook else None)
    return SaeOrigin(
        hook, stream, layer, _text(metadata.get("model_name")), _number(metadata.get("l0"))
    )


def origin_of_release(release: str, id_: str) -> SaeOrigin:
    """Origin by SAELens' list: the id, the path and the Neuronpedia id of an SAE."""
    entry = listed_sae(release, id_)
    if not entry:
        return SaeOrigin()
    path, neuronpedia = str(entry["path"]), str(entry.get("neuronpedia") or "")
    names = [id_, path, neuronpedia.rpartition("/")[2], release]
    sites = [_site(name) for name in names[:2]]
    layers = [layer for _, layer in sites if layer is not None]
    numbered = re.match(r"(\d+)-", names[2])
    layer = layers[0] if layers else int(numbered[1]) if numbered else None
    streams = [found for name in names for found in [_stream(name.lower())] if found]
    named = _TRANSFORMER_LENS.search(id_)  # such an id is exact
    stream = sites[0][0] if named else streams[0] if streams else None
    l0 = entry.get("l0")
    if l0 is None and (found := re.search(r"l0_(\d+)", path)):
        l0 = int(found[1])
    return SaeOrigin(path, stream, layer, entry.get("model"), _number(l0))


def origin_of(source: "SaeConfig", metadata: Mapping[str, Any] | None = None) -> SaeOrigin:
    """Origin of a configured SAE, by its metadata and, for a release, by SAELens' list.

    Args:
        source: The configured SAE.
        metadata: Metadata of the loaded SAE, or of the `cfg.json` of a folder.
    """
    own = origin_of_metadata(metadata or {})
    if source.release is None:
        return own
    listed = origin_of_release(source.release, str(source.id))
    found = {
        name: value if value is not None else getattr(listed, name)
        for name, value in own.facts().items()
    }
    if listed.l0 is not None:
        found["l0"] = listed.l0
    return SaeOrigin(**found)


def contradictions(origin: SaeOrigin, model: "ModelConfig") -> Iterator[str]:
    """A line for every fact about an SAE that contradicts the settings of its model."""
    if origin.stream not in (None, RESIDUAL):
        yield (
            f"the SAE was trained on the {origin.stream} ({origin.hook}), not on the residual "
            "stream at the output of a layer; choose an SAE of the residual stream"
        )
    if origin.layer is not None and origin.layer != model.read_layer:
        yield (
            f"the SAE was trained on the output of layer {origin.layer} ({origin.hook}), but "
            f"read_layer is {model.read_layer}; set read_layer to {origin.layer}, or choose an SAE "
            f"of layer {model.read_layer}"
        )
    if origin.model is None or model.revision is None:
        return  # the name of a folder proves nothing
    if not same_model(origin.model, model.source):
        yield (
            f"the SAE was trained on {origin.model}, but source is {model.source}; choose an SAE "
            "of that model"
        )


def same_model(first: str, second: str) -> bool:
    """Whether two names are of one model, or of its base and its instruction-tuned version."""
    return _core(first) == _core(second)


def _core(name: str) -> str:
    """Name without owner, variant and punctuation: `google/gemma-2-2b-it` is `gemma22b`."""
    core = _VARIANTS.sub("", name.lower().rpartition("/")[2])
    return re.sub(r"^meta|[^a-z0-9]", "", core)


def _site(hook: str) -> tuple[str | None, int | None]:
    """Stream and layer that a hook, module or path names."""
    if found := _TRANSFORMER_LENS.search(hook):
        layer, part = int(found[1]), found[2]
        if part.startswith("hook_resid_pre"):
            return RESIDUAL, layer - 1
        return _stream(part) or part, layer
    if found := _MODULE.search(hook):
        part = found[2]
        return (RESIDUAL if part in (None, "output") else _stream(part) or part), int(found[1])
    found = _LAYER.search(hook)
    return _stream(hook), int(found[1]) if found else None


def _stream(text: str) -> str | None:
    return next((name for pattern, name in _STREAMS if pattern.search(text)), None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> float | None:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if numeric and 0 < value < float("inf") else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
