"""esr.analysis.hazard: whether activity announces a restart at equal off-topicness."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from esr.analysis.hazard import hazard_ratio, risk_bins
from esr.errors import EsrError

LENGTH = 80


def traces(
    seed: int,
    *,
    effect: float = 0.0,
    off_topic_effect: float = 0.0,
    tracks: float = 0.0,
    latents: int = 30,
    per_latent: int = 8,
) -> tuple[pd.DataFrame, pd.Series]:
    """Responses whose detectors follow off-topicness by `tracks`, and their restarts.

    The log odds of a restart at a token rise with the detectors' own part by `effect` and with
    off-topicness by `off_topic_effect`. Latents differ in both and in how often they restart.
    """
    rng = np.random.default_rng(seed)
    shape = (latents * per_latent, LENGTH)
    cluster = np.repeat(np.arange(latents), per_latent)
    base, usual = rng.normal(-4.3, 0.7, latents)[cluster], rng.normal(0, 0.5, latents)[cluster]
    off_topic = usual[:, None] + 0.2 * rng.normal(size=shape).cumsum(axis=1)
    # An autoregression with standard deviation 1, as activations along a text.
    own = lfilter([np.sqrt(1 - 0.9**2)], [1, -0.9], rng.normal(size=shape), axis=1)
    log_odds = base[:, None] + effect * own + off_topic_effect * off_topic
    struck = rng.random(shape) < 1 / (1 + np.exp(-log_odds))
    tokens = pd.DataFrame(
        {
            "trial_id": np.repeat(np.arange(shape[0]), LENGTH),
            "cluster": np.repeat(cluster, LENGTH),
            "position": np.tile(np.arange(LENGTH), shape[0]),
            "value": (own + tracks * off_topic).ravel(),
            "off_topic": off_topic.ravel(),
        }
    )
    restarts = np.where(struck.any(axis=1), struck.argmax(axis=1), np.nan)
    return tokens, pd.Series(restarts)


def found(seed: int, adjust: bool = True, **world: Any) -> dict[str, Any]:
    tokens, restarts = traces(seed, **world)
    covariates = ["off_topic"] if adjust else []
    return hazard_ratio(risk_bins(tokens, restarts, covariates, window=10), covariates)


class TestBins:
    def test_a_bin_sees_only_the_tokens_before_it(self) -> None:
        tokens = pd.DataFrame(
            {"trial_id": "a", "cluster": 1, "position": range(12), "value": np.arange(12.0)}
        )
        bins = risk_bins(tokens, pd.Series({"a": 7}), width=3)
        assert bins["bin"].tolist() == [1, 2]
        assert bins["event"].tolist() == [0, 1]  # token 7 lies in the bin of tokens 6 to 8
        assert bins["activity"].tolist() == [1.0, 2.5]
        assert risk_bins(tokens, pd.Series({"a": 7}), width=3, window=2)["activity"].tolist() == [
            1.5,
            4.5,
        ]

    def test_a_response_that_never_restarts_is_at_risk_to_its_end(self) -> None:
        tokens = pd.DataFrame({"trial_id": "a", "cluster": 1, "position": range(10), "value": 1.0})
        bins = risk_bins(tokens, pd.Series(dtype=float), width=3)
        assert bins["event"].tolist() == [0, 0, 0]

    def test_a_restart_in_the_first_bin_leaves_nothing_at_risk(self) -> None:
        tokens = pd.DataFrame({"trial_id": "a", "cluster": 1, "position": range(10), "value": 1.0})
        assert risk_bins(tokens, pd.Series({"a": 1}), width=3).empty

    def test_tokens_without_the_covariate_or_with_two_rows_are_refused(self) -> None:
        tokens, restarts = traces(0, latents=1)
        with pytest.raises(EsrError, match="score"):
            risk_bins(tokens, restarts, ["score"])
        with pytest.raises(EsrError, match="two rows"):
            risk_bins(pd.concat([tokens, tokens]), restarts)


class TestStatus:
    def test_no_restart_is_undefined(self) -> None:
        tokens, _ = traces(0, latents=3)
        row = hazard_ratio(risk_bins(tokens, pd.Series(dtype=float)))
        assert row["status"] == "undefined"
        assert np.isnan(row["p_value"])
        assert row["n_responses"] == 24

    def test_few_latents_are_named(self) -> None:
        assert found(1, latents=5, per_latent=40)["status"] == "few_clusters"

    def test_activity_that_separates_has_no_finite_ratio(self) -> None:
        bins = pd.DataFrame(
            {
                "trial_id": range(40),
                "cluster": np.arange(40) % 10,
                "bin": 1 + np.arange(40) % 4,
                "event": np.arange(40) >= 20,
                "activity": np.arange(40.0),
            }
        )
        assert hazard_ratio(bins)["status"] == "separated"


class TestOperatingCharacteristics:
    def test_noise_is_called_an_effect_at_the_nominal_rate(self) -> None:
        p = np.array([found(seed)["p_value"] for seed in range(120)])
        assert np.mean(p <= 0.05) <= 0.11  # 0.05 + 3 standard errors
        assert 0.4 < np.mean(p) < 0.6

    def test_off_topicness_alone_is_no_announcement(self) -> None:
        world: Any = {"off_topic_effect": 1.0, "tracks": 1.0}
        raw = [found(seed, adjust=False, **world) for seed in range(40)]
        equal = [found(seed, **world) for seed in range(40)]
        # Detectors that follow the topic are high before restarts, and announce none of them.
        assert np.mean([row["low"] > 1 for row in raw]) > 0.9
        assert np.mean([row["p_value"] <= 0.05 for row in equal]) <= 0.125

    def test_a_planted_effect_is_found_with_its_size(self) -> None:
        rows = [found(seed, effect=0.8) for seed in range(20)]
        assert np.mean([row["low"] > 1 for row in rows]) >= 0.9
        # Of activity over the ten tokens before: less than of the tokens themselves, exp(0.8).
        assert 1.25 < np.median([row["hazard_ratio"] for row in rows]) < np.exp(0.8)
