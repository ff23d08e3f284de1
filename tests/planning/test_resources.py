"""Memory, hours and disk that a study needs, and the problems reported before it starts."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from esr.config import ENGINE_HOURS, Config, load, merge
from esr.errors import EsrError
from esr.planning import check
from esr.planning import resources as compute
from esr.planning.check import check_machines
from esr.planning.resources import (
    check_disk,
    check_gpu_memory,
    check_priors,
    check_walltime,
    disk_bytes,
    estimate_compute,
    judge_hours,
    partition_problems,
    pass_seconds,
    profile_hours,
    sae_bytes,
    tokens_per_second,
    wall_hours,
)
from helpers.checkout import REPO

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
        (line,) = check_gpu_memory(config, config.models)
        assert line.startswith("models.llama-3.3-70b: 141 GB of weights in bfloat16 leave no room")
        assert "the engine that spreads it (engine.name: vllm), a larger GPU (engine.gpu)" in line

    def test_vllm_spreads_it_and_quantises_it(self) -> None:
        config = study()
        assert list(check_gpu_memory(config, config.models)) == []
        whole = {"models": {"llama-3.3-70b": {"quantization": None}}}
        config = study("paper", whole)
        (line,) = check_gpu_memory(config, config.models)
        assert "141 GB of weights in bfloat16 leave no room on 2 H100-80GB" in line
        assert "more GPUs (in `jobs`), models.llama-3.3-70b.quantization: fp8" in line
        config = study("paper", {"engine": {"gpu": "RTX-3090-24GB"}})
        quantised = next(check_gpu_memory(config, ["llama-3.3-70b"]))
        assert "71 GB of weights in fp8" in quantised
        assert "more GPUs (in `jobs`), a larger GPU" in quantised

    def test_a_quantisation_that_is_not_known_here_counts_as_none(self) -> None:
        config = study("paper", {"models": {"llama-3.3-70b": {"quantization": "auto_awq"}}})
        (line,) = check_gpu_memory(config, config.models)
        assert "141 GB of weights in bfloat16 (what auto_awq saves is not known here)" in line
        assert "quantization: fp8" not in line

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"engine": {"name": "transformers"}},
                r"quantization: fp8 needs `engine: \{name: vllm",
            ),
            (
                {"models": {"llama-3.3-70b": {"tensor_parallel": 4}}},
                r"tensor_parallel: 4, but `jobs` requests 2 GPUs for models of up to 1e\+11",
            ),
        ],
        ids=["engine", "gpus"],
    )
    def test_keys_that_do_not_go_together_are_named(
        self, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(EsrError, match=message):
            study("paper", changes)

    def test_on_a_gpu_that_holds_it_there_is_nothing_to_say(self) -> None:
        config = study("paper", ONE_DEVICE, {"models": {"llama-3.3-70b": None}})
        assert list(check_gpu_memory(config, config.models)) == []

    def test_a_gpu_that_is_not_listed_is_named_with_those_that_are(self) -> None:
        config = study("paper", {"engine": {"gpu": "H1000"}})
        with pytest.raises(EsrError, match=r"engine\.gpu: 'H1000'.*choose one of A100-40GB"):
            list(check_gpu_memory(config, config.models))

    def test_models_that_need_no_gpu_fit_everywhere(self) -> None:
        config = study("organism", {"engine": {"gpu": "RTX-3060-12GB"}})
        assert list(check_gpu_memory(config, config.models)) == []


class TestDisk:
    def test_a_full_disk_is_named_with_what_is_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e9))
        config = study()
        lines = list(check_disk(config, tmp_path / "hub", ["llama-3.3-70b", "gemma-2-2b"]))
        # Two checkpoints of 141.2 and 5.2 GB, SAEs of 4.3 and 0.3 GB.
        assert lines[0].startswith(f"checkpoints and SAEs need 151 GB below {tmp_path}/hub")
        assert "set HF_HOME to a larger disk" in lines[0]
        # Nine merged checkpoints of 16.06 GB, SAEs of 12 GB, 4.4 GB of results.
        assert lines[1].startswith("results need 161 GB")

    def test_checkpoints_that_are_there_need_no_room(self, tmp_path: Path) -> None:
        assert list(check_disk(study("laptop"), tmp_path, [])) == []

    def test_an_sae_is_stored_in_float32_and_was_downloaded_before(self) -> None:
        config = study()
        # Encoder and decoder of 65,536 latents at width 8,192; biases and thresholds.
        weights = 4 * 2 * 65_536 * 8_192
        assert sae_bytes(config, "llama-3.3-70b") == weights + 4 * (8_192 + 2 * 65_536)
        assert sae_bytes(config, "gemma-2-27b") == pytest.approx(4.83e9, rel=0.001)
        disk = disk_bytes(config)
        assert disk["SAEs"] == disk["SAEs in the hub's cache"] == pytest.approx(12.05e9, rel=0.001)
        assert disk["checkpoints in the hub's cache"] == pytest.approx(2 * 117.68e9)

    def test_an_sae_whose_shape_is_not_known_is_assumed_to_be_large(self) -> None:
        assert sae_bytes(study("laptop"), "gemma-3-270m") == compute.UNKNOWN_SAE

    def test_a_local_sae_takes_nothing_in_the_cache(self) -> None:
        disk = disk_bytes(study("organism"))
        assert disk["SAEs in the hub's cache"] == 0
        # Two organisms: width 128, 512 latents.
        assert disk["SAEs"] == 2 * 4 * (2 * 128 * 512 + 128 + 2 * 512)


class TestPartitions:
    @pytest.fixture
    def sinfo(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A command sinfo that says what is written to this file."""
        output = tmp_path / "output"
        command = tmp_path / "sinfo"
        command.write_text(f"#!/bin/sh\ncat {output}\n")
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return output

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

    def test_the_last_retry_of_a_job_that_begins_anew_has_to_fit_as_well(
        self, sinfo: Path, tmp_path: Path
    ) -> None:
        sinfo.write_text("gpu 10:00:00\n")
        profile = tmp_path / "config.yaml"
        profile.write_text("retries: 2\nset-resources: {train_adapter: {slurm_partition: gpu}}\n")
        (line,) = partition_problems(study(), profile)
        assert "jobs ask for 12 h of partition gpu, which ends them after 10 h" in line
        assert "reading and training begin anew, and ask for more each time" in line
        profile.write_text(profile.read_text().replace("2", "1"))
        assert list(partition_problems(study(), profile)) == []

    def test_where_there_is_no_slurm_there_is_nothing_to_say(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", tmp_path.as_posix())
        assert list(partition_problems(study())) == []


class TestPriors:
    @pytest.mark.parametrize("name", [*STUDIES, "organism"])
    def test_priors_of_the_studies_lie_within_their_bounds(self, name: str) -> None:
        assert list(check_priors(study(name))) == []

    def test_a_prior_outside_its_bounds_is_named(self) -> None:
        wide = {"models": {"gemma-2-2b": {"threshold_prior": {"sd": 500}}}}
        (line,) = check_priors(study("paper", wide))
        assert line.startswith(
            "models.gemma-2-2b.threshold_prior: 84 % of the prior 50 +- 500 lie outside"
        )


H100 = compute.Gpu(80, 3350, 989)
REACHED = 0.4 * 989e12
"""Operations a second of one H100, as assumed."""


class TestHours:
    def test_a_pass_takes_as_long_as_computing_or_as_reading_the_weights(self) -> None:
        model = study().models["llama-3.1-8b"]
        # 8.03e9 parameters, 16.06 GB: 256 tokens are computed longer than weights are read.
        assert pass_seconds(model, H100, 1, 256) == pytest.approx(0.01039 + 0.03, rel=1e-3)
        assert pass_seconds(model, H100, 1, 1) == pytest.approx(16.06 / (0.6 * 3350) + 0.03)
        assert pass_seconds(model, H100, 4, 1) == pytest.approx(16.06 / (4 * 0.6 * 3350) + 0.03)

    def test_writing_is_a_token_of_every_row_a_pass(self) -> None:
        rate, known = tokens_per_second(study(), "generate_responses", "llama-3.1-8b", H100)
        assert known == "assumed"
        assert rate == pytest.approx(256 / 0.040393, rel=1e-4)
        # Over two GPUs, and computed in bf16 although stored in fp8.
        rate, _ = tokens_per_second(study(), "find_thresholds", "llama-3.3-70b", H100)
        assert rate == pytest.approx(256 / (0.091371 / 2 + 0.03), rel=1e-4)

    @pytest.mark.parametrize("name", list(study().base_models))
    def test_no_gpu_reads_or_writes_faster_than_it_computes(self, name: str) -> None:
        config = study()
        for rule in ("generate_responses", "find_detectors"):
            rate, _ = tokens_per_second(config, rule, name, H100)
            operations = 2 * config.models[name].parameters * rate
            assert operations < REACHED * config.gpus(name)
        assert operations > 0.9 * REACHED * config.gpus(name)

    def test_what_was_measured_is_writing_and_nothing_else(self, tmp_path: Path) -> None:
        head = (REPO / "resources/throughput.csv").read_text()
        row = "google/gemma-2-2b-it,H100-80GB,transformers,1234,2026-11-23,\n"
        (tmp_path / "t.csv").write_text(head + row)
        other = study("paper", ONE_DEVICE)
        found = {
            rule: tokens_per_second(other, rule, "gemma-2-2b", H100, tmp_path / "t.csv")
            for rule in ENGINE_HOURS
        }
        measured = (1234, "measured 2026-11-23")
        assert found["generate_responses"] == found["find_thresholds"] == measured
        row = row.replace("google/gemma-2-2b-it", "meta-llama/Llama-3.1-8B-Instruct")
        (tmp_path / "t.csv").write_text(head + row)
        tuned = tokens_per_second(
            other, "generate_responses", "llama-3.1-8b+sc10", H100, tmp_path / "t.csv"
        )
        assert tuned == measured
        others = [found[rule][1] for rule in ("find_detectors", "read_episodes", "train_adapter")]
        assert others == ["assumed"] * 3

    def test_thresholds_take_writing_the_judge_and_a_start_on_all_gpus(self) -> None:
        table = estimate_compute(study()).set_index(["model", "rule"])
        row = table.loc[("llama-3.3-70b", "find_thresholds")]
        assert row["tokens"] == 500 * 10 * 2 * 512
        # 5,120,000 tokens at 3,382 a second; 120 s and 141.2 GB at 1 GB/s; 10,000 replies of 10 s,
        # 16 at a time.
        seconds = 1513.7 + 120 + 141.2 + 6250
        assert row["judge_hours"] == pytest.approx(6250 / 3600)
        assert row["hours_per_job"] == pytest.approx(seconds / 3600, rel=1e-4)
        assert row["gpu_hours"] == pytest.approx(2 * seconds / 3600, rel=1e-4)
        assert table.drop(index="find_thresholds", level="rule")["judge_hours"].eq(0).all()

    def test_a_judge_that_is_no_language_model_answers_at_once(self) -> None:
        assert judge_hours(study("organism")) == 0

    def test_training_is_three_passes_of_every_micro_batch(self) -> None:
        table = estimate_compute(study()).set_index(["model", "rule"])
        row = table.loc[("llama-3.1-8b+sc10", "train_adapter")]
        # 900 rows, 4 epochs, 2 at a time: 1,800 micro-batches of 600 tokens, 3 x 54.4 ms each;
        # 120 s and 16.06 GB at 1 GB/s.
        assert row["tokens"] == 900 * 4 * 300
        seconds = 1800 * 3 * 0.054358 + 120 + 16.06
        assert row["hours_per_job"] == pytest.approx(seconds / 3600, rel=1e-4)
        assert row["known_by"] == "assumed"

    def test_reading_is_the_operations_of_its_tokens_and_a_start(self) -> None:
        table = estimate_compute(study()).set_index(["model", "rule"])
        row = table.loc[("llama-3.3-70b", "match_controls")]
        computing = 2 * 70.6e9 * 2500 * 512 / (2 * REACHED)
        assert row["hours_per_job"] == pytest.approx((computing + 261.2) / 3600, rel=0.01)

    def test_trials_of_all_arms_are_written(self) -> None:
        table = estimate_compute(study()).set_index(["model", "rule"])
        # Six arms that name no label; 38 answers, 500 for discovery, sweep of 8 levels.
        steered = 2500 * len([a for a in study().arms if a not in {*SHORT}])
        row = table.loc[("llama-3.1-8b", "generate_responses")]
        assert row["tokens"] == 512 * (steered + 38 + 500 + 50 * 10 * 8)
        seconds = row["tokens"] / 6337.8 + row["jobs"] * (120 + 16.06)
        assert row["gpu_hours"] == pytest.approx(seconds / 3600, rel=1e-4)

    def test_the_guide_says_what_the_paper_study_takes(self) -> None:
        table = estimate_compute(study())
        page = (REPO / "docs/cluster.md").read_text()
        assert f"some {table['gpu_hours'].sum():.0f} GPU hours" in page
        for rule, hours in table.groupby("rule")["gpu_hours"].sum().items():
            assert re.search(rf"`{rule}`[^|]*\| {hours:.1f} \|", page), (rule, hours)
        for what, size in disk_bytes(study()).items():
            assert f"| {what} | {size / 1e9:.0f} |" in page

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
        short = [
            size | {"thresholds": 2.1, "encode": 0.12, "train": 0.1} for size in PROTOCOL["jobs"]
        ]
        table = estimate_compute(study("paper", {"jobs": short}))
        lines = list(check_walltime(table))
        assert len(lines) == 2 + 1 + 9
        assert lines[0] == (
            "find_thresholds of llama-3.3-70b: 2.2 h expected (assumed), but `jobs` asks for 2.1 "
            "h; retries go on where a job was cut off; or raise `thresholds`"
        )
        begins_anew = "a job that is cut off begins anew, so raise"
        assert lines[1].startswith("match_controls of llama-3.3-70b: 0.1 h expected (assumed)")
        assert lines[1].endswith(f"{begins_anew} `encode`")
        assert lines[-1].startswith("train_adapter of llama-3.1-8b+sc90")
        assert lines[-1].endswith(f"{begins_anew} `train`")

    def test_a_study_that_names_no_gpu_has_no_estimate(self) -> None:
        assert estimate_compute(study("organism")).empty


SHORT = ["answers", "discovery", "boost-sweep"]


def test_everything_that_does_not_fit_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_is_at_hand", lambda _: True)
    wide = {"models": {"gemma-2-2b": {"threshold_prior": {"sd": 500}}}}
    with pytest.raises(EsrError) as caught:
        list(check_machines(study("paper", ONE_DEVICE, wide)))
    message = str(caught.value)
    assert "models.gemma-2-2b.threshold_prior" in message
    assert "models.llama-3.3-70b: 141 GB" in message


@pytest.mark.parametrize("name", STUDIES)
def test_saes_and_labels_of_the_studies_are_those_that_saelens_lists(name: str) -> None:
    for model in study(name).models.values():
        # The commit is the hub's to know.
        sae = model.sae.model_copy(update={"revision": None})
        check._check_release(model.model_copy(update={"sae": sae}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sae": {"release": "gemma-scope-2b-pt-rez-canonical"}}, "near it: ['gemma-scope-2b-pt-"),
        ({"sae": {"id": "layer_16/width_61k/canonical"}}, "near it: ['layer_16/width_65k"),
        ({"labels": {"neuronpedia": "gemma-2-2b/15-gemmascope-res-16k"}}, "another SAE; this one"),
    ],
)
def test_an_sae_that_saelens_does_not_list_is_named_with_what_is_near(
    change: dict[str, Any], message: str
) -> None:
    config = study("laptop", {"models": {"gemma-2-2b": change}})
    with pytest.raises(EsrError) as caught:
        check._check_release(config.models["gemma-2-2b"])
    assert message in str(caught.value)
