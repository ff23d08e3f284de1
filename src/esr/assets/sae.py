"""A sparse autoencoder in one file: encoder, decoder and activation function.

SAELens reads many architectures, release formats and normalisations. `from_saelens` converts what
it has loaded to one of three forms, which act on raw residual streams:

    pre = h @ W_enc + b_enc
    relu      a = max(pre, 0)
    jumprelu  a = max(pre, 0) * (pre > threshold)
    topk      a = max(pre, 0) on the k largest pre, else 0
    h_hat = a @ W_dec + b_dec

The header of the file holds the form, the sizes and the digest of the weights (`SaeHeader`). Code
that needs only these reads the header: the SAE of a 70B model has 4.3 GB.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from esr.errors import EsrError

Activation = Literal["relu", "jumprelu", "topk"]


@dataclass(frozen=True)
class Sae:
    """Weights of an SAE. Activations `a` and boosts are in units of raw decoder rows."""

    activation: Activation
    W_enc: Float[Tensor, "d_model d_sae"]
    b_enc: Float[Tensor, " d_sae"]
    W_dec: Float[Tensor, "d_sae d_model"]
    b_dec: Float[Tensor, " d_model"]
    threshold: Float[Tensor, " d_sae"] | None = None
    k: int | None = None

    def __post_init__(self) -> None:
        """Raise unless the SAE has exactly the parameters of its activation function."""
        needs = {"relu": (False, False), "jumprelu": (True, False), "topk": (False, True)}
        if (self.threshold is not None, self.k is not None) != needs.get(self.activation):
            raise EsrError(
                f"an SAE of form {self.activation!r} with threshold {self.threshold is not None} "
                f"and k = {self.k}: jumprelu needs a threshold, topk needs k, relu neither"
            )

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.W_dec.shape[1]

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return self.W_dec.shape[0]

    def encode(
        self, h: Float[Tensor, "*batch d_model"], latents: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "*batch n"]:
        """Compute activations of all latents, or of some, in the dtype of the weights.

        `relu` and `jumprelu` compute only the columns of `latents`; `topk` needs all of them.
        """
        h = h.to(self.W_enc.dtype)
        if self.activation == "topk":
            pre = h @ self.W_enc + self.b_enc
            top = pre.topk(self.k or 0, dim=-1, sorted=False)
            acts = torch.zeros_like(pre).scatter_(-1, top.indices, top.values.relu())
            return acts if latents is None else acts[..., latents]
        columns = slice(None) if latents is None else latents
        pre = h @ self.W_enc[:, columns] + self.b_enc[columns]
        if self.threshold is None:
            return pre.relu()
        return pre.relu() * (pre > self.threshold[columns])

    def decode(self, acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_model"]:
        """Reconstruct the residual stream from activations."""
        return acts @ self.W_dec + self.b_dec

    @property
    def digest(self) -> str:
        """SHA-256 of form and weights, without the origin: the first 32 hex digits.

        Reads every weight. Where there is a file, read the digest from its header instead.
        """
        digest = hashlib.sha256(f"{self.activation} {self.k}".encode())
        for name, tensor in self._tensors().items():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:32]

    def to(self, device: torch.device | str) -> "Sae":
        """Move every weight to a device."""
        moved = {name: tensor.to(device) for name, tensor in self._tensors().items()}
        return Sae(self.activation, k=self.k, **moved)

    def save(self, path: Path, **facts: str) -> None:
        """Write the weights to a safetensors file, with an `SaeHeader` and facts on their origin.

        Equal contents give equal bytes.
        """
        header = SaeHeader(self.activation, self.k, self.d_model, self.d_sae, self.digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.contiguous() for name, tensor in self._tensors().items()}
        # A single entry: safetensors writes several in an order that differs from run to run.
        metadata = json.dumps({**asdict(header), **facts}, sort_keys=True)
        save_file(tensors, path, metadata={"sae": metadata})

    def _tensors(self) -> dict[str, Tensor]:
        weights = {
            "W_enc": self.W_enc,
            "b_enc": self.b_enc,
            "W_dec": self.W_dec,
            "b_dec": self.b_dec,
        }
        return weights if self.threshold is None else weights | {"threshold": self.threshold}


@dataclass(frozen=True)
class SaeHeader:
    """Form, sizes and digest of an SAE file; `d_model` is the input width."""

    activation: Activation
    k: int | None
    d_model: int
    d_sae: int
    digest: str


def load_sae(path: Path, device: torch.device | str = "cpu") -> Sae:
    """Read an SAE file with its weights.

    Raises:
        EsrError: `Sae.save` did not write this file.
    """
    header = _metadata(path)
    with safe_open(path, framework="pt", device=str(device)) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return Sae(activation=header["activation"], k=header["k"], **tensors)


def decoder_rows(path: Path, latents: Sequence[int]) -> Float[Tensor, "n d_model"]:
    """Read the decoder rows of some latents of an SAE file, and no other weights, in float32."""
    with safe_open(path, framework="pt") as file:
        rows = file.get_slice("W_dec")
        return torch.stack([rows[latent].float() for latent in latents])


def read_header(path: Path) -> SaeHeader:
    """Read the header of an SAE file, and none of its weights.

    Raises:
        EsrError: `Sae.save` did not write this file, or an older version did.
    """
    header = _metadata(path)
    try:
        return SaeHeader(**{name: header[name] for name in _HEADER})
    except KeyError as missing:
        raise EsrError(
            f"{path} has no {missing.args[0]!r} in its header: an older version of esr wrote it. "
            "Rerun the rule prepare_sae (snakemake --forcerun prepare_sae); responses stay in the "
            "journals"
        ) from None


def sae_facts(path: Path) -> dict[str, str]:
    """Return the facts on the origin of an SAE file that `Sae.save` was given."""
    return {name: fact for name, fact in _metadata(path).items() if name not in _HEADER}


_HEADER = tuple(field.name for field in fields(SaeHeader))


def _metadata(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if "sae" not in metadata:
        raise EsrError(
            f"{path} is not an SAE file of esr; remove it and run the rule prepare_sae again"
        )
    return json.loads(metadata["sae"])


def from_saelens(sae: Any) -> Sae:
    """Convert an SAE loaded by SAELens to one of the three forms.

    Raises:
        EsrError: the architecture or its normalisation is not one of these forms.
    """
    config = sae.cfg
    architecture = config.architecture()
    forms: dict[str, Activation] = {"standard": "relu", "jumprelu": "jumprelu", "topk": "topk"}
    if architecture not in forms:
        raise EsrError(
            f"SAE architecture {architecture!r} is not supported; choose one of {sorted(forms)}"
        )
    if config.normalize_activations not in (None, "none"):
        raise EsrError(
            f"the SAE normalises its input ({config.normalize_activations!r}) at run time; "
            "fold the normalisation into the weights with SAELens first"
        )
    if config.reshape_activations != "none":
        raise EsrError(
            f"the SAE reads attention heads ({config.reshape_activations!r}), not the residual "
            "stream; choose an SAE of the residual stream"
        )
    if getattr(config, "rescale_acts_by_decoder_norm", False):
        raise EsrError("rescale_acts_by_decoder_norm: call fold_W_dec_norm() in SAELens first")
    W_enc, b_enc, W_dec, b_dec = (
        tensor.detach().float().cpu() for tensor in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec)
    )
    if config.apply_b_dec_to_input:
        # (h - b_dec) @ W_enc + b_enc = h @ W_enc + (b_enc - b_dec @ W_enc)
        b_enc = b_enc - b_dec @ W_enc
    threshold = sae.threshold.detach().float().cpu() if architecture == "jumprelu" else None
    k = int(config.k) if architecture == "topk" else None
    return Sae(forms[architecture], W_enc, b_enc, W_dec, b_dec, threshold, k)
