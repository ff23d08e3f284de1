"""The reference engine: Hugging Face transformers with forward hooks. Clear and exact.

Each row of a batch carries its own intervention and its own random numbers, drawn from the row's
seed alone, so a row's response does not depend on its neighbours (up to floating-point rounding,
which a fixed partition into batches makes reproducible to the byte on one machine).
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from esr.arms.chat import stop_tokens
from esr.assets.sae import Sae
from esr.engines.base import (
    EncodeRequest,
    Generation,
    Intervention,
    Pool,
    Request,
    Sampling,
    check_latents,
    check_shape,
)
from esr.errors import EsrError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Change = tuple[Bool[Tensor, "batch 1 1"], Callable[[Tensor], Tensor]]
"""Rows that are changed, and what is added to them, as a function of the unchanged residual."""


class TransformersEngine:
    """Steers, ablates and reads a causal language model through forward hooks."""

    independent = False

    def __init__(
        self,
        model: "PreTrainedModel",
        sae: Sae,
        steer_layer: int,
        read_layer: int,
        batch_size: int,
        identity: dict[str, Any] | None = None,
        ablate_layer: int | None = None,
    ) -> None:
        """Wrap a loaded model.

        Args:
            model: A causal language model of transformers, on its device, in its dtype.
            sae: The SAE; moved to the model's device.
            steer_layer: Decoder layer (0-based) at whose output the boost is added.
            read_layer: Decoder layer whose output is encoded when reading.
            batch_size: Rows computed together.
            identity: What names model, SAE and layers in journals.
            ablate_layer: Decoder layer at whose output latents are ablated; None = `steer_layer`.

        Raises:
            EsrError: the model has no such layer, or the SAE is of another width.
        """
        self.model = model.eval().requires_grad_(False)
        self.device = next(model.parameters()).device
        self.sae = sae.to(self.device)
        self.layers = decoder_layers(model)
        self.ablate_layer = steer_layer if ablate_layer is None else ablate_layer
        self.steer_layer, self.read_layer, self.batch_size = steer_layer, read_layer, batch_size
        named = {
            name: getattr(self, name) for name in ("steer_layer", "read_layer", "ablate_layer")
        }
        check_shape(
            named, len(self.layers), sae.d_model, model.config.get_text_config().hidden_size
        )
        self.identity = {"engine": "transformers"} | (identity or {})
        self.stop_tokens = stop_tokens(model.generation_config)

    def partition(self, requests: Sequence[Request]) -> list[list[int]]:
        """Batches of similar prompt length (stable, so that equal inputs give equal batches)."""
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].tokens))
        return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]

    def stream(self, sampling: Sampling) -> "Queue":
        """Groups are computed one after the other, each as one left-padded batch."""
        return Queue(self, sampling)

    @torch.inference_mode()
    def encode(
        self,
        readings: Sequence[EncodeRequest],
        latents: Sequence[int] | None = None,
        pool: Pool | None = "max",
    ) -> list[Float[np.ndarray, "*positions n"]]:
        """Read activations in batches of similar length; see `Engine.encode`."""
        for reading in readings:
            reading.check(self.sae.d_sae)
        check_latents(latents or (), self.sae.d_sae)
        wanted = None if latents is None else torch.tensor(latents, device=self.device)
        order = sorted(range(len(readings)), key=lambda i: len(readings[i].tokens))
        found: dict[int, np.ndarray] = {}
        for begin in range(0, len(order), self.batch_size):
            rows = order[begin : begin + self.batch_size]
            batch = [readings[i] for i in rows]
            tokens, mask = self._pad([reading.tokens for reading in batch])
            residual = self._residual(tokens, mask, batch)
            for row, index in enumerate(rows):
                length, start = len(batch[row].tokens), batch[row].start
                h = residual[row, tokens.shape[1] - length + start :]
                acts = self.sae.encode(h, wanted)
                if not acts.isfinite().all():
                    raise EsrError(
                        f"reading {index}: the residual stream leaves the range of "
                        f"{self.model.dtype}; choose a wider dtype or a smaller boost"
                    )
                found[index] = _pool(acts, pool).float().cpu().numpy()
        return [found[i] for i in range(len(readings))]

    @torch.inference_mode()
    def generate_batch(self, group: Sequence[Request], sampling: Sampling) -> list[Generation]:
        """Responses to requests, computed together with a KV cache."""
        with self._intervene([request.intervention for request in group]):
            return self._sample(group, sampling)

    def _sample(self, group: Sequence[Request], sampling: Sampling) -> list[Generation]:
        tokens, mask = self._pad([request.tokens for request in group])
        uniforms = _uniforms([request.seed for request in group], sampling.max_new_tokens)
        seen = _seen(tokens, mask, self.model.config.get_text_config().vocab_size)
        stops = torch.tensor(self.stop_tokens, device=self.device)
        running = torch.ones(len(group), dtype=torch.bool, device=self.device)
        sound = running.clone()
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        inputs, cache, sampled = tokens, None, []
        for step in range(sampling.max_new_tokens):
            out = self.model(
                input_ids=inputs,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = out.past_key_values
            logits = _penalise(out.logits[:, -1].float(), seen, sampling.repetition_penalty)
            # A row that has ended goes on as filler, whose logits are of no concern.
            sound &= logits.isfinite().all(dim=-1) | ~running
            drawn = _draw(logits, uniforms[:, step].to(self.device), sampling.temperature)
            drawn = torch.where(running, drawn, stops[0])
            sampled.append(drawn)
            seen.scatter_(1, drawn[:, None], True)
            running &= sound & ~torch.isin(drawn, stops)
            if not running.any():
                break
            inputs, positions = drawn[:, None], positions[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(group), 1)], dim=1)
        rows = zip(torch.stack(sampled, dim=1).tolist(), sound.tolist(), strict=True)
        return [self._cut(row, finite) for row, finite in rows]

    def _cut(self, row: list[int], finite: bool) -> Generation:
        if not finite:
            return Generation((), "error")
        end = next((i for i, token in enumerate(row) if token in self.stop_tokens), None)
        if end is None:
            return Generation(tuple(row), "length")
        return Generation(tuple(row[: end + 1]), "stop")

    def _pad(
        self, sequences: Sequence[tuple[int, ...]]
    ) -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"]]:
        longest = max(len(sequence) for sequence in sequences)
        tokens = torch.zeros(len(sequences), longest, dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for row, sequence in enumerate(sequences):
            tokens[row, longest - len(sequence) :] = torch.tensor(sequence)
            mask[row, longest - len(sequence) :] = 1
        return tokens.to(self.device), mask.to(self.device)

    def _column(self, rows: Sequence[Sequence[bool]]) -> Bool[Tensor, "batch 1 n"]:
        return torch.tensor(rows, dtype=torch.bool, device=self.device)[:, None, :]

    def _residual(
        self, tokens: Tensor, mask: Tensor, batch: Sequence[EncodeRequest]
    ) -> Float[Tensor, "batch length d_model"]:
        kept: list[Tensor] = []
        with self._intervene([reading.intervention for reading in batch]):
            # Registered after the interventions, so that reading at the steered layer sees them.
            hook = self.layers[self.read_layer].register_forward_hook(
                lambda _module, _inputs, output: kept.append(_hidden(output))
            )
            try:
                self.model(
                    input_ids=tokens,
                    attention_mask=mask,
                    position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                    use_cache=False,
                    logits_to_keep=1,
                )
            finally:
                hook.remove()
        return kept[0]

    @contextmanager
    def _intervene(self, interventions: Sequence[Intervention]) -> Iterator[None]:
        """Apply each row's intervention for as long as the context is open."""
        W_dec = self.sae.W_dec
        added = torch.zeros(len(interventions), 1, self.sae.d_model, device=self.device)
        for row, what in enumerate(interventions):
            if what.latent is not None:
                added[row, 0] = what.boost * W_dec[what.latent]
        steered = self._column([[what.boost != 0] for what in interventions])
        changes: dict[int, list[Change]] = {self.steer_layer: [(steered, lambda _: added)]}
        union = sorted({latent for what in interventions for latent in what.ablated})
        if union:
            ablated = torch.tensor(union, device=self.device)
            member = self._column([[k in what.ablated for k in union] for what in interventions])
            directions = W_dec[ablated]
            ablation = (
                member.any(dim=-1, keepdim=True),
                lambda h: -(self.sae.encode(h, ablated) * member) @ directions,
            )
            changes.setdefault(self.ablate_layer, []).append(ablation)
        hooks = [
            self.layers[layer].register_forward_hook(_adding(here))
            for layer, here in changes.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


class Queue:
    """Groups waiting to be generated; see `esr.engines.base.Stream`."""

    def __init__(self, engine: TransformersEngine, sampling: Sampling) -> None:
        self._engine, self._sampling = engine, sampling
        self._waiting: deque[tuple[int, Sequence[Request]]] = deque()

    def submit(self, name: int, group: Sequence[Request]) -> None:
        """Hand in a group; see `Stream.submit`."""
        for request in group:
            request.intervention.check(self._engine.sae.d_sae)
        self._waiting.append((name, group))

    def results(self, patience: float | None = None) -> Iterator[tuple[int, list[Generation]]]:
        """Compute group by group, in the order handed in."""
        while self._waiting:
            name, group = self._waiting.popleft()
            yield name, self._engine.generate_batch(group, self._sampling)


def load_engine(
    source: str | Path,
    sae: Sae,
    *,
    revision: str | None,
    dtype: str,
    device: str,
    steer_layer: int,
    read_layer: int,
    batch_size: int,
    threads: int,
    identity: dict[str, Any],
    ablate_layer: int | None = None,
) -> TransformersEngine:
    """Load a checkpoint (a folder, or a hub id from the local cache) and wrap it."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(
        source, revision=revision, dtype=DTYPES[dtype], local_files_only=True
    )
    nn.Module.to(model, device)
    return TransformersEngine(
        model, sae, steer_layer, read_layer, batch_size, identity, ablate_layer
    )


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """Find the decoder layers of a Llama-, Gemma- or Qwen-like model, text part only.

    Raises:
        EsrError: the model is laid out otherwise.
    """
    inner = getattr(model, "model", None)
    for holder in (getattr(inner, "language_model", None), inner):
        layers = getattr(holder, "layers", None)
        if isinstance(layers, nn.ModuleList):
            return layers
    raise EsrError(
        f"{type(model).__name__}: no decoder layers at model.layers; "
        "supported are Llama, Gemma-2, Gemma-3, Qwen-2 and Qwen-3"
    )


def _adding(changes: list[Change]) -> Callable[..., Any]:
    """Forward hook that adds to a layer's output h what each change makes of that same h."""
    touched = torch.stack([rows for rows, _ in changes]).any(dim=0)

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        h = _hidden(output)
        delta = sum(change(h) for _, change in changes)
        # The sum is taken in float32 and rounded once; untouched rows keep their very bits.
        changed = torch.where(touched, (h.float() + delta).to(h.dtype), h)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return hook


def _hidden(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _pool(acts: Float[Tensor, "positions n"], pool: Pool | None) -> Float[Tensor, "*positions n"]:
    if pool is None:
        return acts
    if pool == "share":
        return (acts > 0).to(acts.dtype).mean(dim=0)
    return acts.amax(dim=0) if pool == "max" else acts.mean(dim=0)


def _uniforms(seeds: Sequence[int], steps: int) -> Float[Tensor, "batch steps"]:
    """Random numbers of each row, from its own seed, the same on every device."""
    rows = [
        torch.rand(steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for seed in seeds
    ]
    return torch.stack(rows)


def _seen(tokens: Tensor, mask: Tensor, vocabulary: int) -> Bool[Tensor, "batch vocabulary"]:
    """Tokens that stand in each row, padding aside."""
    counts = torch.zeros(len(tokens), vocabulary, dtype=torch.long, device=tokens.device)
    return counts.scatter_add_(1, tokens, mask) > 0


def _penalise(
    logits: Float[Tensor, "batch vocabulary"], seen: Tensor, penalty: float
) -> Float[Tensor, "batch vocabulary"]:
    """Repetition penalty of Keskar et al. 2019 (arXiv 1909.05858), as transformers and vLLM."""
    if penalty == 1:
        return logits
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def _draw(
    logits: Float[Tensor, "batch vocabulary"], uniform: Float[Tensor, " batch"], temperature: float
) -> Int[Tensor, " batch"]:
    """Sample each row by inverting its cumulative distribution at its random number."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    cumulative = (logits.nan_to_num().double() / temperature).softmax(dim=-1).cumsum(dim=-1)
    # Scaled by the total, which rounding leaves a hair from 1, so that every draw falls inside.
    drawn = torch.searchsorted(cumulative, (uniform[:, None] * cumulative[:, -1:]), right=True)
    return drawn[:, 0].clamp(max=logits.shape[-1] - 1)
