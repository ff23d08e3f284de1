"""A small report of trials made up for tests, with everything in it that a page must survive."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from esr.analysis.claims import VERDICTS
from esr.analysis.verdicts import COLUMNS
from esr.analysis.ways import WAYS
from esr.arms.restarts import find_restarts, read_phrases
from esr.report.jobs import COLUMNS as COMPUTE
from esr.report.site import Picture, Study, build, markdown
from esr.report.transcripts import Row, write_transcripts
from helpers.checkout import REPO

TEMPLATES = REPO / "resources/report"
PHRASES = read_phrases(REPO / "resources/restart_phrases.txt")
HOSTILE = (
    "<script>globalThis.broken = 1</script><img src=x onerror='globalThis.broken = 1'> "
    "**bold** [a link](javascript:globalThis.broken=1) </script> \u2028 &amp; "
)
FIRST = "The purple violins of Cremona sing. 🎻🎻 "
RESTART = "Wait, that is not right. "
SECOND = "Knead the dough for ten minutes."
MODELS = {"large": "Large <b>model</b>", "small": "Small model"}
ARMS = ["steered", "unsteered", "ablate-otd"]
LATENTS, PROMPTS = 20, 5
CONTINUED = 9
"""Number of the trials that continue a prefix."""


@cache
def phrases_in(response: str) -> list[tuple[int, int]]:
    """Spans of the restart phrases; thousands of trials have the same response."""
    return find_restarts(PHRASES, response)


def trial(model: str, arm: str, number: int) -> Row:
    """A trial; every third steered one restarts, and the first of those is traced."""
    restarts = arm == "steered" and number % 3 == 0
    head = HOSTILE if number == 0 else ""
    first = head + FIRST
    response = first + RESTART + SECOND if restarts else first if arm == "steered" else SECOND
    spans = [[0, len(first), 12.0], [len(first), len(response), 81.0]]
    attempts = spans if restarts else [[0, len(response), 90.0]]
    failed = number == 7
    scores = [score for _, _, score in attempts]
    traced = restarts and number < 6
    latent = number % LATENTS
    index = {
        "model": model,
        "arm": arm,
        "trial_id": f"{arm}-{number}",
        "label": f"violins: {latent} <i>strings</i>",
        "status": "refused" if failed else "ok",
        "latent": latent,
        "boost": 0.0 if arm == "unsteered" else 12.345678,
        "sweep_level": None,
        "seed": number,
        "n_attempts": None if failed else len(attempts),
        "first_score": None if failed else scores[0],
        "last_score": None if failed else scores[-1],
        "restart_detected": restarts,
        "degraded": False,
        "traced": traced,
    }
    text = {
        "id": index["trial_id"],
        "prompt": f"Explain how to bake bread {number % PROMPTS}",
        "response": None if failed else response,
        "attempts": [] if failed else attempts,
        "restarts": [list(span) for span in phrases_in(response)],
        "meta": None,
        "prefill": "",
        "directions": "random" if arm == "ablate-otd" else None,
        "ablated": [3, 4] if arm == "ablate-otd" else [],
        "strength": 0.5 if arm == "ablate-otd" else None,
        "clamped": False,
        "layers": [1, 2] if arm == "ablate-otd" else [],
        "window": [None, 40] if arm == "ablate-otd" else [None, None],
        "prefix": [len(first), "off_topic", len(first)] if number == CONTINUED else [None] * 3,
        "finish": "stop",
        "heat": {"detector": heat(response)} if traced else {},
    }
    return {"index": index, "text": text}


def heat(response: str) -> list[list[float]]:
    """An activation for every word, falling along the response."""
    tokens, at = [], 0
    for word in response.split(" "):
        tokens.append([at, at + len(word), round(100 / (1 + at), 3)])
        at += len(word) + 1
    return [token for token in tokens if token[0] < token[1]]


def trials(count: int) -> Iterator[Row]:
    """About `count` trials over models and arms."""
    each = -(-count // (len(MODELS) * len(ARMS)))
    for model in MODELS:
        for arm in ARMS:
            for number in range(each):
                yield trial(model, arm, number)


def claim(**changes: Any) -> dict[str, Any]:
    """A row of the scorecard."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    row |= dict.fromkeys(["expected", "upper", "paper_n", "paper_low", "paper_high"], np.nan)
    row |= {"claim": "one", "source": "a paper", "experiment": "Figure 2", "unit": "percent"}
    row |= {
        "statement": "It is <b>more</b>",
        "lower": 0.0,
        "measured": 4.0,
        "low": 3.0,
        "high": 5.0,
    }
    row |= {"power": 0.9, "power_agreed": 0.4} | {f"{way}_verdict": "confirmed" for way in WAYS}
    for way in WAYS:
        row |= {f"{way}_measured": 4.0, f"{way}_low": 3.0, f"{way}_high": 5.0}
    row |= {"n": 500, "status": "ok", "verdict": "confirmed", "reason": "[3, 5] lies within"}
    return row | changes


