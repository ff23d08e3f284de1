"""Partitions of Slurm: those that are missing or too short are named."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from esr.config import Config
from esr.planning.partitions import partition_problems
from helpers.checkout import REPO
from helpers.studies import load_study


def study(name: str = "paper", *changes: Mapping[str, Any]) -> Config:
    return load_study(*changes, name=name)


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)


class TestPartitions:
    @pytest.fixture
    def sinfo(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A command sinfo that prints the contents of this file."""
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

    def test_jobs_longer_than_their_partition_allows_are_named(self, sinfo: Path) -> None:
        sinfo.write_text("cpu 1-00:00:00\ngpu 12:30:00\n")
        (line,) = partition_problems(study())
        assert "jobs request 41 h of partition gpu, whose limit is 12.5 h" in line

    def test_the_last_retry_of_a_job_without_a_journal_must_fit_too(
        self, sinfo: Path, tmp_path: Path
    ) -> None:
        sinfo.write_text("gpu 10:00:00\n")
        profile = tmp_path / "config.yaml"
        profile.write_text("retries: 2\nset-resources: {train_adapter: {slurm_partition: gpu}}\n")
        (line,) = partition_problems(study(), profile)
        assert "jobs request 12 h of partition gpu, whose limit is 10 h" in line
        assert "encoding and training start from scratch, and request more with every retry" in line
        profile.write_text(profile.read_text().replace("2", "1"))
        assert list(partition_problems(study(), profile)) == []

    def test_an_allocation_of_several_jobs_must_fit(self, sinfo: Path, tmp_path: Path) -> None:
        sinfo.write_text("gpu 12:00:00\n")
        profile = tmp_path / "config.yaml"
        rules = "set-resources: {generate_responses: {slurm_partition: gpu}}\n"
        profile.write_text(f"group-components: [arms=2]\n{rules}")
        assert list(partition_problems(study(), profile)) == []  # 2 x 2 h, and 2 x 4 h of reading
        profile.write_text(f"group-components: [arms=2]\nretries: 1\n{rules}")
        (line,) = partition_problems(study(), profile)
        assert "jobs request 20 h" in line  # a retry reads for longer
        profile.write_text(f"group-components: [other=2, arms=12]\n{rules}")
        (line,) = partition_problems(study(), profile)
        assert "jobs request 27 h of partition gpu, whose limit is 12 h" in line
        assert "or the arms that share an allocation (`group-components: [arms=...]`)" in line
        # An engine that ends with its job is not shared, so neither is an allocation.
        no_stay = study("paper", {"engine": {"linger": 0}})
        assert list(partition_problems(no_stay, profile)) == []

    def test_searches_that_share_an_allocation_must_fit(self, sinfo: Path, tmp_path: Path) -> None:
        sinfo.write_text("gpu 1-01:00:00\n")
        profile = tmp_path / "config.yaml"
        profile.write_text(
            "group-components: [arms=2]\nset-resources: {find_thresholds: {slurm_partition: gpu}}\n"
        )
        assert list(partition_problems(study(), profile)) == []  # 24 h, and 3 x 8 h
        longer = [size.model_dump() for size in study().jobs]
        next(size for size in longer if size["max_parameters"] == 1e10)["thresholds"] = 9
        (line,) = partition_problems(study("paper", {"jobs": longer}), profile)
        assert "jobs request 27 h of partition gpu, whose limit is 25 h" in line

    @pytest.mark.parametrize("name", ["paper", "arxiv"])
    def test_twelve_hours_suffice_as_the_page_on_clusters_tells(
        self, sinfo: Path, tmp_path: Path, name: str
    ) -> None:
        sinfo.write_text("cpu 12:00:00\ngpu 12:00:00\n")
        profile = tmp_path / "config.yaml"
        shipped = (REPO / "profiles/slurm/config.yaml").read_text()
        jobs = [size.model_dump() for size in study(name).jobs]
        shorter = [
            size | {key: min(size[key], 12) for key in ("thresholds", "judge")} for size in jobs
        ]
        profile.write_text(shipped.replace("runtime: 1440", "runtime: 720"))
        assert len(list(partition_problems(study(name, {"jobs": shorter}), profile))) == 1
        profile.write_text(profile.read_text().replace("[arms=16]", "[arms=1]"))
        assert list(partition_problems(study(name, {"jobs": shorter}), profile)) == []

    def test_where_there_is_no_slurm_there_is_no_problem(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", tmp_path.as_posix())
        assert list(partition_problems(study())) == []
