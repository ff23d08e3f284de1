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
    address = Path(os.environ[ADDRESS])
    assert address.parent.stat().st_mode & 0o077 == 0, "others could run code by it"
    with pytest.raises(RuntimeError, match="server of Snakemake's runs has ended"):
        run_snakemake(tmp_path, "--version", timeout=60)
    with pytest.raises(ConnectionRefusedError):
        run_snakemake(tmp_path, "--version", timeout=60)
    del server  # and its folder
    assert not address.parent.exists()
