"""Relevance: candidates that are active on a prompt without steering are not steered on it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.config import RelevanceConfig


def relevance_table(
    prompt_ids: Sequence[str],
    activations: Float[np.ndarray, "prompts d_sae"],
    candidates: Sequence[int],
    settings: RelevanceConfig,
) -> pd.DataFrame:
    """Mark the candidates that are relevant to each prompt: the table `relevance`.

    Args:
        prompt_ids: Prompt of each row of `activations`.
        activations: Maximum activation of every latent over the tokens encoded for the prompt.
        candidates: Latents to report.
        settings: Criterion `top_n`: active, and among the N most active; `zero`: active.
    """
    order = np.argsort(-activations, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(1, activations.shape[1] + 1)[None, :], axis=1)
    columns = np.asarray(candidates)
    acts = activations[:, columns]
    rank = ranks[:, columns]
    active = acts > 0
    relevant = active & (rank <= settings.top_n) if settings.criterion == "top_n" else active
    return pd.DataFrame(
        {
            "prompt_id": np.repeat(np.asarray(prompt_ids, dtype=object), len(columns)),
            "latent": np.tile(columns, len(prompt_ids)),
            "activation": acts.ravel().astype(float),
            "rank": rank.ravel(),
            "relevant": relevant.ravel(),
        }
    )
