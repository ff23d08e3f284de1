"""The prior of thresholds: configured, or measured from the scale of the residual stream."""

from typing import Any

import pandas as pd
import pytest
import torch

from esr.assets.sae_fit import residual_norms
from esr.config import ModelConfig
from esr.errors import EsrError
from esr.thresholds.prior import measured_prior, prior_of
from helpers.studies import load_study

FIT = pd.DataFrame({"layer": [1, 2, 3], "boost_scale": [50.0, 100.0, 200.0]})


def twin(**changes: Any) -> ModelConfig:
    return load_study({"models": {"twin": changes}}).models["twin"]


def test_a_configured_prior_counts() -> None:
    assert prior_of(twin(), FIT) == twin().threshold_prior


def test_without_one_the_prior_follows_from_the_scale_at_the_steered_layer() -> None:
    prior = prior_of(twin(threshold_prior=None, steer_layer=3), FIT)
    assert (prior.lower, prior.mean, prior.sd, prior.upper) == (0, 120, 100, 400)


@pytest.mark.parametrize(("name", "scale"), [("planted", 405), ("twin", 149)])
def test_the_measured_prior_holds_the_thresholds_of_the_organisms(name: str, scale: float) -> None:
    """Scales as measured; the configured priors are those that their thresholds confirmed."""
    known = load_study().models[name].threshold_prior
    assert known is not None
    prior = measured_prior(scale)
    assert abs(known.mean - prior.mean) < prior.sd
    assert known.mean + 2 * known.sd < prior.upper


def test_a_massive_dimension_does_not_change_the_scale() -> None:
    h = torch.randn(400, 64, generator=torch.Generator().manual_seed(0))
    plain = residual_norms(h)["usual_norm"]
    h[:, 7] = 500
    assert residual_norms(h)["usual_norm"] == pytest.approx(plain, rel=0.03)


def test_a_scale_that_was_not_measured_is_an_error_with_the_key_to_set() -> None:
    with pytest.raises(EsrError, match="no boost_scale at steer_layer 2; set threshold_prior"):
        prior_of(twin(threshold_prior=None), FIT.assign(boost_scale=float("nan")))
