"""What was paid for goes into one file and comes back out of it."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from esr.bundle import __main__ as bundle
from esr.bundle.archive import write_bundle
from esr.bundle.unpack import import_bundle, read_manifest
from esr.errors import EsrError

ORIGIN = {"study": "tiny", "git": "abc"}


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle of two files, made in a folder of its own."""
    here = tmp_path / "made"
    for name, text in {"plan.parquet": "a plan", "journals/x.jsonl": "{}\n"}.items():
        path = here / "results/tiny" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(here)
    files = sorted(path for path in Path("results").rglob("*") if path.is_file())
    write_bundle(Path("bundle.tar.gz"), files, ORIGIN)
    return here / "bundle.tar.gz"


def fresh(tmp_path: Path) -> Path:
    folder = tmp_path / "fresh"
    folder.mkdir()
    return folder


def test_what_goes_in_comes_out(packed: Path, tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    files = import_bundle(packed, folder)
    assert [file.as_posix() for file in files] == [
        "results/tiny/journals/x.jsonl",
        "results/tiny/plan.parquet",
    ]
    assert (folder / "results/tiny/plan.parquet").read_text() == "a plan"
    assert len({(folder / file).stat().st_mtime for file in files}) == 1
    assert read_manifest(packed).esr.model_dump() == ORIGIN


def test_equal_contents_give_equal_bytes(packed: Path) -> None:
    before = packed.read_bytes()
    files = [path for path in Path("results").rglob("*") if path.is_file()]
    for path in files:
        path.touch()
    write_bundle(packed, reversed(files), ORIGIN)
    assert packed.read_bytes() == before


def test_a_file_that_differs_is_overwritten_only_with_replace(packed: Path, tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    import_bundle(packed, folder)
    import_bundle(packed, folder)  # the same once more does no harm
    mine = folder / "results/tiny/plan.parquet"
    mine.write_text("another plan")
    with pytest.raises(EsrError, match=r"plan.parquet exists and differs"):
        import_bundle(packed, folder)
    assert mine.read_text() == "another plan"
    import_bundle(packed, folder, replace=True)
    assert mine.read_text() == "a plan"


def repack(
    path: Path, change: dict[str, bytes | None], rename: dict[str, str] | None = None
) -> None:
    """Replace, remove (None) or rename members of a bundle, behind the manifest's back."""
    with tarfile.open(path, "r:gz") as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar}  # pyrefly: ignore[missing-attribute]
    members = {(rename or {}).get(name, name): text for name, text in members.items()}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in (members | change).items():
            if text is not None:
                member = tarfile.TarInfo(name)
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text))
    path.write_bytes(gzip.compress(out.getvalue()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"results/tiny/plan.parquet": b"a flan"}, "plan.parquet is damaged"),
        ({"results/tiny/plan.parquet": None}, "plan.parquet is missing"),
        ({"results/tiny/more.parquet": b"?"}, "more.parquet' is not in its manifest"),
        ({"manifest.json": b"{}"}, "format None"),
    ],
)
def test_a_damaged_bundle_leaves_nothing_behind(
    packed: Path, tmp_path: Path, change: dict[str, bytes | None], message: str
) -> None:
    repack(packed, change)
    folder = fresh(tmp_path)
    with pytest.raises(EsrError, match=message):
        import_bundle(packed, folder)
    assert list(folder.rglob("*")) == []


def test_a_bundle_cut_short_is_refused(packed: Path, tmp_path: Path) -> None:
    packed.write_bytes(packed.read_bytes()[:-40])
    folder = fresh(tmp_path)
    with pytest.raises(EsrError, match=r"bundle\.tar\.gz: "):
        import_bundle(packed, folder)
    assert list(folder.rglob("*")) == []


@pytest.mark.parametrize(
    "name", ["/etc/evil", "results/../../evil", "results/tiny/../x.csv", "a.csv"]
)
def test_nothing_is_written_outside_results(packed: Path, tmp_path: Path, name: str) -> None:
    announce(packed, {name: b"!"})
    refused(packed, tmp_path, r"is not below results/tiny/")


