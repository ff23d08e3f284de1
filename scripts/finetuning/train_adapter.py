"""Make finetuning/adapter/ and training.csv of a fine-tuned model, with axolotl.

adapter/: adapter_config.json and adapter_model.safetensors (PEFT). training.csv: a row a step, as
the trainer logs it (step, epoch, loss, eval_loss, learning_rate). Runs in envs/finetune:
`python scripts/finetuning/train_adapter.py AXOLOTL_YAML CURVES`.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from prepare_rows import QUIET, room

COLUMNS = ["step", "epoch", "loss", "eval_loss", "learning_rate"]


def train(config: Path) -> list[dict[str, Any]]:
    """Train on the prepared rows; returns what the trainer logged."""
    from axolotl.cli.args import TrainerCliArgs
    from axolotl.cli.config import load_cfg
    from axolotl.common.datasets import load_datasets
    from axolotl.train import train as train_model
    from transformers import set_seed

    settings = load_cfg(str(config))
    prepared = datasets_in(settings)
    shutil.rmtree(settings.output_dir, ignore_errors=True)
    data = load_datasets(cfg=settings, cli_args=TrainerCliArgs())
    if datasets_in(settings) != prepared:
        raise SystemExit(f"axolotl did not take the rows in {settings.dataset_prepared_path}")
    set_seed(settings.seed)  # axolotl's own comes after the adapter has its first weights
    *_, trainer = train_model(cfg=settings, dataset_meta=data)
    return list(trainer.state.log_history)


def check_device(config: Path) -> None:
    """Stop before anything is loaded if the configuration is for a GPU and there is none."""
    import torch

    if not yaml.safe_load(config.read_text()).get("use_cpu") and not torch.cuda.is_available():
        raise SystemExit(
            "finetune.training.device: gpu, but PyTorch sees no GPU here; run this job where there "
            "is one, or set device: cpu with optimizer: adamw_torch and precision: float32"
        )


def datasets_in(settings: Any) -> set[Path]:
    """Prepared datasets; axolotl makes another one if it does not take what is there."""
    return {path for path in Path(settings.dataset_prepared_path).iterdir() if path.is_dir()}


def main() -> None:
    """Train; write the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("curves", type=Path)
    chosen = parser.parse_args()
    with room(), tempfile.TemporaryDirectory() as scratch:
        os.environ |= QUIET | {"HF_DATASETS_CACHE": scratch}
        check_device(chosen.config)
        logged = pd.DataFrame(train(chosen.config)).reindex(columns=COLUMNS)
        logged = logged[logged[["loss", "eval_loss"]].notna().any(axis=1)]
        logged.to_csv(chosen.curves, index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
