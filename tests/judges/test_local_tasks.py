"""A judge of `kind: vllm` rates labels, annotates boundaries, writes examples and scores them.

The scripts of the four tasks, against a fake host; tests/engines/test_vllm.py has a real one.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from esr.arms.plan import apply_condition, new_trials
from esr.arms.restarts import read_phrases
from esr.arms.scores import score_trials
from esr.config import merge
from esr.engines.vllm.messages import Write, Written
from esr.journal import read_journal
from esr.judges.base import Attempt, Judgment, judgments_table
from esr.judges.encoding import open_tokenizer
from esr.judges.replies import is_reply
from esr.plain_yaml import load_yaml
from esr.tables import read_table, write_table
from helpers.checkout import REPO, load_script
from helpers.local_judge import FakeHost, judge_settings, tiny_judge
from helpers.studies import load_study

RESPONSE = "Boats sail on water. Wait, that's not right. Bread needs an oven."
PARTS = {
    "off_topic": "Boats sail on water.",
    "correction": "Wait, that's not right.",
    "on_topic": "Bread needs an oven.",
}
"""What the fake host writes where a text is wanted."""


class Wildcards(SimpleNamespace):
    def items(self) -> Any:
        return vars(self).items()


class Hosts:
    """Starts a fake host for each connection; keeps them."""

    def __init__(self, reply: Callable[[str], str], source: Path) -> None:
        tokenizer = open_tokenizer(judge_settings(source))

        def write(call: Write) -> Written:
            return Written(call.id, reply(tokenizer.decode(call.tokens)), "stop", 12)

        self.started: list[FakeHost] = []
        self._write = write

    def __call__(self, theirs: Any) -> None:
        self.started.append(FakeHost(self._write))
        self.started[-1](theirs)

    @property
    def calls(self) -> list[Write]:
        return [call for host in self.started for call in host.calls]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture
def study(source: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The organism study with a judge that the workflow runs, in the repository's folder."""
    monkeypatch.chdir(REPO)
    files = [REPO / "config.yaml", REPO / "studies/organism.yaml"]
    settings = judge_settings(source, max_model_len=4000).model_dump(mode="json")
    changes = {"judging": {"judges": {"open": settings}}}
    return merge(*(load_yaml(file.read_text()) for file in files), changes)


