"""The operation inside vLLM's graph that steers, ablates and copies, and the buffers it reads.

With h = hidden + residual, the residual stream (tokens d_model) of a step, and for each token t,
in float32:

    h'[t] = h[t] - sum over k of member[set[t], k] * a_k(h[t]) * W_dec[k]
                 + boost[t] * rows[slot[t]]

A member is 0 for latents that the token's request does not ablate, else the strength. The boost is
0 outside the window of its request.

Only an integer, the number of the site, crosses the boundary of the graph. All tensors that the
operation reads have fixed addresses. An intervention is therefore the content of buffers, written
between two forward passes, and needs no new compilation and no new CUDA graph. Shapes are static,
and the operation never synchronises with the device.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from esr.assets.sae import Sae, load_sae, read_header
from esr.directions.vectors import Directions
from esr.engines.base import Intervention
from esr.engines.vllm.slots import Slots

Steered = tuple[int, int]
"""Half-open range of a request's tokens in a step, to which the boost is added."""

CHUNK = 1024
"""Tokens whose latents are all computed at a time (TopK). Bounds memory."""

# A custom operation is opaque to torch.compile: the graph holds one call with the number of a site,
# and the Python below runs on every call, or once when a CUDA graph is captured. It changes
# `hidden` in place, since the layer must return the tensor that the rest of the graph uses.
_SITES: list["Site"] = []
_library = torch.library.Library("esr", "FRAGMENT")
_library.define("intervene_(Tensor(a!) hidden, Tensor residual, int site) -> ()")


def _intervene(hidden: Tensor, residual: Tensor, site: int) -> None:
    _SITES[site].apply(hidden, residual)


_library.impl("intervene_", _intervene, "CompositeExplicitAutograd")
_library._register_fake("intervene_", lambda hidden, residual, site: None)


class Row(NamedTuple):
    """A direction: a row of a set of directions, or of the decoder (None)."""

    directions: str | None
    number: int


class Ablation(NamedTuple):
    """A set of latents and the share of their component that is removed."""

    latents: tuple[int, ...]
    strength: float

    @classmethod
    def of(cls, intervention: Intervention) -> "Ablation":
        """The ablation of an intervention, with each latent once."""
        return cls(tuple(sorted(set(intervention.ablated))), intervention.strength)


class Ablations:
    """Encoder columns and decoder rows of the latents that running requests ablate.

    Every token encodes the union of these latents; `member` then weights each by the strength of
    the token's request, 0 for latents of other requests. A slot without a latent has a column of
    zeros, so its activation is 0. A TopK SAE needs its entire encoder to determine which latents
    are active. The other forms need only the columns in use.
    """

    def __init__(self, sae_file: Path, size: int, sets: int, device: torch.device) -> None:
        """Allocate the buffers.

        Args:
            sae_file: The SAE.
            size: Latents that can be ablated at a time.
            sets: Sets of latents that can be in use at a time.
            device: Device of the model.
        """
        header = read_header(sae_file)
        topk = header.activation == "topk"
        zeros = partial(torch.zeros, dtype=torch.float32, device=device)
        # Weights of single latents are read from the file when a request needs them.
        self._file = safe_open(sae_file, "pt")
        self._slots = Slots[int](size)
        self._sets = Slots[Ablation](sets)
        self.W_dec: Float[Tensor, "slots d_model"] = zeros(size + 1, header.d_model)
        self.member: Float[Tensor, "sets slots"] = zeros(sets + 1, size + 1)
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

    def acquire(self, ablation: Ablation) -> int:
        """Return the slot of an ablation; copies weights that are not on the device yet."""
        slot, new = self._sets.acquire(ablation)
        if new:
            self.member[slot] = 0
            for latent in ablation.latents:
                self.member[slot, self._load(latent)] = ablation.strength
        return slot

    def release(self, ablation: Ablation) -> None:
        """Remove one user of an ablation."""
        before = len(self._sets)
        self._sets.release(ablation)
        if len(self._sets) < before:
            for latent in ablation.latents:
                self._slots.release(latent)

    def component(
        self, h: Float[Tensor, "tokens d_model"], sets: Int[Tensor, " tokens"]
    ) -> Float[Tensor, "tokens d_model"]:
        """Compute the sum over k of member[set, k] a_k(h) W_dec[k], by token. Set 0 is empty."""
        if self._full_sae is None:
            acts = self._small_sae.encode(h)
        else:
            acts = self._topk_acts(h, self._full_sae)
        return (acts * self.member.index_select(0, sets)) @ self.W_dec

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


