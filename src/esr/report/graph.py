"""Pictures of the workflow: the rules behind a target, drawn from Snakemake's own graph of jobs.

Layers and crossings are Sugiyama's method (Sugiyama, Tagawa and Toda 1981) as igraph has it, so
that no graph-drawing program need be installed.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import igraph
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path as Curve

from esr.errors import EsrError
from esr.figures import style

NODE = re.compile(r'^\s*(\d+)\s*\[label = "((?:[^"\\]|\\.)*)"', re.MULTILINE)
EDGE = re.compile(r"^\s*(\d+) -> (\d+)", re.MULTILINE)
RULE = re.compile(r"^rule (\w+):", re.MULTILINE)
COLOURS = [
    "#DCE9F5",
    "#FCE9C8",
    "#D5EFE4",
    "#F9DCCB",
    "#F3DFEA",
    "#DDF0FA",
    "#FAF6C4",
    "#E8E8E8",
    "#E3DCF7",
]
SPINE = ["plan_arm", "generate_responses", "merge_responses", "judge_responses", "score_trials"]
"""Rules of an arm."""
ARM = "arm "
LAYER, GAP, BOX = 2.6, 0.46, (2.1, 0.32)
"""From left to right: distance of layers and of boxes in one; and size of a box (inches)."""
STEP, APART = 0.62, 2.3
"""From top to bottom, for graphs that are narrow: the same distances."""
NARROW = 5  # boxes side by side

Edge = tuple[str, str]
Places = Float[np.ndarray, "points 2"]


@dataclass(frozen=True)
class Jobs:
    """Jobs of a workflow: rule and new wildcards of each, and which job each one waits for."""

    rules: Mapping[int, str]
    wildcards: Mapping[int, Mapping[str, str]]
    needs: Mapping[int, frozenset[int]]

    def behind(self, rule: str) -> set[int]:
        """The jobs of a rule and all that they need.

        Raises:
            EsrError: there is no such job.
        """
        found = {job for job, name in self.rules.items() if name == rule}
        if not found:
            raise EsrError(
                f"graph: no job of rule {rule!r}; there are {sorted(set(self.rules.values()))}"
            )
        new = found
        while new := {need for job in new for need in self.needs[job]} - found:
            found = found | new
        return found

    def edges(self, jobs: Iterable[int]) -> set[Edge]:
        """From maker to reader among jobs: those of a rule are one, and so are those of an arm.

        The rules of an arm (`SPINE`) are one box, since an arm may need others that came before:
        rule by rule the graph would run in circles. Arms that need and serve the same are one, too.
        """
        kept = sorted(jobs)
        names = {job: self._box(job) for job in kept}
        found = {(names[need], names[job]) for job in kept for need in self.needs[job] & set(kept)}
        found = {(first, second) for first, second in found if first != second}
        return _joined(_reduced(found))

    def _box(self, job: int) -> str:
        if self.rules[job] not in SPINE:
            return self.rules[job]
        while "arm" not in self.wildcards[job]:  # Snakemake names a wildcard where it first occurs
            job = next(need for need in self.needs[job] if self.rules[need] in SPINE)
        return f"{ARM}{self.wildcards[job]['arm']}"

    def values(self, jobs: Iterable[int], wildcard: str) -> list[str]:
        """Values of a wildcard among jobs, sorted."""
        return sorted(
            {self.wildcards[job][wildcard] for job in jobs if wildcard in self.wildcards[job]}
        )


def _joined(edges: set[Edge]) -> set[Edge]:
    """Edges in which arms with the same neighbours are one box."""
    alike: dict[tuple[frozenset[str], frozenset[str]], list[str]] = {}
    for name in sorted({name for edge in edges for name in edge if name.startswith(ARM)}):
        before = frozenset(first for first, second in edges if second == name)
        after = frozenset(second for first, second in edges if first == name)
        alike.setdefault((before, after), []).append(name)
    new: dict[str, str] = {}
    for arms in alike.values():
        rest = f" and {len(arms) - 1} more" if len(arms) > 1 else ""
        new |= dict.fromkeys(arms, arms[0] + rest)
    return {(new.get(first, first), new.get(second, second)) for first, second in edges}


def _reduced(edges: set[Edge]) -> set[Edge]:
    """Edges less those that a longer way implies; the graph must have no cycle."""
    after: dict[str, set[str]] = {}
    for first, second in edges:
        after.setdefault(first, set()).add(second)

    @cache
    def reached(name: str) -> frozenset[str]:
        ways = (reached(each) | {each} for each in after.get(name, ()))
        return frozenset().union(*ways)

    return {
        (first, second)
        for first, second in edges
        if not any(second in reached(other) for other in after[first] - {second})
    }


def read_jobs(dot: str) -> Jobs:
    """Jobs as `snakemake --dag dot` prints them.

    Raises:
        EsrError: the text has no jobs.
    """
    rules, wildcards = {}, {}
    for number, label in NODE.findall(dot):
        rule, *rest = label.split("\\n")
        rules[int(number)] = rule
        wildcards[int(number)] = dict(line.split(": ", 1) for line in rest if ": " in line)
    if not rules:
        raise EsrError(f"graph: Snakemake printed no jobs but {dot[-400:]!r}")
    needs: dict[int, set[int]] = {job: set() for job in rules}
    for maker, reader in EDGE.findall(dot):
        needs[int(reader)].add(int(maker))
    return Jobs(rules, wildcards, {job: frozenset(found) for job, found in needs.items()})


def stages(files: Iterable[Path]) -> dict[str, str]:
    """The stage of each rule: the name of the file in rules/ that holds it."""
    return {rule: path.stem for path in files for rule in RULE.findall(path.read_text())}


def dependencies(jobs: Jobs, figures: Mapping[str, str]) -> pd.DataFrame:
    """What each figure takes: columns figure, script, rules (number), jobs, arms, models.

    Args:
        jobs: Of the whole study.
        figures: Rule that makes each figure or table, by its name.
    """
    rows = []
    for name, rule in figures.items():
        behind = jobs.behind(rule)
        rows.append(
            {
                "figure": name,
                "script": f"scripts/figures/{rule}.py",
                "rules": len({jobs.rules[job] for job in behind}),
                "jobs": len(behind),
                "arms": " ".join(jobs.values(behind, "arm")),
                "models": " ".join(jobs.values(behind, "model")),
            }
        )
    return pd.DataFrame(rows)


def draw(edges: set[Edge], stage: Mapping[str, str]) -> Figure:
    """Draw a rule graph, boxes coloured by stage: downwards if it is narrow, else to the right.

    Args:
        edges: From maker to reader (`Jobs.edges`).
        stage: Of every rule.
    """
    names = sorted({name for edge in edges for name in edge})
    places, paths, down = _layout(names, sorted(edges))
    points = np.concatenate([places, *paths])
    margin = np.array(BOX) / 2 + 0.2
    low, high = points.min(axis=0) - margin - (0, 0.7), points.max(axis=0) + margin
    figure = plt.figure(figsize=tuple(high - low), layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    axes.set_axis_off()
    for path in paths:
        _draw_edge(axes, path, down)
    kinds = {
        name: stage.get("plan_arm" if name.startswith(ARM) else name, "other") for name in names
    }
    shown = sorted(set(kinds.values()))
    colours = dict(zip(shown, COLOURS * len(shown), strict=False))
    for name, (x, y) in zip(names, places, strict=True):
        _draw_box(axes, x, y, name, colours[kinds[name]])
    handles = [Rectangle((0, 0), 1, 1, fc=colour, ec=style.GREY) for colour in colours.values()]
    columns = max(1, min(len(shown), int((high - low)[0] / 1.2)))
    axes.legend(handles, shown, loc="lower left", ncols=columns, fontsize=8, borderaxespad=0.3)
    return figure


def _layout(names: Sequence[str], edges: Sequence[Edge]) -> tuple[Places, list[Places], bool]:
    """Where each box stands (inches), the points each edge runs through, and whether downwards."""
    order = {name: i for i, name in enumerate(names)}
    ends = [(order[first], order[second]) for first, second in edges]
    plain = igraph.Graph(ends, n=len(names), directed=True).layout_sugiyama()
    layers = [round(y) for _, y in plain.coords]
    # A bend in every layer that an edge passes keeps it clear of the boxes there.
    chains = []
    for first, second in ends:
        between = range(layers[first] + 1, layers[second])
        bends = range(len(layers), len(layers) + len(between))
        layers.extend(between)
        chains.append([first, *bends, second])
    steps = [step for chain in chains for step in pairwise(chain)]
    graph = igraph.Graph(steps, n=len(layers), directed=True)
    found = np.array(graph.layout_sugiyama(layers=layers, maxiter=1000).coords)
    across, along = found.T
    down = max(Counter(layers[: len(names)]).values()) <= NARROW
    columns = [across * APART, -along * STEP] if down else [along * LAYER, -across * GAP]
    places = np.column_stack(columns)
    return places[: len(names)], [places[chain] for chain in chains], down


def _draw_edge(axes: Axes, points: Places, down: bool) -> None:
    """A smooth line through the points, from the far side of a box to the near side of another."""
    points = points.copy()
    way = np.array([0, -BOX[1] / 2]) if down else np.array([BOX[0] / 2, 0])
    points[0] += way
    points[-1] -= way
    corners, codes = [points[0]], [Curve.MOVETO]
    for start, end in pairwise(points):
        x, y = (start + end) / 2
        corners += [(start[0], y), (end[0], y), end] if down else [(x, start[1]), (x, end[1]), end]
        codes += [Curve.CURVE4] * 3
    look: dict[str, Any] = {
        "color": style.GREY,
        "lw": 0.9,
        "mutation_scale": 8,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    axes.add_patch(
        FancyArrowPatch(path=Curve(corners, codes), arrowstyle="-|>", fill=False, **look)
    )


def _draw_box(axes: Axes, x: float, y: float, name: str, colour: str) -> None:
    corner = (x - BOX[0] / 2, y - BOX[1] / 2)
    look: dict[str, Any] = {
        "boxstyle": "round,pad=0,rounding_size=0.07",
        "fc": colour,
        "ec": style.GREY,
        "lw": 0.8,
    }
    axes.add_patch(FancyBboxPatch(corner, *BOX, zorder=2, **look))
    axes.text(x, y, name, ha="center", va="center", fontsize=9 if len(name) < 27 else 7, zorder=3)
