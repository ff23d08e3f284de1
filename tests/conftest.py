"""Fixtures: a checkout of the workflow in an empty folder, and the organism study run in one."""

from pathlib import Path

import pytest

from checkout import link_checkout, run_snakemake


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """An empty folder with the workflow in it."""
    return link_checkout(tmp_path)


@pytest.fixture(scope="session")
def organism_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which the whole organism study was run, as a newcomer would run it."""
    folder = link_checkout(tmp_path_factory.mktemp("organism"))
    done = run_snakemake(folder)
    assert done.returncode == 0, done.stdout[-6000:]
    return folder
