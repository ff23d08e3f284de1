"""Probes of boosts: how far a direction moves a model's predictions. No judge, nothing generated.

Along unsteered answers y, for a boost b of one direction at all tokens:

    D(b) = mean over tokens of KL(p_0(. | y_<t) || p_b(. | y_<t))        nats per token

D rises from 0 to several nats within a factor of four of b. The answers begin to change where it
passes `LEVEL`, so the prior of thresholds is centred there.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from esr.assets.sae_fit import Text
from esr.engines.hooks import decoder_layers, hidden
from esr.errors import EsrError

LATENTS = 12
"""Directions that are probed."""
TEXTS, TOKENS = 8, 100
"""Unsteered answers, and tokens of each at most."""
LADDER = 2.0 ** np.arange(-3, 2.5, 0.5)
"""Boosts, as multiples of the scale (`boost_scale` in `sae_fit.parquet`)."""
LEVEL = 0.2
"""Nats per token. At the organisms' thresholds D is 0.1 to 0.2; any level from 0.05 to 0.5 leaves
the centre within a factor of two of them."""


@torch.inference_mode()
def measure_divergence(
    model: nn.Module,
    layer: int,
    rows: Float[Tensor, "latents d_model"],
    boosts: Float[np.ndarray, " boosts"],
    texts: Sequence[Text],
) -> tuple[Float[np.ndarray, "latents boosts"], int]:
    """Divergence D of steered from unsteered predictions, and the number of tokens behind it.

    Args:
        model: A causal language model of transformers.
        layer: Decoder layer whose output is steered (0-based).
        rows: Directions.
        boosts: Ladder of boosts (decoder units).
        texts: Unsteered answers after their prompts; the first `TEXTS` count.

    Raises:
        EsrError: no text has a token after its prompt, or predictions are not finite.
    """
    device = next(model.parameters()).device
    total = torch.zeros(len(rows), len(boosts), dtype=torch.float64)
    ladder = torch.tensor(boosts, dtype=torch.float32)[:, None, None]
    count = 0
    for text in texts[:TEXTS]:
        ids = torch.tensor([text.tokens[: text.start + TOKENS]], device=device)
        answer = ids.shape[1] - text.start
        if answer < 1:
            continue
        count += answer
        unsteered = _predictions(model, layer, ids, torch.zeros(1, 1, 1), answer)
        for number, row in enumerate(rows):
            steered = _predictions(
                model, layer, ids.expand(len(boosts), -1), ladder * row.float().cpu(), answer
            )
            moved = (unsteered.exp() * (unsteered - steered)).sum(dim=-1)
            total[number] += moved.sum(dim=-1).double().cpu()
    if not count:
        raise EsrError("the unsteered answers have no token: no boost can be probed on them")
    if not total.isfinite().all():
        raise EsrError(
            "predictions under steering are not finite; use dtype bfloat16 or float32, or set "
            "threshold_prior"
        )
    return total.numpy() / count, count


def _predictions(
    model: nn.Module, layer: int, ids: Tensor, delta: Float[Tensor, "rows 1 d_model"], answer: int
) -> Float[Tensor, "rows answer vocabulary"]:
    """Log-probabilities of the next token before each token of the answer."""

    def add(_module: nn.Module, _inputs: object, output: object) -> object:
        h = hidden(output)
        changed = (h.float() + delta.to(h.device)).to(h.dtype)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    hook = decoder_layers(model)[layer].register_forward_hook(add)
    try:
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=answer + 1).logits
    finally:
        hook.remove()
    return logits[:, :-1].float().log_softmax(dim=-1)


def probe_table(
    latents: Sequence[int],
    boosts: Float[np.ndarray, " boosts"],
    divergence: Float[np.ndarray, "latents boosts"],
    tokens: int,
) -> pd.DataFrame:
    """The table `boost_probes`."""
    pairs = pd.MultiIndex.from_product([latents, boosts], names=["latent", "boost"])
    table = pd.DataFrame({"divergence": divergence.ravel()}, index=pairs).reset_index()
    return table.assign(tokens=tokens)


def crossings(probes: pd.DataFrame) -> Float[np.ndarray, " latents"]:
    """Boost at which the divergence of each latent passes `LEVEL`; NaN outside of the ladder.

    Interpolated between the logarithms of two boosts.
    """
    found = []
    for _, rows in probes.groupby("latent", sort=False):
        boosts = np.log(rows["boost"].to_numpy(float))
        moved = rows["divergence"].to_numpy(float)
        above = np.flatnonzero(moved >= LEVEL)
        if not len(above) or above[0] == 0:
            found.append(np.nan)
            continue
        pair = slice(above[0] - 1, above[0] + 1)
        found.append(float(np.exp(np.interp(LEVEL, moved[pair], boosts[pair]))))
    return np.array(found)
