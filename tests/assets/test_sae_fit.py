"""The fit of an SAE: formulas by hand, and misfits of every kind against the shipped twin."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch

from esr.assets.sae import Sae, from_saelens
from esr.assets.sae_fit import (
    Finding,
    Text,
    boost_scale,
    fit_findings,
    load_layers,
    measure_fit,
    measured_layers,
    refuse_findings,
    residual_norms,
    usual_tokens,
)
from esr.assets.sae_origin import SaeOrigin
from esr.assets.saelens import load_saelens
from esr.config import SaeConfig
from esr.engines import open_tokenizer
from esr.engines.hooks import decoder_layers
from esr.errors import EsrError
from esr.organisms.corpus import Phrases, Writer, read_lexicon
from esr.organisms.sae import write_texts
from helpers.checkout import REPO
from helpers.studies import load_study
from helpers.tiny import D_SAE, FAMILIES, LAYERS, tiny_model, tiny_sae

TWIN = REPO / "resources/organisms/twin"
ORGANISMS = TWIN.parent
Change = Callable[[Sae], Sae]


class TestFormulas:
    def test_fvu_and_l0_by_hand(self) -> None:
        model, sae = tiny_model(), tiny_sae("topk")
        texts = [Text((2, 5, 9, 11, 7), 1), Text((2, 8, 8, 30), 2)]
        (row,) = measure_fit(model, sae, texts, [1], 100).to_dict("records")
        with torch.no_grad():
            h = torch.cat(
                [
                    model(torch.tensor([text.tokens]), output_hidden_states=True)
                    .hidden_states[2][0, text.start :]
                    .double()
                    for text in texts
                ]
            )
        error = h - sae.decode(sae.encode(h.float())).double()
        assert row["fvu"] == pytest.approx(
            float(error.square().sum() / (h - h.mean(dim=0)).square().sum()), rel=1e-5
        )
        assert row["l0"] == pytest.approx(float((sae.encode(h.float()) > 0).sum() / len(h)))
        assert (row["layer"], row["tokens"], row["sink_tokens"]) == (1, 6, 0)
        fired = (sae.encode(h.float()) > 0).any(dim=0).sum()
        assert row["dead_share"] == pytest.approx(1 - float(fired) / D_SAE)

    def test_texts_are_read_up_to_the_limit(self) -> None:
        texts = [Text((2, 5, 9, 11), 1)] * 3
        (row,) = measure_fit(tiny_model(), tiny_sae(), texts, [0], 5).to_dict("records")
        assert row["tokens"] == 5

    def test_answers_without_tokens_are_an_error(self) -> None:
        with pytest.raises(EsrError, match="the unsteered answers have no token"):
            measure_fit(tiny_model(), tiny_sae(), [Text((2, 5), 2)], [0], 5)

    def test_a_residual_stream_that_overflows_is_an_error_with_the_remedy(self) -> None:
        model = tiny_model()
        weights = model.state_dict()["model.layers.1.mlp.down_proj.weight"]
        weights.fill_(float("inf"))
        with pytest.raises(EsrError, match="layer 1 has values that are not finite; use dtype bf"):
            measure_fit(model, tiny_sae(), [Text((2, 5, 9), 1)], [1], 5)

    def test_sinks_are_left_out(self) -> None:
        h = torch.ones(9, 4)
        h[3] *= 11
        assert usual_tokens(h).tolist() == [True] * 3 + [False] + [True] * 5

    def test_norms_are_given_with_and_without_a_massive_dimension(self) -> None:
        """As in Gemma, where one dimension holds most of the mean square."""
        h = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
        plain = residual_norms(h)
        assert plain["massive_dimensions"] == 0
        assert plain["norm"] == plain["usual_norm"] == pytest.approx(8, rel=0.02)
        h[:, 5] = 80
        massive = residual_norms(h)
        assert massive["massive_dimensions"] == 1
        assert massive["norm"] > 10 * massive["usual_norm"]
        assert massive["usual_norm"] == pytest.approx(8, rel=0.03)

    def test_the_scale_of_a_boost_is_the_norm_over_that_of_a_median_row(self) -> None:
        sae = replace(tiny_sae(), W_dec=torch.diag(torch.tensor([2.0] * 8 + [0.0] * 8)))
        assert boost_scale(10, sae) == 5

    @pytest.mark.parametrize(
        ("read", "steer", "layers"),
        [(2, 2, [1, 2, 3]), (0, 3, [0, 1, 3]), (3, 0, [0, 2, 3]), (0, 0, [0, 1])],
    )
    def test_neighbours_and_the_steered_layer_are_measured(
        self, read: int, steer: int, layers: list[int]
    ) -> None:
        assert measured_layers(read, steer, LAYERS) == layers


@pytest.mark.parametrize("family", FAMILIES)
def test_later_layers_are_not_loaded_and_change_nothing(family: str, tmp_path: Any) -> None:
    whole = tiny_model(family)
    whole.save_pretrained(tmp_path)
    manifest = {"source": str(tmp_path), "revision": None}
    first = load_layers(manifest, "float32", "cpu", 2)
    assert len(decoder_layers(first)) == 2
    texts = [Text((2, 5, 9, 11, 30, 7, 7, 12), 1)]
    sae = tiny_sae()
    expected = measure_fit(whole.eval(), sae, texts, [0, 1], 50)
    pd.testing.assert_frame_equal(measure_fit(first, sae, texts, [0, 1], 50), expected)


@pytest.fixture(scope="module")
def twin() -> tuple[Any, Sae, list[Text]]:
    """The twin's layers, its SAE, and 30 texts of its language."""
    manifest = {"source": str(TWIN / "model"), "revision": None}
    tokenizer = open_tokenizer(manifest)
    writer = Writer(
        read_lexicon(ORGANISMS / "lexicon.csv"),
        Phrases.read(ORGANISMS / "phrases.yaml"),
        zipf=0.7,
        seed=1,
    )
    texts = [
        Text(tuple(tokenizer.convert_tokens_to_ids(text.tokens)), text.start)
        for text in write_texts(writer, 30, matched=True)
    ]
    sae = from_saelens(load_saelens(SaeConfig(path=TWIN / "sae"))[0])
    return load_layers(manifest, "float32", "cpu", LAYERS), sae, texts


