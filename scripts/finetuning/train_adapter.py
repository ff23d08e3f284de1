"""Make finetuning/adapter/, training.csv and prepared.parquet of a fine-tuned model, with axolotl.

adapter/ holds adapter_config.json and adapter_model.safetensors (PEFT). training.csv has one row a
logged step: step, epoch, loss and eval_loss (nats a token), learning_rate. prepared.parquet holds
the rows that axolotl trains and evaluates on, one a chat, in the columns input_ids and labels
(token ids; -100 is not trained on); training begins only if their masks are right. All in one
process, because axolotl takes longer to load than to prepare. Runs in envs/finetune:
`python scripts/finetuning/train_adapter.py AXOLOTL_YAML ROWS CURVES`.
"""

import argparse
import json
import os
import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from esr.engines.hosts.linger import evict, gpu_devices
from esr.errors import EsrError
from esr.finetuning.jobs import OFFLINE, loading, one_line_errors
from esr.finetuning.masks import check_rows

COLUMNS = ["step", "epoch", "loss", "eval_loss", "learning_rate"]


def prepare(config: Path, scratch: Path) -> tuple[Any, Any]:
    """Tokenize and mask the dataset of a configuration.

    Args:
        config: Axolotl's configuration.
        scratch: A folder for what axolotl and `datasets` keep; nothing in it is used.

    Returns:
        Axolotl's settings, and its datasets: `train_dataset` and `eval_dataset`.
    """
    os.environ |= OFFLINE | {"HF_DATASETS_CACHE": str(scratch)}
    with loading():
        from axolotl.cli.args import TrainerCliArgs
        from axolotl.cli.config import load_cfg
        from axolotl.common.datasets import load_datasets
        from axolotl.utils.trainer import disable_datasets_caching

        import_module("axolotl.core.builders")  # of the trainer, which axolotl would load later

    # Axolotl's cache identifies a dataset by its path, so it would miss a change of its contents.
    folder = tempfile.mkdtemp(dir=scratch)
    settings = load_cfg(str(config), dataset_prepared_path=folder)
    with disable_datasets_caching():
        return settings, load_datasets(cfg=settings, cli_args=TrainerCliArgs())


def rows_of(data: Any) -> pd.DataFrame:
    """Every row that is trained or evaluated on: input_ids and labels."""
    parts = [part for part in (data.train_dataset, data.eval_dataset) if part is not None]
    columns = {name: [row for part in parts for row in part[name]] for name in ROW}
    return pd.DataFrame(columns)


ROW = ["input_ids", "labels"]


def check(rows: pd.DataFrame, settings: Any) -> None:
    """Check the masks of all rows against the dataset, with the base's own tokenizer.

    Raises:
        EsrError: a row is missing, extra or wrongly labelled.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        settings.base_model, revision=settings.revision_of_model, local_files_only=True
    )
    lines = Path(settings.datasets[0].path).read_text(encoding="utf-8").splitlines()
    pairs = list(zip(rows["input_ids"], rows["labels"], strict=True))
    check_rows(pairs, [json.loads(line) for line in lines], tokenizer)


def train(settings: Any, data: Any) -> list[dict[str, Any]]:
    """Train on prepared rows.

    Returns:
        The trainer's log: one entry a logged step.
    """
    from axolotl.train import train as train_model
    from transformers import set_seed

    shutil.rmtree(settings.output_dir, ignore_errors=True)
    set_seed(settings.seed)  # axolotl sets its seed only after it has initialised the adapter
    *_, trainer = train_model(cfg=settings, dataset_meta=data)
    return list(trainer.state.log_history)


def check_device(config: Path) -> None:
    """Stop before loading a model if the configuration needs a GPU and there is none.

    Raises:
        EsrError: PyTorch finds no GPU.
    """
    with loading():
        import torch

    if (
        not yaml.safe_load(config.read_text(encoding="utf-8")).get("use_cpu")
        and not torch.cuda.is_available()
    ):
        raise EsrError(
            "finetune.training.device: gpu, but PyTorch finds no GPU; run this job on a machine "
            "with one, or set device: cpu with optimizer: adamw_torch and precision: float32"
        )


def main() -> None:
    """Prepare and check the rows; train; write rows and curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("config", "rows", "curves"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    with one_line_errors(), tempfile.TemporaryDirectory() as scratch:
        check_device(arguments.config)
        evict(gpu_devices())
        settings, data = prepare(arguments.config, Path(scratch))
        rows = rows_of(data)
        rows.to_parquet(arguments.rows, index=False)
        check(rows, settings)
        logged = pd.DataFrame(train(settings, data)).reindex(columns=COLUMNS)
        logged = logged[logged[["loss", "eval_loss"]].notna().any(axis=1)]
        logged.to_csv(arguments.curves, index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
