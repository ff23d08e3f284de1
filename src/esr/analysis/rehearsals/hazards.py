"""Claims that detectors announce a restart: `tables/activation_hazards.csv`.

Off-topic responses have detectors whose activity follows how far off topic the response is, and has
a part of its own. Restarts follow off-topicness; in the world of the claim they follow that own
part, too. The first score measures off-topicness without error: with error, a part of it would
pass for activity (docs/method.md).
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from esr.analysis.hazard import hazard_ratio, risk_bins
from esr.analysis.rehearsals.base import Rehearsal, places
from esr.analysis.scenarios import Truths
from esr.analysis.specs import StudySpec

TOKENS, PER_LATENT, MOST = 80, 8, 240
"""Tokens of a response, responses of a latent, and responses at most; assumed."""
EFFECT = 0.5
"""Rise of the log odds of a restart at a token per standard deviation of a detector's own part: a
hazard ratio of 1.44, as in the organism (1.46)."""
LARGE = 200
"""Latents of a study that is large enough to read that ratio from."""
OFF_TOPIC, USUAL = 0.5, -4.6
"""The same per standard deviation of off-topicness, and the log odds at their means."""
PERSISTENCE = 0.9
"""Autocorrelation of a detector's activity from token to token."""


def rehearse(claim: Mapping[str, Any], truths: Truths) -> Rehearsal | None:
    """The claim if it is a hazard ratio at equal first score."""
    where = places(claim)
    if claim["table"] != "tables/activation_hazards.csv" or where["history"] != ["so far"]:
        return None
    facts = {name: where[name][0] for name in ("model", "kind", "history", "adjusted")}

    def draw(spec: StudySpec, null: bool, number: int, second: bool = False) -> pd.DataFrame:
        latents = min(spec.latents, MOST // PER_LATENT)
        tokens, restarts = responses(latents, 0.0 if null else EFFECT, [6, int(null), number])
        bins = risk_bins(tokens, restarts, ["first_score"])
        found = hazard_ratio(bins, ["first_score"])
        return pd.DataFrame([facts | found | {"n": found["n_responses"]}])

    return Rehearsal(claim, _ratio(), draw, most=MOST // PER_LATENT, correlated=False)


@lru_cache
def _ratio() -> float:
    """True hazard ratio, by a large study: activity so far contains more than the last token's."""
    tokens, restarts = responses(LARGE, EFFECT, [6])
    found = hazard_ratio(risk_bins(tokens, restarts, ["first_score"]), ["first_score"])
    return round(float(found["hazard_ratio"]), 2)


def responses(
    latents: int, effect: float, seed: list[int], error: float = 0.0
) -> tuple[pd.DataFrame, pd.Series]:
    """Tokens of off-topic responses and their restarts, as `esr.analysis.hazard.risk_bins` has it.

    Args:
        latents: Steered latents.
        effect: Log odds of a restart per standard deviation of the detectors' own part.
        seed: Of the draws.
        error: Standard deviation of the first score's error, in those of off-topicness.
    """
    rng = np.random.default_rng(seed)
    shape = latents * PER_LATENT, TOKENS
    cluster = np.repeat(np.arange(latents), PER_LATENT)
    off_topic = rng.normal(0, 0.6, latents)[cluster] + rng.normal(0, 0.8, shape[0])
    own = lfilter([np.sqrt(1 - PERSISTENCE**2)], [1, -PERSISTENCE], rng.normal(size=shape), axis=1)
    odds = (USUAL + rng.normal(0, 0.5, latents)[cluster] + OFF_TOPIC * off_topic)[:, None]
    struck = rng.random(shape) < 1 / (1 + np.exp(-(odds + effect * own)))
    score = -off_topic - error * rng.normal(size=shape[0])
    tokens = pd.DataFrame(
        {
            "trial_id": np.repeat(np.arange(shape[0]), TOKENS),
            "cluster": np.repeat(cluster, TOKENS),
            "position": np.tile(np.arange(TOKENS), shape[0]),
            "value": (own + off_topic[:, None]).ravel(),
            "first_score": np.repeat(score, TOKENS),
        }
    )
    return tokens, pd.Series(np.where(struck.any(axis=1), struck.argmax(axis=1), np.nan))
