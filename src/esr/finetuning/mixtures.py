"""Mixtures of answers and self-corrections, as rows of the chats that axolotl reads.

All mixtures have the same size, so that training differs in nothing but the share; each holds the
self-corrections of every smaller share.
"""

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from esr.config import FinetuneConfig
from esr.errors import EsrError
from esr.finetuning import ANSWER, CORRECTION


def mix(examples: pd.DataFrame, settings: FinetuneConfig, share: int) -> pd.DataFrame:
    """Draw a mixture: rows of the table `examples`, shuffled.

    Args:
        examples: Those with another status than `ok` are left out.
        settings: Size and seed.
        share: Self-corrections, percent.

    Raises:
        EsrError: too few sound examples of a kind.
    """
    parts = []
    counts = dict(zip((CORRECTION, ANSWER), settings.counts(share), strict=True))
    for kind, count in counts.items():
        sound = examples[examples["kind"].eq(kind) & examples["status"].eq("ok")]
        if len(sound) < count:
            written = int(examples["kind"].eq(kind).sum())
            raise EsrError(
                f"finetune.ratios: {share} % of {settings.data.size} rows takes {count} examples "
                f"of kind {kind}, but only {len(sound)} of {written} are sound (status `ok`); "
                f"raise finetune.data.{kind}s, or lower finetune.data.size"
            )
        order = random.Random(f"{settings.data.seed}/{kind}").sample(range(len(sound)), len(sound))
        parts.append(sound.iloc[order[:count]])
    mixture = pd.concat(parts)
    found = mixture["kind"].value_counts().reindex(list(counts), fill_value=0).to_dict()
    if found != counts:
        raise AssertionError(f"a mixture of {found}, where {counts} was meant")
    return mixture.sample(frac=1, random_state=settings.data.seed)


def chat(example: Mapping[str, Any]) -> dict[str, Any]:
    """An example as a chat: its prompt, and the response in parts that are trained on or not.

    The blank between off-topic part and correction belongs to the latter.
    """
    answer = str(example["on_topic"])
    parts = [{"type": "text", "text": answer, "train": True}]
    if example["kind"] == CORRECTION:
        trained = f" {example['correction']} {answer}"
        parts = [
            {"type": "text", "text": str(example["off_topic"]), "train": False},
            {"type": "text", "text": trained, "train": True},
        ]
    asked = [{"type": "text", "text": str(example["prompt"])}]
    return {
        "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": parts}]
    }


def write_chats(chats: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write chats as JSON lines."""
    lines = [json.dumps(one, ensure_ascii=False) for one in chats]
    path.write_text("\n".join(lines) + "\n")


def read_chats(path: Path) -> list[dict[str, Any]]:
    """Chats of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]
