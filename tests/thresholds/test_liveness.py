"""Liveness: the divergence of the first token, and directions that change no prediction."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from esr.arms.plan import usable_thresholds
from esr.engines.base import Intervention, Sampling
from esr.engines.readouts import LogProbs, ReadoutRequest
from esr.engines.transformers import TransformersEngine
from esr.journal import Journal
from esr.thresholds import liveness
from esr.thresholds.liveness import (
    Prompt,
    first_tokens,
    measure_liveness,
    probed_boosts,
    with_liveness,
)
from esr.thresholds.outcomes import count_statuses, in_words, threshold_table
from helpers.tiny import VOCABULARY, tiny_model, tiny_sae

SAMPLING = Sampling(temperature=0.8, max_new_tokens=50)
DEAD, LIVE = 4, [3, 7, 11]
PROMPTS = [(2, 5, 6), (2, 9, 8, 4), (2, 7), (2, 30, 31, 32, 33), (2, 12, 13)]


@pytest.fixture
def engine() -> TransformersEngine:
    """A model with one decoder row of zeros."""
    sae = tiny_sae()
    rows = sae.W_dec.clone()
    rows[DEAD] = 0
    return TransformersEngine(tiny_model(), replace(sae, W_dec=rows), 1, 2, batch_size=8)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.jsonl") as journal:
        yield journal


def log_probs(engine: TransformersEngine, prompt: tuple[int, ...], what: Intervention) -> LogProbs:
    """Of every token after a prompt, by a forward pass with the layer's output changed."""

    def add(_module: object, _inputs: object, out: torch.Tensor) -> torch.Tensor:
        return out if what.latent is None else out + what.boost * engine.sae.W_dec[what.latent]

    hook = engine.layers[1].register_forward_hook(add)
    with torch.no_grad():
        logits = engine.model(torch.tensor([prompt])).logits[0, -1]
    hook.remove()
    return logits.double().log_softmax(-1).numpy()


def divergence(engine: TransformersEngine, latent: int, boost: float) -> float:
    found = []
    for prompt in PROMPTS:
        before = log_probs(engine, prompt, Intervention())
        after = log_probs(engine, prompt, Intervention(latent, boost))
        found.append(np.sum(np.exp(before) * (before - after)))
    return float(np.mean(found))


def test_over_the_whole_vocabulary_it_is_the_divergence_of_the_first_token(
    engine: TransformersEngine, journal: Journal
) -> None:
    every = tuple(range(VOCABULARY))
    prompts = [Prompt(prompt, every) for prompt in PROMPTS]
    found = measure_liveness(engine, LIVE, [0.5, 2.0, -1.0], None, prompts, journal)
    expected = [divergence(engine, k, b) for k, b in zip(LIVE, [0.5, 2.0, -1.0], strict=True)]
    np.testing.assert_allclose(found["kl"], expected, rtol=1e-3)
    assert not found["inert"].any()


def test_fewer_tokens_give_a_lower_bound(engine: TransformersEngine, journal: Journal) -> None:
    every = tuple(range(VOCABULARY))
    previous = np.zeros(len(LIVE))
    for n in (2, 8, 40):
        prompts = [Prompt(prompt, every[:n]) for prompt in PROMPTS]
        found = measure_liveness(engine, LIVE, [2.0] * 3, None, prompts, journal)
        assert (found["kl"].to_numpy() >= previous - 1e-6).all()
        previous = found["kl"].to_numpy()


def test_a_direction_that_changes_no_logit_is_inert_and_has_no_divergence(
    engine: TransformersEngine, journal: Journal
) -> None:
    prompts = first_tokens(engine, PROMPTS, VOCABULARY, SAMPLING, journal)
    assert len(prompts) == liveness.PROMPTS
    assert all(len(one.targets) >= liveness.SPREAD for one in prompts)
    latents = [*LIVE, DEAD]
    found = measure_liveness(engine, latents, [0.05, 2.0, -1.0, 500.0], None, prompts, journal)
    assert found["inert"].tolist() == [False, False, False, True]
    assert found.loc[DEAD, "kl"] == pytest.approx(0, abs=1e-6)
    assert (found.loc[LIVE, "kl"] > found.loc[DEAD, "kl"]).all()
    lines = len(journal)
    again = first_tokens(engine, PROMPTS, VOCABULARY, SAMPLING, journal)
    pd.testing.assert_frame_equal(
        measure_liveness(engine, latents, [0.05, 2.0, -1.0, 500.0], None, again, journal), found
    )
    assert len(journal) == lines, "a rerun computes nothing"


