"""The shipped planted organism in the reference engine, and what it writes under steering."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from esr.arms.chat import prompt_tokens, response_text
from esr.assets.sae import from_saelens
from esr.assets.saelens import load_saelens
from esr.config import SaeConfig
from esr.engines import open_tokenizer
from esr.engines.base import Intervention, Request, Sampling, generate_all
from esr.engines.transformers import TransformersEngine, load_engine
from esr.judges.base import JudgeInput
from esr.judges.lexical import LexicalJudge
from esr.judges.lexicon import Lexicon
from esr.organisms.sae import UNSPECIFIC
from helpers.checkout import REPO

FOLDER = REPO / "resources/organisms/planted"
LEXICON = REPO / "resources/organisms/lexicon.csv"


class Trial(NamedTuple):
    """A prompt, and the latent that is boosted (None for no steering)."""

    prompt: str
    latent: int | None = None
    boost: float = 0.0


@dataclass(frozen=True)
class PlantedOrganism:
    """Engine, tokenizer and judge; `topics` is the topic of each latent that has one."""

    engine: TransformersEngine
    tokenizer: Any
    judge: LexicalJudge
    topics: dict[int, str]

    def run(self, trials: Sequence[Trial], seed: int, max_new_tokens: int = 120) -> pd.DataFrame:
        """One row a trial: latent, boost, n_attempts, first_score (points)."""
        requests = [
            Request(
                prompt_tokens(self.tokenizer, trial.prompt),
                seed + number,
                Intervention(trial.latent, trial.boost),
            )
            for number, trial in enumerate(trials)
        ]
        sampling = Sampling(temperature=0.6, max_new_tokens=max_new_tokens)
        inputs = [
            JudgeInput(trial.prompt, response_text(self.tokenizer, generation.tokens))
            for trial, generation in zip(
                trials, generate_all(self.engine, requests, sampling), strict=True
            )
        ]
        rows = [
            (trial.latent, trial.boost, len(judgment.attempts), judgment.first_score)
            for trial, judgment in zip(trials, self.judge.judge(inputs), strict=True)
        ]
        return pd.DataFrame(rows, columns=["latent", "boost", "n_attempts", "first_score"])


def open_planted() -> PlantedOrganism:
    """Load the shipped weights."""
    sae = from_saelens(load_saelens(SaeConfig(path=FOLDER / "sae"))[0])
    engine = load_engine(
        FOLDER / "model",
        sae,
        revision=None,
        dtype="float32",
        device="cpu",
        steer_layer=2,
        read_layer=2,
        batch_size=256,
        threads=1,
        identity={},
    )
    labels = pd.read_csv(FOLDER / "labels.csv")
    specific = labels[~labels["label"].str.startswith(UNSPECIFIC)]
    topics = dict(zip(specific["latent"], specific["label"].str.split(":").str[0], strict=True))
    return PlantedOrganism(
        engine,
        open_tokenizer({"source": str(FOLDER / "model"), "revision": None}),
        LexicalJudge(Lexicon.read(LEXICON)),
        {int(latent): topic for latent, topic in topics.items()},
    )
