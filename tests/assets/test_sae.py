"""esr.assets.sae: one file, three forms, the same numbers as SAELens."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from esr.assets.sae import (
    Activation,
    SaeHeader,
    from_saelens,
    load_sae,
    read_header,
    sae_facts,
)
from esr.assets.saelens import load_saelens
from esr.config import SaeConfig
from esr.errors import EsrError
from helpers.checkout import REPO
from helpers.tiny import D_MODEL, D_SAE, tiny_sae

FORMS: tuple[Activation, ...] = ("relu", "jumprelu", "topk")
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("StandardSAE", {}),
    "jumprelu": ("JumpReLUSAE", {}),
    "topk": ("TopKSAE", {"k": 5}),
}
H = torch.randn(7, 3, D_MODEL, generator=torch.Generator().manual_seed(1))


def saelens_class(name: str, **settings: Any) -> Any:
    """SAE of a class of SAELens, which takes seconds to load: not where tests are collected."""
    import sae_lens

    return getattr(sae_lens, name)(getattr(sae_lens, f"{name}Config")(**settings))


def saelens(form: str, seed: int = 0, **settings: Any) -> Any:
    """SAE of SAELens with every weight, bias and threshold random."""
    name, own = CLASSES[form]
    sae = saelens_class(name, d_in=D_MODEL, d_sae=D_SAE, **own, **settings)
    generator = torch.Generator().manual_seed(seed)
    for parameter in sae.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 2
    return sae


class TestSaelens:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("centred", [True, False])
    def test_encodes_and_decodes_as_saelens_does(self, form: str, centred: bool) -> None:
        theirs = saelens(form, apply_b_dec_to_input=centred)
        ours = from_saelens(theirs)
        acts = theirs.encode(H)
        assert 0 < (acts > 0).float().mean() < 0.6
        torch.testing.assert_close(ours.encode(H), acts, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.decode(acts), theirs.decode(acts), atol=1e-5, rtol=1e-5)
        assert (ours.activation, ours.d_model, ours.d_sae) == (form, D_MODEL, D_SAE)

    def test_steering_adds_saelens_decoder_row(self) -> None:
        theirs = saelens("jumprelu")
        ours, one = from_saelens(theirs), torch.eye(D_SAE)[7]
        change = theirs.decode(3 * one) - theirs.decode(0 * one)
        torch.testing.assert_close(3 * ours.W_dec[7], change, atol=1e-6, rtol=1e-5)

    @pytest.mark.parametrize("form", ["relu", "jumprelu"])
    def test_a_folded_normalisation_is_taken_as_it_is(self, form: str) -> None:
        theirs = saelens(form, normalize_activations="expected_average_only_in")
        scaled, before = H * 0.25, theirs.encode(H * 0.25)
        theirs.fold_activation_norm_scaling_factor(0.25)
        ours = from_saelens(theirs)
        torch.testing.assert_close(ours.encode(H) > 0, before > 0)
        torch.testing.assert_close(ours.decode(ours.encode(H)), theirs(H), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(ours.encode(scaled), before)

    def test_a_folded_decoder_norm_is_taken_as_it_is(self) -> None:
        theirs = saelens("topk", rescale_acts_by_decoder_norm=True)
        acts, reconstruction = theirs.encode(H), theirs(H)
        theirs.fold_W_dec_norm()
        theirs.cfg.rescale_acts_by_decoder_norm = False
        ours = from_saelens(theirs)
        torch.testing.assert_close(ours.encode(H), acts, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            ours.decode(ours.encode(H)), reconstruction, atol=1e-4, rtol=1e-4
        )

    def test_weights_are_a_float32_copy(self) -> None:
        theirs = saelens("relu").to(torch.bfloat16)
        ours = from_saelens(theirs)
        kept = ours.W_dec.clone()
        theirs.W_dec.data.zero_()
        assert ours.W_dec.dtype == torch.float32
        assert torch.equal(ours.W_dec, kept)
        assert not ours.W_dec.requires_grad

    @pytest.mark.parametrize(
        ("sae", "named"),
        [
            (lambda: saelens_class("GatedSAE", d_in=4, d_sae=8), "'gated' is not supported"),
            (
                lambda: saelens_class(
                    "JumpReLUTranscoder", d_in=4, d_sae=8, d_out=4, apply_b_dec_to_input=False
                ),
                "'jumprelu_transcoder' is not supported",
            ),
            (lambda: saelens("relu", normalize_activations="layer_norm"), "'layer_norm'.*fold"),
            (
                lambda: saelens("relu", normalize_activations="expected_average_only_in"),
                "'expected_average_only_in'.*fold",
            ),
            (lambda: saelens("topk", rescale_acts_by_decoder_norm=True), "fold_W_dec_norm"),
            (lambda: hook_z("jumprelu"), "'hook_z'.*residual stream"),
        ],
        ids=["gated", "transcoder", "layer norm", "unfolded", "decoder norm", "heads"],
    )
    def test_what_the_three_forms_cannot_express_is_refused(self, sae: Any, named: str) -> None:
        with pytest.raises(EsrError, match=named):
            from_saelens(sae())


CFG = json.loads((REPO / "resources/organisms/twin/sae/cfg.json").read_text())
WEIGHTS = "sae_weights.safetensors"


class TestFolder:
    """What a folder may hold instead of an SAE: one line that names the file."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        shutil.copytree(REPO / "resources/organisms/twin/sae", tmp_path / "sae")
        return tmp_path / "sae"

    def refused(self, folder: Path) -> str:
        with pytest.raises(EsrError) as caught:
            from_saelens(load_saelens(SaeConfig(path=folder))[0])
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize("size", [0, 5, 100, 5000])
    def test_weights_that_were_cut(self, folder: Path, size: int) -> None:
        whole = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(whole[:size])
        assert self.refused(folder).startswith(f"{folder / WEIGHTS} was cut or changed")

    def test_a_git_lfs_pointer(self, folder: Path) -> None:
        (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\n")
        assert f"{folder / WEIGHTS} is a git-lfs pointer" in self.refused(folder)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"d_sae": 500}, "W_enc has shape (128, 512), but by cfg.json it is (128, 500)"),
            ({"d_in": 64}, "W_enc has shape (128, 512), but by cfg.json it is (64, 512)"),
            ({"k": 0}, "cfg.json: k is 0; a TopK SAE of 512 latents has 1 to 512"),
            ({"k": 513}, "cfg.json: k is 513"),
            ({"architecture": "own"}, "own"),
            ({"architecture": None}, "None"),
        ],
    )
    def test_a_cfg_that_does_not_fit(
        self, folder: Path, change: dict[str, Any], message: str
    ) -> None:
        (folder / "cfg.json").write_text(json.dumps(CFG | change))
        refused = self.refused(folder)
        assert message in refused
        assert str(folder) in refused

    @pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_enc", "b_dec"])
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_weights_that_are_not_finite(self, folder: Path, name: str, value: float) -> None:
        weights = load_file(folder / WEIGHTS)
        weights[name].view(-1)[3] = value
        save_file(weights, folder / WEIGHTS)
        assert f"{folder}: {name} has values that are NaN or infinite" in self.refused(folder)

    def test_a_decoder_of_zeros(self, folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        save_file(weights | {"W_dec": 0 * weights["W_dec"]}, folder / WEIGHTS)
        assert self.refused(folder).endswith("every decoder row is zero, so that no boost steers")


def hook_z(form: str) -> Any:
    """SAE that reads the heads of an attention layer."""
    sae = saelens(form)
    sae.cfg.reshape_activations = "hook_z"
    return sae


class TestEncoding:
    @pytest.mark.parametrize("form", FORMS)
    def test_some_latents_are_columns_of_all(self, form: Activation) -> None:
        sae = tiny_sae(form)
        some = torch.tensor([5, 0, 23, 5])
        torch.testing.assert_close(sae.encode(H, some), sae.encode(H)[..., some])
        assert sae.encode(H, some[:0]).shape == (7, 3, 0)

    def test_forms_by_hand(self) -> None:
        h = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(2))
        for form in FORMS:
            sae = tiny_sae(form)
            pre = [
                math.fsum((h * sae.W_enc[:, k]).tolist()) + sae.b_enc[k].item()
                for k in range(D_SAE)
            ]
            least = {
                "relu": [0.0] * D_SAE,
                "jumprelu": [] if sae.threshold is None else sae.threshold.tolist(),
                "topk": [sorted(pre)[-6]] * D_SAE,
            }[form]
            expected = [max(p, 0) if p > t else 0 for p, t in zip(pre, least, strict=True)]
            assert sae.encode(h).tolist() == pytest.approx(expected, abs=1e-5)

    def test_topk_keeps_at_most_k_and_no_negative_ones(self) -> None:
        acts = tiny_sae("topk").encode(H)
        assert (acts >= 0).all()
        assert (acts > 0).sum(-1).max() == 5
        low = tiny_sae("topk").encode(H - 2 * H.abs())
        assert (low >= 0).all()

    def test_bfloat16_residuals_are_encoded_in_the_precision_of_the_weights(self) -> None:
        sae, h = tiny_sae("jumprelu"), H.bfloat16()
        assert sae.encode(h).dtype == torch.float32
        assert torch.equal(sae.encode(h), sae.encode(h.float()))

    def test_ablating_all_latents_leaves_bias_and_error_term(self) -> None:
        sae = tiny_sae("topk")
        acts = sae.encode(H)
        torch.testing.assert_close(H - acts @ sae.W_dec, H - (sae.decode(acts) - sae.b_dec))


