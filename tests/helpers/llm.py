"""Settings, keys and inputs of language-model judges against the fake API."""

from typing import Any

from esr.config import AnthropicJudgeConfig, OpenAiJudgeConfig
from esr.judges.base import JudgeInput
from esr.judges.costs import Price
from helpers.fake_api import CLAUDE, QWEN, FakeApi

KEY = "sk-very-secret-0123456789"


LABEL = "sailing boats"


def claude(api: FakeApi, **changes: Any) -> AnthropicJudgeConfig:
    facts = {"kind": "anthropic", "model": CLAUDE, "key_variable": "JUDGE_KEY"}
    return AnthropicJudgeConfig.model_validate(facts | {"base_url": api.url} | changes)


def compatible(api: FakeApi, **changes: Any) -> OpenAiJudgeConfig:
    facts = {"kind": "openai", "model": QWEN, "key_variable": "JUDGE_KEY"}
    return OpenAiJudgeConfig.model_validate(facts | {"base_url": f"{api.url}/v1"} | changes)


def inputs(number: int, restart: str = "Wait, that's not right.") -> list[JudgeInput]:
    return [
        JudgeInput(f"Explain how to do {i}.", f"Some boats. {restart} Answer {i}.", LABEL)
        for i in range(number)
    ]


# The budget

PRICE = Price(1, 5, 0.5, 2.5, "2026-11-22", "a test", "", "", "")
