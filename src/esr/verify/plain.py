"""An independent computation of steering: plain PyTorch, one sequence, no cache, no batch.

It shares no code with the engines. It reads the SAE from its published file and writes the
arithmetic out, so that a fault of an engine, or of a library that engines use, shows as a
difference. The shipped SAE is a top-k SAE whose decoder bias is subtracted before encoding:

    a = top_k(relu((h - b_dec) W_enc + b_enc))
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from esr.engines.base import Intervention


@dataclass(frozen=True)
class PlainModel:
    """A checkpoint of transformers, the weights of a top-k SAE, the layer that both share."""

    model: Any
    weights: dict[str, Tensor]
    k: int
    layer: int

    @classmethod
    def load(cls, source: Path, sae: Path, k: int, layer: int) -> "PlainModel":
        """Load a checkpoint and an SAE, on the CPU and in float32."""
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        return cls(model.eval(), load_file(sae / "sae_weights.safetensors"), k, layer)

    def encode(self, h: Float[Tensor, "positions d_model"]) -> Float[Tensor, "positions d_sae"]:
        """Activations of the SAE."""
        w = self.weights
        pre = torch.relu((h - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
        kept = pre >= pre.sort(dim=-1, descending=True).values[:, self.k - 1 : self.k]
        return pre * kept

    @torch.inference_mode()
    def run(
        self, tokens: list[int], change: Intervention
    ) -> tuple[Float[Tensor, "positions vocab"], Float[Tensor, "positions d_model"]]:
        """Logits, and the changed residual stream after the layer, of one sequence."""
        kept: list[Tensor] = []

        def hook(_module: Any, _inputs: Any, output: Any) -> Any:
            h = output[0] if isinstance(output, tuple) else output
            new = h.clone()
            if change.latent is not None:
                new = new + change.boost * self.weights["W_dec"][change.latent]
            if change.ablated:
                columns = list(change.ablated)
                acts = self.encode(h[0])[:, columns]
                new = new - change.strength * (acts @ self.weights["W_dec"][columns])[None]
            kept.append(new[0])
            return (new, *output[1:]) if isinstance(output, tuple) else new

        handle = self.model.model.layers[self.layer].register_forward_hook(hook)
        try:
            logits = self.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
        finally:
            handle.remove()
        return logits, kept[0]
