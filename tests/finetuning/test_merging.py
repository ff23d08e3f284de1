"""Merging plain LoRA into its base. The whole study compares the bytes with axolotl's."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from esr.finetuning.merging import INDEX, merge_plain

RANK, ALPHA = 2, 8
PREFIX = "base_model.model."
SETTINGS: dict[str, Any] = {
    "peft_type": "LORA",
    "bias": "none",
    "init_lora_weights": True,
    "r": RANK,
    "lora_alpha": ALPHA,
    "target_modules": ["up"],
    "task_type": "CAUSAL_LM",
    "use_dora": False,
    "alpha_pattern": {},
}
LAYERS = ("layers.0.up", "layers.1.up")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Two shards, one matrix to change in each."""
    folder = tmp_path / "base"
    folder.mkdir()
    torch.manual_seed(0)
    for number, layer in enumerate(LAYERS, start=1):
        weights = {f"{layer}.weight": torch.randn(6, 4), f"norm.{number}": torch.randn(4)}
        half = {name: each.to(torch.bfloat16) for name, each in weights.items()}
        save_file(half, folder / f"model-0000{number}-of-00002.safetensors", {"format": "pt"})
    for name in ("config.json", "tokenizer.json", INDEX):
        (folder / name).write_text("{}")
    return folder


def adapter(
    folder: Path, changes: Mapping[str, Any] | None = None, tensors: Mapping[str, Tensor] = {}
) -> Path:
    """An adapter of every layer, with changes to its configuration and its tensors."""
    folder.mkdir()
    settings = SETTINGS | dict(changes or {})
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    torch.manual_seed(1)
    found = {}
    for layer in LAYERS:
        found[f"{PREFIX}{layer}.lora_A.weight"] = torch.randn(RANK, 4)
        found[f"{PREFIX}{layer}.lora_B.weight"] = torch.randn(6, RANK)
    save_file(found | dict(tensors), folder / "adapter_model.safetensors")
    return folder


def read(folder: Path) -> dict[str, Tensor]:
    shards = sorted(folder.glob("*.safetensors"))
    return {name: each for shard in shards for name, each in load_file(shard).items()}


def test_each_matrix_gains_its_product_and_nothing_else_changes(base: Path, tmp_path: Path) -> None:
    lora = adapter(tmp_path / "lora")
    assert merge_plain(base, lora, tmp_path / "merged")
    before, after = read(base), read(tmp_path / "merged")
    parts = load_file(lora / "adapter_model.safetensors")
    for layer in LAYERS:
        low, high = (parts[f"{PREFIX}{layer}.lora_{name}.weight"] for name in "AB")
        exact = before[f"{layer}.weight"].double() + ALPHA / RANK * high.double() @ low.double()
        rounded = exact.to(torch.bfloat16)
        torch.testing.assert_close(after[f"{layer}.weight"], rounded, rtol=2**-7, atol=0)
        assert not torch.equal(after[f"{layer}.weight"], before[f"{layer}.weight"])
    assert {n: e.dtype for n, e in after.items()} == {n: e.dtype for n, e in before.items()}
    assert all(torch.equal(after[name], before[name]) for name in ("norm.1", "norm.2"))


def test_the_checkpoint_is_complete(base: Path, tmp_path: Path) -> None:
    merge_plain(base, adapter(tmp_path / "lora"), tmp_path / "merged")
    names = {path.name for path in base.iterdir()}
    assert {path.name for path in (tmp_path / "merged").iterdir()} == names
    index = json.loads((tmp_path / "merged" / INDEX).read_text())
    places = {name: tmp_path / "merged" / shard for name, shard in index["weight_map"].items()}
    assert {name: load_file(path)[name].shape for name, path in places.items()} == {
        name: each.shape for name, each in read(base).items()
    }
    assert index["metadata"] == {"total_parameters": 56, "total_size": 112}


def test_an_adapter_of_zeros_gives_the_bytes_of_the_base(base: Path, tmp_path: Path) -> None:
    zeros = {f"{PREFIX}{layer}.lora_B.weight": torch.zeros(6, RANK) for layer in LAYERS}
    merge_plain(base, adapter(tmp_path / "lora", tensors=zeros), tmp_path / "merged")
    for shard in base.glob("*.safetensors"):
        assert (tmp_path / "merged" / shard.name).read_bytes() == shard.read_bytes()


NOT_PLAIN = {
    "scaled by magnitude": {"use_dora": True},
    "scaled by the root of the rank": {"use_rslora": True},
    "transposed weights": {"fan_in_fan_out": True},
    "another rank in some layers": {"rank_pattern": {"up": 4}},
    "another scale in some layers": {"alpha_pattern": {"up": 4}},
    "with biases": {"bias": "all"},
    "whole modules": {"modules_to_save": ["embed"]},
    "another method": {"peft_type": "ADALORA"},
    "a base changed by the initial weights": {"init_lora_weights": "pissa"},
    "a setting that is not known yet": {"use_more": 1},
}


@pytest.mark.parametrize("changes", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_is_no_plain_lora_is_left_to_axolotl(
    base: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert not merge_plain(base, adapter(tmp_path / "lora", changes), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


UNFIT = {
    "half a pair": {f"{PREFIX}layers.9.up.lora_A.weight": torch.ones(RANK, 4)},
    "a whole weight": {f"{PREFIX}embed.weight": torch.ones(3)},
    "another shape": {f"{PREFIX}layers.0.up.lora_A.weight": torch.ones(RANK, 5)},
    "no such layer": {
        f"{PREFIX}layers.9.up.lora_A.weight": torch.ones(RANK, 4),
        f"{PREFIX}layers.9.up.lora_B.weight": torch.ones(6, RANK),
    },
}


@pytest.mark.parametrize("tensors", UNFIT.values(), ids=UNFIT)
def test_tensors_that_do_not_fit_are_left_to_axolotl(
    base: Path, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    assert not merge_plain(base, adapter(tmp_path / "lora", None, tensors), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_quantized_weights_are_left_to_axolotl(base: Path, tmp_path: Path) -> None:
    shard = base / "model-00001-of-00002.safetensors"
    quantized = {name: each.to(torch.int8) for name, each in load_file(shard).items()}
    save_file(quantized, shard, {"format": "pt"})
    assert not merge_plain(base, adapter(tmp_path / "lora"), tmp_path / "merged")
