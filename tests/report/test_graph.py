"""Pictures of the graph: jobs as Snakemake prints them become boxes and arrows."""

from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from esr.errors import EsrError
from esr.report.graph import dependencies, draw, read_jobs, stages

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
STAGE = dict.fromkeys(
    ["all", "plan_arm", "find_detectors", "prepare_model", "plot_fig2", "plot_fig3"], "stage"
)


def test_jobs_have_their_rule_their_wildcards_and_what_they_need() -> None:
    jobs = read_jobs(DOT)
    assert jobs.rules[3] == "generate_responses"
    assert jobs.wildcards[7] == {"arm": "discovery", "study": "x"}
    assert jobs.needs[2] == {3, 4}
    assert jobs.behind("plot_fig3") == {9, 8}


def test_an_arm_is_one_box_so_that_nothing_runs_in_circles() -> None:
    jobs = read_jobs(DOT)
    assert jobs.edges(jobs.behind("plot_fig2")) == {
        ("prepare_model", "arm discovery"),
        ("arm discovery", "find_detectors"),
        ("find_detectors", "arm ablated"),
        ("arm ablated", "plot_fig2"),
    }


def test_arms_that_need_and_serve_the_same_are_one_box() -> None:
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


def test_a_picture_has_a_box_a_rule_and_an_arrow_an_edge() -> None:
    jobs = read_jobs(DOT)
    edges = jobs.edges(jobs.rules)
    figure = draw(edges, STAGE)
    patches = figure.axes[0].patches
    boxes = [patch for patch in patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == len({name for edge in edges for name in edge})
    assert sum(isinstance(patch, FancyArrowPatch) for patch in patches) == len(edges)
    places = [box.get_bbox().bounds for box in boxes]
    for i, (x, y, width, height) in enumerate(places):
        for other_x, other_y, *_ in places[:i]:
            assert abs(x - other_x) >= width or abs(y - other_y) >= height, "boxes overlap"
    plt.close(figure)


def test_what_snakemake_did_not_print_is_named() -> None:
    with pytest.raises(EsrError, match="no jobs"):
        read_jobs("Error: something")
    with pytest.raises(EsrError, match="no job of rule 'plot_fig9'"):
        read_jobs(DOT).behind("plot_fig9")


def test_the_stage_of_a_rule_is_the_file_that_holds_it(tmp_path: Path) -> None:
    (tmp_path / "assets.smk").write_text("rule prepare_model:\n    input: x\n\n\nrule other:\n")
    assert stages([tmp_path / "assets.smk"]) == {"prepare_model": "assets", "other": "assets"}
