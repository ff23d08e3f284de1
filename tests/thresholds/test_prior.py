"""The prior of thresholds: configured, or measured from the scale of the residual stream."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from esr.arms.chat import prompt_tokens
from esr.arms.prompts import read_prompts
from esr.assets.sae import from_saelens
from esr.assets.sae_fit import Text, load_layers, residual_norms
from esr.assets.saelens import load_saelens
from esr.config import ModelConfig, SaeConfig
from esr.engines import open_tokenizer
from esr.errors import EsrError
from esr.thresholds.prior import measured_prior, prior_of
from esr.thresholds.probes import LADDER, LEVEL, crossings, measure_divergence, probe_table
from helpers.checkout import REPO
from helpers.studies import load_study

FIT = pd.DataFrame({"layer": [1, 2, 3], "boost_scale": [50.0, 100.0, 200.0]})


def twin(**changes: Any) -> ModelConfig:
    return load_study({"models": {"twin": changes}}).models["twin"]


def test_a_configured_prior_counts() -> None:
    assert prior_of(twin(), FIT) == twin().threshold_prior


def test_without_one_the_prior_follows_from_the_scale_at_the_steered_layer() -> None:
    prior = prior_of(twin(threshold_prior=None, steer_layer=3), FIT)
    assert (prior.lower, prior.mean, prior.sd, prior.upper) == (0, 120, 100, 400)


SCALES = {"planted": 405.0, "twin": 149.0}


@pytest.mark.parametrize(("name", "scale"), SCALES.items())
def test_the_measured_prior_holds_the_thresholds_of_the_organisms(name: str, scale: float) -> None:
    """Scales as measured; the configured priors are those that their thresholds confirmed."""
    known = load_study().models[name].threshold_prior
    assert known is not None
    prior = measured_prior(scale)
    assert abs(known.mean - prior.mean) < prior.sd
    assert known.mean + 2 * known.sd < prior.upper


def probes(centres: list[float], boosts: list[float]) -> pd.DataFrame:
    """Divergences that pass the level at these boosts, rising as the square of the boost."""
    divergence = np.array([[LEVEL * (b / c) ** 2 for b in boosts] for c in centres])
    return probe_table(list(range(len(centres))), np.array(boosts), divergence, 100)


def test_probes_centre_the_prior_where_predictions_begin_to_change() -> None:
    boosts = (100 * LADDER).tolist()
    found = crossings(probes([30.0, 60.0, 90.0], boosts))
    assert found == pytest.approx([30, 60, 90], rel=0.04)
    prior = prior_of(twin(threshold_prior=None), FIT, probes([30.0, 60.0, 90.0], boosts))
    assert prior.mean == pytest.approx(60, rel=0.04)
    assert prior.sd == pytest.approx(0.6 * prior.mean)
    assert prior.upper == pytest.approx(4 * prior.mean)


def test_a_direction_that_changes_nothing_or_everything_on_the_ladder_has_no_boost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    boosts = (100 * LADDER).tolist()
    outside = probes([1e-3, 1e6, 60.0], boosts)
    assert np.isnan(crossings(outside)).tolist() == [True, True, False]
    assert measured_prior(100.0, outside) == measured_prior(100.0)
    assert "1 of 3 probed latents begin to change" in caplog.text


@pytest.mark.parametrize(("name", "median"), [("planted", 315), ("twin", 80)])
def test_the_probed_centre_is_within_a_factor_of_two_of_the_organisms_thresholds(
    name: str, median: float
) -> None:
    """Medians of the thresholds that the organism study finds with its judge."""
    folder = REPO / f"resources/organisms/{name}"
    manifest = {"source": str(folder / "model"), "revision": None}
    tokenizer = open_tokenizer(manifest)
    sae = from_saelens(load_saelens(SaeConfig(path=folder / "sae"))[0])
    model: Any = load_layers(manifest, "float32", "cpu", 5)
    prompts = read_prompts(REPO / "resources/prompts/organism.csv")["prompt"][:4]
    texts = []
    for prompt in prompts:
        shown = prompt_tokens(tokenizer, prompt)
        answer = model.generate(
            torch.tensor([shown]), max_new_tokens=30, do_sample=False, pad_token_id=0
        )
        texts.append(Text(tuple(answer[0].tolist()), len(shown)))
    labels = pd.read_csv(folder / "labels.csv")["latent"][:200:17]
    boosts = SCALES[name] * LADDER
    divergence, tokens = measure_divergence(model, 2, sae.W_dec[labels.tolist()], boosts, texts)
    assert (np.diff(divergence, axis=1) > -0.05).mean() > 0.9, "larger boosts move it further"
    found = measured_prior(SCALES[name], probe_table(labels.tolist(), boosts, divergence, tokens))
    assert found.mean != measured_prior(SCALES[name]).mean, "it is not that of the scale"
    assert median / 2 < found.mean < 2 * median


def test_a_massive_dimension_does_not_change_the_scale() -> None:
    h = torch.randn(400, 64, generator=torch.Generator().manual_seed(0))
    plain = residual_norms(h)["usual_norm"]
    h[:, 7] = 500
    assert residual_norms(h)["usual_norm"] == pytest.approx(plain, rel=0.03)


def test_a_scale_that_was_not_measured_is_an_error_with_the_key_to_set() -> None:
    with pytest.raises(EsrError, match="no boost_scale at steer_layer 2; set threshold_prior"):
        prior_of(twin(threshold_prior=None), FIT.assign(boost_scale=float("nan")))
