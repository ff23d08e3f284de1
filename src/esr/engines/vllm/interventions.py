"""The operation inside vLLM's graph that steers, ablates and copies, and the buffers it reads.

With h = hidden + residual, the residual stream (tokens d_model) of a step at one layer, and for
each token t, in float32:

    h'[t] = h[t] + sum over k of (value[set[t], k] - member[set[t], k] * a_k(h[t])) * W_dec[k]
                 + boost[t] * rows[slot[t]]

For a latent that the token's request ablates, member is the strength and value 0; for one that it
clamps, member is 1 and value the activation; else both are 0. Every layer with a site has its own
boost, slot and set of each token. Outside a window the boost, or the set, is 0.

If h'[t] is not finite, the request of t is marked, and h'[t] becomes residual[t]. NaN in the KV
cache would reach the next request in the same block, for attention multiplies it by a weight of 0,
which is NaN.

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

from esr.directions.vectors import Directions
from esr.engines.intervention import Intervention, LayerChange, Row, Window
from esr.engines.vllm.flags import Flags
from esr.engines.vllm.latents import LatentSet, LatentSets
from esr.engines.vllm.slots import Slots, upload

Inside = tuple[int, int, int, int, int]
"""A window in a step: request (its place in the step), 0 for added and 1 for encoded, layer (its
place in the buffers), first and last + 1 of the request's tokens of the step that lie inside."""

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


Sum = tuple[tuple[Row, float], ...]
"""A direction to add at a factor of its own: one row, or a sum of several, each with a factor."""