class Interventions:
    """The interventions of a step: buffers on the device, and the counts of the host."""

    def __init__(
        self,
        sae_file: Path,
        n_tokens: int,
        n_requests: int,
        n_ablated: int,
        device: torch.device,
        directions: Sequence[Directions] = (),
    ) -> None:
        """Allocate the buffers.

        Args:
            sae_file: The SAE.
            n_tokens: Largest number of tokens in a step, padding included.
            n_requests: Largest number of requests in a step.
            n_ablated: Latents that can be ablated at a time, over all requests.
            device: Device of the model.
            directions: Sets of directions that requests may name.
        """
        self._file = safe_open(sae_file, "pt")
        self._vectors = {found.name: found.by_row() for found in directions}
        # Twice the number of requests: a new one may arrive before the end of an old one is known.
        size = 2 * n_requests
        self._slots = Slots[Row](size)
        self.ablations = Ablations(sae_file, n_ablated, size, device)
        d_model = self.ablations.W_dec.shape[1]
        self.n_tokens = n_tokens
        self.rows: Float[Tensor, "slots d_model"] = torch.zeros(
            size + 1, d_model, dtype=torch.float32, device=device
        )
        self.boost: Float[Tensor, " tokens"] = torch.zeros(
            n_tokens, dtype=torch.float32, device=device
        )
        # For each token, the slot of its decoder row and that of its set of ablated latents. One
        # tensor, so that a step needs one copy to the device.
        self.slot: Int[Tensor, "2 tokens"] = torch.zeros(
            2, n_tokens, dtype=torch.int64, device=device
        )
        self.host_counts = np.zeros(3, dtype=np.int64)
        """Steps, steered tokens and ablated tokens so far, as the host counts them."""
        self._requests: dict[str, tuple[Intervention, int, int]] = {}
        self._layout: tuple[tuple[str, ...], tuple[int, ...], tuple[Steered, ...]] | None = None
        self._step_counts = np.zeros(3, dtype=np.int64)
        self._filled = 0

    def add(self, request: str, intervention: Intervention) -> None:
        """Register the intervention of a request. A preempted request is registered again."""
        self.drop(request)
        row = 0
        ablated = 0
        if intervention.latent is not None and intervention.boost != 0:
            row, new = self._slots.acquire(Row(intervention.directions, intervention.latent))
            if new:
                self.rows[row] = self._vector(intervention.directions, intervention.latent)
        if intervention.ablated:
            ablated = self.ablations.acquire(Ablation.of(intervention))
        self._requests[request] = (intervention, row, ablated)
        self._layout = None

    def _vector(self, directions: str | None, number: int) -> Float[Tensor, " d_model"]:
        if directions is None:
            return self._file.get_slice("W_dec")[number].float()
        return self._vectors[directions][number]

    def drop(self, request: str) -> None:
        """Forget a request. Unknown requests are ignored."""
        intervention, row, ablated = self._requests.pop(request, (None, 0, 0))
        if intervention is not None:
            self._layout = None
            if row:
                assert intervention.latent is not None
                self._slots.release(Row(intervention.directions, intervention.latent))
            if ablated:
                self.ablations.release(Ablation.of(intervention))

    def fill(self, requests: Sequence[str], counts: Sequence[int], computed: Sequence[int]) -> None:
        """Write the buffers for a step.

        Args:
            requests: Requests of the step, in the order of their tokens.
            counts: Number of tokens of each.
            computed: Tokens of each that earlier steps computed.

        Raises:
            KeyError: a request was not added.
            RuntimeError: the step has more tokens than the buffers.
        """
        steered = tuple(map(self._steered, requests, counts, computed))
        layout = (tuple(requests), tuple(counts), steered)
        # While all requests decode, consecutive steps have the same layout and need no copy,
        # unless a request enters or leaves its window.
        if layout != self._layout:
            self._write(*layout)
            self._layout = layout
        self.host_counts += self._step_counts

    def _steered(self, request: str, count: int, before: int) -> Steered:
        """Steered tokens of a request in a step, as a range of the step's tokens of the request."""
        window = self._requests[request][0].window
        if window is None:
            return 0, count
        start, stop = window.clip(before, before + count)
        return start - before, stop - before

    def _write(
        self, requests: tuple[str, ...], counts: tuple[int, ...], steered: tuple[Steered, ...]
    ) -> None:
        n = sum(counts)
        end = max(n, self._filled)  # tokens of the previous step may be padding of this one
        if end > self.n_tokens:
            raise RuntimeError(f"esr: a step of {end} tokens exceeds buffers of {self.n_tokens}")
        known = [self._requests[request] for request in requests]
        slots = np.array([[row, ablated] for _, row, ablated in known], np.int64).T
        boost = np.zeros(end, np.float32)
        firsts = np.cumsum(counts) - counts
        for (what, row, _), first, (start, stop) in zip(known, firsts, steered, strict=True):
            if row:
                boost[first + start : first + stop] = what.boost
        slot = np.zeros((2, end), np.int64)
        slot[:, :n] = np.repeat(slots, counts, axis=1)
        self._upload(self.boost[:end], boost)
        self._upload(self.slot[:, :end], slot)
        self._step_counts[:] = 1, np.count_nonzero(boost), np.count_nonzero(slot[1])
        self._filled = n

    def _upload(self, target: Tensor, values: np.ndarray) -> None:
        source = torch.from_numpy(values)
        if target.device.type != "cpu":
            # Pinned memory makes the copy asynchronous. It is new memory for every step, so the
            # next step cannot overwrite it before the copy has finished.
            source = source.pin_memory()
        target.copy_(source, non_blocking=True)


