"""Model and SAE assets: their records, and the errors where one cannot be loaded."""

import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2 as httpx
import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import errors
from safetensors.numpy import load_file, save_file
from transformers import AutoTokenizer, Gemma3TextConfig

from esr.assets.checkpoints import (
    checkpoint_files,
    describe_local_model,
    fetch_hub_model,
    model_shape,
)
from esr.assets.hub import check_repository, go_offline_without_network
from esr.assets.saelens import load_saelens, sae_size
from esr.config import SaeConfig
from esr.errors import EsrError
from esr.provenance import content_digest, file_digest
from helpers.checkout import REPO

TEXT = {"num_hidden_layers": 26, "hidden_size": 1152, "vocab_size": 262144}


def test_a_digest_is_the_sha256_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    # The first example of FIPS 180-4.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(tmp_path / "f") == expected


@pytest.mark.parametrize("config", [TEXT, {"text_config": TEXT}])
def test_the_shape_is_that_of_the_language_model(config: dict[str, Any]) -> None:
    assert model_shape(config | {"architectures": ["Gemma3ForCausalLM"]}) == {
        "architecture": "Gemma3ForCausalLM",
        "n_layers": 26,
        "d_model": 1152,
        "vocab_size": 262144,
    }


def test_a_nested_configuration_may_leave_out_the_defaults_of_its_class() -> None:
    """As the config.json of Gemma 3 4B does; transformers knows them."""
    own = {"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34}
    shape = model_shape({"model_type": "gemma3", "text_config": own})
    assert (shape["n_layers"], shape["d_model"]) == (34, 2560)
    assert shape["vocab_size"] == Gemma3TextConfig().vocab_size


def test_a_family_that_is_not_supported_is_one_line_with_the_file() -> None:
    gpt2 = {"model_type": "gpt2", "n_layer": 4, "n_embd": 128, "n_head": 4, "vocab_size": 647}
    with pytest.raises(EsrError, match=r"^here: model_type 'gpt2' has no num_hidden_layers; supp"):
        model_shape(gpt2, "here")


def test_a_missing_architecture_is_unknown() -> None:
    assert model_shape(TEXT)["architecture"] == "unknown"
    assert model_shape(TEXT | {"architectures": None})["architecture"] == "unknown"


def test_a_checkpoint_in_shards_is_named_with_every_shard_once(tmp_path: Path) -> None:
    weights = {"a": "model-2.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weights}))
    names = [path.name for path in checkpoint_files(tmp_path)]
    assert names == [
        "config.json",
        "model.safetensors.index.json",
        "model-1.safetensors",
        "model-2.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


@pytest.mark.parametrize(
    ("name", "text", "same", "other"),
    [
        ("phrases.txt", "wait\nhold on\n", "# why\nwait\n\nhold on # for now\n", "wait\nhold it\n"),
        ("rubric.yaml", "a: 1\nb: x # why\n", "# more\nb: x\na: 1\n", "a: 1\nb: y\n"),
        ("words.csv", "topic,word\n", "topic,word\n", "topic,word\n# no comment here\n"),
    ],
)
def test_a_file_is_identified_by_its_contents(
    tmp_path: Path, name: str, text: str, same: str, other: str
) -> None:
    def digest(content: str) -> str:
        content_digest.cache_clear()
        (tmp_path / name).write_text(content)
        return content_digest(tmp_path / name)

    assert digest(text) == digest(same)
    assert digest(text) != digest(other)


def test_a_file_that_is_no_yaml_is_known_by_its_bytes(tmp_path: Path) -> None:
    broken = tmp_path / "rubric.yaml"
    broken.write_text("quotes: [whole\n")
    assert content_digest(broken) == file_digest(broken)


def test_a_local_model_is_described_with_the_checksums_of_what_decides_its_words(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TEXT))
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "optimizer.pt").write_bytes(b"of no consequence")
    manifest = describe_local_model(tmp_path)
    assert manifest["source"] == tmp_path.as_posix()
    assert list(manifest["files"]) == [
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert manifest["files"]["model.safetensors"].startswith("ba7816bf")
    assert (manifest["n_layers"], manifest["d_model"]) == (26, 1152)
    (tmp_path / "model.safetensors").write_bytes(b"abd")
    assert describe_local_model(tmp_path) != manifest


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_local_model_that_brings_its_own_code_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TEXT))
    (tmp_path / name).write_text(json.dumps(TEXT | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(EsrError, match=rf"{name}: `auto_map` would run Python files"):
        describe_local_model(tmp_path)


def test_a_hub_model_is_described_with_the_checksums_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TEXT))
    siblings = [
        SimpleNamespace(rfilename="config.json", lfs=None, blob_id="b10b"),
        SimpleNamespace(
            rfilename="model.safetensors", lfs=SimpleNamespace(sha256="5a5a"), blob_id="x"
        ),
    ]

    def model_info(self: Any, repository: str, revision: str, files_metadata: bool) -> Any:
        return SimpleNamespace(sha=revision, siblings=siblings)

    def snapshot_download(repository: str, revision: str, **_: Any) -> str:
        assert (repository, revision) == ("lab/tiny", "c0ffee")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    manifest = fetch_hub_model("lab/tiny", "c0ffee")
    assert manifest["files"] == {"config.json": "b10b", "model.safetensors": "5a5a"}
    assert (manifest["source"], manifest["revision"]) == ("lab/tiny", "c0ffee")
    assert manifest["d_model"] == 1152