def announce(packed: Path, files: dict[str, bytes]) -> None:
    """Add files to a bundle, with their checksums in the manifest."""
    manifest = read_manifest(packed).model_dump()
    for name, text in files.items():
        digest = hashlib.sha256(text).hexdigest()
        manifest["files"][name] = {"sha256": digest, "bytes": len(text)}
    repack(packed, {"manifest.json": json.dumps(manifest).encode(), **files})


def refused(packed: Path, tmp_path: Path, message: str) -> None:
    """The import stops with one line and leaves the checkout as it was."""
    folder = fresh(tmp_path)
    with pytest.raises(EsrError, match=message) as caught:
        import_bundle(packed, folder)
    assert "\n" not in str(caught.value)
    assert list(folder.rglob("*")) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("model/modeling_evil.py", b"import os", "is no data file"),
        ("model/pytorch_model.bin", b"pickle", "is no data file"),
        ("model/chat_template.jinja", b"{{ x }}", "is no data file"),
        ("config.json", b'{"auto_map": {"AutoModel": "evil.Model"}}', "has `auto_map`"),
        ("a.json", b'{"x": [{"trust_remote_code": true}]}', "has `trust_remote_code`"),
        ("adapter_config.json", b'{"auto_mapping": {"base": "x"}}', "has `auto_mapping`"),
        ("broken.json", b"[" * 100_000, "is not valid JSON"),
    ],
)
def test_files_that_could_run_code_are_refused(
    packed: Path, tmp_path: Path, name: str, text: bytes, message: str
) -> None:
    announce(packed, {f"results/tiny/{name}": text})
    refused(packed, tmp_path, message)


def test_configuration_is_not_imported(packed: Path, tmp_path: Path) -> None:
    name = "results/tiny/m/finetuning/axolotl.yaml"
    announce(packed, {name: b"trust_remote_code: true"})
    folder = fresh(tmp_path)
    assert Path(name) not in import_bundle(packed, folder)
    assert not (folder / name).exists()


FACTS = {"sha256": "0" * 64, "bytes": 1}


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ([], "not a bundle"),
        ({"format": 1, "esr": ORIGIN}, "files: Field required"),
        ({"format": 1, "esr": {"git": "x"}, "files": {}}, "esr.study: Field required"),
        ({"format": 1, "esr": ORIGIN | {"study": "../x"}, "files": {}}, "esr.study"),
        ({"format": 1, "esr": ORIGIN, "files": {"results/tiny/a.csv": {}}}, "sha256: Field"),
        ({"format": 1, "esr": ORIGIN, "files": {"results/tiny/a.csv": FACTS | {"bytes": -1}}}, "0"),
        ({"format": 1, "esr": ORIGIN, "files": {"results/tiny/./a.csv": FACTS}}, "is not below"),
        ({"format": 1, "esr": ORIGIN, "files": {"results/other/a.csv": FACTS}}, "is not below"),
    ],
)
def test_every_wrong_manifest_is_one_line(
    packed: Path, tmp_path: Path, manifest: object, message: str
) -> None:
    repack(packed, {"manifest.json": json.dumps(manifest).encode()})
    refused(packed, tmp_path, message)


def test_a_deeply_nested_manifest_is_one_line(packed: Path, tmp_path: Path) -> None:
    repack(packed, {"manifest.json": b"[" * 200_000})
    refused(packed, tmp_path, "not valid JSON")


def test_a_flipped_byte_is_one_line(packed: Path, tmp_path: Path) -> None:
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 0xFF
    packed.write_bytes(bytes(content))
    refused(packed, tmp_path, "bundle.tar.gz")


def test_a_file_larger_than_announced_is_refused_before_it_is_unpacked(
    packed: Path, tmp_path: Path
) -> None:
    repack(packed, {"results/tiny/plan.parquet": bytes(10**8)})
    refused(packed, tmp_path, "its size differs|more than its manifest lists")


def test_a_bundle_larger_than_the_disk_is_refused(packed: Path, tmp_path: Path) -> None:
    manifest = read_manifest(packed).model_dump()
    manifest["files"]["results/tiny/plan.parquet"]["bytes"] = 10**18
    repack(packed, {"manifest.json": json.dumps(manifest).encode()})
    refused(packed, tmp_path, "GB free; make room first")


def test_a_file_that_is_no_bundle_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("no bundle")
    (tmp_path / "Snakefile").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"notes\.txt: not a bundle"):
        bundle.main(["import", "notes.txt"])