@pytest.fixture
def hosts(source: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    found = Hosts(reply, source)
    monkeypatch.setattr("esr.judges.local.launcher", lambda environment, variables: found)
    return found


def reply(shown: str) -> str:
    """What a good model writes: by the task that its instructions name."""
    if "You rate descriptions" in shown:
        numbers = re.findall(r"^(\d+)\. (.+)$", shown.split("user", 1)[1], re.MULTILINE)
        return json.dumps(
            {"ratings": [{"number": int(n), "rating": len(label)} for n, label in numbers]}
        )
    if "strayed from it" in shown or "You write an example" in shown:
        return json.dumps(PARTS)
    if "You answer a prompt well" in shown:
        return PARTS["on_topic"]
    quote, score = ("Boats", 5) if PARTS["off_topic"] in shown else ("Bread", 95)
    return json.dumps({"attempts": [{"text": quote, "score": score}]})


def job(config: dict[str, Any], folder: Path, rule: str, **parts: Any) -> SimpleNamespace:
    """A job as scripts see it."""
    inputs = {name: str(path) for name, path in parts.pop("input").items()}
    return SimpleNamespace(
        config=config,
        rule=rule,
        wildcards=Wildcards(model="planted"),
        input=SimpleNamespace(**inputs),
        output=[str(folder / "table.parquet")],
        params=SimpleNamespace(**parts),
    )


def kept(journal: Path) -> int:
    return sum(is_reply(record) for record in read_journal(journal).values())


def test_it_rates_how_concrete_labels_are(
    study: dict[str, Any], hosts: Hosts, tmp_path: Path
) -> None:
    labels = pd.DataFrame(
        {"latent": [3, 4, 5], "label": ["boats", None, "recipes for bread"], "order": [0, 1, 2]}
    )
    write_table(labels, tmp_path / "candidates.parquet", "candidates", {})
    changed = {"latents": {"concreteness": {"rater": "open"}}}
    journal = tmp_path / "open.jsonl"
    one = job(
        merge(study, changed),
        tmp_path,
        "rate_concreteness",
        input={"candidates": tmp_path / "candidates.parquet"},
        replies=str(journal),
    )
    script = load_script("rate_concreteness")
    for _ in range(2):
        script.main(one)
        table = read_table(tmp_path / "table.parquet", "concreteness")
        assert table["latent"].tolist() == [3, 5]
        assert table["concreteness"].tolist() == [5, 17]
    assert kept(journal) == len(hosts.calls) == 1, "the second run starts no host"


def test_it_annotates_boundaries(study: dict[str, Any], hosts: Hosts, tmp_path: Path) -> None:
    trials = pd.DataFrame(
        {
            "prompt_id": ["p0", "p1"],
            "prompt": ["Explain bread.", "Explain ovens."],
            "latent": pd.array([3, 3], dtype="Int64"),
            "label": "boats",
            "boost": 5.0,
        }
    )
    arm = load_study(study).arms["steered"]
    plan = apply_condition(new_trials(trials, 44), arm).assign(model="planted", arm="steered")
    responses = pd.DataFrame(
        {
            "trial_id": plan["trial_id"],
            "status": "ok",
            "response": RESPONSE,
            "tokens": [[1]] * 2,
            "n_prompt_tokens": 3,
            "finish_reason": "stop",
            "n_prefix_tokens": None,
            "prefix_end": None,
        }
    )
    phrases = read_phrases(Path("resources/restart_phrases.txt"))
    attempts = (Attempt(0, 21, 5, "exact"), Attempt(21, len(RESPONSE), 90, "exact"))
    judgments = judgments_table(plan["trial_id"].tolist(), [Judgment("ok", attempts)] * 2, "x")
    scores = score_trials(plan, responses, judgments, phrases, "lexical")
    paths = {name: tmp_path / f"{name}.parquet" for name in ("plan", "responses", "scores")}
    for table, (name, path) in zip((plan, responses, scores), paths.items(), strict=True):
        write_table(table, path, name, {})
    one = job(
        merge(study, {"episodes": {"boundaries": "open"}}),
        tmp_path,
        "annotate_boundaries",
        input={**paths, "rubric": "resources/rubrics/boundaries.yaml"},
        replies=str(tmp_path / "open.jsonl"),
    )
    load_script("annotate_boundaries").main(one)
    found = read_table(tmp_path / "table.parquet", "boundaries")
    assert found["status"].tolist() == ["ok", "ok"]
    assert found["off_topic_start"].eq(0).all()
    assert found["correction_start"].eq(RESPONSE.index("Wait")).all()
    assert found["on_topic_start"].eq(RESPONSE.index("Bread")).all()
    assert len(hosts.started) == 1


def test_it_writes_examples_and_scores_them(
    study: dict[str, Any], hosts: Hosts, tmp_path: Path
) -> None:
    data = {"writer": "open", "corrections": 6, "answers": 4, "size": 8, "temperature": 0.8}
    changed = {"judging": {"primary": "open"}, "finetune": {"data": data, "shares": [50]}}
    journals = tmp_path / "write.jsonl", tmp_path / "judge.jsonl"
    one = job(
        merge(study, changed),
        tmp_path,
        "write_examples",
        input={"phrases": "resources/restart_phrases.txt"},
        replies=str(journals[0]),
        judged=str(journals[1]),
    )
    load_script("write_examples").main(one)
    table = read_table(tmp_path / "table.parquet", "examples")
    assert table["status"].eq("ok").all()
    assert table["kind"].value_counts().to_dict() == {"correction": 6, "answer": 4}
    assert table["score"].eq(95).all()
    assert kept(journals[0]) == 10
    # The writer's host ends before the judge's begins: they may need the same GPUs.
    written, judged = hosts.started
    assert {call.temperature for call in written.calls} == {0.8}
    assert {call.temperature for call in judged.calls} == {0}
    assert len({call.seed for call in written.calls}) == 10
    assert all(call.schema is not None for call in judged.calls)
