"""Pictures of the graph: jobs as Snakemake prints them become boxes and arrows."""

from pathlib import Path

import pytest

from esr.errors import EsrError
from esr.report.graph import NOTHING, SPINE, dependencies, draw, read_jobs, write
from helpers.workflow import parsed_rules

DOT = r"""digraph snakemake_dag {
    graph[bgcolor=white, margin=0];
	0[label = "all", color = "0.2 0.6 0.85", style="rounded"];
	1[label = "plot_fig2", color = "0.2 0.6 0.85", style="rounded"];
	2[label = "score_trials", color = "0.2 0.6 0.85", style="rounded"];
	3[label = "generate_responses\nshard: 0", color = "0.2 0.6 0.85", style="rounded,dashed"];
	4[label = "plan_arm\narm: ablated", color = "0.2 0.6 0.85", style="rounded"];
	5[label = "find_detectors", color = "0.2 0.6 0.85", style="rounded"];
	6[label = "generate_responses\nshard: 0", color = "0.2 0.6 0.85", style="rounded"];
	7[label = "plan_arm\narm: discovery\nstudy: x", color = "0.2 0.6 0.85", style="rounded"];
	8[label = "prepare_model\nmodel: large", color = "0.2 0.6 0.85", style="rounded"];
	9[label = "plot_fig3", color = "0.2 0.6 0.85", style="rounded"];
	1 -> 0
	2 -> 1
	3 -> 2
	4 -> 2
	4 -> 3
	8 -> 3
	5 -> 4
	6 -> 5
	7 -> 6
	8 -> 6
	8 -> 9
	9 -> 0
}
"""
STAGES = {
    "prepare_model": "assets",
    "plan_arm": "arms",
    "find_detectors": "detectors",
    "plot_fig2": "figures",
    "plot_fig3": "figures",
    "all": "targets",
}


def test_jobs_have_their_rule_their_wildcards_and_what_they_need() -> None:
    jobs = read_jobs(DOT)
    assert jobs.rules["3"] == "generate_responses"
    assert jobs.wildcards["7"] == {"arm": "discovery", "study": "x"}
    assert set(jobs.graph.predecessors("2")) == {"3", "4"}
    assert jobs.behind("plot_fig3") == {"9", "8"}


def test_lines_around_the_graph_do_not_matter() -> None:
    assert read_jobs(f"Building DAG of jobs...\n{DOT}\nDone.\n").rules == read_jobs(DOT).rules


def test_an_arm_is_one_box_so_that_the_graph_has_no_cycle() -> None:
    jobs = read_jobs(DOT)
    assert jobs.edges(jobs.behind("plot_fig2")) == {
        ("prepare_model", "arm discovery"),
        ("arm discovery", "find_detectors"),
        ("find_detectors", "arm ablated"),
        ("arm ablated", "plot_fig2"),
    }


def test_arms_with_the_same_neighbours_are_one_box() -> None:
    edges = read_jobs(
        DOT.replace("2 -> 1", "2 -> 1\n10 -> 1\n5 -> 10").replace(
            "\t0[label", '\t10[label = "plan_arm\\narm: other", style="rounded"];\n\t0[label', 1
        )
    )
    found = edges.edges(edges.behind("plot_fig2"))
    assert ("find_detectors", "arm ablated and 1 more") in found
    assert ("arm ablated and 1 more", "plot_fig2") in found


def test_a_figure_has_its_script_arms_and_models() -> None:
    table = dependencies(read_jobs(DOT), {"fig2": "plot_fig2", "fig3": "plot_fig3"})
    first, second = table.to_dict("records")
    assert first == {
        "figure": "fig2",
        "script": "scripts/figures/plot_fig2.py",
        "rules": 6,
        "jobs": 8,
        "arms": "ablated discovery",
        "models": "large",
    }
    assert (second["arms"], second["models"], second["jobs"]) == ("", "large", 2)


def test_an_edge_that_a_longer_path_implies_is_left_out() -> None:
    jobs = read_jobs(DOT.replace("\t9 -> 0", "\t9 -> 0\n\t8 -> 1"))
    assert ("prepare_model", "plot_fig2") not in jobs.edges(jobs.behind("plot_fig2"))


def test_a_picture_has_a_box_a_rule_and_an_arrow_an_edge(tmp_path: Path) -> None:
    jobs = read_jobs(DOT)
    edges = jobs.edges(jobs.rules)
    picture = draw(edges, STAGES)
    assert set(picture.nodes()) == {name for edge in edges for name in edge}
    assert set(picture.edges()) == edges
    write(picture, tmp_path / "a.svg", tmp_path / "a.png")
    boxes = [tuple(map(float, node.attr["pos"].split(","))) for node in picture.nodes()]
    assert len(set(boxes)) == len(boxes)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "a.svg").read_text()
    assert all(f">{name}</text>" in svg for name in picture.nodes())
    write(draw(edges, STAGES), tmp_path / "b.svg")
    assert (tmp_path / "b.svg").read_text() == svg


def test_boxes_have_the_colour_of_their_stage_in_every_picture(tmp_path: Path) -> None:
    jobs = read_jobs(DOT)
    pictures = [
        draw(jobs.edges(found), STAGES) for found in (set(jobs.rules), jobs.behind("plot_fig2"))
    ]
    colours = [
        {str(node): node.attr["fillcolor"] for node in picture.nodes()} for picture in pictures
    ]
    assert colours[1].items() <= colours[0].items()
    assert colours[0]["prepare_model"] != colours[0]["find_detectors"]
    write(draw(jobs.edges(jobs.behind("plot_fig2")), STAGES), tmp_path / "a.svg")
    svg = (tmp_path / "a.svg").read_text()
    legend = [stage for stage in dict.fromkeys(STAGES.values()) if f"> {stage} <" in svg]
    assert legend == ["assets", "arms", "detectors", "figures"]


def test_a_target_without_other_rules_has_a_picture_with_a_note(tmp_path: Path) -> None:
    write(draw(set(), {}), tmp_path / "a.svg")
    assert NOTHING in (tmp_path / "a.svg").read_text()


def test_a_rule_without_a_stage_is_an_error() -> None:
    with pytest.raises(EsrError, match="defines 'b'"):
        draw({("a", "b")}, {"a": "assets"})


def test_output_without_jobs_and_an_unknown_rule_are_errors() -> None:
    with pytest.raises(EsrError, match="no jobs"):
        read_jobs("Error: something")
    with pytest.raises(EsrError, match="no job of rule 'plot_fig9'"):
        read_jobs(DOT).behind("plot_fig9")


def test_every_rule_of_an_arm_is_in_its_box() -> None:
    stages = {rule.name: rule.stage for rule in parsed_rules()}
    assert {name for name, stage in stages.items() if stage == "arms"} < set(SPINE)


def test_an_arm_is_named_by_the_first_of_its_rules() -> None:
    # Snakemake labels a job with a wildcard only where that wildcard first occurs.
    dot = r"""digraph snakemake_dag {
        0[label = "measure_relevance_of_arm\narm: held-out"];
        1[label = "plan_arm"];
        2[label = "generate_responses\nshard: 0"];
        3[label = "plot_fig2"];
        4[label = "find_thresholds"];
        0 -> 1
        4 -> 1
        1 -> 2
        2 -> 3
    }"""
    jobs = read_jobs(dot)
    assert jobs.edges(jobs.rules) == {
        ("find_thresholds", "arm held-out"),
        ("arm held-out", "plot_fig2"),
    }
