"""Claims that every judge ranks a model first: `figures/figA3.csv`.

Two judges that do not err grade a sample of the steered arms of all models, drawn as in a study.
In the world of the claim each model has the rate of its own; under the null two other models have
twice the value of the one that is claimed to be first.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from zlib import crc32

import pandas as pd

from esr.agreement.compare import rank_models
from esr.analysis.rehearsals.base import SETTINGS, Rehearsal, drawn_arms, places
from esr.analysis.scenarios import Truths
from esr.analysis.simulation import second_phase
from esr.analysis.specs import StudySpec

ABOVE = 2
"""Models that are above the first one under the null, so that its rank is 3."""
JUDGES = ("primary", "second")


def rehearse(claim: Mapping[str, Any], truths: Truths) -> Rehearsal | None:
    """The claim if it is about the rank of a model by every judge."""
    where = places(claim)
    if claim["table"] != "figures/figA3.csv" or claim["statistic"] != "rank":
        return None
    (first,), (measure,) = where["model"], where["measure"]
    arms = {
        model: known["steered"]
        for model, known in truths.items()
        if "unsteered" in known and "+" not in model
    }
    others = [model for model in arms if model != first]

    def draw(spec: StudySpec, null: bool, number: int, second: bool = False) -> pd.DataFrame:
        rates = {model: arm.multi for model, arm in arms.items()}
        if null:
            rates |= dict.fromkeys(others[:ABOVE], 2 * rates[first])
        drawn = []
        for model, arm in arms.items():
            seed = [14, int(null), number, crc32(model.encode())]
            # Of one arm of success and gain, the rate alone decides the rank.
            truth = replace(arms[first] if null else arm, multi=rates[model])
            drawn.append(drawn_arms(spec, {"steered": truth}, seed)["steered"].assign(model=model))
        weights = second_phase(drawn, spec, [14, int(null), number])
        sample = pd.concat(
            [t.assign(weight=w)[w > 0] for t, w in zip(drawn, weights, strict=True)],
            ignore_index=True,
        )
        sample["prompt_id"] = sample["prompt_id"].astype(str)
        graded = dict.fromkeys(JUDGES, sample)
        return rank_models(sample, graded, [measure], SETTINGS)

    return Rehearsal(claim, 1.0, draw)
