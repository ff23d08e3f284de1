"""Make judged/<judge>.json: judgments by status, for every arm of a model.

The replies are in the journals of the arms, which `judge_responses` reads; those to the anchors are
in a journal of the job's own.
"""

import json
from pathlib import Path
from typing import Any

from esr.arms.restarts import read_phrases
from esr.job import config_of, output, start
from esr.judges.anchors import AnchorGrading, read_anchors
from esr.judges.base import judge_responses
from esr.judges.llm import CachedLlm
from esr.judges.local import open_local
from esr.judges.rubric_judge import LlmJudge
from esr.judges.rubrics import read_rubric
from esr.tables import read_table


def main(job: Any) -> None:
    """Judge arm after arm with one model, and count."""
    config = config_of(job)
    settings = config.judging.local[job.wildcards.judge]
    rubric = read_rubric(settings.rubric)
    phrases = read_phrases(Path(job.input.phrases))
    local = open_local(config, settings)
    graded = CachedLlm(settings, Path(job.params.anchors), local=local)
    known = read_anchors(config.judging.anchors)
    anchors = AnchorGrading(rubric, graded, known) if known else None
    counts = {}
    tables = zip(
        job.params.replies_of_arms.items(), job.input.plans, job.input.responses, strict=True
    )
    for (arm, journal), plan, responses in tables:
        judge = LlmJudge(rubric, CachedLlm(settings, Path(journal), local=local), anchors=anchors)
        table = judge_responses(
            read_table(Path(plan), "plan"),
            read_table(Path(responses), "responses"),
            judge,
            phrases,
            config.judged_alone,
        )
        trials = table.drop_duplicates("trial_id")
        counts[arm] = {str(k): int(n) for k, n in trials["status"].value_counts().items()}
    if anchors:
        anchors.finish()
    local.close()
    output(job).write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(start(snakemake))
