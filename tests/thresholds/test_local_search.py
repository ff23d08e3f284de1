"""A threshold search with a judge that the job runs: a real judge, with a fake host."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from esr.config import ThresholdPriorConfig, ThresholdsConfig
from esr.engines.base import Intervention, Request, Sampling
from esr.engines.vllm.messages import Write, Written
from esr.errors import EsrError
from esr.journal import Journal, read_journal
from esr.judges.base import JudgeInput
from esr.judges.llm import CachedLlm
from esr.judges.replies import is_reply
from esr.judges.rubric_judge import LlmJudge
from esr.judges.rubrics import read_rubric
from esr.thresholds.pipeline import QueryPipeline
from esr.thresholds.search import ProposalLog, find_thresholds
from helpers.counting_engine import Independent
from helpers.local_judge import FakeHost, judge_settings, local_model, tiny_judge

SETTINGS = ThresholdsConfig(target=50, steps=4, samples_per_step=2)
PRIOR = ThresholdPriorConfig(upper=40, mean=10, sd=4)
LATENTS = pd.DataFrame(
    {
        "latent": [3, 5, 8],
        "order": [0, 1, 2],
        "selected": True,
        "label": ["boats", "bread", "tea"],
        "prompts": [["p", "q"]] * 3,
    }
)


def scored(call: Write) -> Written:
    score = call.seed % 101
    text = json.dumps({"attempts": [{"text": "Boats", "score": score}]})
    return Written(call.id, text, "stop", 12)


def search(host: FakeHost, folder: Path) -> tuple[pd.DataFrame, int]:
    """The trials of a search, and the number of responses that it generated."""
    settings = judge_settings(folder)
    model = local_model(settings, host, Path("envs/serve"), "0.32.0")
    llm = CachedLlm(settings, folder / "replies.jsonl", local=model)
    engine = Independent()

    def request(query: Any) -> Request:
        what = Intervention(query.latent, query.boost)
        return Request((2, ord(query.prompt_id)), query.seed, what)

    def shown(query: Any, generation: Any) -> JudgeInput:
        return JudgeInput(query.prompt_id, f"Boats {generation.tokens[0]}.")

    with (
        Journal(folder / "journal.jsonl") as journal,
        QueryPipeline(
            engine,
            Sampling(0.6, 8),
            journal,
            LlmJudge(read_rubric(settings.rubric), llm),
            request,
            shown,
        ) as pipeline,
    ):
        found = find_thresholds(LATENTS, SETTINGS, PRIOR, 1, pipeline, ProposalLog(journal))
    return found[1], len(engine.computed)


def test_a_search_whose_judge_dies_goes_on_where_it_stopped(tmp_path: Path) -> None:
    tiny_judge(tmp_path)
    with pytest.raises(EsrError, match="out of memory"):
        search(FakeHost(scored, until=9), tmp_path)
    replies = [r for r in read_journal(tmp_path / "replies.jsonl").values() if is_reply(r)]
    generated = sum("tokens" in r for r in read_journal(tmp_path / "journal.jsonl").values())
    assert len(replies) == 9
    host = FakeHost(scored)
    trials, more = search(host, tmp_path)
    assert len(trials) == 3 * 4 * 2
    assert trials["status"].eq("ok").all()
    assert more == len(trials) - generated
    assert len(host.calls) == len(trials) - 9
    again, none = search(FakeHost(scored, until=0), tmp_path)
    pd.testing.assert_frame_equal(again, trials)
    assert none == 0
