"""Disk that a study needs, and disks that are too small."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from esr.config import Config
from esr.planning.disk import UNKNOWN_SAE, check_disk, disk_bytes, sae_bytes
from helpers.checkout import REPO
from helpers.studies import load_study


def study(name: str = "paper", *changes: Mapping[str, Any]) -> Config:
    return load_study(*changes, name=name)


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)


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
        assert sae_bytes(study("laptop"), "gemma-3-270m") == UNKNOWN_SAE

    def test_a_local_sae_takes_nothing_in_the_cache(self) -> None:
        disk = disk_bytes(study("organism"))
        assert disk["SAEs in the hub's cache"] == 0
        # Two organisms: width 128, 512 latents.
        assert disk["SAEs"] == 2 * 4 * (2 * 128 * 512 + 128 + 2 * 512)