class Noisy:
    """An engine whose log-probabilities differ by up to `noise` from pass to pass."""

    independent, identity = True, {"engine": "noisy"}

    def __init__(self, noise: float) -> None:
        self.noise, self.random = noise, np.random.default_rng(0)

    def partition(self, requests: Sequence[ReadoutRequest]) -> list[list[int]]:
        return [[i] for i in range(len(requests))]

    def log_probs(self, requests: Sequence[ReadoutRequest]) -> list[LogProbs | None]:
        found: list[LogProbs | None] = []
        for request in requests:
            what = request.intervention
            logits = np.arange(float(len(request.targets)))
            logits[0] += what.boost if what.latent in LIVE else 0
            logits += self.random.uniform(-self.noise, self.noise, len(logits))
            infinite = what.boost == np.float64(1e30)
            found.append(None if infinite else logits - np.logaddexp.reduce(logits) - 0.1)
        return found


def test_what_the_engine_changes_by_itself_does_not_count(journal: Journal) -> None:
    prompts = [Prompt(prompt, tuple(range(30))) for prompt in PROMPTS]
    latents = [*LIVE, *range(50, 60)]
    found = measure_liveness(Noisy(0.02), latents, [3.0] * 13, None, prompts, journal)  # pyrefly: ignore[bad-argument-type]
    assert not found.loc[LIVE, "inert"].any()
    assert found.loc[50:, "inert"].sum() >= 5, "half of the dead ones at least are recognised"


def test_logits_that_are_not_finite_are_no_divergence_and_not_inert(journal: Journal) -> None:
    prompts = [Prompt(prompt, tuple(range(30))) for prompt in PROMPTS]
    found = measure_liveness(Noisy(0.0), [3, 7], [1e30, 1.0], None, prompts, journal)  # pyrefly: ignore[bad-argument-type]
    assert np.isnan(found.loc[3, "kl"])
    assert found["inert"].tolist() == [False, False]


def thresholds() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "latent": [3, 4, 7],
            "label": None,
            "target": 50.0,
            "threshold": [100.0, None, 80.0],
            "low": [90.0, None, 70.0],
            "high": [110.0, None, 90.0],
            "achieved": [50.0, None, 51.0],
            "upper": [300.0, 300.0, 300.0],
            "status": ["converged", "out_of_bounds", "not_converged"],
            "norm": 1.0,
            "dose": 0.5,
        }
    )


def test_an_inert_direction_is_a_status_without_a_threshold_and_no_trial() -> None:
    found = pd.DataFrame({"kl": [0.4, 0.0, 0.0], "inert": [False, True, True]}, index=[3, 4, 7])
    table = with_liveness(thresholds(), found)
    assert table["status"].tolist() == ["converged", "inert", "inert"]
    assert table["kl"].tolist() == [0.4, 0.0, 0.0]
    assert table.loc[1:, liveness.NUMBERS].isna().all(axis=None)
    assert usable_thresholds(table).index.tolist() == [3]
    (counts,) = count_statuses(threshold_table([("m", None, table)])).to_dict("records")
    assert counts["inert"] == 2
    assert in_words(counts).startswith("1 of 3 latents converged, 2 inert; median dose 0.50, KL")


def test_a_direction_without_a_threshold_is_probed_at_the_highest_boost_that_was_tried() -> None:
    trials = pd.DataFrame({"latent": [3, 4, 4], "boost": [500.0, 120.0, 240.0]})
    assert probed_boosts(thresholds(), trials) == [100.0, 240.0, 80.0]
    assert probed_boosts(thresholds(), trials.head(1)) == [100.0, 300.0, 80.0]
