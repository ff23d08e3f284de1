"""Weights are those of the model in config.json, and all of them come from the checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from esr.assets.checkpoints import INDEX, WEIGHTS, folder_model_shape
from esr.assets.weights import check_weights, load_causal_lm
from esr.errors import EsrError
from helpers.tiny import FAMILIES, tiny_model, tiny_multimodal_model

Weights = dict[str, np.ndarray]
LAST = "model.layers.3.mlp.up_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of four layers."""
    tiny_model("llama").save_pretrained(tmp_path)
    return tmp_path


def checked(folder: Path) -> None:
    shape = folder_model_shape(folder)
    assert shape is not None
    check_weights(folder, shape)


def set_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def set_weights(folder: Path, change: Callable[[Weights], Weights]) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, {"format": "pt"})


def without(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {k: v for k, v in weights.items() if not k.startswith(prefix)}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_as_transformers_writes_it_is_whole(family: str, tmp_path: Path) -> None:
    tiny_model(family).save_pretrained(tmp_path)
    checked(tmp_path)
    load_causal_lm(tmp_path)


def test_so_is_one_with_a_vision_tower_and_its_layers_are_counted(tmp_path: Path) -> None:
    tiny_multimodal_model().save_pretrained(tmp_path)
    checked(tmp_path)
    load_causal_lm(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    set_config(tmp_path, text_config=config["text_config"] | {"num_hidden_layers": 6})
    with pytest.raises(EsrError, match=r"layers 0 to 3, but by config.json .* layers 0 to 5"):
        checked(tmp_path)


class TestHeader:
    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer, not the file"),
            (b"\x00torn", "was cut or changed"),
            (b"", "was cut or changed"),
        ],
    )
    def test_a_file_that_holds_no_weights(self, folder: Path, content: bytes, line: str) -> None:
        (folder / WEIGHTS).write_bytes(content)
        with pytest.raises(EsrError, match=line):
            checked(folder)

    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            (
                {"num_hidden_layers": 5},
                "layers 0 to 3, but by config.json the model has layers 0 to 4",
            ),
            (
                {"num_hidden_layers": 3},
                "layers 0 to 3, but by config.json the model has layers 0 to 2",
            ),
            ({"vocab_size": 7}, r"embed_tokens.weight has shape .* by config.json it is \(7, "),
            (
                {"hidden_size": 8},
                r"embed_tokens.weight has shape .* by config.json it is \(.*, 8\)",
            ),
        ],
    )
    def test_a_configuration_of_another_model(
        self, folder: Path, changes: dict[str, Any], line: str
    ) -> None:
        set_config(folder, **changes)
        with pytest.raises(EsrError, match=line):
            checked(folder)

    def test_layers_of_a_missing_shard(self, folder: Path) -> None:
        names = list(load_file(folder / WEIGHTS))
        (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, WEIGHTS)}))
        checked(folder)
        set_weights(folder, without(LAST))
        with pytest.raises(EsrError, match=f"names {LAST}, which no file holds"):
            checked(folder)


class TestLoading:
    @pytest.mark.parametrize(
        "lost", [LAST, "model.norm", "model.embed_tokens", "model.layers.0.self_attn.q_proj"]
    )
    def test_no_weight_is_random(self, folder: Path, lost: str) -> None:
        set_weights(folder, without(lost))
        with pytest.raises(EsrError, match=rf"lacks 1 weights of its model, e.g. {lost}.*random"):
            load_causal_lm(folder)

    def test_no_output_layer_is_random(self, folder: Path) -> None:
        set_config(folder, tie_word_embeddings=False)
        set_weights(folder, without("lm_head"))
        with pytest.raises(EsrError, match=r"lacks 1 weights of its model, e.g. lm_head.weight"):
            load_causal_lm(folder)

    def test_no_layer_is_left_out_but_on_purpose(self, folder: Path) -> None:
        set_config(folder, num_hidden_layers=3)
        with pytest.raises(EsrError, match=r"has model.layers.3.* but by config.json .* 0 to 2"):
            load_causal_lm(folder)
        load_causal_lm(folder, partial=True)
