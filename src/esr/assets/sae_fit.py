"""How well an SAE fits its model: on the study's own text, at its layer and the neighbours.

For the residual streams h of a layer, without those of the BOS:

    FVU = sum |h - h_hat|^2 / sum |h - mean h|^2       fraction of variance unexplained
    L0  = mean number of active latents per token

FVU is free of the scale of h, which grows with depth; the mean squared error is not. Tokens whose
norm is more than ten times the median of their text are left out: attention sinks are a handful of
tokens, and would decide both sums.

The same pass measures the size of the residual stream, from which the scale of boosts follows.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from esr.assets.sae import Sae
from esr.assets.sae_origin import SaeOrigin, contradictions
from esr.assets.weights import load_causal_lm
from esr.engines.hooks import decoder_layers, hidden
from esr.engines.hosts.linger import devices_of, evict
from esr.errors import EsrError

if TYPE_CHECKING:
    from esr.config import Config

SINK = 10.0
"""Norm of a sink, as a multiple of the median norm of its text."""
MASSIVE = 100.0
"""Mean square of a massive dimension, as a multiple of the median over dimensions."""
KEPT = 2_000
"""Tokens of a layer from which norms are measured."""
CHUNK = 256
"""Tokens encoded together: the activations of a wide SAE are large."""


class Text(NamedTuple):
    """Tokens of one text, and the first position that counts (after BOS and prompt)."""

    tokens: tuple[int, ...]
    start: int


class Finding(NamedTuple):
    """A premise that does not hold: its name in `accept_sae`, and a line about it."""

    name: str
    line: str


@dataclass
class _Layer:
    """Sums over the tokens of a layer."""

    d_model: int
    d_sae: int

    def __post_init__(self) -> None:
        self.tokens = self.sinks = 0
        self.error = self.square = self.active = 0.0
        self.total = torch.zeros(self.d_model, dtype=torch.float64)
        self.fired = torch.zeros(self.d_sae, dtype=torch.bool)
        self.kept: list[Float[Tensor, "tokens d_model"]] = []

    def add(self, sae: Sae, h: Float[Tensor, "tokens d_model"]) -> None:
        h = h.float()
        usual = usual_tokens(h)
        self.sinks += int((~usual).sum())
        h = h[usual]
        room = KEPT - sum(len(part) for part in self.kept)
        if room > 0:
            self.kept.append(h[:room].cpu())
        for part in h.split(CHUNK):
            acts = sae.encode(part)
            self.error += float((part - sae.decode(acts)).double().square().sum())
            self.square += float(part.double().square().sum())
            self.total += part.double().sum(dim=0).cpu()
            self.active += float((acts > 0).sum())
            self.fired |= (acts > 0).any(dim=0).cpu()
            self.tokens += len(part)

    def row(self) -> dict[str, Any]:
        variance = self.square - float(self.total.square().sum()) / max(self.tokens, 1)
        norms = residual_norms(torch.cat(self.kept)) if self.tokens else {}
        return {
            "tokens": self.tokens,
            "sink_tokens": self.sinks,
            "fvu": self.error / variance if variance > 0 else math.nan,
            "l0": self.active / max(self.tokens, 1),
            "dead_share": 1 - float(self.fired.double().mean()),
            **norms,
        }


def usual_tokens(h: Float[Tensor, "tokens d_model"]) -> Bool[Tensor, " tokens"]:
    """Whether each token is no sink; all are kept where the residual stream is not finite."""
    norms = h.norm(dim=-1)
    return ~(norms > SINK * norms.median())


def massive_dimensions(h: Float[Tensor, "tokens d_model"]) -> Bool[Tensor, " d_model"]:
    """Dimensions whose mean square is far above that of the others, as in Gemma."""
    squares = h.double().square().mean(dim=0)
    return squares > MASSIVE * squares.median()


def residual_norms(h: Float[Tensor, "tokens d_model"]) -> dict[str, float | int]:
    """Median norm of a residual stream, with and without its massive dimensions."""
    massive = massive_dimensions(h)
    return {
        "norm": float(h.norm(dim=-1).median()),
        "usual_norm": float(h[:, ~massive].norm(dim=-1).median()),
        "massive_dimensions": int(massive.sum()),
    }


def measured_layers(read_layer: int, steer_layer: int, n_layers: int) -> list[int]:
    """`read_layer`, its neighbours, and `steer_layer`."""
    near = [read_layer - 1, read_layer, read_layer + 1, steer_layer]
    return sorted({layer for layer in near if 0 <= layer < n_layers})


@torch.inference_mode()
def measure_fit(
    model: nn.Module, sae: Sae, texts: Sequence[Text], layers: Sequence[int], limit: int
) -> pd.DataFrame:
    """Measure the fit of an SAE to the output of several layers.

    Args:
        model: A causal language model of transformers.
        sae: The SAE.
        texts: Texts in the order in which they are encoded.
        layers: Decoder layers (0-based).
        limit: Tokens to encode; the rest of the texts is left out.

    Returns:
        One row a layer: layer, tokens, sink_tokens, fvu, l0, dead_share, norm, usual_norm,
        massive_dimensions.

    Raises:
        EsrError: there is no token to encode, or a residual stream is not finite.
    """
    device = next(model.parameters()).device
    sae = sae.to(device)
    sums = {layer: _Layer(sae.d_model, sae.d_sae) for layer in layers}
    left = limit
    for text in texts:
        tokens = text.tokens[: text.start + left]
        if len(tokens) <= text.start:
            continue
        left -= len(tokens) - text.start
        for layer, h in residuals(model, tokens, layers, device).items():
            if not h.isfinite().all():
                raise EsrError(
                    f"the residual stream at the output of layer {layer} has values that are not "
                    "finite; use dtype bfloat16 or float32"
                )
            sums[layer].add(sae, h[text.start :].to(device))
    if left == limit:
        raise EsrError("the unsteered answers have no token: no SAE can be compared with them")
    return pd.DataFrame([{"layer": layer, **sums[layer].row()} for layer in layers])


def residuals(
    model: nn.Module, tokens: Sequence[int], layers: Sequence[int], device: torch.device
) -> dict[int, Float[Tensor, "tokens d_model"]]:
    """Residual streams at the output of layers, for one text."""
    found: dict[int, Tensor] = {}

    def keep(layer: int) -> Callable[..., None]:
        return lambda _module, _inputs, output: found.update({layer: hidden(output)[0]})

    stack = decoder_layers(model)
    hooks = [stack[layer].register_forward_hook(keep(layer)) for layer in layers]
    try:
        ids = torch.tensor([list(tokens)], device=device)
        model(input_ids=ids, use_cache=False, logits_to_keep=1)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def load_layers(manifest: Mapping[str, Any], dtype: str, device: str, n_layers: int) -> nn.Module:
    """Load a checkpoint up to its first layers; later ones do not change their output.

    Args:
        manifest: The model's `assets/model.json`.
        dtype: Name of a torch dtype.
        device: A torch device, or `auto`: CUDA if available, over as many GPUs as needed.
        n_layers: Layers to load.
    """
    from transformers import AutoConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # weights of the layers that are left out are reported
    where = {"revision": manifest["revision"], "local_files_only": True}
    config = AutoConfig.from_pretrained(manifest["source"], **where)
    text = config.get_text_config()
    text.num_hidden_layers = n_layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:n_layers]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    evict(devices_of(device))
    spread = device == "cuda" and torch.cuda.device_count() > 1
    model = load_causal_lm(
        manifest["source"],
        partial=True,
        config=config,
        dtype=getattr(torch, dtype),
        device_map="auto" if spread else None,
        **where,
    )
    return (model if spread else model.to(device)).eval().requires_grad_(False)


def fit_findings(
    table: pd.DataFrame, origin: SaeOrigin, config: "Config", model: str
) -> Iterator[Finding]:
    """What the measured fit and the origin of an SAE say against the settings of its model.

    Args:
        table: As `measure_fit` returns it.
        origin: Facts about the SAE in its own metadata.
        config: The study.
        model: Name of the model in it.
    """
    settings, limits = config.models[model], config.sae_fit
    for line in contradictions(origin, settings):
        yield Finding("metadata", line)
    fits = table.set_index("layer")
    own = fits.loc[settings.read_layer]
    if not own["fvu"] <= limits.max_fvu:
        yield Finding(
            "fvu",
            f"the SAE leaves {own['fvu']:.2f} of the variance at layer {settings.read_layer} "
            f"unexplained (limit: sae_fit.max_fvu {limits.max_fvu:g}): it is of another layer, "
            "stream or model, or was loaded in another form than it was trained in",
        )
    near = fits[fits.index.isin([settings.read_layer - 1, settings.read_layer + 1])]
    better = near[near["fvu"] < limits.neighbour * own["fvu"]]
    if len(better):
        layer = better["fvu"].idxmin()
        yield Finding(
            "neighbour",
            f"the SAE fits layer {layer} better than read_layer {settings.read_layer}: fraction of "
            f"variance unexplained {near.loc[layer, 'fvu']:.3f} against {own['fvu']:.3f}; set "
            f"read_layer to {layer}",
        )
    if origin.l0 is not None:
        ratio = own["l0"] / origin.l0
        if not 1 / limits.l0_factor <= ratio <= limits.l0_factor:
            yield Finding(
                "l0",
                f"{own['l0']:.1f} latents are active per token, but the SAE was published with "
                f"{origin.l0:g} (limit: a factor of {limits.l0_factor:g}, sae_fit.l0_factor): it "
                "was loaded in another form, or the residual stream has another scale",
            )


def refuse_findings(findings: Sequence[Finding], accepted: Sequence[str], model: str) -> None:
    """Stop the study unless all findings are accepted.

    Raises:
        EsrError: a finding that `models.<model>.accept_sae` does not list.
    """
    refused = [finding for finding in findings if finding.name not in accepted]
    if refused:
        names = ", ".join(dict.fromkeys(finding.name for finding in refused))
        raise EsrError(
            f"models.{model}.sae: "
            + "; ".join(finding.line for finding in refused)
            + f". If it is meant to be so: models.{model}.accept_sae: [{names}]"
        )


def boost_scale(norm: float, sae: Sae) -> float:
    """Boost at which the direction of a median decoder row is as long as the residual stream."""
    rows = sae.W_dec.norm(dim=-1)
    return norm / float(np.median(rows[rows > 0].cpu().numpy()))
