"""Sets of directions: random ones, vectors of a file, contrasts of texts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from esr.assets.sae import decoder_rows
from esr.config import ContrastDirectionsConfig
from esr.directions.headers import refuse_same
from esr.directions.pairs import read_pairs
from esr.directions.sources import (
    Vectors,
    contrast,
    directions_table,
    random_directions,
    read_vectors,
    scaled,
)
from esr.directions.vectors import Directions, load_directions
from esr.errors import EsrError
from esr.tables import read_table, write_table
from helpers.checkout import load_script
from helpers.studies import load_study
from helpers.tiny import tiny_sae

LAYER, D_MODEL = 2, 64
ART = torch.ones(D_MODEL).cumsum(0) / D_MODEL
NORMS = torch.tensor([1.0, 2.5, 4.0])


def drawn(latents: list[int], seed: int = 46, d_model: int = D_MODEL) -> Directions:
    return random_directions("random", latents, torch.ones(len(latents)), d_model, seed)


class TestRandom:
    def test_each_is_as_long_as_the_decoder_row_that_it_stands_in_for(self) -> None:
        found = random_directions("random", [7, 3, 90], NORMS, D_MODEL, 46)
        assert found.rows.tolist() == [7, 3, 90]
        torch.testing.assert_close(found.vectors.norm(dim=1), NORMS)

    def test_one_depends_on_its_latent_and_the_seed_alone(self) -> None:
        few, many = drawn([3]).by_row(), drawn([7, 3, 90]).by_row()
        assert torch.equal(few[3], many[3])
        assert not torch.equal(few[3], many[7])
        assert not torch.equal(few[3], drawn([3], seed=47).vectors[0])

    def test_a_set_of_the_first_latents_has_their_directions_alone(self, tmp_path: Path) -> None:
        sae = tiny_sae("relu")
        sae.save(tmp_path / "sae.safetensors")
        latents = pd.DataFrame({"latent": [7, 3, 9], "order": range(3), "prompts": [["a"]] * 3})
        sets = {"all": {"kind": "random"}, "two": {"kind": "random", "latents": 2}}
        config = load_study({"directions": sets})
        make = load_script("prepare_directions").make_directions
        every, few = (
            make(config, "planted", name, latents, tmp_path / "sae.safetensors") for name in sets
        )
        assert few[0].rows.tolist() == few[1]["latent"].tolist() == [7, 3]
        assert torch.equal(few[0].vectors, every[0].vectors[:2])

    def test_they_are_isotropic(self) -> None:
        """Cosines with any axis have mean 0 and variance 1 / d; here 2,000 directions."""
        vectors = drawn(list(range(2000)), d_model=16).vectors
        assert vectors.mean(dim=0).abs().max() < 4 / np.sqrt(2000 * 16)
        torch.testing.assert_close(
            vectors.T @ vectors / 2000, torch.eye(16) / 16, atol=0.012, rtol=0
        )


class TestFile:
    def written(self, path: Path, layer: str = str(LAYER), **vectors: Tensor) -> Path:
        tensors = vectors or {"sea": torch.ones(D_MODEL), "art": 2 * ART}
        save_file(tensors, path, metadata={"layer": layer, "origin": "by hand"})
        return path

    def test_vectors_are_named_by_their_tensors_and_scaled_to_one_norm(
        self, tmp_path: Path
    ) -> None:
        found = read_vectors(self.written(tmp_path / "v.safetensors"), LAYER, D_MODEL)
        assert (found.labels, found.origin) == (["art", "sea"], "by hand")
        made = scaled("mine", found, 3.0)
        assert made.rows.tolist() == [0, 1]
        torch.testing.assert_close(made.vectors.norm(dim=1), torch.full((2,), 3.0))
        torch.testing.assert_close(made.vectors[0], 3 * ART / ART.norm())

    def test_another_layer_or_width_is_refused(self, tmp_path: Path) -> None:
        path = self.written(tmp_path / "v.safetensors", layer="3")
        with pytest.raises(EsrError, match=r"output of layer 3, but steer_layer is 2"):
            read_vectors(path, LAYER, D_MODEL)
        path = self.written(tmp_path / "w.safetensors", sea=torch.ones(8))
        with pytest.raises(EsrError, match=r"'sea' has shape \[8\], but .* needs \[64\]"):
            read_vectors(path, LAYER, D_MODEL)

    def test_a_file_without_origin_or_without_vectors_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "v.safetensors"
        save_file({"sea": torch.ones(D_MODEL)}, path, metadata={"layer": "2"})
        with pytest.raises(EsrError, match="no origin in its metadata; save it with"):
            read_vectors(path, LAYER, D_MODEL)
        path.write_text("version https://git-lfs.github.com/spec/v1")
        with pytest.raises(EsrError, match="no safetensors file with vectors"):
            read_vectors(path, LAYER, D_MODEL)
        with pytest.raises(EsrError, match="no safetensors file with vectors"):
            read_vectors(tmp_path / "gone", LAYER, D_MODEL)

    @pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
    def test_a_vector_that_is_zero_or_not_finite_is_refused(self, value: float) -> None:
        found = Vectors(["sea"], torch.full((1, D_MODEL), value), "by hand")
        with pytest.raises(EsrError, match="'sea' is zero or not finite"):
            scaled("mine", found, 3.0)

    def test_one_direction_under_two_names_is_refused(self) -> None:
        sea = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(0))
        scaled("mine", Vectors(["a", "b"], torch.stack([sea, -sea]), "opposite"), 3.0)
        found = Vectors(["a", "b", "c"], torch.stack([sea, torch.ones(D_MODEL), 0.3 * sea]), "")
        with pytest.raises(EsrError, match="'a' and 'c' have the same direction, which would"):
            scaled("mine", found, 3.0)

    @pytest.mark.parametrize(("first", "second"), [(0, 1), (511, 512), (600, 1199), (1198, 1199)])
    def test_it_is_found_wherever_the_two_are(self, first: int, second: int) -> None:
        vectors = dict(enumerate(np.random.default_rng(0).normal(size=(1200, D_MODEL))))
        named = {f"v{number}": vector for number, vector in vectors.items()}
        refuse_same("mine", named)
        named[f"v{second}"] = 2 * named[f"v{first}"]
        with pytest.raises(EsrError, match=f"'v{first}' and 'v{second}' have the same"):
            refuse_same("mine", named)


class TestContrast:
    def test_the_mean_is_the_mean_difference(self) -> None:
        differences = torch.tensor([[1.0, 0.0], [3.0, 2.0]])
        assert contrast(differences, "mean").tolist() == [2.0, 1.0]

    def test_a_planted_axis_is_the_first_component_with_the_sign_of_the_mean(self) -> None:
        draw = torch.Generator().manual_seed(0)
        axis = torch.nn.functional.normalize(torch.randn(D_MODEL, generator=draw), dim=0)
        strengths = torch.rand(40, 1, generator=draw) + 1
        noise = torch.randn(40, D_MODEL, generator=draw) / 20
        found = contrast(-strengths * axis + noise, "component")
        assert torch.cosine_similarity(found, -axis, dim=0) > 0.99
        torch.testing.assert_close(
            found.norm(), strengths.square().mean().sqrt(), atol=0.1, rtol=0.05
        )

    def test_a_direction_is_read_from_its_own_pairs(self, tmp_path: Path) -> None:
        path = tmp_path / "pairs.csv"
        path.write_text(
            "direction,positive,negative\nsea,boats,cake\nart,paint,cake\nsea,waves,cake\n"
        )
        where = {"boats": [3.0, 0.0], "waves": [1.0, 2.0], "paint": [0.0, 5.0], "cake": [0.0, 1.0]}
        settings = ContrastDirectionsConfig(pairs=path)
        found = load_script("read_contrasts").contrasts(
            read_pairs(path), settings, lambda text: torch.tensor(where[text])
        )
        assert found.labels == ["art", "sea"]
        assert found.vectors.tolist() == [[0.0, 4.0], [2.0, 0.0]]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("direction,positive\nsea,boats\n", "needs"),
            ("direction,positive,negative\n", "has no pair"),
            ("direction,positive,negative\nsea,boats,\n", "line 2: a cell is empty"),
            ("direction,positive,negative\nsea,cake,cake\n", "line 2: both texts are the same"),
            ("\ufeffdirection,positive,negative\nsea,,cake\n", "line 2: a cell is empty"),
            (
                "direction,positive,negative\nsea,boats,cake\nart,boats,cake\nsea,boats, cake\n",
                "line 4: 'sea' has this pair on line 2, too, and it would count twice",
            ),
            (
                "direction,positive,negative\nsea,boats,cake\nsea,cake,boats\n",
                "line 3: 'sea' has this pair reversed on line 2, and both cancel",
            ),
            (
                "direction,positive,negative\nsea,boats,cake\nSea,waves,cake\n",
                "line 3: 'Sea' and 'sea' would be two directions",
            ),
        ],
    )
    def test_pairs_that_contrast_nothing_are_refused(
        self, tmp_path: Path, text: str, message: str
    ) -> None:
        path = tmp_path / "pairs.csv"
        path.write_text(text)
        with pytest.raises(EsrError, match=message):
            read_pairs(path)


class TestSet:
    def test_a_set_survives_its_file_and_equal_sets_are_equal_bytes(self, tmp_path: Path) -> None:
        found = drawn([7, 3])
        for name in ("a", "b"):
            found.save(tmp_path / name)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
        back = load_directions(tmp_path / "a")
        assert (back.name, back.digest) == ("random", found.digest)
        assert torch.equal(back.vectors, found.vectors)

    def test_the_digest_changes_with_rows_and_vectors(self) -> None:
        digests = {drawn([7, 3]).digest, drawn([3, 7]).digest, drawn([7, 3], seed=1).digest}
        assert len(digests) == 3

    def test_another_file_is_refused(self, tmp_path: Path) -> None:
        save_file({"rows": torch.tensor([0])}, tmp_path / "v.safetensors")
        with pytest.raises(EsrError, match="is no set of directions"):
            load_directions(tmp_path / "v.safetensors")

    def test_a_row_twice_is_refused(self) -> None:
        with pytest.raises(EsrError, match="a row number occurs twice"):
            Directions("mine", torch.tensor([1, 1]), torch.ones(2, 4))

    def test_the_table_holds_norms_and_the_nearest_decoder_row(self, tmp_path: Path) -> None:
        rows = torch.eye(4)[:2]
        found = scaled("mine", Vectors(["a"], torch.tensor([[3.0, 4.0, 0.0, 0.0]]), "by hand"), 2.0)
        table = directions_table(found, rows, [["p1", "p2"]], "by hand", ["a"], torch.tensor([5.0]))
        write_table(table, tmp_path / "d.parquet", "directions", {})
        (row,) = read_table(tmp_path / "d.parquet", "directions").to_dict("records")
        assert row["norm"] == pytest.approx(2)
        assert row["own_norm"] == 5
        assert row["largest_cosine"] == pytest.approx(0.8)

    def test_decoder_rows_are_read_without_the_rest(self, tmp_path: Path) -> None:
        sae = tiny_sae()
        sae.save(tmp_path / "sae.safetensors")
        rows = decoder_rows(tmp_path / "sae.safetensors", [9, 2])
        assert torch.equal(rows, sae.W_dec[[9, 2]])
