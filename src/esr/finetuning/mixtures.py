"""Mixtures of answers and self-corrections, as rows of the chats that axolotl reads.

All mixtures of a model have the same size and differ in the share of self-corrections only. A
mixture contains the self-corrections of every mixture with a smaller share of the same training.
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


def draw_mixture(
    examples: pd.DataFrame, settings: FinetuneConfig, share: int, training: int = 1
) -> pd.DataFrame:
    """Draw a mixture: rows of the table `examples`, shuffled.

    Args:
        examples: Only those with status `ok` are drawn.
        settings: Size and seed.
        share: Percentage of self-corrections.
        training: Number of the training, from 1; each draws its own mixture.

    Raises:
        EsrError: too few examples of a kind have status `ok`.
    """
    parts = []
    seed = settings.data.seed + training - 1
    counts = dict(zip((CORRECTION, ANSWER), settings.counts(share), strict=True))
    for kind, count in counts.items():
        usable = examples[examples["kind"].eq(kind) & examples["status"].eq("ok")]
        if len(usable) < count:
            written = int(examples["kind"].eq(kind).sum())
            raise EsrError(
                f"finetune.shares: {share} % of {settings.data.size} rows takes {count} examples "
                f"of kind {kind}, but only {len(usable)} of {written} have status `ok`; "
                f"raise finetune.data.{kind}s, or lower finetune.data.size"
            )
        order = random.Random(f"{seed}/{kind}").sample(range(len(usable)), len(usable))
        parts.append(usable.iloc[order[:count]])
    mixture = pd.concat(parts)
    found = mixture["kind"].value_counts().reindex(list(counts), fill_value=0).to_dict()
    if found != counts:
        raise AssertionError(f"drew a mixture of {found} in place of {counts}")
    return mixture.sample(frac=1, random_state=seed)


def to_chat(example: Mapping[str, Any]) -> dict[str, Any]:
    """An example as a chat: the prompt, and the response in parts marked trained or not.

    The space between off-topic part and correction belongs to the correction.
    """
    answer = str(example["on_topic"])
    parts = [{"type": "text", "text": answer, "train": True}]
    if example["kind"] == CORRECTION:
        trained = f" {example['correction']} {answer}"
        parts = [
            {"type": "text", "text": str(example["off_topic"]), "train": False},
            {"type": "text", "text": trained, "train": True},
        ]
    prompt = [{"type": "text", "text": str(example["prompt"])}]
    return {
        "messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": parts}]
    }


def write_chats(chats: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write chats as JSON lines."""
    lines = [json.dumps(one, ensure_ascii=False) for one in chats]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_chats(path: Path) -> list[dict[str, Any]]:
    """Read chats from JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
