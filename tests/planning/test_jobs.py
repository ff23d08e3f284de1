"""What the jobs of a run are going to use, read from Snakemake's graph before the first job."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from esr.planning import jobs as planning
from esr.planning.jobs import (
    called_judges,
    called_kinds,
    check_run,
    loaded_models,
    requested_partitions,
    used_environments,
)
from helpers.studies import load_study


class Params(dict[str, Any]):
    """Snakemake's parameters: values by key, and as attributes."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def job(
    rule: str,
    model: str = "planted",
    *,
    files: tuple[list[str], list[str]] = ([], []),
    resources: Mapping[str, Any] | None = None,
    local: bool = False,
    **params: Any,
) -> SimpleNamespace:
    """A job with the attributes of Snakemake's that are read."""
    return SimpleNamespace(
        rule=SimpleNamespace(name=rule),
        wildcards=SimpleNamespace(model=model),
        input=files[0],
        output=files[1],
        params=Params(params),
        resources=dict(resources or {}),
        is_local=local,
    )


def test_models_are_those_of_rules_that_run_an_engine_each_once() -> None:
    run = [
        job("generate_responses", "twin"),
        job("find_thresholds", "twin"),
        job("train_adapter", "twin+sc5"),
        job("score_trials", "planted"),
    ]
    assert loaded_models(run) == ["twin", "twin+sc5"]


def test_a_judge_is_called_by_jobs_whose_journal_has_no_reply(tmp_path: Path) -> None:
    (tmp_path / "paid.jsonl").write_text('{"key": 1}\n')
    (tmp_path / "empty.jsonl").touch()
    run = [
        job("judge_responses", replies=str(tmp_path / name))
        for name in ("paid.jsonl", "empty.jsonl", "absent.jsonl", "absent.jsonl")
    ]
    assert called_judges([*run, job("score_trials")]) == ["absent", "empty"]


def test_kinds_are_those_of_called_judges_that_are_language_models() -> None:
    names = ("lexical", "qwen3-32b", "gpt-5-mini", "blind")
    run = [job("judge_responses", replies=f"{name}.jsonl") for name in names]
    organism, paper = load_study(), load_study(name="paper")
    assert "lexical" in organism.judging.judges
    assert called_kinds(organism, run) == []
    assert called_kinds(paper, run) == ["openai", "vllm"]


def test_environments_are_those_used_but_not_installed_in_this_run() -> None:
    folder = "results/environments"
    run = [
        job("generate_responses", files=([f"{folder}/serve.txt", "results/a/model.json"], [])),
        job("train_adapter", files=([f"{folder}/finetune.txt"], [])),
        job("sync_environment", files=([], [f"{folder}/finetune.txt"])),
    ]
    assert used_environments(run) == ["serve"]


def test_a_partition_is_requested_for_the_longest_of_its_jobs_in_hours() -> None:
    run = [
        job("find_thresholds", resources={"slurm_partition": "gpu", "runtime": 90}),
        job("generate_responses", resources={"slurm_partition": "gpu", "runtime": 240}),
        job("score_trials", resources={"slurm_partition": "cpu"}),
        job("check", resources={"slurm_partition": "gpu", "runtime": 6000}, local=True),
        job("plot_fig2", resources={"runtime": 6000}),
    ]
    assert requested_partitions([[each] for each in run]) == {"gpu": 4, "cpu": 0}


def test_a_group_requests_the_hours_of_all_its_jobs() -> None:
    hours = {"slurm_partition": "gpu", "runtime": 240}
    arms = [job("generate_responses", resources=hours) for _ in range(3)]
    search = job("find_thresholds", resources={"slurm_partition": "gpu", "runtime": 600})
    assert requested_partitions([arms, [search]]) == {"gpu": 12}


class TestCheckRun:
    """Memory and environments are checked for every run, partitions for one on Slurm."""

    def test_a_model_that_does_not_fit_is_a_problem_of_the_runs_that_load_it(self) -> None:
        config = load_study({"engine": {"gpu": "RTX-4090-24GB"}}, name="paper")
        small = job("generate_responses", "gemma-2-2b")
        large = job("generate_responses", "gemma-2-27b")
        assert list(check_run(config, [small], "remote", [])) == []
        (line,) = check_run(config, [small, large], "remote", [])
        assert line.startswith("models.gemma-2-27b: 54 GB of weights")

    @pytest.mark.parametrize("executor", ["slurm", "local"])
    def test_partitions_are_looked_up_on_slurm_alone(
        self, executor: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        requests: list[dict[str, float]] = []

        def look_up(requested: dict[str, float], where: str) -> list[str]:
            requests.append(requested)
            return [f"{where}: no"]

        monkeypatch.setattr(planning, "check_partitions", look_up)
        run = [job("plot_fig2", resources={"slurm_partition": "gpu", "runtime": 60})]
        problems = list(check_run(load_study(), run, executor, [run]))
        assert problems == (["slurm_partition: no"] if executor == "slurm" else [])
        assert requests == ([{"gpu": 1.0}] if executor == "slurm" else [])

    @pytest.mark.parametrize(
        ("executor", "gpus", "present", "named"),
        [
            ("local", 1, False, True),
            ("local", 1, True, False),
            ("local", 0, False, False),
            ("slurm", 1, False, False),
        ],
        ids=["no GPU", "a GPU", "on the CPU", "elsewhere"],
    )
    def test_vllm_without_a_gpu_names_the_key_that_runs_it_on_the_cpu(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        executor: str,
        gpus: int,
        present: bool,
        named: bool,
    ) -> None:
        device = tmp_path / "nvidiactl"
        if present:
            device.touch()
        monkeypatch.setattr("esr.planning.hardware.GPU_DEVICES", (device,))
        monkeypatch.setenv("PATH", str(tmp_path))  # without sinfo
        size = load_study().jobs[0].model_dump() | {"gpus": gpus}
        config = load_study({"engine": {"name": "vllm"}, "jobs": [size]})
        problems = list(check_run(config, [job("generate_responses", "twin")], executor, []))
        assert problems == (
            [
                "models.twin: `jobs` requests GPUs for it, but this machine has none; to run "
                "engine vllm on the CPU, set `gpus: 0` for its size in `jobs`"
            ]
            if named
            else []
        )
