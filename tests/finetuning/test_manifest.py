"""The manifest of a fine-tuned model."""

import json
from pathlib import Path

from esr.assets.checkpoints import describe_finetuned_model
from esr.provenance import file_digest


def test_the_manifest_names_the_origin_of_a_model(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (adapter / name).write_text(json.dumps({"name": name}))
    for name in ("dataset.jsonl", "axolotl.yaml"):
        (tmp_path / name).write_text(name)
    base = {"source": "lab/base", "revision": "abc", "files": {"w": "1"}, "n_layers": 2, "esr": {}}
    found = describe_finetuned_model(tmp_path, base, merged=False)
    digest = file_digest(adapter / "adapter_model.safetensors")
    # The adapter is among the files, so that no journal takes one model's words for another's.
    assert found["files"] == {
        "w": "1",
        "adapter/adapter_config.json": file_digest(adapter / "adapter_config.json"),
        "adapter/adapter_model.safetensors": digest,
    }
    assert (found["source"], found["revision"]) == ("lab/base", "abc")
    assert found["adapter"] == adapter.as_posix()
    assert found["finetuning"]["adapter"]["adapter_model.safetensors"] == digest
    assert "esr" not in found
