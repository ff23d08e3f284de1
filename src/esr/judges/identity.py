"""What determines the reply of a language model, beside the prompt, and what determines a score."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from esr.assets.checkpoints import checkpoint_files
from esr.config import JudgeConfig, LlmConfig, VllmJudgeConfig
from esr.judges.rubrics import read_rubric

API = ("kind", "model", "api_version", "provider", "temperature", "max_tokens", "extra")
OPEN_WEIGHTS = ("revision", "dtype", "quantization", "template", "temperature", "max_tokens")
ONLY_IF_SET = ("kv_cache",)
"""Settings that came later: without them the keys of replies are those of before."""
SAID = ("system", "user", "label", "reply", "quotes")
"""What a rubric says to a judge, and how the reply is read."""
ENDS = 2**20
"""Bytes at either end of a file of weights that identify it."""


def identity_of(settings: LlmConfig) -> dict[str, Any]:
    """Model, version and parameters of a judge.

    The server's address, the hardware, the number of calls in flight and prompt lookup are not
    part of it. At temperature 0 the last three change rounding only. At another temperature prompt
    lookup takes another sample from the same distribution.
    """
    plain = settings.model_dump(mode="json")
    if not isinstance(settings, VllmJudgeConfig):
        return {name: plain[name] for name in API if name in plain}
    found = {"kind": settings.kind, "model": settings.model}
    found |= {name: plain[name] for name in OPEN_WEIGHTS}
    found |= {name: plain[name] for name in ONLY_IF_SET if plain[name] is not None}
    return found | ({"files": _digest(settings.source)} if settings.is_local else {})


def scoring_facts(settings: JudgeConfig) -> dict[str, Any]:
    """What the scores of a judge follow from: part of the key of what is derived from scores.

    Of a language model, its replies' identity and what its rubric says, wherever that lies.

    Raises:
        EsrError: the rubric cannot be read.
    """
    if not isinstance(settings, LlmConfig):
        return settings.model_dump(mode="json")
    rubric = read_rubric(settings.rubric).model_dump(include=set(SAID))
    return identity_of(settings) | {"shown": settings.shown, "rubric": rubric}


@lru_cache
def _digest(source: str) -> str:
    """Digest of a folder without a commit: names, sizes and both ends of its files.

    Every job of the judge needs it, and reading all of a large checkpoint takes minutes.
    """
    digest = hashlib.sha256()
    for path in checkpoint_files(Path(source)):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(ENDS))
            file.seek(max(size - ENDS, 0))
            digest.update(file.read(ENDS))
    return digest.hexdigest()[:16]