def test_a_hub_model_that_cannot_be_had_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EsrError) as caught:
        fetch_hub_model("lab/no-such-model", "c0ffee")
    for text in ("lab/no-such-model", "c0ffee", "cannot be reached", "snakemake downloads"):
        assert text in str(caught.value)
    assert "terms" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "named"),
    [
        (401, "accept the terms of the model at https://huggingface.co/lab/tiny and set HF_TOKEN"),
        (403, "accept the terms"),
        (404, "no such repository or revision"),
        (429, "too many requests (HTTP 429); wait"),
        (503, "the hub failed (HTTP 503)"),
    ],
)
def test_what_the_hub_answered_is_named_with_its_own_remedy(
    monkeypatch: pytest.MonkeyPatch, status: int, named: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        response = httpx.Response(status, request=httpx.Request("GET", "https://hub"))
        raise errors.HfHubHTTPError("no", response=response)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(EsrError) as caught:
        fetch_hub_model("lab/tiny", "c0ffee")
    assert named in str(caught.value)
    assert ("terms" in str(caught.value)) == (status in (401, 403))


class TestOfflineCache:
    """A hub's cache that was copied to a machine without a network."""

    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    @pytest.fixture
    def snapshot(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        repository = tmp_path / "models--lab--twin"
        folder = repository / "snapshots" / self.COMMIT
        shutil.copytree(REPO / "resources/organisms/twin/model", folder)
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text(self.COMMIT)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        return folder

    def test_a_complete_copy_is_enough(self, snapshot: Path) -> None:
        manifest = fetch_hub_model("lab/twin", self.COMMIT)
        assert (manifest["source"], manifest["revision"]) == ("lab/twin", self.COMMIT)
        weights = snapshot / "model.safetensors"
        assert manifest["files"]["model.safetensors"] == file_digest(weights)

    def test_links_give_the_checksums_of_the_hub(self, snapshot: Path) -> None:
        blob = snapshot.parents[1] / "blobs/5a5a"
        blob.parent.mkdir()
        (snapshot / "model.safetensors").rename(blob)
        (snapshot / "model.safetensors").symlink_to(blob)
        assert fetch_hub_model("lab/twin", self.COMMIT)["files"]["model.safetensors"] == "5a5a"

    def test_it_is_read_at_once_where_the_hub_cannot_be_reached(
        self, snapshot: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")

        def repeated(seconds: float) -> None:
            raise AssertionError(f"the hub's library waits for {seconds} s to try again")

        monkeypatch.setattr(time, "sleep", repeated)
        go_offline_without_network()
        fetch_hub_model("lab/twin", self.COMMIT)
        AutoTokenizer.from_pretrained("lab/twin", revision=self.COMMIT)
        with pytest.raises(EsrError, match="not complete in the hub's cache, and the hub cannot"):
            check_repository("source", "lab/other", "revision", self.COMMIT)
        assert "http://127.0.0.1:9 cannot be reached" in caplog.text

    @pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "no proxy at all"])
    def test_it_is_read_behind_a_proxy_that_is_of_no_use(
        self, snapshot: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
    ) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("ALL_PROXY", proxy)
        huggingface_hub.close_session()
        go_offline_without_network()
        huggingface_hub.close_session()
        try:
            assert fetch_hub_model("lab/twin", self.COMMIT)["source"] == "lab/twin"
        finally:
            huggingface_hub.close_session()  # it would go on through the proxy

    def test_a_copy_that_lacks_a_file_is_not(self, snapshot: Path) -> None:
        (snapshot / "model.safetensors").unlink()
        with pytest.raises(EsrError, match="not complete in the hub's cache, and the hub cannot"):
            fetch_hub_model("lab/twin", self.COMMIT)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (SaeConfig(path=Path("no/sae")), "SAE no/sae: .*no/sae/cfg.json"),
        (SaeConfig(release="r", id="layer_1"), "SAE r / layer_1: Release r not found"),
    ],
)
def test_an_sae_that_cannot_be_had_is_named(source: SaeConfig, message: str) -> None:
    with pytest.raises(EsrError, match=message):
        load_saelens(source)


