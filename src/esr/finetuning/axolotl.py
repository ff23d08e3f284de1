"""Axolotl's configuration, from the settings of a study."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esr.config import FinetuneTrainingConfig
from esr.errors import EsrError

ON_CPU = {
    "use_cpu": True,
    "bf16": False,
    "fp16": False,
    "tf32": False,
    "dataloader_pin_memory": False,
    # Triton kernels, which axolotl enables by default and which need a GPU.
    "lora_mlp_kernel": False,
    "lora_qkv_kernel": False,
    "lora_o_kernel": False,
    "lora_embedding_kernel": False,
}
ON_GPU = {"tf32": True, "gradient_checkpointing": True}


def axolotl_config(
    settings: FinetuneTrainingConfig,
    manifest: Mapping[str, Any],
    tokenizer: Any,
    dataset: Path,
    folder: Path,
) -> dict[str, Any]:
    """Axolotl's configuration of one training run.

    Args:
        settings: Settings of the training.
        manifest: `assets/model.json` of the base.
        tokenizer: The tokenizer of the base.
        dataset: File of chats (`esr.finetuning.mixtures`).
        folder: Parent of `adapter`.

    Raises:
        EsrError: the base has no chat template or no padding token.
    """
    if not tokenizer.chat_template:
        raise EsrError(
            f"finetune.models: {manifest['source']} has no chat template; fine-tune an "
            "instruction-tuned checkpoint"
        )
    pad = settings.pad_token or tokenizer.pad_token
    if pad is None or pad not in tokenizer.get_vocab():
        raise EsrError(
            f"finetune.training.pad_token: {pad!r} is no token of {manifest['source']}; name one "
            "that no text contains"
        )
    found: dict[str, Any] = {"base_model": manifest["source"]}
    if manifest["revision"] is not None:
        found["revision_of_model"] = manifest["revision"]
    end = end_of_turn(tokenizer)
    if end != tokenizer.eos_token:
        found["eot_tokens"] = [end]
    found |= {
        "datasets": [_chats(dataset) | ({"train_on_eot": "turn"} if "eot_tokens" in found else {})],
        "output_dir": (folder / "adapter").as_posix(),
        "special_tokens": {"pad_token": pad},
    }
    return found | _training(settings) | settings.extra


def _chats(dataset: Path) -> dict[str, Any]:
    return {
        "path": dataset.as_posix(),
        "ds_type": "json",
        "type": "chat_template",
        "field_messages": "messages",
        "message_property_mappings": {"role": "role", "content": "content"},
        "roles_to_train": ["assistant"],
        "train_on_eos": "turn",
    }


def _training(settings: FinetuneTrainingConfig) -> dict[str, Any]:
    bf16 = {} if settings.device == "cpu" else {"bf16": settings.precision == "bfloat16"}
    return {
        "adapter": "lora",
        "lora_r": settings.lora_r,
        "lora_alpha": settings.lora_alpha,
        "lora_dropout": settings.lora_dropout,
        "lora_target_linear": True,
        "learning_rate": settings.learning_rate,
        "lr_scheduler": settings.lr_scheduler,
        "warmup_steps": settings.warmup_steps,
        "num_epochs": settings.num_epochs,
        "micro_batch_size": settings.micro_batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "optimizer": settings.optimizer,
        "sequence_len": settings.sequence_len,
        "sample_packing": False,
        "val_set_size": settings.val_set_size,
        "evals_per_epoch": 1,
        "save_strategy": "no",
        "logging_steps": 1,
        "attn_implementation": "sdpa",
        # 0 means no worker process; a worker would hold a copy of everything loaded.
        "dataset_num_proc": 0,
        "seed": settings.seed,
        **(ON_CPU if settings.device == "cpu" else ON_GPU),
        **bf16,
    }


def end_of_turn(tokenizer: Any) -> str:
    """The token that ends an assistant turn in the chat template.

    Raises:
        EsrError: the template writes nothing after a response.
    """
    chats = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    text = tokenizer.apply_chat_template(chats, tokenize=False)
    after = tokenizer.encode(text[text.rindex("b") + 1 :], add_special_tokens=False)
    if not after:
        raise EsrError(
            f"{tokenizer.name_or_path}: the chat template writes no token after a response; add "
            "the end-of-turn token to it"
        )
    return str(tokenizer.convert_ids_to_tokens(after[0]))
