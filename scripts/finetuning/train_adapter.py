"""Make finetuning/adapter/ and training.csv of a fine-tuned model, with axolotl.

adapter/ holds adapter_config.json and adapter_model.safetensors (PEFT). training.csv has one row a
logged step: step, epoch, loss and eval_loss (nats a token), learning_rate. Runs in envs/finetune:
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

from esr.errors import EsrError
from esr.finetuning.jobs import OFFLINE, one_line_errors

COLUMNS = ["step", "epoch", "loss", "eval_loss", "learning_rate"]


def train(config: Path) -> list[dict[str, Any]]:
    """Train on the prepared rows.

    Returns:
        The trainer's log: one entry a logged step.

    Raises:
        EsrError: axolotl rejects the prepared rows and would prepare others.
    """
    from axolotl.cli.args import TrainerCliArgs
    from axolotl.cli.config import load_cfg
    from axolotl.common.datasets import load_datasets
    from axolotl.train import train as train_model
    from transformers import set_seed

    settings = load_cfg(str(config))
    prepared = prepared_datasets(settings)
    shutil.rmtree(settings.output_dir, ignore_errors=True)
    data = load_datasets(cfg=settings, cli_args=TrainerCliArgs())
    if prepared_datasets(settings) != prepared:
        raise EsrError(
            f"axolotl did not use the rows in {settings.dataset_prepared_path}; run again with "
            "`snakemake --forcerun prepare_rows`"
        )
    set_seed(settings.seed)  # axolotl sets its seed only after it has initialised the adapter
    *_, trainer = train_model(cfg=settings, dataset_meta=data)
    return list(trainer.state.log_history)


def check_device(config: Path) -> None:
    """Stop before loading a model if the configuration needs a GPU and there is none.

    Raises:
        EsrError: PyTorch finds no GPU.
    """
    import torch

    if (
        not yaml.safe_load(config.read_text(encoding="utf-8")).get("use_cpu")
        and not torch.cuda.is_available()
    ):
        raise EsrError(
            "finetune.training.device: gpu, but PyTorch finds no GPU; run this job on a machine "
            "with one, or set device: cpu with optimizer: adamw_torch and precision: float32"
        )


def prepared_datasets(settings: Any) -> set[Path]:
    """Folders of prepared datasets; axolotl adds one if it rejects those that exist."""
    return {path for path in Path(settings.dataset_prepared_path).iterdir() if path.is_dir()}


def main() -> None:
    """Train; write the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("curves", type=Path)
    arguments = parser.parse_args()
    with one_line_errors(), tempfile.TemporaryDirectory() as scratch:
        os.environ |= OFFLINE | {"HF_DATASETS_CACHE": scratch}
        check_device(arguments.config)
        logged = pd.DataFrame(train(arguments.config)).reindex(columns=COLUMNS)
        logged = logged[logged[["loss", "eval_loss"]].notna().any(axis=1)]
        logged.to_csv(arguments.curves, index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