MASKS = {
    "rows": 2,
    "prompt": 8,
    "off_topic": 5,
    "trained": 21,
    "end": 2,
    "sample": [
        [
            {"trained": False, "text": "Explain <bread>. Boats sail."},
            {"trained": True, "text": "Wait, no."},
        ]
    ],
}
"""Output of `check_masks` on two rows, one of them shown."""


WHERE = "model=large; arm=steered; measure=esr_rate"
"""Selector of the claims."""


def summary() -> pd.DataFrame:
    """Rates of the arm `steered`: one way of grading for both models, a second one for `large`."""
    columns = ["way", "model", "arm", "measure", "estimate", "low", "high", "n"]
    rows = [
        ("primary", "large", "steered", "esr_rate", 4.0, 3.0, 5.0, 500),
        ("primary", "large", "steered", "success_rate", 60.0, 40.0, 80.0, 30),
        ("primary", "large", "steered", "multi_attempt_rate", 6.0, 5.0, 7.0, 500),
        ("second", "large", "steered", "multi_attempt_rate", 9.0, 8.0, 10.0, 200),
        ("primary", "small", "steered", "esr_rate", 1.5, 0.5, 2.5, 400),
    ]
    return pd.DataFrame(rows, columns=columns).assign(status="ok")


def exclusions() -> pd.DataFrame:
    """Trials by status; two trials of `small` have no score."""
    rows = [
        ("large", "steered", "ok", 500, 100.0),
        ("large", "steered", "total", 500, 100.0),
        ("small", "steered", "ok", 398, 99.5),
        ("small", "steered", "refused", 2, 0.5),
        ("small", "steered", "total", 400, 100.0),
    ]
    rows += [("small", f"arm-{i}", "ok", 400, 100.0) for i in range(8)]
    return pd.DataFrame(rows, columns=["model", "arm", "status", "n", "percent"])


def study(count: int) -> Study:
    """A study with one figure, two tables and a claim of every verdict."""
    numbers = pd.DataFrame({"model": ["large", "small"], "value": [4.0, 1.5], "n": [500, 400]})
    verdicts = list(VERDICTS)
    return Study(
        name="made-up",
        title="Made-up trials",
        level=0.95,
        models={name: {"label": label, "parameters": 1e9} for name, label in MODELS.items()},
        arms={arm: {} for arm in ARMS},
        scorecard=pd.DataFrame([claim(claim=each, verdict=each, where=WHERE) for each in verdicts]),
        figures=[
            Picture(
                name="fig2",
                title="Figure 2: a picture",
                caption=markdown("**A picture.**"),
                numbers=numbers,
                script="scripts/figures/plot_fig2.py",
                files={"png": "figures/fig2.png", "csv": "figures/fig2.csv"},
                graph="graph.html#graph-fig2",
            )
        ],
        tables={"summary": summary(), "exclusions": exclusions()},
        compute=pd.DataFrame([["generate_responses", 6, 0.5, 0.6, 700.0, 900.0]], columns=COMPUTE),
        dependencies=pd.DataFrame({"figure": ["fig2"], "script": ["scripts/figures/plot_fig2.py"]}),
        origin={"Study": "made-up"},
        settings="study: made-up\n",
        deviations=markdown("# Deviations\n\n<b>none</b>\n"),
        trials=count,
        graphs={"all": "graph/all.svg"},
        masks={"Small, 10 % corrections": MASKS},
    )


def write_site(folder: Path, count: int) -> int:
    """Write the report of about `count` trials; returns how many there are."""
    (folder / "figures").mkdir(parents=True)
    (folder / "graph").mkdir()
    dot = '<svg xmlns="http://www.w3.org/2000/svg" width="3000" height="900"/>'
    (folder / "graph/all.svg").write_text(dot)
    (folder / "graph/dependencies.csv").write_text("figure,script\n")
    (folder / "figures/fig2.png").write_bytes((REPO / "docs/images/fig2.png").read_bytes())
    (folder / "figures/fig2.csv").write_text("model,value,n\n")
    scales = {"large": {"detector": 100.0}, "small": {"detector": 100.0}}
    pages = {"small": "https://www.neuronpedia.org/small/3-res"}
    written = write_transcripts(folder / "data", trials(count), MODELS, scales, pages)
    build(study(written), TEMPLATES, folder)
    return written
