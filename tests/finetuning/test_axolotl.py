"""Axolotl's configuration."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from esr.config import (
    FinetuneTrainingConfig,
)
from esr.engines import open_tokenizer
from esr.errors import EsrError
from esr.finetuning.axolotl import axolotl_config
from helpers.studies import load_study
from helpers.tokenizers import GEMMA, LLAMA, TWIN, byte_level


def configure(settings: FinetuneTrainingConfig, tokenizer: Any = None) -> dict[str, Any]:
    tokenizer = tokenizer or open_tokenizer(TWIN)
    return axolotl_config(settings, TWIN, tokenizer, Path("d.jsonl"), Path("f"))


def test_the_defaults_are_the_protocol_of_the_released_code() -> None:
    found = configure(
        load_study(name="paper").finetune.training.model_copy(update={"pad_token": "<pad>"})
    )
    wanted = {
        "adapter": "lora",
        "lora_r": 32,
        "lora_alpha": 16,
        "lora_dropout": 0.05,
        "lora_target_linear": True,
        "num_epochs": 4,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 4,
        "optimizer": "adamw_bnb_8bit",
        "lr_scheduler": "cosine",
        "learning_rate": 2e-4,
        "warmup_steps": 10,
        "sequence_len": 4096,
        "val_set_size": 0.05,
        "sample_packing": False,
        "bf16": True,
        "seed": 49,
    }
    assert {name: found[name] for name in wanted} == wanted
    assert "use_cpu" not in found


def test_every_training_has_a_seed_of_its_own_and_nothing_else() -> None:
    settings = load_study().finetune
    first, second = (configure(settings.training_of(number)) for number in (1, 2))
    assert first == configure(settings.training)
    assert second == first | {"seed": first["seed"] + 1}


def test_on_a_cpu_nothing_that_needs_a_gpu_is_on() -> None:
    found = configure(load_study().finetune.training)
    assert found["use_cpu"] is True
    assert found["optimizer"] == "adamw_torch"
    off = ["bf16", "tf32", "lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel"]
    assert [found[name] for name in off] == [False] * len(off)


def test_a_turn_that_does_not_end_in_eos_is_made_known() -> None:
    gemma = byte_level(GEMMA, ["a b c"], "<|end_of_text|>")
    found = configure(FinetuneTrainingConfig(), gemma)
    assert found["eot_tokens"] == ["<|eot_id|>"]
    assert found["datasets"][0]["train_on_eot"] == "turn"
    llama = byte_level(LLAMA, ["a b c"], "<|eot_id|>")
    assert "eot_tokens" not in configure(FinetuneTrainingConfig(), llama)


def test_a_base_that_cannot_be_trained_is_named_with_the_remedy() -> None:
    bare = open_tokenizer(TWIN)
    bare.chat_template = None
    with pytest.raises(EsrError, match="no chat template; fine-tune an instruction-tuned"):
        configure(FinetuneTrainingConfig(), bare)
    with pytest.raises(EsrError, match=r"pad_token: '<\|nothing\|>' is no token"):
        configure(FinetuneTrainingConfig(pad_token="<|nothing|>"))


def test_more_of_axolotls_keys_may_be_given_and_win() -> None:
    found = configure(FinetuneTrainingConfig(extra={"learning_rate": 1.0, "weight_decay": 0.1}))
    assert (found["learning_rate"], found["weight_decay"]) == (1.0, 0.1)


@pytest.mark.parametrize("key", ["trust_remote_code", "trust_remote_code_for_model"])
def test_code_of_a_checkpoint_is_never_run(key: str) -> None:
    with pytest.raises(ValidationError, match=rf"`extra`: {key} would run code"):
        FinetuneTrainingConfig(extra={"nested": [{key: True}]})
    configure(FinetuneTrainingConfig(extra={key: False}))


def test_on_a_cpu_only_what_needs_a_gpu_is_refused() -> None:
    harmless = {
        "weight_decay": 0.1,
        "load_in_4bit": False,
        "use_cpu": True,
        "optimizer": "adamw_torch_fused",
        "attn_implementation": "eager",
    }
    cpu = {"device": "cpu", "optimizer": "adamw_torch", "precision": "float32"}
    assert FinetuneTrainingConfig.model_validate(cpu | {"extra": harmless}).extra == harmless
    on_gpu = {"load_in_4bit": True, "adapter": "qlora"}
    assert FinetuneTrainingConfig(extra=on_gpu).extra == on_gpu
