"""The operation inside vLLM's graph that steers, ablates and taps, and the buffers that it reads.

Only an integer crosses the graph's boundary. Every tensor that the operation reads stays where it
is, so that what is done to which token is the content of buffers, written between two forward
passes: never a recompilation, never a new CUDA graph. Shapes are static and nothing waits for the
device. Semantics are those of `esr.engines.base`; sums are taken in float32.
"""

from collections.abc import Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from esr.assets.sae import Sae, load_sae, sae_form
from esr.engines.base import Intervention

Key = TypeVar("Key", bound=Hashable)
CHUNK = 1024
"""Tokens that all latents are computed for at a time, to bound memory."""

_SITES: list["Site"] = []
_library = torch.library.Library("esr", "FRAGMENT")
_library.define("intervene_(Tensor(a!) hidden, Tensor residual, int site) -> ()")


def _intervene(hidden: Tensor, residual: Tensor, site: int) -> None:
    _SITES[site].apply(hidden, residual)


_library.impl("intervene_", _intervene, "CompositeExplicitAutograd")
_library._register_fake("intervene_", lambda hidden, residual, site: None)


class Slots(Generic[Key]):
    """Places of a buffer, each shared by all users of a key; place 0 stays empty."""

    def __init__(self, size: int) -> None:
        self._free = list(range(size, 0, -1))
        self._place: dict[Key, int] = {}
        self._users: dict[Key, int] = {}

    def take(self, key: Key) -> tuple[int, bool]:
        """Return the place of a key, and whether the key is new there.

        Raises:
            RuntimeError: all places are taken.
        """
        new = key not in self._place
        if new:
            if not self._free:
                raise RuntimeError(f"esr: no place is left for {key!r} beside {len(self._place)}")
            self._place[key] = self._free.pop()
        self._users[key] = self._users.get(key, 0) + 1
        return self._place[key], new

    def give_back(self, key: Key) -> None:
        """Count a user less; the last one frees the place."""
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self._free.append(self._place.pop(key))

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, key: Key) -> bool:
        return key in self._place

    def __getitem__(self, key: Key) -> int:
        return self._place[key]


class Ablations:
    """Encoder columns and decoder rows of the latents that running requests have ablated.

    A place without a latent has a column of zeros, so that it is never active. A TopK SAE needs
    its whole encoder to know which latents are active; the others only the columns asked for.
    """

    def __init__(self, sae_file: Path, size: int, sets: int, device: torch.device) -> None:
        self._file = safe_open(sae_file, "pt")
        activation, _ = sae_form(sae_file)
        self._slots, self._sets = Slots[int](size), Slots[tuple[int, ...]](sets)
        _, d_model = self._file.get_slice("W_dec").get_shape()
        zeros = partial(torch.zeros, dtype=torch.float32, device=device)
        self.W_dec = zeros(size + 1, d_model)
        self.member = zeros(sets + 1, size + 1)
        self.columns = torch.zeros(size + 1, dtype=torch.int64, device=device)
        self._whole = load_sae(sae_file, device) if activation == "topk" else None
        self._some = Sae(
            "relu" if activation == "topk" else activation,
            W_enc=zeros(d_model, size + 1),
            b_enc=zeros(size + 1),
            W_dec=self.W_dec,
            b_dec=self.W_dec[0],
            threshold=zeros(size + 1) if activation == "jumprelu" else None,
        )

    def take(self, latents: tuple[int, ...]) -> int:
        """Place of a set of latents among the sets; what is new is brought to the device."""
        latents = tuple(sorted(set(latents)))
        place, new = self._sets.take(latents)
        if new:
            self.member[place] = 0
            for latent in latents:
                self.member[place, self._column(latent)] = 1
        return place

    def give_back(self, latents: tuple[int, ...]) -> None:
        """Count a user of a set less."""
        latents = tuple(sorted(set(latents)))
        before = len(self._sets)
        self._sets.give_back(latents)
        if len(self._sets) < before:
            for latent in latents:
                self._slots.give_back(latent)

    def removed(
        self, h: Float[Tensor, "tokens d_model"], sets: Int[Tensor, " tokens"]
    ) -> Float[Tensor, "tokens d_model"]:
        """Sum over the latents k of each token's set of a_k(h) W_dec[k]; set 0 is empty."""
        acts = self._some.encode(h) if self._whole is None else self._chosen(h, self._whole)
        return (acts * self.member.index_select(0, sets)) @ self.W_dec

    def _chosen(
        self, h: Float[Tensor, "tokens d_model"], sae: Sae
    ) -> Float[Tensor, "tokens places"]:
        parts = h.split(CHUNK)  # static: a graph is captured for a number of tokens
        return torch.cat([sae.encode(part).index_select(1, self.columns) for part in parts])

    def _column(self, latent: int) -> int:
        place, new = self._slots.take(latent)
        if new:
            self.W_dec[place] = self._file.get_slice("W_dec")[latent].float()
            if self._whole is not None:
                self.columns[place] = latent
                return place
            column = self._file.get_slice("W_enc")[:, latent : latent + 1].float()
            self._some.W_enc[:, place] = column[:, 0].to(self.W_dec.device)
            for name, buffer in (("b_enc", self._some.b_enc), ("threshold", self._some.threshold)):
                if buffer is not None:
                    buffer[place] = self._file.get_slice(name)[latent : latent + 1].float()[0]
        return place


