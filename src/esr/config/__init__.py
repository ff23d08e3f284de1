"""The configuration: every key with its meaning, unit and source, checked before any job runs.

`config.yaml` holds the protocol, `studies/<study>.yaml` the models and overrides; Snakemake merges
them in that order and puts `--config` on top. `load` turns the merged mapping into a `Config`;
`docs/config.md` and `resources/config.schema.json` are generated from it.

A file of this package holds the sections about one thing; `study` puts them together and checks
what concerns several of them.
"""

from esr.config.analysis import Detectors, Episodes, Statistics
from esr.config.arms import Arm, Levels
from esr.config.engine import ENGINE_HOURS, JOURNALED, Engine, Generation, JobSize, Vllm
from esr.config.finetuning import EXAMPLES, Finetune, FineTuned, FinetuneData, FinetuneTraining
from esr.config.judging import (
    Agreement,
    AnthropicJudge,
    AnyJudge,
    HumanJudge,
    Judging,
    LexicalJudge,
    Llm,
    OpenAiJudge,
    SentenceJudge,
)
from esr.config.latents import Concreteness, Latents, Relevance, Thresholds
from esr.config.models import BoostPrior, Model, Neuronpedia, SaeSource
from esr.config.reading import load, merge, plain_settings
from esr.config.section import DOWNLOADS, NAME
from esr.config.study import Config, Seeds

__all__ = [
    "DOWNLOADS",
    "ENGINE_HOURS",
    "EXAMPLES",
    "JOURNALED",
    "NAME",
    "Agreement",
    "AnthropicJudge",
    "AnyJudge",
    "Arm",
    "BoostPrior",
    "Concreteness",
    "Config",
    "Detectors",
    "Engine",
    "Episodes",
    "FineTuned",
    "Finetune",
    "FinetuneData",
    "FinetuneTraining",
    "Generation",
    "HumanJudge",
    "JobSize",
    "Judging",
    "Latents",
    "Levels",
    "LexicalJudge",
    "Llm",
    "Model",
    "Neuronpedia",
    "OpenAiJudge",
    "Relevance",
    "SaeSource",
    "Seeds",
    "SentenceJudge",
    "Statistics",
    "Thresholds",
    "Vllm",
    "load",
    "merge",
    "plain_settings",
]
