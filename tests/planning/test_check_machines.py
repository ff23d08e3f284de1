"""What `check` reports of machines, priors and SAE releases, for the studies that ship."""

from collections.abc import Mapping
from typing import Any

import pytest

from esr.config import Config
from esr.errors import EsrError
from esr.planning import check
from esr.planning.check import check_machines, check_priors
from helpers.checkout import REPO
from helpers.studies import ONE_DEVICE, load_study

STUDIES = ["paper", "arxiv", "laptop"]


def study(name: str = "paper", *changes: Mapping[str, Any]) -> Config:
    return load_study(*changes, name=name)


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)


class TestPriors:
    @pytest.mark.parametrize("name", [*STUDIES, "organism"])
    def test_priors_of_the_studies_lie_within_their_bounds(self, name: str) -> None:
        assert list(check_priors(study(name))) == []

    def test_a_prior_outside_its_bounds_is_named(self) -> None:
        wide = {"models": {"gemma-2-2b": {"threshold_prior": {"sd": 500}}}}
        (line,) = check_priors(study("paper", wide))
        assert line.startswith(
            "models.gemma-2-2b.threshold_prior: 84 % of the prior 50 +- 500 lie outside"
        )


def test_everything_that_does_not_fit_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_is_available", lambda _: True)
    wide = {"models": {"gemma-2-2b": {"threshold_prior": {"sd": 500}}}}
    with pytest.raises(EsrError) as caught:
        list(check_machines(study("paper", ONE_DEVICE, wide)))
    message = str(caught.value)
    assert "models.gemma-2-2b.threshold_prior" in message
    assert "models.llama-3.3-70b: 141 GB" in message


@pytest.mark.parametrize("name", STUDIES)
def test_saes_and_labels_of_the_studies_are_those_that_saelens_lists(name: str) -> None:
    for model in study(name).models.values():
        # The commit is the hub's to know.
        sae = model.sae.model_copy(update={"revision": None})
        check._check_release(model.model_copy(update={"sae": sae}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sae": {"release": "gemma-scope-2b-pt-rez-canonical"}}, "near it: ['gemma-scope-2b-pt-"),
        ({"sae": {"id": "layer_16/width_61k/canonical"}}, "near it: ['layer_16/width_65k"),
        ({"labels": {"neuronpedia": "gemma-2-2b/15-gemmascope-res-16k"}}, "another SAE; this one"),
    ],
)
def test_an_sae_that_saelens_does_not_list_is_named_with_what_is_near(
    change: dict[str, Any], message: str
) -> None:
    config = study("laptop", {"models": {"gemma-2-2b": change}})
    with pytest.raises(EsrError) as caught:
        check._check_release(config.models["gemma-2-2b"])
    assert message in str(caught.value)