class Interventions:
    """What is done to each token of a step: buffers on the device, and the host's own account."""

    def __init__(
        self, sae_file: Path, n_tokens: int, n_requests: int, n_ablated: int, device: torch.device
    ) -> None:
        """Make the buffers.

        Args:
            sae_file: The SAE.
            n_tokens: Tokens of a step at most, padding included.
            n_requests: Requests of a step at most.
            n_ablated: Latents that may be ablated at a time, all requests together.
            device: Where the model is.
        """
        self._file = safe_open(sae_file, "pt")
        # Twice, since a request's successor may come before it is known to have ended.
        self._rows = Slots[int](2 * n_requests)
        self.ablations = Ablations(sae_file, n_ablated, 2 * n_requests, device)
        d_model = self.ablations.W_dec.shape[1]
        self.n_tokens = n_tokens
        self.rows = torch.zeros(2 * n_requests + 1, d_model, dtype=torch.float32, device=device)
        self.boost = torch.zeros(n_tokens, dtype=torch.float32, device=device)
        # Of each token: the place of its decoder row, and of its set of ablated latents.
        self.place = torch.zeros(2, n_tokens, dtype=torch.int64, device=device)
        self.expected = np.zeros(3, dtype=np.int64)
        """Steps, steered tokens and ablated tokens so far, as the host counts them."""
        self._of: dict[str, tuple[Intervention, int, int]] = {}
        self._laid_out: tuple[tuple[str, ...], tuple[int, ...]] | None = None
        self._counts = np.zeros(3, dtype=np.int64)
        self._filled = 0

    def add(self, request: str, what: Intervention) -> None:
        """Note what is to be done to a request; again, if it comes back after a preemption."""
        self.drop(request)
        row = ablated = 0
        if what.latent is not None and what.boost != 0:
            row, new = self._rows.take(what.latent)
            if new:
                self.rows[row] = self._file.get_slice("W_dec")[what.latent].float()
        if what.ablated:
            ablated = self.ablations.take(what.ablated)
        self._of[request] = (what, row, ablated)
        self._laid_out = None

    def drop(self, request: str) -> None:
        """Forget a request, if it is known."""
        what, row, ablated = self._of.pop(request, (None, 0, 0))
        if what is not None:
            self._laid_out = None
            if row:
                assert what.latent is not None
                self._rows.give_back(what.latent)
            if ablated:
                self.ablations.give_back(what.ablated)

    def fill(self, requests: Sequence[str], counts: Sequence[int]) -> None:
        """Lay out a step: so many tokens of each request, in this order, then padding."""
        layout = (tuple(requests), tuple(counts))
        if layout != self._laid_out:
            self._lay_out(*layout)
            self._laid_out = layout
        self.expected += self._counts

    def _lay_out(self, requests: tuple[str, ...], counts: tuple[int, ...]) -> None:
        n = sum(counts)
        end = max(n, self._filled)  # what was a token before may be padding now
        if end > self.n_tokens:
            raise RuntimeError(f"esr: a step of {end} tokens, buffers for {self.n_tokens}")
        known = [self._of[request] for request in requests]
        boosts = np.array([what.boost if row else 0.0 for what, row, _ in known], np.float32)
        places = np.array([[row, ablated] for _, row, ablated in known], np.int64).T
        boost, place = np.zeros(end, np.float32), np.zeros((2, end), np.int64)
        boost[:n], place[:, :n] = np.repeat(boosts, counts), np.repeat(places, counts, axis=1)
        self._upload(self.boost[:end], boost)
        self._upload(self.place[:, :end], place)
        self._counts[:] = 1, np.count_nonzero(boost), np.count_nonzero(place[1])
        self._filled = n

    def _upload(self, target: Tensor, values: np.ndarray) -> None:
        source = torch.from_numpy(values)
        if target.device.type != "cpu":
            source = source.pin_memory()  # memory of its own: the copy goes on while we do
        target.copy_(source, non_blocking=True)


