"""Pictures of the workflow: the rules behind a target, from Snakemake's own graph of jobs.

networkx reduces the graph. Graphviz lays it out and draws it; pygraphviz ships Graphviz in its
wheels, so no system package is needed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import pandas as pd
import pygraphviz as pgv

from esr.errors import EsrError

SPINE = [
    "measure_relevance_of_arm",
    "plan_arm",
    "generate_responses",
    "generate_shard",
    "merge_responses",
    "import_responses",
    "read_tokens",
    "judge_responses",
    "score_trials",
]
"""Rules of an arm."""
ARM = "arm "
COLOURS = 12
"""Colours of ColorBrewer's qualitative scheme `set3`, by the stage's place in the pipeline."""
NARROW = 5
"""Boxes in the widest layer up to which a graph is drawn downwards; a wider one goes right."""
NOTHING = "no other rule is behind this target"
LOOK = {
    "graph": {"ranksep": "0.3", "nodesep": "0.12", "fontname": "Helvetica", "dpi": "96"},
    "node": {"shape": "box", "style": "rounded,filled", "height": "0.3", "margin": "0.09,0.03"},
    "edge": {"color": "#8A8A8A", "arrowsize": "0.6", "penwidth": "0.9"},
}
TEXT = {"fontname": "Helvetica", "fontsize": "10"}

Edge = tuple[str, str]


@dataclass(frozen=True)
class Jobs:
    """Jobs of a workflow: rule and new wildcards of each, and edges from a job to its readers."""

    rules: Mapping[str, str]
    wildcards: Mapping[str, Mapping[str, str]]
    graph: nx.DiGraph

    def behind(self, rule: str) -> set[str]:
        """The jobs of a rule and all jobs that they need.

        Raises:
            EsrError: no job runs this rule.
        """
        jobs = {job for job, name in self.rules.items() if name == rule}
        if not jobs:
            known = sorted(set(self.rules.values()))
            raise EsrError(f"graph: no job of rule {rule!r}; there are {known}")
        return jobs.union(*(nx.ancestors(self.graph, job) for job in jobs))

    def edges(self, jobs: Iterable[str]) -> set[Edge]:
        """Edges from maker to reader among jobs, without those that a longer path implies.

        All jobs of a rule are one box. So are the rules of an arm (`SPINE`): an arm may need
        another arm, and rule by rule the graph would have cycles. Arms with the same neighbours
        share a box.
        """
        kept = self.graph.subgraph(jobs)
        named = {(self._box(maker), self._box(reader)) for maker, reader in kept.edges}
        boxes = nx.DiGraph((maker, reader) for maker, reader in named if maker != reader)
        return _merge_arms(set(nx.transitive_reduction(boxes).edges))

    def _box(self, job: str) -> str:
        if self.rules[job] not in SPINE:
            return self.rules[job]
        # Snakemake labels a job with a wildcard only where that wildcard first occurs.
        while "arm" not in self.wildcards[job]:
            job = next(need for need in self.graph.predecessors(job) if self.rules[need] in SPINE)
        return f"{ARM}{self.wildcards[job]['arm']}"

    def values(self, jobs: Iterable[str], wildcard: str) -> list[str]:
        """Values of a wildcard among jobs, sorted."""
        return sorted(
            {self.wildcards[job][wildcard] for job in jobs if wildcard in self.wildcards[job]}
        )


def _merge_arms(edges: set[Edge]) -> set[Edge]:
    """Edges in which arms with the same neighbours are one box."""
    groups: dict[tuple[frozenset[str], frozenset[str]], list[str]] = {}
    for name in sorted({name for edge in edges for name in edge if name.startswith(ARM)}):
        before = frozenset(maker for maker, reader in edges if reader == name)
        after = frozenset(reader for maker, reader in edges if maker == name)
        groups.setdefault((before, after), []).append(name)
    new: dict[str, str] = {}
    for arms in groups.values():
        rest = f" and {len(arms) - 1} more" if len(arms) > 1 else ""
        new |= dict.fromkeys(arms, arms[0] + rest)
    return {(new.get(maker, maker), new.get(reader, reader)) for maker, reader in edges}


def read_jobs(dot: str) -> Jobs:
    """Jobs from the output of `snakemake --dag dot`.

    Raises:
        EsrError: the text has no jobs.
    """
    start = dot.find("digraph")
    plan = pgv.AGraph(string=dot[start:]) if start >= 0 else pgv.AGraph()
    if not plan.nodes():
        raise EsrError(f"graph: Snakemake printed no jobs but {dot[-400:]!r}")
    labels = {str(node): node.attr["label"].split("\\n") for node in plan.nodes()}
    graph = nx.DiGraph((str(maker), str(reader)) for maker, reader in plan.edges())
    graph.add_nodes_from(labels)
    return Jobs(
        rules={job: rule for job, (rule, *_) in labels.items()},
        wildcards={
            job: dict(line.split(": ", 1) for line in lines if ": " in line)
            for job, (_, *lines) in labels.items()
        },
        graph=graph,
    )


def dependencies(jobs: Jobs, figures: Mapping[str, str]) -> pd.DataFrame:
    """What each figure needs: columns figure, script, rules (number), jobs, arms, models.

    Args:
        jobs: Of the whole study.
        figures: Rule that makes each figure, by the figure's name.
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


def draw(edges: set[Edge], stages: Mapping[str, str]) -> pgv.AGraph:
    """Lay out a rule graph, with boxes coloured by stage and a legend of the stages.

    Args:
        edges: From maker to reader (`Jobs.edges`).
        stages: Stage of every rule; stages in pipeline order.

    Returns:
        The graph, to be written by `write`.

    Raises:
        EsrError: a rule has no stage.
    """
    places = {stage: i for i, stage in enumerate(dict.fromkeys(stages.values()))}
    picture = pgv.AGraph(directed=True, rankdir="TB" if _is_narrow(edges) else "LR")
    picture.graph_attr.update(LOOK["graph"])
    picture.node_attr.update(LOOK["node"], **TEXT)
    picture.edge_attr.update(LOOK["edge"])
    if not edges:
        picture.add_node(NOTHING, shape="plaintext", style="")
        return picture
    shown = set()
    for name in sorted({name for edge in edges for name in edge}):
        stage = stages.get("plan_arm" if name.startswith(ARM) else name)
        if stage is None:
            raise EsrError(f"graph: no file in rules/ defines {name!r}; give its stage")
        picture.add_node(name, fillcolor=_colour(places[stage]))
        shown.add(stage)
    picture.add_edges_from(sorted(edges))
    legend = {stage: _colour(place) for stage, place in places.items() if stage in shown}
    picture.graph_attr.update(label=_legend(legend), labelloc="b", labeljust="l")
    return picture


def _is_narrow(edges: set[Edge]) -> bool:
    layers = nx.topological_generations(nx.DiGraph(edges))
    return max(map(len, layers), default=0) <= NARROW


def _colour(place: int) -> str:
    return f"/set3{COLOURS}/{place % COLOURS + 1}"


def _legend(colours: Mapping[str, str]) -> str:
    """Graphviz's HTML for a row of coloured cells."""
    cells = "".join(
        f'<td bgcolor="{colour}"><font point-size="10"> {stage} </font></td>'
        for stage, colour in colours.items()
    )
    look = 'border="0" cellborder="1" cellspacing="4" color="#8A8A8A"'
    return f"<<table {look}><tr>{cells}</tr></table>>"


def write(picture: Any, *paths: str | Path) -> None:
    """Write a picture in the formats of the files' names (`svg`, `png`)."""
    picture.layout(prog="dot")
    for path in paths:
        picture.draw(str(path))
