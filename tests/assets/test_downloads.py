"""Labels and prompts from public addresses: what is kept, and what is refused. No network."""

import gzip
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

from esr.arms.prompts import read_prompts
from esr.assets import downloads
from esr.assets.downloads import PromptList, fetch_labels, fetch_prompts
from esr.errors import EsrError
from esr.latents.selection import read_labels

SAE = "some-model/16-some-sae-16k"
BATCH = f"{downloads.EXPORTS}/{SAE}/explanations/batch-{{}}.jsonl.gz"


def export(*labels: tuple[int, str]) -> bytes:
    """A batch of an export, with keys that are of no interest, too."""
    entries = [{"index": str(i), "description": text, "modelId": "m"} for i, text in labels]
    return gzip.compress("\n".join(map(json.dumps, entries)).encode(), mtime=0)


def web(pages: Mapping[str, bytes]) -> downloads.Fetch:
    return pages.get


def test_labels_of_all_batches_are_kept_the_last_explanation_of_a_latent(tmp_path: Path) -> None:
    batches = [export((0, "boats"), (7, "bread, or\ncakes")), export((7, " tides "), (3, " "))]
    pages = {BATCH.format(i): batch for i, batch in enumerate(batches)}
    table, origin = fetch_labels(SAE, tmp_path, web(pages))
    assert table == tmp_path / f"{SAE}.csv"
    labels = read_labels(table, 8)["label"]
    assert labels.dropna().to_dict() == {0: "boats", 7: "tides"}
    facts = json.loads(origin.read_text())
    assert facts["id"] == SAE
    assert facts["sha256"] == {p: hashlib.sha256(b).hexdigest() for p, b in pages.items()}


def test_an_id_without_labels_is_named(tmp_path: Path) -> None:
    with pytest.raises(EsrError, match=f"no explanations of {SAE}"):
        fetch_labels(SAE, tmp_path, web({}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    # gzip notes the second in which it compresses, and names of tests must not depend on it.
    [
        b"<html>",
        gzip.compress(b"{}", mtime=0),
        gzip.compress(b"[1]", mtime=0),
        export((1, "x"))[:-9],
    ],
    ids=["a page", "no list", "not lists", "cut short"],
)
def test_a_damaged_export_is_named_and_leaves_no_file(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(EsrError, match=r"batch-0.*not an export"):
        fetch_labels(SAE, tmp_path, web({BATCH.format(0): content}))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> str:
    """A list of prompts that is pinned; its address."""
    digest = hashlib.sha256(b"Explain rain.\nExplain snow.").hexdigest()
    monkeypatch.setitem(
        downloads.ORIGINAL_PROMPTS, "original", PromptList("c0ffee", "prompts.txt", digest)
    )
    return f"{downloads.REPOSITORY}/c0ffee/prompts.txt"


@pytest.mark.parametrize(
    "text", ["Explain rain.\nExplain snow.", "Explain rain.\r\nExplain snow.\n\n"]
)
def test_prompts_are_those_of_the_commit_each_a_category_of_its_own(
    tmp_path: Path, listed: str, text: str
) -> None:
    table, origin = fetch_prompts("original", tmp_path, web({listed: text.encode()}))
    prompts = read_prompts(table)
    expected = pd.DataFrame(
        {
            "prompt_id": ["original-01", "original-02"],
            "category": ["original-01", "original-02"],
            "prompt": ["Explain rain.", "Explain snow."],
        }
    )
    assert prompts.to_dict() == expected.to_dict()
    assert json.loads(origin.read_text())["address"] == listed


def test_other_prompts_than_those_of_the_commit_are_refused(tmp_path: Path, listed: str) -> None:
    with pytest.raises(EsrError, match="SHA-256 of its lines is"):
        fetch_prompts("original", tmp_path, web({listed: b"Explain fog."}))
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_node_to_run_it_on_is_named() -> None:
    with pytest.raises(EsrError, match="run `snakemake downloads` on one that has it"):
        downloads.fetch("http://127.0.0.1:9/nothing-listens-here")
