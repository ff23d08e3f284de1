"""Buffers of the latents that requests ablate or clamp, read by the operation in vLLM's graph."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from esr.assets.sae import Sae, load_sae, read_header
from esr.engines.intervention import Encoded
from esr.engines.vllm.slots import Slots

CHUNK = 1024
"""Tokens whose latents are all computed at a time (TopK). Bounds memory."""

LatentSet = tuple[tuple[int, Encoded], ...]
"""Latents that one request ablates or clamps at one layer, each once, in order."""


class LatentSets:
    """Encoder columns and decoder rows of the latents that running requests ablate or clamp.

    Every token encodes the union of these latents; `member` then weights each by the strength of
    the token's set, and `value` is added, both 0 for latents of other sets. A slot without a latent
    has a column of zeros, so its activation is 0. A TopK SAE needs its entire encoder to determine
    which latents are active. The other forms need only the columns in use.
    """

    def __init__(self, sae_file: Path, size: int, sets: int, device: torch.device) -> None:
        """Allocate the buffers.

        Args:
            sae_file: The SAE.
            size: Latents that can be ablated or clamped at a time.
            sets: Sets of latents that can be in use at a time.
            device: Device of the model.
        """
        header = read_header(sae_file)
        topk = header.activation == "topk"
        zeros = partial(torch.zeros, dtype=torch.float32, device=device)
        # Weights of single latents are read from the file when a request needs them.
        self._file = safe_open(sae_file, "pt")
        self._slots = Slots[int](size)
        self._sets = Slots[LatentSet](sets)
        self.W_dec: Float[Tensor, "slots d_model"] = zeros(size + 1, header.d_model)
        self.member: Float[Tensor, "sets slots"] = zeros(sets + 1, size + 1)
        self.value: Float[Tensor, "sets slots"] = zeros(sets + 1, size + 1)
        self.latent: Int[Tensor, " slots"] = torch.zeros(size + 1, dtype=torch.int64, device=device)
        self._full_sae = load_sae(sae_file, device) if topk else None
        self._small_sae = Sae(
            "relu" if topk else header.activation,
            W_enc=zeros(header.d_model, size + 1),
            b_enc=zeros(size + 1),
            W_dec=self.W_dec,
            b_dec=self.W_dec[0],
            threshold=zeros(size + 1) if header.activation == "jumprelu" else None,
        )

    def acquire(self, latents: LatentSet) -> int:
        """Return the slot of a set; copies weights that are not on the device yet."""
        slot, new = self._sets.acquire(latents)
        if new:
            self.member[slot] = 0
            self.value[slot] = 0
            for latent, one in latents:
                column = self._load(latent)
                self.member[slot, column] = one.strength
                self.value[slot, column] = np.float32(one.value).item()  # may be infinite
        return slot

    def release(self, latents: LatentSet) -> None:
        """Remove one user of a set."""
        before = len(self._sets)
        self._sets.release(latents)
        if len(self._sets) < before:
            for latent, _ in latents:
                self._slots.release(latent)

    def delta(
        self, h: Float[Tensor, "tokens d_model"], sets: Int[Tensor, " tokens"]
    ) -> Float[Tensor, "tokens d_model"]:
        """Compute the sum over k of (value[set, k] - member[set, k] a_k(h)) W_dec[k], by token.

        Set 0 is empty.
        """
        if self._full_sae is None:
            acts = self._small_sae.encode(h)
        else:
            acts = self._topk_acts(h, self._full_sae)
        member = self.member.index_select(0, sets)
        # An activation may be infinite. One of another set is then 0 all the same.
        weighted = acts.mul_(member).masked_fill_(member == 0, 0)
        return (self.value.index_select(0, sets) - weighted) @ self.W_dec

    def _topk_acts(
        self, h: Float[Tensor, "tokens d_model"], sae: Sae
    ) -> Float[Tensor, "tokens slots"]:
        # The number of chunks is static: a graph is captured for a fixed number of tokens.
        chunks = h.split(CHUNK)
        return torch.cat([sae.encode(chunk).index_select(1, self.latent) for chunk in chunks])

    def _load(self, latent: int) -> int:
        slot, new = self._slots.acquire(latent)
        if new:
            self.W_dec[slot] = self._file.get_slice("W_dec")[latent].float()
            if self._full_sae is not None:
                self.latent[slot] = latent
                return slot
            column = self._file.get_slice("W_enc")[:, latent : latent + 1].float()
            self._small_sae.W_enc[:, slot] = column[:, 0].to(self.W_dec.device)
            small = {"b_enc": self._small_sae.b_enc, "threshold": self._small_sae.threshold}
            for name, buffer in small.items():
                if buffer is not None:
                    buffer[slot] = self._file.get_slice(name)[latent : latent + 1].float()[0]
        return slot