class TestCommitOfAnSae:
    """With a hub's cache that has two commits of a repository, of which `main` is the second."""

    FIRST, SECOND = "1" * 40, "2" * 40
    SOURCE = SaeConfig(release="lab/saes", id="layer_1")

    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shipped = REPO / "resources/organisms/planted/sae"
        repository = tmp_path / "models--lab--saes"
        for scale, commit in enumerate((self.FIRST, self.SECOND), start=1):
            folder = repository / "snapshots" / commit / "layer_1"
            folder.mkdir(parents=True)
            (folder / "cfg.json").write_bytes((shipped / "cfg.json").read_bytes())
            weights = load_file(shipped / "sae_weights.safetensors")
            weights["W_dec"] = weights["W_dec"] * np.float32(scale)
            save_file(weights, folder / "sae_weights.safetensors")
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text(self.SECOND)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def test_the_configured_commit_is_loaded_and_recorded(self) -> None:
        newest, origin = load_saelens(self.SOURCE)
        first, pinned = load_saelens(self.SOURCE.model_copy(update={"revision": self.FIRST}))
        assert newest.W_dec.allclose(2 * first.W_dec)
        assert (origin["repository"], origin["commit"]) == ("lab/saes", self.SECOND)
        assert (pinned["repository"], pinned["commit"]) == ("lab/saes", self.FIRST)
        cfg, weights = "layer_1/cfg.json", "layer_1/sae_weights.safetensors"
        assert pinned["files"].keys() == origin["files"].keys() == {cfg, weights}
        assert pinned["files"][cfg] == file_digest(
            REPO / "resources/organisms/planted/sae/cfg.json"
        )
        assert pinned["files"][weights] != origin["files"][weights]

    def test_a_commit_that_cannot_be_had_is_named(self) -> None:
        source = self.SOURCE.model_copy(update={"revision": "3" * 40})
        with pytest.raises(EsrError, match=r"SAE lab/saes / layer_1 at revision 333.*: "):
            load_saelens(source)
        assert load_saelens(self.SOURCE)[1]["commit"] == self.SECOND  # nothing is left pinned


def test_the_size_of_an_sae_is_read_from_its_header(tmp_path: Path) -> None:
    save_file({"W_dec": np.zeros((16, 8), np.float32)}, tmp_path / "sae.safetensors")
    assert sae_size(tmp_path / "sae.safetensors") == 16
