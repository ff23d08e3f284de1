"""Settings of vLLM that follow from the configuration of a study; without vLLM."""

import json
import math
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from esr.assets.checkpoints import describe_local_model
from esr.assets.sae import from_saelens
from esr.config import Config, load, merge
from esr.engines import open_engine
from esr.engines.vllm.client import VllmEngine
from esr.engines.vllm.environment import host_variables, launcher, pinned_version
from esr.engines.vllm.launch import vllm_options
from esr.errors import EsrError
from helpers.checkout import REPO
from helpers.tiny import tiny_sae

MODEL = "resources/organisms/planted/model"


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)


def study(name: str, changes: dict[str, Any] | None = None) -> Config:
    parts = [
        yaml.safe_load((REPO / p).read_text()) for p in ("config.yaml", f"studies/{name}.yaml")
    ]
    return load(merge(*parts, {"study": name}, changes or {}))


def test_the_70b_is_quantised_and_spread_over_the_gpus_of_its_job() -> None:
    config = study("paper")
    assert vllm_options(config, "llama-3.3-70b", None) == {
        "enforce_eager": False,
        "gpu_memory_utilization": 0.85,
        "tensor_parallel_size": 2,
        "quantization": "fp8",
    }
    assert config.environment("llama-3.3-70b") == "serve"


def test_gemma_gets_an_attention_backend_with_soft_cap() -> None:
    options = vllm_options(study("paper"), "gemma-2-9b", None)
    assert options["attention_backend"] == "FLASH_ATTN"
    assert options["tensor_parallel_size"] == 1


def test_without_a_gpu_the_cache_is_in_main_memory_and_the_environment_is_serve_cpu() -> None:
    config = study("organism", {"engine": {"name": "vllm", "vllm": {"cpu_cache": 0.5}}})
    options = vllm_options(config, "planted", None)
    assert options == {
        "enforce_eager": False,
        "tensor_parallel_size": 1,
        "kv_cache_memory_bytes": 2**29,
    }
    assert config.environment("planted") == "serve-cpu"
    assert study("organism").environment("planted") is None


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("eager", [True, False])
def test_nothing_is_compiled_on_a_cpu_without_graphs(on_cpu: bool, eager: bool) -> None:
    found = host_variables(study("organism"), on_cpu=on_cpu, eager=eager)
    assert ("TORCHDYNAMO_DISABLE" in found) == (on_cpu and eager)
    assert ("VLLM_CPU_OMP_THREADS_BIND" in found) == on_cpu


@pytest.mark.parametrize(("rank", "room"), [(4, 8), (8, 8), (24, 32)])
def test_max_lora_rank_is_the_smallest_that_fits_the_adapter(
    tmp_path: Path, rank: int, room: int
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))
    config = study("organism", {"engine": {"name": "vllm"}})
    assert vllm_options(config, "planted", str(tmp_path))["max_lora_rank"] == room


def test_versions_are_those_of_the_environments() -> None:
    assert pinned_version(REPO / "envs/serve") == pinned_version(REPO / "envs/serve-cpu")


def sparse_safetensors(
    path: Path, name: str, shape: tuple[int, ...], metadata: dict[str, str]
) -> None:
    """Write a file with one float32 tensor that takes no room on disk."""
    size = 4 * math.prod(shape)
    entry = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": metadata, name: entry}).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)


CHANGES = {"engine": {"name": "vllm", "vllm": {"max_ablated": 7}}}


