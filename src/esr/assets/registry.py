"""SAELens' list of releases, read from its file: importing the library takes many seconds."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from esr.plain_yaml import load_yaml


@cache
def sae_releases() -> dict[str, Any]:
    """Releases by name, each with `model`, `repo_id` and its `saes`."""
    package = find_spec("sae_lens")
    assert package is not None
    assert package.origin is not None
    text = (Path(package.origin).parent / "pretrained_saes.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = load_yaml(text)
    return found


def listed_sae(release: str, id_: str) -> dict[str, Any]:
    """Facts about an SAE in the list: its entry and the `model` of its release; else nothing."""
    of_release = sae_releases().get(release, {})
    entries = [entry for entry in of_release.get("saes", ()) if entry["id"] == id_]
    return {"model": of_release.get("model"), **entries[0]} if entries else {}
