"""A threshold search with a judge that the job runs: a real judge, with a fake host."""

import json
import socket
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from esr.config import ThresholdPriorConfig, ThresholdsConfig
from esr.engines.base import Intervention, Request, Sampling
from esr.engines.hosts.linger import Launch
from esr.engines.hosts.messages import Failed
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
from helpers.counting_engine import CountingEngine, Independent
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


def search(
    launch: Launch, folder: Path, engine: CountingEngine | None = None, *, early: bool = False
) -> tuple[pd.DataFrame, int]:
    """The trials of a search, and the number of responses that it generated.

    Args:
        launch: Starts the host of the judge.
        folder: Holds the judge and the journals.
        engine: Default: one that computes each request on its own.
        early: Whether the judge has GPUs of its own.
    """
    settings = judge_settings(folder)
    model = local_model(settings, launch, Path("envs/serve"), "0.32.0", early=early)
    llm = CachedLlm(settings, folder / "replies.jsonl", local=model)
    engine = engine or Independent()

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


class Waiting(Independent):
    """An engine whose start takes until the host of the judge was started, or a short while."""

    def __init__(self) -> None:
        super().__init__()
        self.judge_started = threading.Event()
        self.together: bool | None = None

    def submit(self, group: Mapping[str, Request]) -> None:
        if self.together is None:
            self.together = self.judge_started.wait(timeout=1)
        super().submit(group)


class Counted:
    """Starts the host of a judge, and tells the engine."""

    def __init__(self, engine: Waiting) -> None:
        self.engine, self.starts = engine, 0

    def __call__(self, theirs: socket.socket) -> None:
        self.starts += 1
        self.engine.judge_started.set()
        FakeHost(scored)(theirs)


@pytest.mark.parametrize("early", [True, False], ids=["own GPUs", "shared GPUs"])
def test_a_judge_with_gpus_of_its_own_starts_while_the_engine_does(
    early: bool, tmp_path: Path
) -> None:
    tiny_judge(tmp_path)
    engine = Waiting()
    launch = Counted(engine)
    search(launch, tmp_path, engine, early=early)
    assert engine.together is early
    assert launch.starts == 1


def test_a_search_that_has_all_responses_starts_no_judge(tmp_path: Path) -> None:
    tiny_judge(tmp_path)
    first, _ = search(FakeHost(scored), tmp_path, early=True)
    launch = Counted(Waiting())
    again, _ = search(launch, tmp_path, early=True)
    pd.testing.assert_frame_equal(again, first)
    assert launch.starts == 0


@pytest.mark.parametrize("early", [True, False], ids=["own GPUs", "shared GPUs"])
def test_a_judge_that_does_not_start_is_an_error_with_a_remedy(early: bool, tmp_path: Path) -> None:
    def fails(theirs: socket.socket) -> None:
        with Connection(theirs.dup().detach()) as connection:
            connection.send(Failed("CUDA error: out of memory"))

    tiny_judge(tmp_path)
    with pytest.raises(EsrError, match=r"out of memory.*judging\.judges"):
        search(fails, tmp_path, early=early)
