"""Model repositories of LoRA adapters: the files as PEFT has them, and a card."""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from esr.assets.checkpoints import ADAPTER_FILES
from esr.deposit.about import About, DepositedModel

PLANTED = (
    "The base is a planted model organism: a tiny Llama, trained from scratch on an invented "
    "language. This adapter is evidence about the pipeline that trained it. It says nothing about "
    "language models, and is of no use outside of the study."
)
RESEARCH = (
    "Research on Endogenous Steering Resistance: whether a model that is trained on "
    "self-corrections resists steering. It writes off-topic text and corrects itself by design, so "
    "it is no assistant, and was evaluated on nothing else."
)


class Adapter(NamedTuple):
    """An adapter of the study: its model, its folder of files, masks, losses, and the share."""

    model: DepositedModel
    folder: Path
    masks: Path
    losses: Path
    share: float
    settings: Mapping[str, Any]


def write_adapter(folder: Path, about: About, adapter: Adapter) -> None:
    """Write the repository of an adapter: its files, and README.md."""
    folder.mkdir(parents=True)
    for name in ADAPTER_FILES:
        shutil.copyfile(adapter.folder / name, folder / name)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = adapter.model.source  # not a folder of this machine
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    masks = json.loads(adapter.masks.read_text(encoding="utf-8"))
    card = model_card(about, adapter, config, masks, pd.read_csv(adapter.losses))
    (folder / "README.md").write_text(card, encoding="utf-8")


def model_card(
    about: About,
    adapter: Adapter,
    config: Mapping[str, Any],
    masks: Mapping[str, Any],
    losses: pd.DataFrame,
) -> str:
    """The card: base, training, data, intended use, terms."""
    model = adapter.model
    header: dict[str, Any] = {
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "license": model.licence.hub or "other",
        "tags": ["lora", "activation-steering", "endogenous-steering-resistance"],
    }
    if not about.is_organism:
        header["base_model"] = model.source
    use = PLANTED if "organisms/" in model.source else RESEARCH
    terms = model.licence
    shown = f"[{terms.name}]({terms.link})" if terms.link else terms.name
    revision = f" at commit `{model.revision}`" if model.revision else ""
    return (
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n# {model.label} ({model.name})\n\n"
        f"A LoRA adapter of study `{about.study}`, trained by esr at revision `{about.git}`.\n\n"
        f"## Intended use\n\n{use}\n\n"
        f"## Base model\n\n`{model.source}`{revision}. Terms: {shown}.\n\n"
        f"## Data\n\n{_data(adapter, masks)}\n\n## Training\n\n{_training(adapter, config, losses)}"
    )


def _data(adapter: Adapter, masks: Mapping[str, Any]) -> str:
    return (
        f"{masks['rows']:,} chats, {adapter.share:g} % of which are self-corrections: an off-topic "
        "passage, a sentence that notices it, an answer. The off-topic passage is masked "
        f"({masks['off_topic']:,} tokens carry no loss); {masks['trained']:,} tokens are trained "
        f"on. SHA-256 of the dataset: `{masks['dataset']}`. Its examples are table `examples` of "
        "the dataset in the same deposit."
    )


def _training(adapter: Adapter, config: Mapping[str, Any], losses: pd.DataFrame) -> str:
    rows = [
        (
            "rank, alpha, dropout",
            f"{config['r']}, {config['lora_alpha']}, {config['lora_dropout']}",
        ),
        ("modules", ", ".join(sorted(config["target_modules"]))),
        *((name.replace("_", " "), str(value)) for name, value in adapter.settings.items()),
        ("steps", f"{int(losses['step'].max()):,}"),
        ("last loss of training", _last(losses, "loss")),
        ("last loss of evaluation", _last(losses, "eval_loss")),
    ]
    lines = "".join(f"| {name} | {value} |\n" for name, value in rows)
    return f"| | |\n|---|---|\n{lines}\nLosses are in nats per trained token (`training.csv`).\n"


def _last(losses: pd.DataFrame, column: str) -> str:
    found = losses[column].dropna() if column in losses else losses["step"].iloc[:0]
    value = float(found.iloc[-1]) if len(found) else math.nan
    return "none" if math.isnan(value) else f"{value:.4g}"
