"""Uploads: what arrives at the Hub and at Zenodo, what a fault leaves, and that no token leaks."""

import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from typer.testing import CliRunner

from esr.bundle.unpack import import_bundle
from esr.deposit import zenodo
from esr.deposit.build import write_deposit
from esr.deposit.hub import repositories, upload_to_hub
from esr.deposit.upload import deposit_of
from esr.deposit.zenodo import upload_to_zenodo, zip_crate
from esr.errors import EsrError
from esr.interactive.cli import app
from helpers.deposits import ADAPTED, small_study
from helpers.fake_archives import TOKEN, FakeHub, FakeZenodo

DATASET = "datasets/ann/esr-organism"
ADAPTER = "ann/esr-organism-twin-sc30"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a deposit."""
    root = tmp_path_factory.mktemp("project")
    config, sources, results = small_study(root)
    with chdir(root):
        write_deposit(results / "deposit", config, sources, results)
    return root


@pytest.fixture
def deposit(written: Path, tmp_path: Path) -> Path:
    """A copy of the deposit, in a folder where uploads may leave their record."""
    shutil.copytree(written / "results/organism/deposit", tmp_path / "organism/deposit")
    return tmp_path / "organism/deposit"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with FakeHub() as server:
        yield server


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeZenodo]:
    monkeypatch.setenv("ZENODO_TOKEN", TOKEN)
    with FakeZenodo() as server:
        yield server


# The Hub


def test_the_hub_gets_a_dataset_and_a_model_an_adapter(deposit: Path, hub: FakeHub) -> None:
    addresses = upload_to_hub(deposit, "organism", "ann", address=hub.url)
    assert set(hub.repositories) == {DATASET, ADAPTER}
    assert [address.split("/", 3)[3] for address in addresses] == [DATASET, ADAPTER]
    assert hub.private == {DATASET: True, ADAPTER: True}
    for name, folder in ((DATASET, "dataset"), (ADAPTER, f"adapters/{ADAPTED}")):
        local = deposit / folder
        sent = {p.relative_to(local).as_posix(): p.read_bytes() for p in local.rglob("*.*")}
        assert hub.repositories[name] == {k: v for k, v in sent.items() if v}


def test_a_second_call_sends_no_file_again(deposit: Path, hub: FakeHub) -> None:
    upload_to_hub(deposit, "organism", "ann", address=hub.url)
    before = hub.count("PUT /lfs/")
    assert before > 3
    upload_to_hub(deposit, "organism", "ann", address=hub.url)
    assert hub.count("PUT /lfs/") == before


def test_files_that_a_new_deposit_lacks_leave_the_hub_in_the_same_commit(
    deposit: Path, hub: FakeHub
) -> None:
    upload_to_hub(deposit, "organism", "ann", address=hub.url)
    hub.repositories[DATASET][".gitattributes"] = b"of the Hub"
    hub.repositories[ADAPTER][".gitattributes"] = b"of the Hub"
    (deposit / "dataset/data/scores.parquet").unlink()
    commits = hub.count("commit/main")
    upload_to_hub(deposit, "organism", "ann", address=hub.url)
    assert hub.count("commit/main") <= commits + 2, "one a repository"
    for name, folder in ((DATASET, "dataset"), (ADAPTER, f"adapters/{ADAPTED}")):
        local = {p.relative_to(deposit / folder) for p in (deposit / folder).rglob("*.*")}
        left = {Path(path) for path in hub.repositories[name]}
        assert left - {Path(".gitattributes")} <= local
        assert Path(".gitattributes") in left, "the Hub's own"
    assert "README.md" in hub.repositories[DATASET]


def test_repositories_are_public_only_on_request(deposit: Path, hub: FakeHub) -> None:
    upload_to_hub(deposit, "organism", "ann", public=True, address=hub.url)
    assert not any(hub.private.values())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (("repos/create", 401), "does not accept the token in HF_TOKEN"),
        (("repos/create", 403), "make one with write access to this owner"),
        (("commit/main", 413), "has no room for a file of this size"),
        (("/lfs/", 507), "use --to zenodo"),
        (("preupload", 404), "the upload did not end"),
    ],
)
def test_a_refusal_of_the_hub_has_its_remedy(
    deposit: Path, hub: FakeHub, fault: tuple[str, int], message: str
) -> None:
    hub.faults = [fault] * 9  # its library tries again
    with pytest.raises(EsrError, match=message) as caught:
        upload_to_hub(deposit, "organism", "ann", address=hub.url)
    assert TOKEN not in str(caught.value)
    hub.faults = []
    upload_to_hub(deposit, "organism", "ann", address=hub.url)
    assert hub.repositories[DATASET]["README.md"] == (deposit / "dataset/README.md").read_bytes()


def test_a_connection_that_breaks_is_an_upload_to_run_again(deposit: Path, hub: FakeHub) -> None:
    hub.faults = [("commit/main", "drop")] * 9
    with pytest.raises(EsrError, match="what has arrived is not sent once more"):
        upload_to_hub(deposit, "organism", "ann", address=hub.url)
    before, hub.faults = hub.count("PUT /lfs/"), []
    upload_to_hub(deposit, "organism", "ann", address=hub.url)
    adapter = 1
    assert hub.count("PUT /lfs/") == before + adapter


def test_names_of_repositories_are_valid(deposit: Path) -> None:
    names = [one.name for one in repositories(deposit, "organism", "ann")]
    assert names == ["ann/esr-organism", ADAPTER]
    with pytest.raises(EsrError, match="give the name of a user or an organisation"):
        repositories(deposit, "organism", "ann/esr")


# Zenodo


def test_zenodo_gets_a_draft_with_the_crate(
    deposit: Path, archive: FakeZenodo, tmp_path: Path
) -> None:
    address = upload_to_zenodo(deposit, "organism", archive.url)
    assert address == f"{archive.url}/deposit/100"
    draft = archive.depositions[100]
    assert not draft["submitted"]
    assert draft["metadata"]["creators"] == [{"name": "The esr contributors"}]
    assert draft["metadata"]["upload_type"] == "dataset"
    (name,) = draft["files"]
    (tmp_path / name).write_bytes(draft["files"][name])
    with zipfile.ZipFile(tmp_path / name) as file:
        assert {"ro-crate-metadata.json", "bundle.tar.gz", "Snakefile"} <= set(file.namelist())
        file.extract("bundle.tar.gz", tmp_path)
    assert import_bundle(tmp_path / "bundle.tar.gz", tmp_path)


def test_a_second_call_continues_with_the_draft(deposit: Path, archive: FakeZenodo) -> None:
    first = upload_to_zenodo(deposit, "organism", archive.url)
    assert upload_to_zenodo(deposit, "organism", archive.url) == first
    assert archive.count("PUT /api/files/") == 1
    archive.depositions[100]["submitted"] = True
    assert upload_to_zenodo(deposit, "organism", archive.url).endswith("/101")
    assert upload_to_zenodo(deposit, "organism", archive.url).endswith("/101")


@pytest.mark.parametrize("status", [404, 410])
def test_a_draft_that_was_deleted_is_made_again(
    deposit: Path, archive: FakeZenodo, status: int
) -> None:
    upload_to_zenodo(deposit, "organism", archive.url)
    archive.faults = [("/api/deposit/depositions/100", status)]
    assert upload_to_zenodo(deposit, "organism", archive.url).endswith("/101")


def test_a_damaged_record_of_the_draft_is_named(deposit: Path, archive: FakeZenodo) -> None:
    record = deposit.parent / "zenodo.json"
    record.write_text('{"address": ')
    with pytest.raises(EsrError, match=r"zenodo\.json: damaged; remove it"):
        upload_to_zenodo(deposit, "organism", archive.url)


def test_a_file_is_sent_again_when_the_connection_breaks(
    deposit: Path, archive: FakeZenodo
) -> None:
    archive.faults = [("/api/files/", "drop")]
    upload_to_zenodo(deposit, "organism", archive.url, pause=0)
    assert archive.count("PUT /api/files/") == 2
    assert archive.depositions[100]["files"]


def test_a_connection_that_stays_broken_leaves_a_draft_to_continue(
    deposit: Path, archive: FakeZenodo
) -> None:
    archive.faults = [("/api/files/", "drop")] * zenodo.TRIES
    with pytest.raises(EsrError, match="Run the same command again"):
        upload_to_zenodo(deposit, "organism", archive.url, pause=0)
    assert upload_to_zenodo(deposit, "organism", archive.url).endswith("/100")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (("depositions", 401), "does not accept the token in ZENODO_TOKEN"),
        (("/api/files/", 413), r"has no room for esr-organism-crate.zip .*a record holds 50 GB"),
        (("/api/files/", 500), "replied with HTTP 500"),
    ],
)
def test_a_refusal_of_zenodo_has_its_remedy(
    deposit: Path, archive: FakeZenodo, fault: tuple[str, int], message: str
) -> None:
    archive.faults = [fault]
    with pytest.raises(EsrError, match=message) as caught:
        upload_to_zenodo(deposit, "organism", archive.url)
    assert TOKEN not in str(caught.value)
    assert upload_to_zenodo(deposit, "organism", archive.url)


def test_a_token_goes_to_no_other_host_and_over_no_plain_connection(
    deposit: Path, archive: FakeZenodo
) -> None:
    archive.bucket_host = "http://localhost:1"
    with pytest.raises(EsrError, match="bucket on another host"):
        upload_to_zenodo(deposit, "organism", archive.url)
    with pytest.raises(EsrError, match="over https alone"):
        upload_to_zenodo(deposit, "organism", "http://zenodo.example")


def test_a_server_that_is_no_zenodo_is_named(
    deposit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZENODO_TOKEN", TOKEN)
    with FakeHub() as server, pytest.raises(EsrError, match="HTTP 404"):
        upload_to_zenodo(deposit, "organism", server.url)


def test_a_full_disk_is_named_and_leaves_nothing(
    deposit: Path, archive: FakeZenodo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "open", full)
    with pytest.raises(EsrError, match=r"could not be written.*Free now"):
        upload_to_zenodo(deposit, "organism", archive.url)
    assert not list(deposit.parent.glob("*.zip*"))
    assert archive.requests == []


def test_equal_crates_give_equal_archives(deposit: Path, tmp_path: Path) -> None:
    zip_crate(deposit / "crate", tmp_path / "a.zip")
    for path in (deposit / "crate").rglob("*"):
        path.touch()
    zip_crate(deposit / "crate", tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


# The command


def test_the_command_sends_and_prints_addresses_alone(written: Path, archive: FakeZenodo) -> None:
    call = ["upload", "--to", "zenodo", "--address", archive.url, "--project", str(written)]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{archive.url}/deposit/100\n"
    assert TOKEN not in done.output
    kept = json.loads((written / "results/organism/zenodo.json").read_text())
    assert kept == {"address": archive.url, "id": 100}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "hub"], "--owner is missing"),
        (["--to", "zenodo", "--owner", "ann"], "belong to --to hub"),
        (["--to", "figshare"], "give `hub` or `zenodo`"),
        (["--to", "zenodo"], "ZENODO_TOKEN is not set"),
        (["--to", "hub", "--owner", "ann"], "HF_TOKEN is not set"),
        (
            ["--to", "hub", "--study", "paper", "--owner", "ann"],
            "uv run snakemake --config study=paper -- deposit",
        ),
    ],
)
def test_what_is_missing_is_named_before_anything_is_sent(
    written: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZENODO_TOKEN", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    done = CliRunner().invoke(app, ["upload", *arguments, "--project", str(written)])
    assert done.exit_code == 1
    assert message in done.output, "on one line, so that a command can be copied"


def test_the_deposit_is_found_in_another_folder(written: Path) -> None:
    assert deposit_of("organism", written) == written / "results/organism/deposit"
