"""The dose of a boost: the length of what is added, in medians of the norm of the stream."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from esr.directions.vectors import Directions
from esr.thresholds.dose import norms_of, usual_norm_of, with_dose
from helpers.tiny import tiny_sae


def thresholds(*boosts: float | None, norm: float = 2.0) -> pd.DataFrame:
    found = pd.array(boosts, "Float64")
    return pd.DataFrame({"latent": range(len(boosts)), "threshold": found, "norm": norm})


def test_a_boost_that_adds_a_vector_as_long_as_the_stream_is_a_dose_of_one() -> None:
    table = with_dose(thresholds(50.0, 25.0, -50.0), usual_norm=100.0)
    assert table["dose"].tolist() == [1.0, 0.5, -1.0]


def test_a_scaled_decoder_changes_boosts_and_leaves_the_dose() -> None:
    """An SAE whose rows are ten times as long needs a tenth of the boost for the same text."""
    one = with_dose(thresholds(50.0), usual_norm=80.0)
    ten = with_dose(thresholds(5.0, norm=20.0), usual_norm=80.0)
    assert one["dose"].tolist() == ten["dose"].tolist()


def test_what_was_not_found_or_not_measured_has_no_dose() -> None:
    assert with_dose(thresholds(None), 100.0)["dose"].isna().all()
    unmeasured = pd.DataFrame({"layer": [3], "usual_norm": pd.array([None], "Float64")})
    assert np.isnan(usual_norm_of(unmeasured, 3))
    assert with_dose(thresholds(50.0), usual_norm_of(unmeasured, 3))["dose"].isna().all()


def test_the_norm_of_the_stream_is_that_of_the_steered_layer() -> None:
    fit = pd.DataFrame({"layer": [2, 3], "usual_norm": pd.array([10.0, 20.0], "Float64")})
    assert usual_norm_of(fit, 3) == 20.0


def test_norms_are_those_of_decoder_rows_or_of_the_set(tmp_path: Path) -> None:
    sae, path = tiny_sae(), tmp_path / "sae.safetensors"
    sae.save(path)
    expected = sae.W_dec[[7, 3]].norm(dim=1).tolist()
    assert norms_of([7, 3], path, None) == pytest.approx(expected)
    vectors = torch.eye(16)[:2] * torch.tensor([[3.0], [4.0]])
    Directions("mine", torch.tensor([5, 9]), vectors).save(tmp_path / "vectors.safetensors")
    assert norms_of([9, 5], tmp_path / "vectors.safetensors", "mine") == [4.0, 3.0]
    assert norms_of([], path, None) == []