def test_a_host_starts_in_the_folder_where_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`esr steer --project FOLDER` generates after it has left the folder."""
    python = tmp_path / "project/envs/serve-cpu/.venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\npwd > {tmp_path}/where\n")
    python.chmod(0o755)
    monkeypatch.chdir(tmp_path / "project")
    launch = launcher(Path("envs/serve-cpu"), {})
    monkeypatch.chdir(tmp_path)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        host = launch(theirs)
        assert host is not None
        assert host.wait(timeout=60) == 0
    assert (tmp_path / "where").read_text().strip() == str(tmp_path / "project")


class TestOpening:
    def sae_file(self, folder: Path) -> Path:
        import sae_lens

        loaded = sae_lens.SAE.load_from_disk(str(REPO / "resources/organisms/planted/sae"))
        from_saelens(loaded).save(folder / "sae.safetensors")
        return folder / "sae.safetensors"

    def test_a_model_of_a_study(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("esr.engines.vllm.launch.launcher", lambda *_: lambda _: None)
        config, manifest = study("organism", CHANGES), describe_local_model(Path(MODEL))
        engine = open_engine(config, "planted", manifest, self.sae_file(tmp_path))
        assert isinstance(engine, VllmEngine)
        assert engine.independent
        assert engine.setup.max_model_len == 320  # bounded by the model
        assert engine.setup.n_ablated == 7
        assert engine.setup.steer_layer == engine.setup.ablate_layer == 2
        assert engine.identity["engine"] == f"vllm {engine.version}"
        assert engine.identity["model"] == manifest["files"]
        assert "quantization" not in engine.identity

    def test_a_model_has_the_first_gpus_of_its_job(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The others are for the judge of a search, which may stay there."""
        monkeypatch.setattr("esr.engines.vllm.launch.launcher", lambda *_: lambda _: None)
        found: list[tuple[str, ...]] = []
        monkeypatch.setattr(
            "esr.engines.vllm.launch.stay_of", lambda _, devices, *__: found.append(devices)
        )
        size = {"max_parameters": 1e9, "gpus": 1, "memory": 4}
        hours = {"generate": 1, "thresholds": 1, "encode": 1}
        config = study("organism", merge(CHANGES, {"jobs": [size | hours]}))
        sae_file = self.sae_file(tmp_path)
        for visible in ("4,5,6", "7", ""):
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
            open_engine(config, "planted", describe_local_model(Path(MODEL)), sae_file)
        assert found == [("4",), ("7",), ("*",)]

    def test_only_the_header_of_the_sae_file_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file of 4 GB opens at once, and its digest is the one in the header."""
        monkeypatch.setattr("esr.engines.vllm.launch.launcher", lambda *_: lambda _: None)
        config, manifest = study("organism", CHANGES), describe_local_model(Path(MODEL))
        facts = {"activation": "relu", "k": None, "d_model": 128, "d_sae": 2**23, "digest": "ab12"}
        path = tmp_path / "sae.safetensors"
        sparse_safetensors(path, "W_dec", (2**23, 128), {"sae": json.dumps(facts)})
        engine = open_engine(config, "planted", manifest, path)
        assert isinstance(engine, VllmEngine)
        assert engine.identity["sae"] == "ab12"
        assert engine.reach.d_sae == 2**23

    def test_a_mismatch_is_an_error_before_a_process_starts(self, tmp_path: Path) -> None:
        config, manifest = study("organism", CHANGES), describe_local_model(Path(MODEL))
        narrow = tmp_path / "narrow.safetensors"
        tiny_sae().save(narrow)
        with pytest.raises(
            EsrError, match="SAE has input width 16, the residual stream has width 128"
        ):
            open_engine(config, "planted", manifest, narrow)
        deep = study("organism", merge(CHANGES, {"models": {"planted": {"steer_layer": 4}}}))
        sae_file = self.sae_file(tmp_path)
        with pytest.raises(EsrError, match="steer_layer 4: the model has layers 0 to 3"):
            open_engine(deep, "planted", manifest | {"n_layers": 4}, sae_file)

    def test_the_error_for_a_missing_environment_gives_the_command(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config, manifest = study("organism", CHANGES), describe_local_model(Path(MODEL))
        manifest |= {"source": str(REPO / MODEL)}
        sae_file = self.sae_file(tmp_path)
        environment = tmp_path / "envs/serve-cpu"
        environment.mkdir(parents=True)
        pins = (REPO / "envs/serve-cpu/pyproject.toml").read_text()
        (environment / "pyproject.toml").write_text(pins)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(EsrError, match="run `uv sync --project envs/serve-cpu`"):
            open_engine(config, "planted", manifest, sae_file)