class Site:
    """The operation at the output of one decoder layer."""

    def __init__(self, buffers: Interventions, *, steers: bool, ablates: bool, taps: bool) -> None:
        """Register a site.

        Args:
            buffers: The interventions, shared by all sites.
            steers: Add boosts here.
            ablates: Ablate latents here.
            taps: Copy the residual stream here, interventions included.
        """
        self.buffers = buffers
        self.steers = steers
        self.ablates = ablates
        device = buffers.boost.device
        shape = (buffers.n_tokens, buffers.rows.shape[1])
        self.tap: Float[Tensor, "tokens d_model"] | None = None
        if taps:
            self.tap = torch.zeros(shape, dtype=torch.float32, device=device)
        self.device_counts = torch.zeros(3, dtype=torch.int64, device=device)
        """Steps, steered tokens and ablated tokens so far, as the device counts them."""
        self.n_python_calls = 0
        """Calls from Python: at each step or, with CUDA graphs, at each capture only."""
        self.number = len(_SITES)
        _SITES.append(self)

    def apply(
        self, hidden: Float[Tensor, "tokens d_model"], residual: Float[Tensor, "tokens d_model"]
    ) -> None:
        """Change `hidden` in place such that hidden + residual becomes h'.

            h' = h - sum over k in set of a_k(h) W_dec[k] + boost * rows[slot]
            h  = hidden + residual

        Args:
            hidden: Output of the layer, in the dtype of the model.
            residual: Residual stream before it, likewise. vLLM adds the two in its next norm.
        """
        self.n_python_calls += 1
        n = hidden.shape[0]
        boost = self.buffers.boost[:n]
        row, ablated = self.buffers.slot[:, :n]
        delta = None
        if self.ablates:
            h = hidden.float() + residual.float()
            delta = self.buffers.ablations.component(h, ablated).neg_()
            self.device_counts[2] += ablated.count_nonzero()
        if self.steers:
            added = self.buffers.rows.index_select(0, row).mul_(boost[:, None])
            delta = added if delta is None else delta.add_(added)
            self.device_counts[1] += boost.count_nonzero()
        if delta is not None:
            # Adding to `hidden` alone rounds once; a delta of 0 leaves its value unchanged.
            hidden.copy_(delta.add_(hidden))
        if self.tap is not None:
            torch.add(hidden.float(), residual.float(), out=self.tap[:n])
        # Counted on the device, by the graph itself: a graph without the operation counts nothing.
        self.device_counts[0] += 1

    def count_mismatch(self) -> str:
        """Describe how the counts of device and host differ; empty if they agree."""
        device = self.device_counts.tolist()
        host = (self.buffers.host_counts * [1, self.steers, self.ablates]).tolist()
        if device == host:
            return ""
        names = ("steps", "steered tokens", "ablated tokens")
        return ", ".join(
            f"{name}: {done} of {expected}"
            for name, done, expected in zip(names, device, host, strict=True)
        )
