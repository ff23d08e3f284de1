"""The section on branching of docs/power.md, from benchmarks/branching.csv."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

BRANCHING = Path("benchmarks/branching.csv")
POWER = 80.0
"""Share of simulated studies (percent) that a design needs."""
TARGETS = {"sign": "a fall at all", "claim": "the claimed fall"}
CLAIMS = {
    "arxiv": "published, 70B: multi-attempt 7.4 to 5.5 %, claimed -25 % [-37.5, -12.5]",
    "paper": "January 2026, 70B: 1.7 to 0.83 %, claimed -51 % [-76.5, -25.5]",
    "organism": "planted organism: 12 to 3.5 %, a fall",
}
INTRO = """
## Branching

What ablation does to restarts can be measured on whole responses (`ablate-otd` against
`steered`), or by branching (`branch-ablated` against `branch-steered`,
[Experiments](experiments.md#branching)). `benchmarks/branching.py` draws studies of both designs
(`esr.analysis.branching`) and judges them by the intervals and verdicts of real studies. In both,
the ablation lowers the rate of restarts by the same share, which is assumed. The prefixes come
from the restarting responses of a simulated `steered` arm of the study's size; continuations of
one prefix are correlated. No source gives the rate at which a text restarts again where it
restarted, so that several are simulated. In the planted organism it is 23 % within 40 tokens.

If at least 10 % restart again, branching shows a fall with 16 to 200 times fewer new tokens than
whole responses do, at 5 % with 8 times fewer or not at all. It shows the published size of the fall
from 20 % on, January's from 30 % on. In the organism it takes 7 times fewer: whole responses of 120
tokens that restart in 12 % are cheap. If the texts are counted that the prefixes are cut from, it
is 1.6 to 6.7 times fewer in the large studies, and no fewer in the organism.

`sign`: % of studies that show a fall; `claim`: % that confirm the claimed size; `error`: % that
show a fall where there is none. Two values: correlations of 0.05 and 0.2 within a latent (whole
responses), of 0.05 and 0.3 within a prefix (branching). `tokens` are the new ones of the two arms
compared, at most; `with texts` adds those of the `steered` arm that the prefixes are cut from,
which a study has anyway. Shares are of 100 studies.
"""


def branching_section() -> str:
    """The section; its tables need the file in the current folder."""
    table = pd.read_csv(BRANCHING)
    parts = [INTRO]
    for study, rows in table.groupby("study", sort=False):
        parts.append(f"\n### {CLAIMS[str(study)]}\n\n")
        parts.append(_table(_designs(rows)))
    parts.append(
        "\n### Fewest tokens for a power of 80 % at both correlations, of the designs above\n\n"
    )
    parts.append(_table(_fewest(table)))
    return "".join(parts)


def _designs(rows: pd.DataFrame) -> Iterator[list[str]]:
    yield ["design", "restarts %", "trials", "tokens", "with texts", "GPU h", "sign %", "claim %"]
    keys = ["design", "rate", "size"]
    for (design, rate, size), cell in rows.groupby(keys, sort=False):
        first = cell.iloc[0]
        hours = "" if np.isnan(first["gpu_hours"]) else f"{first['gpu_hours']:.2g}"
        yield [
            f"{design}, {size}",
            f"{rate:g}",
            f"{first['trials']:,}",
            _millions(first["tokens"]),
            _millions(first["with_texts"]),
            hours,
            _both(cell["sign"]),
            _both(cell["claim"]),
        ]


def _fewest(table: pd.DataFrame) -> Iterator[list[str]]:
    """What each design needs for either target, and by how much branching is cheaper."""
    yield ["study", "shown", "whole responses", "branching at", "branching", "ratio", "with texts"]
    for study, rows in table.groupby("study", sort=False):
        for column, shown in TARGETS.items():
            if column == "claim" and rows["claim"].equals(rows["sign"]):
                continue
            whole = least(rows[rows["design"].eq("whole")], column)
            branches = rows[rows["design"].eq("branching")]
            for rate, cell in branches.groupby("rate", sort=False):
                found = least(cell, column)
                both = not np.isnan(whole[0]) and not np.isnan(found[0])
                ratios = [f"{whole[0] / each:.1f}" if both else "" for each in found]
                yield [
                    f"`{study}`",
                    shown,
                    _tokens(whole[0]),
                    f"{rate:g} %",
                    _tokens(found[0]),
                    *ratios,
                ]


def least(rows: pd.DataFrame, column: str) -> tuple[float, float]:
    """Fewest tokens at which a column reaches 80 % at every correlation, without and with texts."""
    designs = rows.groupby("size", sort=False).agg(
        {"tokens": "first", "with_texts": "first", column: "min"}
    )
    enough = designs[designs[column].ge(POWER)]
    if enough.empty:
        return np.nan, np.nan
    best = enough.loc[enough["tokens"].idxmin()]
    return float(best["tokens"]), float(best["with_texts"])


def _tokens(value: float) -> str:
    return "none of them" if np.isnan(value) else _millions(value)


def _millions(value: float) -> str:
    return f"{value / 1e6:.2g} M" if value >= 1e5 else f"{value / 1e3:.2g} k"


def _both(values: pd.Series) -> str:
    return " / ".join(f"{value:.0f}" for value in values)


def _table(rows: Iterator[list[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
