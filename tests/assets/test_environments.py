"""esr.assets.environments: whether jobs would find what an environment is pinned to."""

import os
from pathlib import Path

import pytest

from esr.assets.environments import check_environments, pins
from helpers.checkout import run_snakemake

PROJECT = """
[project]
name = "serve"
version = "0"
dependencies = ["jaxtyping==0.3.11", "vllm==0.32.0"]
"""


@pytest.fixture
def envs(tmp_path: Path) -> Path:
    """A folder of environments with one that is pinned, but not installed."""
    (tmp_path / "serve").mkdir()
    (tmp_path / "serve/pyproject.toml").write_text(PROJECT)
    return tmp_path


def install(envs: Path, **versions: str) -> None:
    """Lay out what an installation leaves behind."""
    places = envs / "serve/.venv/lib/python3.11/site-packages"
    for package, version in versions.items():
        facts = places / f"{package}-{version}.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text(f"Name: {package}\nVersion: {version}\n")
    (envs / "serve/.venv/bin").mkdir(exist_ok=True)
    (envs / "serve/.venv/bin/python").touch()


def test_pins_are_those_of_the_project(envs: Path) -> None:
    assert pins(envs / "serve") == {"jaxtyping": "0.3.11", "vllm": "0.32.0"}


def test_one_that_is_not_installed_is_named_with_what_to_do(envs: Path) -> None:
    (line,) = check_environments(["serve"], envs)
    assert line.startswith(f"{envs}/serve is not installed; run `uv sync --project {envs}/serve`")


def test_one_that_has_what_is_pinned_is_ready(envs: Path) -> None:
    install(envs, jaxtyping="0.3.11", vllm="0.32.0+cu130")
    assert list(check_environments(["serve"], envs)) == []


def test_one_left_behind_by_an_upgrade_is_named_with_both_versions(envs: Path) -> None:
    install(envs, jaxtyping="0.3.11", vllm="0.31.2")
    (line,) = check_environments(["serve"], envs)
    assert line.startswith(f"{envs}/serve has vllm 0.31.2, not 0.32.0 as pinned; run `uv sync")


def test_a_package_that_is_missing_is_named(envs: Path) -> None:
    install(envs, vllm="0.32.0")
    (line,) = check_environments(["serve"], envs)
    assert "has jaxtyping None, not 0.3.11" in line


def test_a_main_environment_elsewhere_is_not_that_of_the_others(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "bin/uv"
    uv.parent.mkdir()
    uv.write_text('#!/bin/sh\necho "$1 into ${UV_PROJECT_ENVIRONMENT-a folder of its own}"\n')
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{uv.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("UV_PROJECT_ENVIRONMENT", str(tmp_path / "main"))
    done = run_snakemake(checkout, "--cores", "1", "results/environments/serve.txt")
    assert done.returncode == 0, done.stdout
    installed = (checkout / "results/environments/serve.txt").read_text()
    assert installed == "pip into a folder of its own\n"