class Placed(NamedTuple):
    """A request's slots and factors, by layer with a site."""

    boost: Float[np.ndarray, " layers"]
    slots: Int[np.ndarray, "2 layers"]
    windows: list[tuple[int, int, Window]]
    rows: list[Sum]
    sets: list[LatentSet]


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
        adds: Sequence[int] = (0,),
        encodes: Sequence[int] = (0,),
        contain: bool = True,
    ) -> None:
        """Allocate the buffers.

        Args:
            sae_file: The SAE.
            n_tokens: Largest number of tokens in a step, padding included.
            n_requests: Largest number of requests in a step.
            n_ablated: Latents that can be ablated or clamped at a time, over all requests.
            device: Device of the model.
            directions: Sets of directions that requests may name.
            adds: Layers at which directions are added; first that of operations that name none.
            encodes: Layers at which latents are ablated and clamped, likewise.
            contain: Replace what is not finite. Not with prefix caching: a request that reads the
                blocks of one that is marked is not marked itself.
        """
        self.contain = contain
        self.flags = Flags(2 * n_requests, n_tokens, device)
        self._file = safe_open(sae_file, "pt")
        self._vectors = {found.name: found.by_row() for found in directions}
        self.adds, self.encodes = tuple(adds), tuple(encodes)
        self.layers = sorted({*adds, *encodes})
        # Twice the number of requests: a new one may arrive before the end of an old one is known.
        self._slots = Slots[Sum](2 * n_requests * len(adds))
        self.latents = LatentSets(sae_file, n_ablated, 2 * n_requests * len(encodes), device)
        self.n_tokens = n_tokens
        zeros = partial(torch.zeros, device=device)
        self.rows: Float[Tensor, "slots d_model"] = zeros(
            2 * n_requests * len(adds) + 1, self.latents.W_dec.shape[1], dtype=torch.float32
        )
        n_layers = len(self.layers)
        self.boost: Float[Tensor, "layers tokens"] = zeros(n_layers, n_tokens, dtype=torch.float32)
        # For each layer and token, the slot of its direction and that of its set of latents. One
        # tensor, so that a step needs one copy to the device.
        self.slot: Int[Tensor, "2 layers tokens"] = zeros(2, n_layers, n_tokens, dtype=torch.int64)
        self.host_counts = np.zeros((n_layers, 3), dtype=np.int64)
        """Steps, steered tokens and encoded tokens so far at each layer, as the host counts them.

        An encoded token is one with ablated or clamped latents."""
        self._requests: dict[str, Placed] = {}
        self._layout: tuple[tuple[str, ...], tuple[int, ...], tuple[Inside, ...]] | None = None
        self._step_counts = np.zeros_like(self.host_counts)
        self._filled = 0

    def place(self, layer: int) -> int:
        """Place of a layer in the buffers."""
        return self.layers.index(layer)

    def add(self, request: str, intervention: Intervention) -> None:
        """Register the intervention of a request. A preempted request is registered again.

        Raises:
            RuntimeError: it names a layer without a site that could apply it.
        """
        self._release(request)
        n = len(self.layers)
        placed = Placed(np.zeros(n, np.float32), np.zeros((2, n), np.int64), [], [], [])
        for layer, change in intervention.at_layers(self.adds[0], self.encodes[0]).items():
            if (change.added and layer not in self.adds) or (
                change.encoded and layer not in self.encodes
            ):
                raise RuntimeError(f"esr: request {request}: no site for {change} at layer {layer}")
            self._place(placed, self.place(layer), change)
        self._requests[request] = placed
        self.flags.add(request)
        self._layout = None

    def _place(self, placed: Placed, at: int, change: LayerChange) -> None:
        """Acquire the slots of a request at one layer."""
        if change.added:
            # One direction at several boosts is one row; a sum of directions is a row of its own.
            alone = len(change.added) == 1
            factor = next(iter(change.added.values())) if alone else 1.0
            row = tuple((one, 1.0 if alone else amount) for one, amount in change.added.items())
            slot, new = self._slots.acquire(row)
            if new:
                self.rows[slot] = sum(amount * self._vector(one) for one, amount in row)
            placed.rows.append(row)
            placed.boost[at], placed.slots[0, at] = factor, slot
        if change.encoded:
            latents = tuple(sorted(change.encoded.items()))
            placed.slots[1, at] = self.latents.acquire(latents)
            placed.sets.append(latents)
        for which, window in enumerate((change.added_window, change.encoded_window)):
            if window is not None:
                placed.windows.append((which, at, window))

    def _vector(self, row: Row) -> Float[Tensor, " d_model"]:
        if row.directions is None:
            return self._file.get_slice("W_dec")[row.number].float()
        return self._vectors[row.directions][row.number]

    def drop(self, request: str) -> None:
        """Forget a request. Unknown requests are ignored."""
        if request in self._requests:
            self._release(request)
            self.flags.drop(request)

    def _release(self, request: str) -> None:
        placed = self._requests.pop(request, None)
        if placed is None:
            return
        self._layout = None
        for row in placed.rows:
            self._slots.release(row)
        for latents in placed.sets:
            self.latents.release(latents)

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
        inside: list[Inside] = []
        for number, (request, count, before) in enumerate(
            zip(requests, counts, computed, strict=True)
        ):
            for which, at, window in self._requests[request].windows:
                start, stop = window.clip(before, before + count)
                inside.append((number, which, at, start - before, stop - before))
        layout = (tuple(requests), tuple(counts), tuple(inside))
        # While all requests decode, consecutive steps have the same layout and need no copy,
        # unless a request enters or leaves its window.
        if layout != self._layout:
            self._write(*layout)
            self._layout = layout
        self.host_counts += self._step_counts

    def _write(
        self, requests: tuple[str, ...], counts: tuple[int, ...], inside: tuple[Inside, ...]
    ) -> None:
        n = sum(counts)
        end = max(n, self._filled)  # tokens of the previous step may be padding of this one
        if end > self.n_tokens:
            raise RuntimeError(f"esr: a step of {end} tokens exceeds buffers of {self.n_tokens}")
        known = [self._requests[request] for request in requests]
        boost = np.zeros((len(self.layers), end), np.float32)
        slot = np.zeros((2, len(self.layers), end), np.int64)
        boost[:, :n] = np.repeat(np.stack([one.boost for one in known], axis=-1), counts, axis=-1)
        slot[..., :n] = np.repeat(np.stack([one.slots for one in known], axis=-1), counts, axis=-1)
        firsts = np.cumsum(counts) - counts
        for number, which, at, start, stop in inside:
            tokens = (slot[1] if which else boost)[at, firsts[number] :][: counts[number]]
            tokens[:start] = 0
            tokens[stop:] = 0
        upload(self.boost[:, :end], torch.from_numpy(boost))
        upload(self.slot[..., :end], torch.from_numpy(slot))
        self.flags.fill(requests, counts, end)
        self._step_counts[:, 0] = 1
        self._step_counts[:, 1] = np.count_nonzero(boost, axis=1)
        self._step_counts[:, 2] = np.count_nonzero(slot[1], axis=1)
        self._filled = n


