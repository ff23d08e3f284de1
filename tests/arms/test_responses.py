"""What `generate_responses` writes for an arm that cannot be run."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from esr.arms.plan import apply_condition, new_trials
from esr.arms.responses import NO_DETECTORS
from esr.arms.restarts import read_phrases
from esr.arms.scores import score_trials
from esr.judges.base import judge_responses
from esr.judges.lexical import LexicalJudge
from esr.judges.lexicon import Lexicon
from esr.tables import read_table, write_table
from helpers.checkout import REPO, load_script
from helpers.organism import LEXICON
from helpers.studies import load_study

N = 3


@pytest.mark.parametrize("arm", ["ablate-otd", "ablate-random-0"])
def test_without_detectors_nothing_is_generated_and_every_trial_has_the_status(
    tmp_path: Path, arm: str
) -> None:
    config = load_study()
    trials = pd.DataFrame(
        {
            "prompt_id": [f"p{i}" for i in range(N)],
            "prompt": "Explain how to bake bread.",
            "latent": pd.array([3] * N, dtype="Int64"),
            "label": "boats",
            "boost": 5.0,
        }
    )
    plan = apply_condition(new_trials(trials, 44), config.arms[arm], ablated=())
    plan = plan.assign(model="planted", arm=arm)
    write_table(plan, tmp_path / "plan.parquet", "plan", {})
    (tmp_path / "model.json").write_text("{}")  # no checkpoint: an engine could not be opened
    journal = tmp_path / "journal.jsonl"
    job = SimpleNamespace(
        config=config.model_dump(mode="json"),
        rule="generate_responses",
        wildcards=Wildcards(model="planted", arm=arm),
        input=SimpleNamespace(plan=tmp_path / "plan.parquet", model=tmp_path / "model.json"),
        params=SimpleNamespace(journal=journal),
        output=[tmp_path / "responses.parquet"],
    )
    load_script("generate_responses").main(job)
    assert not journal.exists()
    responses = read_table(tmp_path / "responses.parquet", "responses")
    assert responses["status"].tolist() == [NO_DETECTORS] * N
    assert responses[["response", "tokens", "n_prompt_tokens"]].isna().all(axis=None)
    # The status reaches the scores, and no number does.
    phrases = read_phrases(REPO / "resources/restart_phrases.txt")
    judgments = judge_responses(plan, responses, LexicalJudge(Lexicon.read(LEXICON)), phrases)
    scores = score_trials(plan, responses, judgments, phrases, "lexical")
    assert scores["status"].tolist() == [NO_DETECTORS] * N
    assert scores[["first_score", "multi_attempt", "restart_detected"]].isna().all(axis=None)


class Wildcards(dict[str, str]):
    """Wildcards as Snakemake gives them: by name and as items."""

    def __getattr__(self, name: str) -> str:
        return self[name]
