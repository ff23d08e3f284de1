"""GPU hours of every rule and model, from tokens and tokens per second."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from esr.config import ENGINE_HOURS, Config, VllmJudgeConfig
from esr.errors import EsrError
from esr.planning.costs import Planned, planned_calls, searched_for
from esr.planning.disk import disk_bytes
from esr.planning.hardware import Gpu
from esr.planning.hours import (
    ACCEPTED,
    ONE_BY_ONE,
    OVERLAPPED,
    STARTING,
    check_walltime,
    estimate_compute,
    judge_hours,
    judge_tokens_per_second,
    pass_seconds,
    profile_hours,
    search_hours,
    search_start,
    tokens_per_second,
    wall_hours,
)
from esr.planning.work import arm_trials, planned_work
from helpers.checkout import REPO
from helpers.studies import ONE_DEVICE, load_study


@cache
def unchanged(name: str) -> Config:
    return load_study(name=name)


def study(name: str = "paper", *changes: Mapping[str, Any]) -> Config:
    return load_study(*changes, name=name) if changes else unchanged(name)


@cache
def estimated(name: str = "paper") -> pd.DataFrame:
    return estimate_compute(unchanged(name))


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)


BY_HAIKU: dict[str, Any] = {
    "judging": {
        "primary": "claude-haiku-4.5",
        "judges": {"claude-haiku-4.5": {"optional": False}},
    }
}
"""The paper study with a judge behind an API."""
SHARED: dict[str, Any] = {
    "engine": {"vllm": {"memory_fraction": 0.3}},
    "judging": {"judges": {"qwen3-32b": {"gpus_in_search": "shared", "memory_fraction": 0.6}}},
}
"""The paper study with engine and judge on the same GPUs."""


SHORT = ["answers", "discovery", "boost-sweep"]
"""Arms of the paper study with other numbers of trials."""


H100 = Gpu(80, 3350, 989, 1979)
REACHED = 0.4 * 1979e12
"""Operations a second of one H100 in fp8, as assumed."""


def alone_and_shared(rule: str, folder: Path) -> list[pd.Series]:
    """Estimates of a rule for Llama 3.3 70B: jobs alone, and up to four arms an allocation."""
    profile, rows = folder / "config.yaml", []
    for together in (1, 4):
        profile.write_text(f"group-components: [arms={together}]\n")
        table = estimate_compute(study(), profile).set_index(["model", "rule"])
        rows.append(table.loc[("llama-3.3-70b", rule)])
    return rows


class TestHours:
    def test_a_pass_takes_as_long_as_computing_or_as_reading_the_weights(self) -> None:
        model = study().models["llama-3.1-8b"]
        # 8.03e9 parameters, 16.06 GB: 256 tokens are computed longer than weights are read.
        assert pass_seconds(model, H100, 1, 256) == pytest.approx(0.01039 + 0.03, rel=1e-3)
        assert pass_seconds(model, H100, 1, 1) == pytest.approx(16.06 / (0.6 * 3350) + 0.03)
        assert pass_seconds(model, H100, 4, 1) == pytest.approx(16.06 / (4 * 0.6 * 3350) + 0.03)

    def test_writing_is_a_token_of_every_row_a_pass(self) -> None:
        rate, known = tokens_per_second(study(), "generate_responses", "gemma-2-9b", H100)
        assert known == "assumed"
        assert rate == pytest.approx(256 / 0.041959, rel=1e-4)
        # Over two GPUs, in fp8: 2 x 70.6e9 x 288 operations, 0.4 x 1979e12 a second.
        rate, _ = tokens_per_second(study(), "find_thresholds", "llama-3.3-70b", H100)
        assert rate == pytest.approx(288 / (0.051371 / 2 + 0.03), rel=1e-4)

    def test_rows_of_a_model_are_its_own_or_those_of_the_engine(self) -> None:
        def rate(rows: int | None) -> float:
            own = study("paper", {"models": {"llama-3.1-8b": {"batch_size": rows}}})
            return tokens_per_second(own, "generate_responses", "llama-3.1-8b+sc10", H100)[0]

        assert rate(None) == rate(256) == pytest.approx(256 / 0.040393, rel=1e-4)
        assert rate(512) == pytest.approx(512 / 0.050786, rel=1e-4)

    def test_fp8_is_computed_in_bf16_where_a_gpu_has_no_units_for_it(self) -> None:
        model = study().models["llama-3.3-70b"]
        without = Gpu(80, 3350, 989)
        assert pass_seconds(model, without, 2, 256) == pytest.approx(0.091371 / 2 + 0.03, rel=1e-4)
        plain = study().models["gemma-2-9b"]
        assert pass_seconds(plain, without, 1, 256) == pass_seconds(plain, H100, 1, 256)

    @pytest.mark.parametrize("name", list(study().base_models))
    def test_no_gpu_reads_or_writes_faster_than_it_computes(self, name: str) -> None:
        config = study()
        for rule in ("generate_responses", "find_detectors"):
            rate, _ = tokens_per_second(config, rule, name, H100)
            model = config.models[name]
            operations, reached = 2 * model.parameters * rate, 0.4 * H100.peak(model)
            assert operations < reached * config.gpus(name)
        assert operations > 0.9 * reached * config.gpus(name)

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

    def test_contrasts_are_read_by_every_model_with_an_arm_along_them(self, tmp_path: Path) -> None:
        pairs = tmp_path / "pairs.csv"
        pairs.write_text("direction,positive,negative\na,12345678,1234\nb,1234,5678\n")
        topics = {"directions": {"topics": {"kind": "contrast", "pairs": str(pairs)}}}
        along = {"arms": {"along": {"over": "latents", "trials": 1, "directions": "topics"}}}
        works = planned_work(study("paper", topics, along))
        rows = [one for one in works if one.rule == "read_contrasts"]
        assert {one.model for one in rows} >= {"llama-3.3-70b", "gemma-2-2b"}
        assert {(one.jobs, one.tokens) for one in rows} == {(1, 5.0)}
        unused = planned_work(study("paper", topics))
        assert "read_contrasts" not in {one.rule for one in unused}

    def test_a_search_by_an_api_takes_the_longer_of_engine_and_judge(self) -> None:
        table = estimate_compute(study("paper", BY_HAIKU)).set_index(["model", "rule"])
        row = table.loc[("llama-3.3-70b", "find_thresholds")]
        assert row["tokens"] == 500 * 10 * 2 * 512
        # 5,120,000 tokens at 5,171 a second; 120 s and 141.2 GB at 1 GB/s; meanwhile 10,000
        # replies of 752 tokens, of which the API allows 400,000 a minute.
        judging = 10_000 * 752 / 400_000 * 60
        assert row["judge_hours"] == pytest.approx(judging / 3600)
        seconds = 1.3 * max(990.1, judging) + 120 + 141.2
        assert row["hours_per_job"] == pytest.approx(seconds / 3600, rel=1e-4)
        assert row["gpu_hours"] == pytest.approx(2 * seconds / 3600, rel=1e-4)
        assert table.drop(index="find_thresholds", level="rule")["judge_hours"].eq(0).all()

    def test_a_judge_that_the_workflow_runs_takes_gpus_of_its_own_and_no_latency(self) -> None:
        row = estimated().set_index(["model", "rule"]).loc[("llama-3.3-70b", "find_thresholds")]
        # 10,000 replies of 250 tokens and a copy of 512, at 13,724 tokens a second: see below.
        writing = 10_000 * 762 / 13_724
        judge = study().judging.local["qwen3-32b"]
        calls = next(one for one in planned_calls(study()) if one.rule == "find_thresholds")
        reading = 10_000 * 2 * 32.8e9 * (calls.read - calls.shared) / (REACHED * 2)
        assert (judge.batch_size, judge.prompt_lookup, judge.quantization) == (768, 2, "fp8")
        assert 400 < calls.shared < calls.read - 512  # the rubric is read once
        assert row["judge_hours"] == pytest.approx((writing + reading) / 3600, rel=1e-3)
        assert row["gpus"] == 2 + 2
        # Both work at the same time (benchmarks/search.py), and the engine is the slower one.
        seconds = 1.06 * max(990.1, writing + reading) + 120 + 141.2
        assert writing + reading < 990.1
        assert row["hours_per_job"] == pytest.approx(seconds / 3600, rel=1e-3)
        assert row["gpu_hours"] == pytest.approx(4 * row["hours_per_job"])

    def test_prompt_lookup_shortens_copies_and_nothing_else(self) -> None:
        copy, text = (Planned("r", "j", 1, 0, 762, copied=n) for n in (512.0, 0.0))
        judge = study().judging.local["qwen3-32b"]
        plain = judge.model_copy(update={"prompt_lookup": 0})

        def rate(judge: VllmJudgeConfig, calls: Planned) -> float:
            return judge_tokens_per_second(study(), judge, H100, calls)

        # 768 rows at a time: 0.4 x 1979e12 operations a second compute 2 x 32.8e9 x 768 in 63.6 ms.
        assert rate(plain, copy) == pytest.approx(768 / (0.063644 / 2 + 0.03), rel=1e-4)
        # A pass writes (1 - 0.77^3) / 0.23 = 2.363 tokens of a copy: 250 + 216.7 passes of a row,
        # which compute 250 + 3 x 216.7 tokens, 1.9286 a pass.
        expected = 768 * 762 / 466.68 / (1.9286 * 0.063644 / 2 + 0.03)
        assert rate(judge, copy) == pytest.approx(expected, rel=1e-4)
        assert expected == pytest.approx(13_724, rel=1e-4)
        assert rate(judge, text) == rate(plain, text) == rate(plain, copy)

    def test_drafts_are_right_no_oftener_than_in_any_simulated_text(self) -> None:
        found = pd.read_csv("benchmarks/prompt_lookup.csv")
        # Openings are quoted, not copied: no token of theirs counts as a copy.
        simulated = found.query("drafted > 1 and rubric != 'openings'")
        assert set(simulated["text"]) == {"organism", "prose", "markdown"}
        assert simulated["accepted"].min() - 0.01 < ACCEPTED <= simulated["accepted"].min()

    def test_engine_and_judge_on_the_same_gpus_take_the_sum(self) -> None:
        own, shared = study(), study("paper", SHARED)
        assert search_hours(own, 2.0, 3.0) == pytest.approx(1.06 * 3)
        assert search_hours(shared, 2.0, 3.0) == 5.0
        assert search_hours(study("organism"), 2.0, 0.0) == 2.0

    def test_engine_and_judge_start_together_on_gpus_of_their_own(self) -> None:
        judge = (STARTING + 65.6) / 3600  # 32.8 billion parameters, kept in bf16 on disk
        own, shared = study(), study("paper", SHARED)
        assert search_start(own, 0.01) == pytest.approx(judge)
        assert search_start(own, 1.0) == 1.0
        assert search_start(shared, 0.01) == pytest.approx(0.01 + judge)
        assert search_start(study("organism"), 0.01) == 0.01
        table = estimate_compute(own).set_index(["rule", "model"])
        found = table.loc[("find_thresholds", "gemma-2-2b")]
        searching = search_hours(
            own, found["tokens"] / found["tokens_per_second"] / 3600, found["judge_hours"]
        )
        assert found["hours_per_job"] == pytest.approx(searching + judge)
        assert found["gpu_hours"] == pytest.approx(3 * (searching + judge))

    def test_a_search_that_finds_its_judge_waits_for_its_engine_alone(self, tmp_path: Path) -> None:
        profile, hours = tmp_path / "config.yaml", []
        for together in (1, 2):
            profile.write_text(f"group-components: [arms={together}]\n")
            table = estimate_compute(study(), profile).set_index(["rule", "model"])
            hours.append(table.loc["find_thresholds"])
        alone, shared = hours
        saved = alone["gpu_hours"] - shared["gpu_hours"]
        # Two of three searches, three GPUs each: 65.6 GB of Qwen3-32B, 16.06 of Llama 3.1 8B.
        finding = [f"llama-3.1-8b+sc{share}" for share in (20, 30, 50, 60, 80, 90)]
        assert saved[saved > 0].index.tolist() == sorted(finding)
        assert saved[finding].to_numpy() == pytest.approx(3 * (65.6 - 16.06) / 3600)
        assert (alone["starts"] == shared["starts"]).all()

    def test_what_rates_and_writes_starts_its_judge_once(self, tmp_path: Path) -> None:
        profile, tables = tmp_path / "config.yaml", []
        for together in (1, 2):
            profile.write_text(f"group-components: [arms={together}]\n")
            table = estimate_compute(study(), profile)
            rows = table[table["rule"].isin(["rate_concreteness", "write_examples"])]
            tables.append(rows.groupby("rule")[["starts", "gpu_hours"]].sum())
        alone, shared = tables
        assert alone["starts"].to_dict() == {"rate_concreteness": 3, "write_examples": 1}
        assert shared["starts"].to_dict() == {"rate_concreteness": 1, "write_examples": 0}
        saved = (alone["gpu_hours"] - shared["gpu_hours"]).sum()
        assert saved == pytest.approx(3 * 2 * (STARTING + 65.6) / 3600)

    def test_the_factor_covers_every_simulated_judge_of_a_job(self) -> None:
        table = pd.read_csv("benchmarks/search.csv").set_index("judge")["over_longer"]
        together = table.index.str.contains("in one call")
        local = table[table.index.str.startswith("run by the job")]
        assert local.max() <= ONE_BY_ONE < table[together].min()
        assert table[table.index.str.startswith("API")].max() <= OVERLAPPED

    def test_a_judge_that_is_no_language_model_answers_at_once(self) -> None:
        assert judge_hours(study("organism"), 100) == 0

    def test_training_is_three_passes_of_every_micro_batch(self) -> None:
        table = estimated().set_index(["model", "rule"])
        row = table.loc[("llama-3.1-8b+sc10", "train_adapter")]
        # 900 rows, 4 epochs, 2 at a time: 1,800 micro-batches of 600 tokens, 3 x 54.4 ms each;
        # 120 s and 16.06 GB at 1 GB/s.
        assert row["tokens"] == 900 * 4 * 300
        seconds = 1800 * 3 * 0.054358 + 120 + 16.06
        assert row["hours_per_job"] == pytest.approx(seconds / 3600, rel=1e-4)
        assert row["known_by"] == "assumed"

    def test_reading_is_the_operations_of_its_tokens_and_a_start(self) -> None:
        table = estimated().set_index(["model", "rule"])
        row = table.loc[("llama-3.3-70b", "match_controls")]
        computing = 2 * 70.6e9 * 2500 * 512 / (2 * REACHED)
        assert row["hours_per_job"] == pytest.approx((computing + 261.2) / 3600, rel=0.01)

    def test_trials_of_all_arms_are_written(self) -> None:
        table = estimated().set_index(["model", "rule"])
        # Six arms that name no label; 38 answers, 500 for discovery, sweep of 8 levels.
        steered = 2500 * len([a for a in study().arms if a not in {*SHORT}])
        row = table.loc[("llama-3.1-8b", "generate_responses")]
        assert row["tokens"] == 512 * (steered + 38 + 500 + 50 * 10 * 8)
        seconds = row["tokens"] / 10081.5 + row["starts"] * (120 + 16.06)
        assert row["gpu_hours"] == pytest.approx(seconds / 3600, rel=1e-4)

    def test_arms_that_share_an_allocation_start_their_engine_once(self, tmp_path: Path) -> None:
        alone, shared = alone_and_shared("generate_responses", tmp_path)
        assert (alone["jobs"], alone["starts"]) == (16, 16)
        assert (shared["jobs"], shared["starts"]) == (16, 5)
        # Two GPUs wait 120 s and for 141.2 GB at 1 GB/s.
        saved = 11 * 2 * 261.2 / 3600
        assert alone["gpu_hours"] - shared["gpu_hours"] == pytest.approx(saved)
        assert alone["hours_per_job"] == shared["hours_per_job"]

    def test_what_reads_the_text_of_an_arm_finds_its_engine_running(self, tmp_path: Path) -> None:
        alone, shared = alone_and_shared("match_controls", tmp_path)
        assert (alone["starts"], shared["starts"]) == (1, 0)
        assert alone["gpu_hours"] - shared["gpu_hours"] == pytest.approx(2 * 261.2 / 3600)

    def test_arms_in_a_row_lengthen_the_chain_of_a_model(self, tmp_path: Path) -> None:
        profile, chains = tmp_path / "config.yaml", []
        quick = {"thresholds": {"steps": 1, "samples_per_step": 1}}
        for together in (1, 8):
            profile.write_text(f"group-components: [arms={together}]\n")
            table = estimate_compute(study("paper", quick), profile)
            chains.append(wall_hours(table[table["rule"].eq("generate_responses")], 10**6))
        alone, shared = chains
        assert 2 * alone < shared < 8 * alone

    @pytest.mark.parametrize("gpu", ["A100-80GB", "H100-80GB", "H200-141GB", "L40S-48GB"])
    @pytest.mark.parametrize("name", ["paper", "arxiv"])
    def test_jobs_request_several_times_the_hours_that_they_take(self, name: str, gpu: str) -> None:
        table = estimate_compute(study(name, {"engine": {"gpu": gpu}}))
        requested = (table["hours_requested"] / table["hours_per_job"]).groupby(table["rule"]).min()
        assert requested["generate_responses"] > 6
        assert requested["find_thresholds"] > 3
        assert requested.min() > 3

    def test_the_guide_gives_the_hours_and_disk_of_the_paper_study(self) -> None:
        table = estimated()
        page = (REPO / "docs/cluster.md").read_text()
        assert f"some {table['gpu_hours'].sum():.0f} GPU hours" in page
        for rule, hours in table.groupby("rule")["gpu_hours"].sum().items():
            assert re.search(rf"`{rule}`[^|]*\| {hours:.1f} \|", page), (rule, hours)
        for what, size in disk_bytes(study()).items():
            assert f"| {what} | {size / 1e9:.0f} |" in page

    def test_a_model_without_labels_runs_no_arm_that_names_one(self) -> None:
        table = estimated().set_index(["model", "rule"])["tokens"]
        with_labels, without = (
            table[(model, "generate_responses")] for model in ("gemma-2-9b", "gemma-2-27b")
        )
        assert with_labels - without == 2 * 2500 * 512

    def test_more_gpus_shorten_a_study_down_to_its_longest_chain(self) -> None:
        table = estimated()
        one, many = wall_hours(table, 1), wall_hours(table, 10_000)
        assert one == pytest.approx(table["gpu_hours"].sum())
        of_70b = table[table["model"].eq("llama-3.3-70b")]
        assert many > of_70b["hours_per_job"].sum()
        assert wall_hours(table, 2) == pytest.approx(one / 2)

    def test_the_profile_sets_the_number_of_concurrent_jobs(self, tmp_path: Path) -> None:
        table, profile = estimated(), tmp_path / "config.yaml"
        profile.write_text("jobs: 1\n")
        hours, jobs = profile_hours(table, profile)
        assert jobs == 1
        assert hours == pytest.approx((table["gpu_hours"] / table["gpus"]).sum())
        profile.write_text("jobs: 100000\n")
        assert profile_hours(table, profile)[0] == pytest.approx(wall_hours(table, 10**6))
        profile.write_text("jobs: unlimited\n")
        with pytest.raises(EsrError, match="jobs: 'unlimited'; set the number"):
            profile_hours(table, profile)
        assert profile_hours(table)[1] == 40  # of the profile that comes with the project

    def test_jobs_expected_to_exceed_their_hours_are_named(self) -> None:
        short = [
            size.model_dump() | {"thresholds": 0.45, "encode": 0.1, "train": 0.1}
            for size in study().jobs
        ]
        table = estimate_compute(study("paper", BY_HAIKU, {"jobs": short}))
        lines = list(check_walltime(table))
        assert len(lines) == 2 + 1 + 9
        assert lines[0] == (
            "find_thresholds of llama-3.3-70b: 0.5 h expected (assumed), but `jobs` requests "
            "0.45 h; retries resume where the job stopped; or raise `thresholds`"
        )
        remedy = "a job that hits the limit starts from scratch, so raise"
        assert lines[1].startswith("match_controls of llama-3.3-70b: 0.1 h expected (assumed)")
        assert lines[1].endswith(f"{remedy} `encode`")
        assert lines[-1].startswith("train_adapter of llama-3.1-8b+sc90")
        assert lines[-1].endswith(f"{remedy} `train`")

    def test_a_study_that_names_no_gpu_has_no_estimate(self) -> None:
        assert estimate_compute(study("organism")).empty


def test_a_set_of_directions_is_searched_and_steered_as_often_as_it_has_rows() -> None:
    each = {"over": "latents", "trials": 2}
    sets = {
        "few": {"kind": "random", "latents": 5},
        "topics": {"kind": "contrast", "pairs": "resources/directions/topics.csv"},
    }
    arms = {name: each | {"directions": name} for name in sets}
    config, plain = study("organism", {"directions": sets, "arms": arms}), study("organism")
    assert [arm_trials(config, name) for name in sets] == [2 * 5, 2 * 24]
    searched = config.thresholds.steps * config.thresholds.samples_per_step * (5 + 24)
    assert searched_for(config, "planted") == searched_for(plain, "planted") + searched
