"""The reference engine: Hugging Face transformers with forward hooks.

Each row of a batch has its own intervention and its own random numbers, drawn from the seed of the
row. A response is therefore independent of its batch, up to floating-point rounding. Batches are
fixed by the requests, so one machine reproduces the same bytes.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from esr.arms.chat import stop_tokens
from esr.assets.sae import Sae
from esr.assets.weights import load_causal_lm
from esr.directions.vectors import Directions, check_width, rows_of
from esr.engines.base import (
    EncodeRequest,
    Generation,
    GroupStream,
    Intervention,
    Pool,
    Reach,
    Request,
    Sampling,
    batches,
    check_latents,
    check_shape,
)
from esr.engines.batch import RunningBatch
from esr.engines.deltas import Deltas
from esr.engines.hooks import Positions, adding, decoder_layers, hidden
from esr.engines.readouts import LogProbs, ReadoutRequest
from esr.errors import EsrError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TransformersEngine:
    """Steers, ablates and encodes a causal language model through forward hooks."""

    # Rounding depends on the shape of the batch, and the bytes of a response depend on rounding.
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
        directions: Sequence[Directions] = (),
    ) -> None:
        """Wrap a loaded model.

        Args:
            model: A causal language model of transformers, on its device, in its dtype.
            sae: The SAE; moved to the model's device.
            steer_layer: Decoder layer (0-based) at whose output the boost is added.
            read_layer: Decoder layer whose output `encode` uses.
            batch_size: Rows computed together.
            identity: Identifies model, SAE and layers in journals.
            ablate_layer: Decoder layer at whose output latents are ablated; None = `steer_layer`.
            directions: Sets of directions that requests may name.

        Raises:
            EsrError: the model has no such layer, or SAE or directions have another width.
        """
        self.model = model.eval().requires_grad_(False)
        self.device = next(model.parameters()).device
        self.sae = sae.to(self.device)
        self.layers = decoder_layers(model)
        self.ablate_layer = steer_layer if ablate_layer is None else ablate_layer
        self.steer_layer = steer_layer
        self.read_layer = read_layer
        self.batch_size = batch_size
        layers = {
            "steer_layer": steer_layer,
            "read_layer": read_layer,
            "ablate_layer": self.ablate_layer,
        }
        d_model = model.config.get_text_config().hidden_size
        check_shape(layers, len(self.layers), sae.d_model, d_model)
        for found in directions:
            check_width(found, d_model)
        sets = {found.name: found for found in directions}
        every = range(len(self.layers))
        self.reach = Reach(
            sae.d_sae, rows_of(sets), steer_layer, self.ablate_layer, adds=every, encodes=every
        )
        vectors = {name: found.by_row() for name, found in sets.items()}
        self.deltas = Deltas(self.sae, vectors, self.device)
        self.identity = {"engine": "transformers"} | (identity or {})
        self.stop_tokens = stop_tokens(model.generation_config)

    def partition(self, requests: Sequence[Request | ReadoutRequest]) -> list[list[int]]:
        """Form batches; see `esr.engines.base.batches`."""
        return batches(requests, self.batch_size)

    def stream(self, sampling: Sampling) -> GroupStream:
        """Open a stream that computes one group at a time, as one left-padded batch."""

        def compute(group: Mapping[str, Request]) -> dict[str, Generation]:
            responses = self.generate_batch(list(group.values()), sampling)
            return dict(zip(group, responses, strict=True))

        return GroupStream(self.reach, compute)

    @torch.inference_mode()
    def encode(
        self,
        requests: Sequence[EncodeRequest],
        latents: Sequence[int] | None = None,
        pool: Pool | None = "max",
    ) -> list[Float[np.ndarray, "*positions n"]]:
        """Compute activations in batches of similar length; see `Engine.encode`."""
        for request in requests:
            request.check(self.reach)
        check_latents(latents or (), self.sae.d_sae)
        columns = None if latents is None else torch.tensor(latents, device=self.device)
        by_length = sorted(range(len(requests)), key=lambda i: len(requests[i].tokens))
        found: dict[int, np.ndarray] = {}
        for begin in range(0, len(by_length), self.batch_size):
            rows = by_length[begin : begin + self.batch_size]
            residual = self._residual([requests[i] for i in rows])
            for h, index in zip(residual, rows, strict=True):
                acts = self.sae.encode(h, columns)
                # Checked before pooling: a maximum can be finite although other positions are not.
                if not acts.isfinite().all():
                    raise EsrError(
                        f"encode request {index}: the residual stream leaves the range of "
                        f"{self.model.dtype}; choose a wider dtype or a smaller boost"
                    )
                found[index] = _pool(acts, pool).float().cpu().numpy()
        return [found[i] for i in range(len(requests))]

    @torch.inference_mode()
    def log_probs(self, requests: Sequence[ReadoutRequest]) -> list[LogProbs | None]:
        """Compute log-probabilities in batches of similar length; see `Engine.log_probs`."""
        for request in requests:
            request.check(self.reach)
        found: dict[int, LogProbs | None] = {}
        for rows in self.partition(requests):
            batch = [requests[i] for i in rows]
            with self._intervene([request.intervention for request in batch]):
                logits = self._prefill([request.tokens for request in batch])
            for index, row in zip(rows, logits, strict=True):
                targets = torch.tensor(requests[index].targets, device=row.device)
                finite = bool(row.isfinite().all())
                found[index] = row.log_softmax(-1)[targets].cpu().numpy() if finite else None
        return [found[i] for i in range(len(requests))]

    @torch.inference_mode()
    def generate_batch(self, group: Sequence[Request], sampling: Sampling) -> list[Generation]:
        """Return the responses to requests, computed as one batch with a KV cache."""
        tokens, mask = self._pad([request.tokens for request in group])
        vocabulary = self.model.config.get_text_config().vocab_size
        seeds = [request.seed for request in group]
        batch = RunningBatch(tokens, mask, seeds, sampling, self.stop_tokens, vocabulary)
        while batch.rows:
            with self._intervene([group[row].intervention for row in batch.rows]):
                while batch.is_full():
                    self._step(batch)
            batch.drop_ended()
        return [self._cut(*row) for row in zip(batch.sampled, batch.finite, strict=True)]

    def _step(self, batch: RunningBatch) -> None:
        out = self.model(
            input_ids=batch.inputs,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            past_key_values=batch.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        batch.advance(out.logits[:, -1].float(), out.past_key_values)

    def _cut(self, row: list[int], is_finite: bool) -> Generation:
        """Drop what follows the first stop token, and the tokens of a row that failed."""
        if not is_finite:
            return Generation((), "error")
        end = next((i for i, token in enumerate(row) if token in self.stop_tokens), None)
        if end is None:
            return Generation(tuple(row), "length")
        return Generation(tuple(row[: end + 1]), "stop")

    def _pad(
        self, sequences: Sequence[tuple[int, ...]]
    ) -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"]]:
        """Left-pad, so that the last column holds the last token of every row."""
        longest = max(len(sequence) for sequence in sequences)
        tokens = torch.zeros(len(sequences), longest, dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for row, sequence in enumerate(sequences):
            tokens[row, longest - len(sequence) :] = torch.tensor(sequence)
            mask[row, longest - len(sequence) :] = 1
        return tokens.to(self.device), mask.to(self.device)

    def _residual(self, batch: Sequence[EncodeRequest]) -> list[Float[Tensor, "positions d_model"]]:
        """Residual stream after `read_layer`, from the `start` of each request to its end."""
        outputs: list[Float[Tensor, "batch length d_model"]] = []
        with self._intervene([request.intervention for request in batch]):
            # Registered after the interventions: at the steered layer it sees the changed output.
            hook = self.layers[self.read_layer].register_forward_hook(
                lambda _module, _inputs, output: outputs.append(hidden(output))
            )
            try:
                self._prefill([request.tokens for request in batch])
            finally:
                hook.remove()
        longest = outputs[0].shape[1]
        begins = [longest - len(request.tokens) + request.start for request in batch]
        return [h[begin:] for h, begin in zip(outputs[0], begins, strict=True)]

    def _prefill(self, sequences: Sequence[tuple[int, ...]]) -> Float[Tensor, "batch vocabulary"]:
        """Logits of the token after each sequence, from one pass without a cache."""
        tokens, mask = self._pad(sequences)
        out = self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=False,
            logits_to_keep=1,
        )
        return out.logits[:, -1].float()

    @contextmanager
    def _intervene(self, interventions: Sequence[Intervention]) -> Iterator[None]:
        """Apply the intervention of each row while the context is open."""
        positions = Positions()
        hooks = [self.model.register_forward_pre_hook(positions.record, with_kwargs=True)]
        rows = [one.at_layers(self.steer_layer, self.ablate_layer) for one in interventions]
        hooks += [
            self.layers[layer].register_forward_hook(adding(here))
            for layer, here in self.deltas.by_layer(rows, positions).items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


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
    directions: Sequence[Directions] = (),
) -> TransformersEngine:
    """Load a checkpoint and wrap it.

    Args:
        source: A folder, or the hub id of a model in the local cache.
        sae: The SAE.
        revision: Commit of a hub model; None for a folder.
        dtype: A key of `DTYPES`.
        device: A torch device, or `auto`: CUDA if available.
        steer_layer: See `TransformersEngine`.
        read_layer: See `TransformersEngine`.
        batch_size: Rows computed together.
        threads: CPU threads.
        identity: Identifies model, SAE and layers in journals.
        ablate_layer: See `TransformersEngine`.
        directions: See `TransformersEngine`.

    Raises:
        EsrError: the checkpoint lacks weights of its model, or has more layers.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_causal_lm(source, revision=revision, dtype=DTYPES[dtype], local_files_only=True)
    nn.Module.to(model, device)
    return TransformersEngine(
        model, sae, steer_layer, read_layer, batch_size, identity, ablate_layer, directions
    )


def _pool(acts: Float[Tensor, "positions n"], pool: Pool | None) -> Float[Tensor, "*positions n"]:
    if pool is None:
        return acts
    if pool == "activity":
        return torch.stack([(acts > 0).to(acts.dtype).mean(dim=0), acts.mean(dim=0)])
    return acts.amax(dim=0) if pool == "max" else acts.mean(dim=0)
