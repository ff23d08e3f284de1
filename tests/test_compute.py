"""What a study takes of machines, and what is said before it does not get it."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from checkout import REPO
from esr import check, compute
from esr.check import check_machines
from esr.compute import (
    estimate_compute,
    far_priors,
    full_disks,
    misfits,
    partition_problems,
    profile_hours,
    short_hours,
    tokens_per_second,
    wall_hours,
)
from esr.config import Config, load, merge
from esr.errors import EsrError

PROTOCOL = yaml.safe_load((REPO / "config.yaml").read_text())
STUDIES = ["paper", "arxiv", "laptop"]


def study(name: str = "paper", *overrides: Mapping[str, Any]) -> Config:
    own = yaml.safe_load((REPO / f"studies/{name}.yaml").read_text())
    return load(merge(PROTOCOL, own, {"study": name}, *overrides))


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)


ONE_DEVICE = {
    "engine": {"name": "transformers"},
    "models": {"llama-3.3-70b": {"quantization": None, "tensor_parallel": None}},
}
"""The paper study with the engine that holds a model on one device."""


class TestMemory:
    def test_a_model_that_no_gpu_holds_is_named_with_what_to_change(self) -> None:
        config = study("paper", ONE_DEVICE)
        (line,) = misfits(config, config.models)
        assert line.startswith("models.llama-3.3-70b: 141 GB of weights in bfloat16 leave no room")
        assert "the engine that spreads it (engine.name: vllm), a larger GPU (engine.gpu)" in line

    def test_vllm_spreads_it_and_quantises_it(self) -> None:
        config = study()
        assert list(misfits(config, config.models)) == []
        whole = {"models": {"llama-3.3-70b": {"quantization": None}}}
        config = study("paper", whole)
        (line,) = misfits(config, config.models)
        assert "141 GB of weights in bfloat16 leave no room on 2 H100-80GB" in line
        assert "more GPUs (in `jobs`), models.llama-3.3-70b.quantization: fp8" in line
        config = study("paper", {"engine": {"gpu": "RTX-3090-24GB"}})
        quantised = next(misfits(config, ["llama-3.3-70b"]))
        assert "71 GB of weights in fp8" in quantised
        assert "more GPUs (in `jobs`), a larger GPU" in quantised

    def test_a_quantisation_that_is_not_known_here_counts_as_none(self) -> None:
        config = study("paper", {"models": {"llama-3.3-70b": {"quantization": "auto_awq"}}})
        (line,) = misfits(config, config.models)
        assert "141 GB of weights in bfloat16 (what auto_awq saves is not known here)" in line
        assert "quantization: fp8" not in line

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            (
                {"engine": {"name": "transformers"}},
                r"quantization: fp8 needs `engine: \{name: vllm",
            ),
            (
                {"models": {"llama-3.3-70b": {"tensor_parallel": 4}}},
                r"tensor_parallel: 4, but `jobs` grants 2 GPUs to models of up to 1e\+11",
            ),
        ],
        ids=["engine", "gpus"],
    )
    def test_keys_that_do_not_go_together_are_named(
        self, changes: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(EsrError, match=said):
            study("paper", changes)

    def test_on_a_gpu_that_holds_it_there_is_nothing_to_say(self) -> None:
        config = study("paper", ONE_DEVICE, {"models": {"llama-3.3-70b": None}})
        assert list(misfits(config, config.models)) == []

    def test_a_gpu_that_is_not_listed_is_named_with_those_that_are(self) -> None:
        config = study("paper", {"engine": {"gpu": "H1000"}})
        with pytest.raises(EsrError, match=r"engine\.gpu: 'H1000'.*choose one of A100-40GB"):
            list(misfits(config, config.models))

    def test_models_that_need_no_gpu_fit_everywhere(self) -> None:
        config = study("organism", {"engine": {"gpu": "RTX-3060-12GB"}})
        assert list(misfits(config, config.models)) == []


class TestDisk:
    def test_a_full_disk_is_named_with_what_is_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e9))
        config = study()
        lines = list(full_disks(config, tmp_path / "hub", ["llama-3.3-70b", "gemma-2-2b"]))
        assert lines[0].startswith(f"checkpoints need 146 GB below {tmp_path}/hub")
        assert "set HF_HOME to a larger disk" in lines[0]
        assert lines[1].startswith("results need 149 GB")  # merged checkpoints: 9 x 16

    def test_checkpoints_that_are_there_need_no_room(self, tmp_path: Path) -> None:
        assert list(full_disks(study("laptop"), tmp_path, [])) == []


class TestPartitions:
    @pytest.fixture
    def sinfo(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A command sinfo that says what is written to this file."""
        said = tmp_path / "said"
        command = tmp_path / "sinfo"
        command.write_text(f"#!/bin/sh\ncat {said}\n")
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return said

    def test_partitions_that_are_there_and_last_are_no_problem(self, sinfo: Path) -> None:
        sinfo.write_text("cpu 2-00:00:00\ngpu infinite\n")
        assert list(partition_problems(study())) == []

    def test_a_partition_that_is_not_there_is_named_with_those_that_are(self, sinfo: Path) -> None:
        sinfo.write_text("cpu 2-00:00:00\nh100 infinite\n")
        (line,) = partition_problems(study())
        assert "no partition 'gpu' here; choose among cpu, h100" in line

    def test_jobs_that_would_wait_for_ever_are_named(self, sinfo: Path) -> None:
        sinfo.write_text("cpu 1-00:00:00\ngpu 12:30:00\n")
        (line,) = partition_problems(study())
        assert "jobs ask for 48 h of partition gpu, which ends them after 12.5 h" in line

    def test_where_there_is_no_slurm_there_is_nothing_to_say(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", tmp_path.as_posix())
        assert list(partition_problems(study())) == []


class TestPriors:
    @pytest.mark.parametrize("name", [*STUDIES, "organism"])
    def test_priors_of_the_studies_lie_within_their_bounds(self, name: str) -> None:
        assert list(far_priors(study(name))) == []

    def test_a_prior_outside_its_bounds_is_named(self) -> None:
        wide = {"models": {"gemma-2-2b": {"boosts": {"sd": 500}}}}
        (line,) = far_priors(study("paper", wide))
        assert line.startswith("models.gemma-2-2b.boosts: 84 % of the prior 50 +- 500 lie outside")


class TestHours:
    def test_the_bound_is_a_batch_over_the_time_to_read_the_weights(self) -> None:
        config = study()
        rate, known = tokens_per_second(config, "llama-3.1-8b", compute.Gpu(80, 3350))
        assert known == "bound"
        assert rate == pytest.approx(256 / (16.06 / (0.6 * 3350) + 0.03))

    def test_quantised_weights_over_several_gpus_are_read_in_less(self) -> None:
        rate, _ = tokens_per_second(study(), "llama-3.3-70b", compute.Gpu(80, 3350))
        assert rate == pytest.approx(256 / (70.6 / (2 * 0.6 * 3350) + 0.03))

    def test_what_was_measured_wins(self, tmp_path: Path) -> None:
        head = (REPO / "resources/throughput.csv").read_text()
        row = "google/gemma-2-2b-it,H100-80GB,transformers,1234,2026-11-23,\n"
        (tmp_path / "t.csv").write_text(head + row)
        other = study("paper", ONE_DEVICE)
        found = tokens_per_second(other, "gemma-2-2b", compute.Gpu(80, 3350), tmp_path / "t.csv")
        assert found == (1234, "measured 2026-11-23")

    def test_hours_are_tokens_over_the_rate_and_loading_times_gpus(self) -> None:
        table = estimate_compute(study()).set_index(["model", "rule"])
        row = table.loc[("llama-3.3-70b", "find_thresholds")]
        assert row["tokens"] == 500 * 10 * 2 * 512
        hours = row["tokens"] / row["tokens_per_second"] / 3600 + 141.2 / 3600
        assert row["hours_per_job"] == pytest.approx(hours)
        assert row["gpu_hours"] == pytest.approx(2 * hours)
        # Six arms that name no label; 38 answers, 500 for discovery, sweep of 8 levels.
        steered = 2500 * len([a for a in study().arms if a not in {*SHORT}])
        tokens = table.loc[("llama-3.1-8b", "generate_responses"), "tokens"]
        assert tokens == 512 * (steered + 38 + 500 + 50 * 10 * 8)

    def test_a_model_without_labels_runs_no_arm_that_names_one(self) -> None:
        table = estimate_compute(study()).set_index(["model", "rule"])["tokens"]
        with_labels, without = (
            table[(model, "generate_responses")] for model in ("gemma-2-9b", "gemma-2-27b")
        )
        assert with_labels - without == 2 * 2500 * 512

    def test_more_gpus_shorten_a_study_down_to_its_longest_chain(self) -> None:
        table = estimate_compute(study())
        one, many = wall_hours(table, 1), wall_hours(table, 10_000)
        assert one == pytest.approx(table["gpu_hours"].sum())
        of_70b = table[table["model"].eq("llama-3.3-70b")]
        assert many > of_70b["hours_per_job"].sum()
        assert wall_hours(table, 2) == pytest.approx(one / 2)

    def test_the_profile_says_how_many_jobs_there_are_at_a_time(self, tmp_path: Path) -> None:
        table, profile = estimate_compute(study()), tmp_path / "config.yaml"
        profile.write_text("jobs: 1\n")
        hours, jobs = profile_hours(table, profile)
        assert jobs == 1
        assert hours == pytest.approx((table["gpu_hours"] / table["gpus"]).sum())
        profile.write_text("jobs: 100000\n")
        assert profile_hours(table, profile)[0] == pytest.approx(wall_hours(table, 10**6))
        profile.write_text("jobs: unlimited\n")
        with pytest.raises(EsrError, match="jobs: 'unlimited'; say how many"):
            profile_hours(table, profile)
        assert profile_hours(table)[1] == 40  # of the profile that comes with the project

    def test_jobs_that_outlast_what_they_ask_for_are_named(self) -> None:
        short = [dict(size) for size in PROTOCOL["jobs"]]
        for size in short:
            size["calibrate"] = 1
        table = estimate_compute(study("paper", {"engine": {"batch_size": 64}, "jobs": short}))
        lines = list(short_hours(table))
        assert len(lines) == 2
        assert lines[0].startswith("find_thresholds of llama-3.3-70b: 1.1 h expected (bound)")

    def test_a_study_that_names_no_gpu_has_no_estimate(self) -> None:
        assert estimate_compute(study("organism")).empty


SHORT = ["answers", "discovery", "boost-sweep"]


def test_everything_that_does_not_fit_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_is_at_hand", lambda _: True)
    wide = {"models": {"gemma-2-2b": {"boosts": {"sd": 500}}}}
    with pytest.raises(EsrError) as caught:
        list(check_machines(study("paper", ONE_DEVICE, wide)))
    said = str(caught.value)
    assert "models.gemma-2-2b.boosts" in said
    assert "models.llama-3.3-70b: 141 GB" in said


@pytest.mark.parametrize("name", STUDIES)
def test_saes_and_labels_of_the_studies_are_those_that_saelens_lists(name: str) -> None:
    for model in study(name).models.values():
        check._check_release(model)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sae": {"release": "gemma-scope-2b-pt-rez-canonical"}}, "near it: ['gemma-scope-2b-pt-"),
        ({"sae": {"id": "layer_16/width_61k/canonical"}}, "near it: ['layer_16/width_65k"),
        ({"labels": {"neuronpedia": "gemma-2-2b/15-gemmascope-res-16k"}}, "another SAE; this one"),
    ],
)
def test_an_sae_that_saelens_does_not_list_is_named_with_what_is_near(
    change: dict[str, Any], said: str
) -> None:
    config = study("laptop", {"models": {"gemma-2-2b": change}})
    with pytest.raises(EsrError) as caught:
        check._check_release(config.models["gemma-2-2b"])
    assert said in str(caught.value)