class Site:
    """What happens at the output of one decoder layer."""

    def __init__(self, what: Interventions, *, steers: bool, ablates: bool, taps: bool) -> None:
        """Register a site.

        Args:
            what: The buffers, shared by all sites.
            steers: Boosts are added here.
            ablates: Latents are ablated here.
            taps: The residual stream is copied here, interventions included.
        """
        self.what, self.steers, self.ablates = what, steers, ablates
        device = what.boost.device
        shape = (what.n_tokens, what.rows.shape[1])
        self.tap = torch.zeros(shape, dtype=torch.float32, device=device) if taps else None
        self.counted = torch.zeros(3, dtype=torch.int64, device=device)
        """Steps, steered tokens and ablated tokens so far, as the device counts them."""
        self.traced = 0
        """How often Python came by: when a graph was made or, without graphs, at every step."""
        self.number = len(_SITES)
        _SITES.append(self)

    def apply(
        self, hidden: Float[Tensor, "tokens d_model"], residual: Float[Tensor, "tokens d_model"]
    ) -> None:
        """Change `hidden` in place; the residual stream is h = hidden + residual."""
        self.traced += 1
        what, n = self.what, hidden.shape[0]
        boost, (row, ablated) = what.boost[:n], what.place[:, :n]
        delta = None
        if self.ablates:
            delta = what.ablations.removed(hidden.float() + residual.float(), ablated).neg_()
            self.counted[2] += ablated.count_nonzero()
        if self.steers:
            added = what.rows.index_select(0, row).mul_(boost[:, None])
            delta = added if delta is None else delta.add_(added)
            self.counted[1] += boost.count_nonzero()
        if delta is not None:
            hidden.copy_(delta.add_(hidden))
        if self.tap is not None:
            torch.add(hidden.float(), residual.float(), out=self.tap[:n])
        self.counted[0] += 1

    def discrepancy(self) -> str:
        """What the device did otherwise than the host told it; empty if nothing."""
        done = self.counted.tolist()
        told = self.what.expected * [1, self.steers, self.ablates]
        if done == told.tolist():
            return ""
        names = ("steps", "steered tokens", "ablated tokens")
        return ", ".join(f"{n}: {d} of {t}" for n, d, t in zip(names, done, told, strict=True))
