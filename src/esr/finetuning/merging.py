"""The base with an adapter added to its weights: plain LoRA, shard by shard.

PEFT and axolotl take seven seconds to load, and merging a plain adapter is one line of arithmetic.
It gives the bytes that axolotl gives. `merge_plain` leaves every other adapter to axolotl.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from esr.assets.checkpoints import ADAPTER_FILES

PLAIN = {
    "base_model_name_or_path",
    "inference_mode",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",  # has a default, and no effect without `megatron_config`
    "peft_version",
    "qalora_group_size",  # likewise, without `use_qalora`
    "r",
    "revision",
    "target_modules",
    "task_type",
}
"""Keys of adapter_config.json that a plain adapter sets; with others, merging may differ."""
FIXED: dict[str, Any] = {"peft_type": "LORA", "bias": "none", "init_lora_weights": True}
"""Values of three more keys of a plain adapter."""
DTYPES = ("F32", "BF16", "F16")
"""Types of weights, in safetensors' names, that are not quantized."""
INDEX = "model.safetensors.index.json"


def merge_plain(base: Path, adapter: Path, merged: Path) -> bool:
    """Write the base with the adapter's weights added, if the adapter is plain LoRA.

    One shard of the base is in memory at a time.

    Args:
        base: Folder of the base, a checkpoint of transformers.
        adapter: Folder of the adapter, as PEFT has it.
        merged: Folder of the new checkpoint.

    Returns:
        Whether it did. If not, nothing was written.
    """
    settings = json.loads((adapter / ADAPTER_FILES[0]).read_text(encoding="utf-8"))
    pairs = _pairs(load_file(adapter / ADAPTER_FILES[1]))
    shards = sorted(base.glob("model*.safetensors"))
    if not is_plain(settings) or not pairs or not _fit(pairs, shards):
        return False
    merged.mkdir(parents=True, exist_ok=True)
    _copy_other_files(base, merged)
    places: dict[str, str] = {}
    numbers = values = 0
    for shard in shards:
        with safe_open(shard, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for name, (low, high) in pairs.items():
            if name in tensors:
                scale = settings["lora_alpha"] / len(low)
                tensors[name] = add_product(tensors[name], low, high, scale)
        save_file(tensors, merged / shard.name, metadata=metadata)
        places |= dict.fromkeys(tensors, shard.name)
        numbers += sum(each.numel() for each in tensors.values())
        values += sum(each.nbytes for each in tensors.values())
    if len(shards) > 1:
        facts = {"total_parameters": numbers, "total_size": values}
        index = {"metadata": facts, "weight_map": places}
        (merged / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
    return True


def is_plain(settings: Mapping[str, Any]) -> bool:
    """Whether a configuration of PEFT is LoRA on weight matrices and nothing else."""
    own = {name: value for name, value in settings.items() if name in FIXED}
    others = {name for name, value in settings.items() if value and name not in PLAIN | set(FIXED)}
    return own == FIXED and not others


def add_product(
    weight: Float[Tensor, "out in_"],
    low: Float[Tensor, "rank in_"],
    high: Float[Tensor, "out rank"],
    scale: float,
) -> Float[Tensor, "out in_"]:
    """W + scale * B A, computed in float32 and rounded as PEFT rounds.

    Args:
        weight: W.
        low: A, `lora_A`.
        high: B, `lora_B`.
        scale: alpha / rank.

    Returns:
        In the dtype of `weight`.
    """
    product = (high.float() @ low.float() * scale).to(high.dtype)
    return (weight.float() + product.float()).to(weight.dtype)


def _pairs(adapter: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B by the name of the weight that they change; none if there is any other tensor."""
    first, low, high = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
    stems = [name.removesuffix(low) for name in adapter if name.endswith(low)]
    if {name + end for name in stems for end in (low, high)} != set(adapter):
        return {}
    return {
        f"{stem.removeprefix(first)}.weight": (adapter[stem + low], adapter[stem + high])
        for stem in stems
    }


def _fit(pairs: Mapping[str, tuple[Tensor, Tensor]], shards: list[Path]) -> bool:
    """Whether each pair has one matrix in the base that it can be added to."""
    found = set()
    for shard in shards:
        with safe_open(shard, framework="pt") as file:
            for name in pairs.keys() & set(file.keys()):
                weight, (low, high) = file.get_slice(name), pairs[name]
                shape = [len(high), low.shape[-1]]
                if weight.get_dtype() not in DTYPES or weight.get_shape() != shape:
                    return False
                found.add(name)
    return found == set(pairs)


def _copy_other_files(base: Path, merged: Path) -> None:
    """Copy what is no weights: configuration, tokenizer, chat template."""
    weights = ("model*.safetensors", "pytorch_model*.bin", "consolidated*", "*.gguf")
    for path in sorted(base.iterdir()):
        other = any(path.match(pattern) for pattern in (*weights, "*.index.json"))
        if path.is_file() and not other:
            shutil.copy2(path, merged)