class TestFile:
    @pytest.mark.parametrize("form", FORMS)
    def test_round_trip_is_exact(self, form: Activation, tmp_path: Path) -> None:
        sae, path = tiny_sae(form), tmp_path / "new" / "sae.safetensors"
        sae.save(path, source="here", esr="{}")
        read = load_sae(path)
        assert (read.activation, read.k) == (sae.activation, sae.k)
        assert torch.equal(read.encode(H), sae.encode(H))
        assert torch.equal(read.decode(read.encode(H)), sae.decode(sae.encode(H)))
        assert sae_facts(path) == {"source": "here", "esr": "{}"}

    def test_the_digest_is_of_the_weights_not_of_their_origin(self, tmp_path: Path) -> None:
        """A remade file with another origin must not orphan what the journals hold."""
        sae = tiny_sae("jumprelu")
        sae.save(tmp_path / "a", esr="of one commit")
        sae.save(tmp_path / "b", esr="of another commit")
        assert load_sae(tmp_path / "a").digest == load_sae(tmp_path / "b").digest == sae.digest
        assert tiny_sae("jumprelu", seed=1).digest != sae.digest
        assert tiny_sae("relu").digest != sae.digest

    @pytest.mark.parametrize("form", FORMS)
    def test_the_header_holds_form_sizes_and_digest(self, form: Activation, tmp_path: Path) -> None:
        sae = tiny_sae(form)
        sae.save(tmp_path / "sae", source="here")
        expected = SaeHeader(form, sae.k, D_MODEL, D_SAE, sae.digest)
        assert read_header(tmp_path / "sae") == expected

    def test_a_file_of_an_older_version_is_an_error_with_its_remedy(self, tmp_path: Path) -> None:
        header = json.dumps({"activation": "relu", "k": None, "source": "here"})
        save_file({"W_dec": torch.zeros(2, 2)}, tmp_path / "sae", metadata={"sae": header})
        with pytest.raises(EsrError, match=r"no 'd_model' in its header.*--forcerun prepare_sae"):
            read_header(tmp_path / "sae")
        assert sae_facts(tmp_path / "sae") == {"source": "here"}

    def test_same_sae_same_bytes(self, tmp_path: Path) -> None:
        tiny_sae("jumprelu").save(tmp_path / "a", source="here", esr="{}")
        tiny_sae("jumprelu").save(tmp_path / "b", esr="{}", source="here")
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    @pytest.mark.parametrize("metadata", [None, {"activation": "relu"}])
    def test_another_safetensors_file_is_refused(self, metadata: Any, tmp_path: Path) -> None:
        save_file({"W_dec": torch.zeros(2, 2)}, tmp_path / "other.safetensors", metadata=metadata)
        for read in (load_sae, sae_facts):
            with pytest.raises(EsrError, match=r"other\.safetensors is not an SAE file of esr"):
                read(tmp_path / "other.safetensors")

    def test_views_of_larger_tensors_are_saved_alone(self, tmp_path: Path) -> None:
        wide = saelens("relu")
        wide.W_dec.data = wide.W_dec.data.T.contiguous().T
        from_saelens(wide).save(tmp_path / "sae")
        assert torch.equal(load_sae(tmp_path / "sae").W_dec, wide.W_dec.data)


@pytest.mark.parametrize(
    ("form", "threshold", "k"),
    [
        ("topk", None, None),
        ("jumprelu", None, None),
        ("relu", None, 5),
        ("relu", torch.zeros(D_SAE), None),
        ("gelu", None, None),
    ],
)
def test_a_form_without_its_cut_off_is_refused(form: Any, threshold: Any, k: int | None) -> None:
    from esr.assets.sae import Sae

    plain = tiny_sae("relu")
    with pytest.raises(EsrError, match=f"form '{form}'"):
        Sae(form, plain.W_enc, plain.b_enc, plain.W_dec, plain.b_dec, threshold, k)
