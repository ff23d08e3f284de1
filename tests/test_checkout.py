"""How tests run Snakemake: in forks of one server, which may fail."""

import os
from pathlib import Path

import pytest

from helpers.checkout import ADDRESS, SnakemakeServer, run_snakemake


def test_runs_of_a_server_that_cannot_start_fail_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('a file of rules cannot be parsed')")
    monkeypatch.setattr(SnakemakeServer, "PROGRAM", broken)
    monkeypatch.setenv(ADDRESS, "")  # as it was, after the test
    server = SnakemakeServer()
    with pytest.raises(RuntimeError, match="server of Snakemake's runs has ended"):
        run_snakemake(tmp_path, "--version", timeout=60)
    with pytest.raises(ConnectionRefusedError):
        run_snakemake(tmp_path, "--version", timeout=60)
    del server


def test_only_this_user_can_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS, "")
    server = SnakemakeServer()
    assert Path(os.environ[ADDRESS]).parent.stat().st_mode & 0o077 == 0
    del server