class Site:
    """The operation at the output of one decoder layer."""

    def __init__(
        self,
        buffers: Interventions,
        *,
        steers: bool,
        ablates: bool,
        taps: bool,
        layer: int | None = None,
        tapped: bool = True,
    ) -> None:
        """Register a site.

        Args:
            buffers: The interventions, shared by all sites.
            steers: Add directions here.
            ablates: Ablate and clamp latents here.
            taps: Copy the residual stream here, interventions included.
            layer: Decoder layer; None = the first one of the buffers.
            tapped: The tap is at this layer or a later one.
        """
        self.tapped = tapped
        self.buffers = buffers
        self.steers = steers
        self.ablates = ablates
        self.place = buffers.place(layer) if layer in buffers.layers else 0
        device = buffers.boost.device
        shape = (buffers.n_tokens, buffers.rows.shape[1])
        self.tap: Float[Tensor, "tokens d_model"] | None = None
        if taps:
            self.tap = torch.zeros(shape, dtype=torch.float32, device=device)
        self.device_counts = torch.zeros(3, dtype=torch.int64, device=device)
        """Steps, steered tokens and encoded tokens so far, as the device counts them."""
        self.n_python_calls = 0
        """Calls from Python: at each step or, with CUDA graphs, at each capture only."""
        self.number = len(_SITES)
        _SITES.append(self)

    def apply(
        self, hidden: Float[Tensor, "tokens d_model"], residual: Float[Tensor, "tokens d_model"]
    ) -> None:
        """Change `hidden` in place such that hidden + residual becomes h'.

            h' = h + sum over k of (value[set, k] - member[set, k] a_k(h)) W_dec[k]
                   + boost * rows[slot]
            h  = hidden + residual

        Args:
            hidden: Output of the layer, in the dtype of the model.
            residual: Residual stream before it, likewise. vLLM adds the two in its next norm.
        """
        self.n_python_calls += 1
        n = hidden.shape[0]
        boost = self.buffers.boost[self.place, :n]
        row, latents = self.buffers.slot[:, self.place, :n]
        delta = None
        if self.ablates:
            h = hidden.float() + residual.float()
            delta = self.buffers.latents.delta(h, latents)
            self.device_counts[2] += latents.count_nonzero()
        if self.steers:
            added = self.buffers.rows.index_select(0, row).mul_(boost[:, None])
            delta = added if delta is None else delta.add_(added)
            self.device_counts[1] += boost.count_nonzero()
        if delta is not None:
            # Adding to `hidden` alone rounds once; a delta of 0 leaves its value unchanged.
            hidden.copy_(delta.add_(hidden))
        flags = self.buffers.flags
        if self.buffers.contain:
            bad = ~(hidden + residual).abs().amax(dim=-1).isfinite()
            flags.mark_tokens(bad, self.tapped)
            hidden.masked_fill_(bad[:, None], 0)
        if self.tap is not None:
            torch.add(hidden.float(), residual.float(), out=self.tap[:n])
            if self.buffers.contain:  # else it would show replacements, of earlier sites, too
                self.tap[:n].masked_fill_(flags.unreadable(n)[:, None], torch.nan)
        # Counted on the device, by the graph itself: a graph without the operation counts nothing.
        self.device_counts[0] += 1

    def count_mismatch(self) -> str:
        """Describe how the counts of device and host differ; empty if they agree."""
        device = self.device_counts.tolist()
        counts = self.buffers.host_counts[self.place]
        host = (counts * [1, self.steers, self.ablates]).tolist()
        if device == host:
            return ""
        names = ("steps", "steered tokens", "ablated tokens")
        return ", ".join(
            f"{name}: {done} of {expected}"
            for name, done, expected in zip(names, device, host, strict=True)
        )
