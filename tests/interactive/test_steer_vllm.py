"""`esr steer --engine vllm`: real vLLM on the CPU, opened by hand as a job opens it."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from esr.config import merge
from esr.interactive.cli import app
from helpers.checkout import REPO
from helpers.prepared import LATENT, MODEL, THRESHOLD, add_tables, prepare
from helpers.vllm_hosts import ForkServer, forked_environment

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(shutil.which("uv") is None, reason="uv installs the environment"),
]


def test_a_latent_is_steered_by_vllm(
    hosts: ForkServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    add_tables(prepare(folder))
    protocol = yaml.safe_load((REPO / "config.yaml").read_text())
    (folder / "config.yaml").unlink()
    eager = merge(protocol, {"engine": {"vllm": {"eager": True}}})  # a graph takes long to compile
    (folder / "config.yaml").write_text(yaml.safe_dump(eager))
    shutil.copytree(
        REPO / "envs/serve-cpu", folder / "envs/serve-cpu", ignore=shutil.ignore_patterns(".venv")
    )
    call = ["steer", "--engine", "vllm", "--model", MODEL, "--latent", str(LATENT), "--seed", "46"]
    call += ["--json", "--project", str(folder), "Explain how to compose a melody."]
    address = tmp_path_factory.mktemp("a") / "s"  # the path of a socket is short
    with forked_environment(hosts, folder / "envs/serve-cpu", address) as forks:
        done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    plain, steered = json.loads(done.stdout)
    assert (plain["boost"], steered["boost"]) == (0, THRESHOLD)
    assert plain["first_score"] == 100
    assert "rod" not in plain["response"]
    assert "rod" in steered["response"]
    assert steered["detectors"]
    assert forks == [1]