def found_in(twin: Any, change: Change = lambda sae: sae, read_layer: int = 2) -> list[str]:
    """Names of what is found about the twin's SAE after a change."""
    model, sae, texts = twin
    layers = measured_layers(read_layer, 2, LAYERS)
    table = measure_fit(model, change(sae), texts, layers, 10_000)
    published = json.loads((TWIN / "sae/cfg.json").read_text())["metadata"]["l0"]
    config = load_study({"models": {"twin": {"read_layer": read_layer}}})
    return [f.name for f in fit_findings(table, SaeOrigin(l0=published), config, "twin")]


def as_relu(sae: Sae) -> Sae:
    """The SAE as it is loaded if the form in its cfg.json is wrong."""
    return replace(sae, activation="relu", k=None)


def permuted(sae: Sae) -> Sae:
    """The SAE with the decoder rows of other latents."""
    order = torch.randperm(sae.d_sae, generator=torch.Generator().manual_seed(0))
    return replace(sae, W_dec=sae.W_dec[order])


def random_encoder(sae: Sae) -> Sae:
    """The SAE with an encoder that does not belong to it."""
    noise = torch.randn(sae.W_enc.shape, generator=torch.Generator().manual_seed(0))
    return replace(sae, W_enc=noise * sae.W_enc.std())


def not_folded(sae: Sae) -> Sae:
    """A JumpReLU SAE of inputs with unit mean square, whose scale was not folded into it."""
    scale = 405 / sae.d_model**0.5  # norm of the twin's residual stream over that of its inputs
    threshold = torch.full((sae.d_sae,), 1.0)
    return replace(
        sae,
        activation="jumprelu",
        k=None,
        threshold=threshold,
        b_enc=sae.b_enc / scale,
        b_dec=sae.b_dec / scale,
    )


def of_another_stream(sae: Sae) -> Sae:
    """An SAE of the right width that was trained on something else."""
    turn = torch.linalg.qr(torch.randn(128, 128, generator=torch.Generator().manual_seed(0)))[0]
    return replace(sae, W_enc=turn @ sae.W_enc, W_dec=sae.W_dec @ turn.T, b_dec=sae.b_dec @ turn.T)


class TestTwin:
    def test_the_right_sae_at_the_right_layer_is_in_order(self, twin: Any) -> None:
        assert found_in(twin) == []

    @pytest.mark.parametrize(
        ("change", "names"),
        [
            (as_relu, {"fvu", "l0"}),
            (permuted, {"fvu"}),
            (random_encoder, {"fvu"}),
            (not_folded, {"l0"}),
            (of_another_stream, {"fvu"}),
            (lambda sae: replace(sae, W_dec=0 * sae.W_dec), {"fvu"}),
        ],
    )
    def test_a_misfit_is_found(self, twin: Any, change: Change, names: set[str]) -> None:
        assert names <= set(found_in(twin, change))

    @pytest.mark.parametrize("read_layer", [1, 3])
    def test_a_neighbour_that_fits_better_is_found(self, twin: Any, read_layer: int) -> None:
        assert found_in(twin, read_layer=read_layer) == ["neighbour"]


FIT = pd.DataFrame({"layer": [9, 10, 11], "fvu": [0.10, 0.55, 0.60], "l0": [60.0, 60.0, 60.0]})


def test_a_finding_names_the_layer_to_set() -> None:
    config = load_study({"models": {"twin": {"read_layer": 10, "steer_layer": 10}}})
    (finding,) = fit_findings(FIT, SaeOrigin(), config, "twin")
    assert finding.line.startswith("the SAE fits layer 9 better than read_layer 10: fraction of ")
    assert finding.line.endswith("0.100 against 0.550; set read_layer to 9")


def test_a_study_stops_unless_every_finding_is_accepted_by_name() -> None:
    findings = [Finding("fvu", "does not fit"), Finding("l0", "is too dense")]
    with pytest.raises(EsrError) as caught:
        refuse_findings(findings, ["l0"], "twin")
    assert str(caught.value) == (
        "models.twin.sae: does not fit. If it is meant to be so: models.twin.accept_sae: [fvu]"
    )
    refuse_findings(findings, ["l0", "fvu"], "twin")


def test_metadata_that_contradict_the_study_are_a_finding_of_their_own() -> None:
    config = load_study({"models": {"twin": {"read_layer": 9, "steer_layer": 9}}})
    origin = SaeOrigin("blocks.9.hook_mlp_out", "MLP output", 9)
    (finding,) = fit_findings(FIT, origin, config, "twin")
    assert finding.name == "metadata"
