"""The configuration: every key with its meaning, unit and source, checked before any job runs.

`config.yaml` holds the protocol, `studies/<study>.yaml` the models and overrides; Snakemake merges
them in that order and puts `--config` on top. `load` turns the merged mapping into a `Config`;
`docs/config.md` and `resources/config.schema.json` are generated from it.

A file of this package holds the sections about one thing; `study` puts them together and checks
what concerns several of them.
"""

from esr.config.agreement import AgreementConfig
from esr.config.arms import ArmConfig, LevelsConfig, WindowConfig
from esr.config.continuing import ContinueConfig
from esr.config.detectors import DetectorsConfig
from esr.config.directions import (
    ContrastDirectionsConfig,
    DirectionsConfig,
    FileDirectionsConfig,
    RandomDirectionsConfig,
)
from esr.config.engine import (
    ENGINE_HOURS,
    JOURNALED,
    EngineConfig,
    GenerationConfig,
    JobSizeConfig,
    VllmConfig,
)
from esr.config.episodes import EpisodesConfig
from esr.config.finetuning import (
    EXAMPLES,
    FinetuneConfig,
    FineTuned,
    FinetuneDataConfig,
    FinetuneTrainingConfig,
)
from esr.config.introspection import IntrospectionConfig
from esr.config.judges import (
    AnthropicJudgeConfig,
    ApiConfig,
    HumanJudgeConfig,
    JudgeConfig,
    LexicalJudgeConfig,
    LlmConfig,
    OpenAiJudgeConfig,
    SentenceJudgeConfig,
    VllmJudgeConfig,
)
from esr.config.judging import JudgingConfig
from esr.config.latents import ConcretenessConfig, LatentsConfig, RelevanceConfig
from esr.config.load import load, merge, plain_settings
from esr.config.matched import matched_arms
from esr.config.models import ModelConfig, NeuronpediaConfig, SaeConfig, ThresholdPriorConfig
from esr.config.random_sets import RandomSets, random_sets
from esr.config.readouts import ReadoutConfig
from esr.config.sae_fit import SaeFitConfig
from esr.config.section import DOWNLOADS, NAME
from esr.config.sections import SeedsConfig
from esr.config.statistics import StatisticsConfig
from esr.config.steering import SteeringConfig
from esr.config.study import Config
from esr.config.thresholds import ThresholdsConfig

__all__ = [
    "DOWNLOADS",
    "ENGINE_HOURS",
    "EXAMPLES",
    "JOURNALED",
    "NAME",
    "AgreementConfig",
    "AnthropicJudgeConfig",
    "ApiConfig",
    "ArmConfig",
    "ConcretenessConfig",
    "Config",
    "ContinueConfig",
    "ContrastDirectionsConfig",
    "DetectorsConfig",
    "DirectionsConfig",
    "EngineConfig",
    "EpisodesConfig",
    "FileDirectionsConfig",
    "FineTuned",
    "FinetuneConfig",
    "FinetuneDataConfig",
    "FinetuneTrainingConfig",
    "GenerationConfig",
    "HumanJudgeConfig",
    "IntrospectionConfig",
    "JobSizeConfig",
    "JudgeConfig",
    "JudgingConfig",
    "LatentsConfig",
    "LevelsConfig",
    "LexicalJudgeConfig",
    "LlmConfig",
    "ModelConfig",
    "NeuronpediaConfig",
    "OpenAiJudgeConfig",
    "RandomDirectionsConfig",
    "RandomSets",
    "ReadoutConfig",
    "RelevanceConfig",
    "SaeConfig",
    "SaeFitConfig",
    "SeedsConfig",
    "SentenceJudgeConfig",
    "StatisticsConfig",
    "SteeringConfig",
    "ThresholdPriorConfig",
    "ThresholdsConfig",
    "VllmConfig",
    "VllmJudgeConfig",
    "WindowConfig",
    "load",
    "matched_arms",
    "merge",
    "plain_settings",
    "random_sets",
]
