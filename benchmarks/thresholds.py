"""Benchmark of the threshold finders; makes thresholds.csv and the tables of docs/thresholds.md.

    uv run python benchmarks/thresholds.py

Columns of the CSV: `world`, `method`, `step` (samples a step), `n` (scores a latent), `latents`,
`error` and `error_se` (mean |true mean score at the threshold found - target|, points, and its
standard error over repeats), `p90` (90th percentile), `threshold_coverage` and `score_coverage`
(share of nominal 90 % intervals that hold the truth, %), `converged` and `unusable` (%).
A latent without a usable threshold counts with the bound nearest to its interval.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from esr.config import ThresholdPriorConfig, ThresholdsConfig
from esr.thresholds import ThresholdFinder, open_finder
from esr.thresholds.simulation import SimulatedLatents, SimulationSpec

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
CSV = HERE / "thresholds.csv"
DOC = HERE.parent / "docs" / "thresholds.md"
N_LATENTS = 200
SEED = 20_000

MAIN = SimulationSpec()
WORLDS = {
    "main": MAIN,
    "target 50": replace(MAIN, target=50),
    "wrong prior (thresholds 3 x its mean)": replace(MAIN, median=30, spread=0.2),
    "bounds too narrow (0-20, thresholds near 30)": replace(
        MAIN, median=30, spread=0.2, prior=ThresholdPriorConfig(upper=20, mean=10, sd=10)
    ),
    "scores only 0 or 100": replace(MAIN, concentration=0),
    "shallow slopes": replace(MAIN, width=0.4),
    "heterogeneous prompts": replace(MAIN, effects=2),
    "cliffs": replace(MAIN, width=0.02, cliff=True),
    "steeper cliffs": replace(MAIN, width=0.005, cliff=True),
}
Run = tuple[str, int, list[int]]
"""Method, samples a step, and the numbers of samples at which it is assessed."""
MAIN_RUNS: list[Run] = [
    ("bisection", 1, [10, 20]),
    ("bisection", 5, [50, 100]),
    ("logistic", 1, [10, 20, 50, 100]),
    ("logistic", 2, [10, 20, 50, 100]),
]
OTHER_RUNS: list[Run] = [
    ("bisection", 1, [20]),
    ("bisection", 5, [50]),
    ("logistic", 1, [20, 50]),
]


def assess(finder: ThresholdFinder, latents: SimulatedLatents) -> pd.DataFrame:
    """One row a latent: how far off its threshold is, and whether the intervals hold the truth."""
    found = finder.estimate()
    beyond = found["low"] + found["high"] > found["lower"] + found["upper"]
    bound = found["upper"].where(beyond, found["lower"])
    score = latents.mean_score(found["threshold"].fillna(bound).to_numpy())
    usable = found["threshold"].notna()
    return pd.DataFrame(
        {
            "error": np.abs(score - latents.spec.target),
            "threshold_coverage": found["low"].le(latents.thresholds)
            & found["high"].ge(latents.thresholds),
            "score_coverage": (found["predicted_low"].le(score) & found["predicted_high"].ge(score))
            .where(usable)
            .astype(float),
            "converged": found["status"].eq("converged"),
            "unusable": ~usable,
        }
    )


def simulate(world: SimulationSpec, run: Run, seed: int) -> Iterator[tuple[int, pd.DataFrame]]:
    """Search the thresholds of fresh latents; yield each number of samples and its assessment."""
    method, step, assessed = run
    settings = ThresholdsConfig.model_validate(
        {"method": method, "target": world.target, "samples_per_step": step}
    )
    latents = SimulatedLatents(world, N_LATENTS, seed)
    finder = open_finder(settings, world.prior, N_LATENTS)
    everyone = np.arange(N_LATENTS)
    for n in range(step, max(assessed) + 1, step):
        boosts = finder.propose(everyone)
        finder.observe(everyone, boosts, latents.scores(everyone, boosts))
        if n in assessed:
            yield n, assess(finder, latents)


def summarise(repeats: list[pd.DataFrame]) -> dict[str, Any]:
    """Summarise the repeats of one cell of the table."""
    every = pd.concat(repeats)
    means = [float(one["error"].mean()) for one in repeats]
    shares = ["threshold_coverage", "score_coverage", "converged", "unusable"]
    return {
        "latents": len(every),
        "error": every["error"].mean(),
        "error_se": np.std(means, ddof=1) / np.sqrt(len(means)),
        "p90": every["error"].quantile(0.9),
        **{share: 100 * every[share].astype(float).mean() for share in shares},
    }


def benchmark() -> pd.DataFrame:
    """Run all searches: five repeats of the main world, three of the others."""
    jobs = [
        (name, run, 5 if name == "main" else 3)
        for name in WORLDS
        for run in (MAIN_RUNS if name == "main" else OTHER_RUNS)
    ]
    rows = []
    for name, run, repeats in jobs:
        cells: dict[int, list[pd.DataFrame]] = {}
        for repeat in range(repeats):
            for n, result in simulate(WORLDS[name], run, SEED + repeat):
                cells.setdefault(n, []).append(result)
        head = {"world": name, "method": run[0], "step": run[1]}
        log.info("%s", head)
        rows += [{**head, "n": n, **summarise(results)} for n, results in cells.items()]
    return pd.DataFrame(rows).round(2)


def cell(row: Any) -> str:
    """Error and 90th percentile, as the document shows them."""
    return f"{row.error:.1f} / {row.p90:.0f}"


def main_table(results: pd.DataFrame) -> str:
    """Markdown table of the main world: one row a method, one column a number of samples."""
    rows = results[results["world"] == "main"]
    lines = ["| method | N = 10 | 20 | 50 | 100 |", "|---|---|---|---|---|"]
    for name, group in (
        ("bisection (1 sample a step; 5 at N = 50, 100)", rows[rows["method"] == "bisection"]),
        ("logistic, 1 sample a step", rows[(rows["method"] == "logistic") & (rows["step"] == 1)]),
        ("logistic, 2 samples a step", rows[(rows["method"] == "logistic") & (rows["step"] == 2)]),
    ):
        cells = [cell(row) for row in group.sort_values("n").itertuples()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def world_table(results: pd.DataFrame) -> str:
    """Markdown table of all worlds, at 20 and 50 samples, one sample a step for `logistic`."""
    lines = [
        "| world | bisection, 20 | logistic, 20 | bisection, 50 | logistic, 50 |",
        "|---|---|---|---|---|",
    ]
    for name in WORLDS:
        rows = results[(results["world"] == name) & (results["step"] != 2)]
        at = {(row.method, row.n): cell(row) for row in rows.itertuples()}
        cells = [at[method, n] for n in (20, 50) for method in ("bisection", "logistic")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def coverage_table(results: pd.DataFrame) -> str:
    """Markdown table of interval coverage and statuses, one row a run."""
    lines = [
        "| world | method | N | threshold in its interval | score in its interval "
        "| converged | unusable |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.world} | {row.method} | {row.n} | {row.threshold_coverage:.0f} % "
        f"| {row.score_coverage:.0f} % | {row.converged:.0f} % | {row.unusable:.1f} % |"
        for row in results[results["step"] != 2].itertuples()
    ]
    return "\n".join(lines)


def fill(text: str, name: str, table: str) -> str:
    """Insert a table between the marks `<!-- NAME -->` and `<!-- end -->`."""
    before, rest = text.split(f"<!-- {name} -->", 1)
    _, after = rest.split("<!-- end -->", 1)
    return f"{before}<!-- {name} -->\n{table}\n<!-- end -->{after}"


def main() -> None:
    """Write the CSV and update the tables of the document."""
    logging.basicConfig(level=logging.INFO)
    results = benchmark()
    results.to_csv(CSV, index=False)
    text = DOC.read_text()
    for name, table in (
        ("main", main_table),
        ("worlds", world_table),
        ("coverage", coverage_table),
    ):
        text = fill(text, name, table(results))
    DOC.write_text(text)


if __name__ == "__main__":
    main()
