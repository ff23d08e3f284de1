"""Do detectors announce a restart, at equal off-topicness? Hazards from the traces of a model.

Episodes and unrestarted responses are analysed together (`esr.analysis.hazard`). All of them are
off topic by one rule: the judge scores the text before a restart, or the whole response, below
`episodes.off_topic_score`. On-topic responses are left out, since topic would pass for activity.
"""

from typing import Any

import pandas as pd

from esr.analysis.hazard import hazard_ratio, risk_bins
from esr.episodes.traces import Traces

HISTORIES = {"so far": None, "last 10 tokens": 10}
"""Tokens before a bin over which activity is averaged; None: all."""
ADJUSTED = {
    "nothing": [],
    "first score": ["first_score"],
    "first score, latent": ["first_score", "latent_activity"],
}
"""Covariates of the model. With `latent_activity`, the mean over the bins of a steered latent, the
activity is the deviation from it (Mundlak 1978), since steering can drive a detector directly."""
COLUMNS = ["kind", "history", "adjusted", "hazard_ratio", "low", "high", "level", "p_value"]
COLUMNS += ["status", "n", "n_events", "n_bins", "n_latents"]


def off_topic_tokens(traces: Traces, kind: str, off_topic_score: float) -> pd.DataFrame:
    """Tokens of the responses at risk, with their first score: columns of `Traces.tokens` and it.

    Args:
        traces: Of a model.
        kind: Kind of latents.
        off_topic_score: Episodes and unrestarted responses score below this (points).
    """
    trials = traces.episodes
    at_risk = trials["group"].isin(["episode", "unrestarted"])
    at_risk &= trials["first_score"].lt(off_topic_score)
    scores = trials.loc[at_risk, ["trial_id", "first_score"]].astype({"first_score": float})
    return traces.tokens(kind).merge(scores, on="trial_id")


def restart_hazards(
    traces: Traces, off_topic_score: float, level: float, kind: str = "detector"
) -> pd.DataFrame:
    """Hazard ratio of a restart per standard deviation of activity, in all variants.

    Columns: kind, history (`HISTORIES`), adjusted (`ADJUSTED`), hazard_ratio, low, high, level,
    p_value, status (`esr.analysis.hazard.hazard_ratio`), n (responses), n_events (restarts),
    n_bins, n_latents. A restart is the first token of the correction.

    Args:
        traces: Of a model.
        off_topic_score: Highest first score of a response at risk, excluded (points).
        level: Of the intervals.
        kind: Kind of latents.
    """
    tokens = off_topic_tokens(traces, kind, off_topic_score)
    corrections = tokens[tokens["region"].eq("correction")]
    restarts = corrections.groupby("trial_id")["position"].min().astype(float)
    rows: list[dict[str, Any]] = []
    for history, window in HISTORIES.items():
        bins = risk_bins(tokens, restarts, ["first_score"], window=window)
        mean = bins.groupby("cluster")["activity"].transform("mean").astype(float)
        within = bins.assign(latent_activity=mean, activity=(bins["activity"] - mean).round(9))
        for adjusted, covariates in ADJUSTED.items():
            table = within if "latent_activity" in covariates else bins
            found = hazard_ratio(table, covariates, level=level)
            sizes = {"n": found.pop("n_responses"), "n_latents": found.pop("n_clusters")}
            rows.append({"kind": kind, "history": history, "adjusted": adjusted} | found | sizes)
    return pd.DataFrame(rows, columns=COLUMNS)
