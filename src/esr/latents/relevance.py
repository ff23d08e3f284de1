"""Relevance: which candidates are active on a prompt anyway, and so are not steered on it."""

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
        activations: Largest activation of every latent over the tokens read for the prompt.
        candidates: Latents to report.
        settings: `top_n`: among the N most active and active at all; `zero`: active at all.
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
