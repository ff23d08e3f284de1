"""esr.journal: nothing that was paid for is lost, nothing is written that cannot be read."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from esr.errors import EsrError
from esr.journal import Journal, content_key, read_journal

RECORDS = [{"key": f"k{i}", "tokens": [i, i + 1], "text": "naïve\r\nline"} for i in range(3)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "journal.jsonl"


@pytest.fixture
def written(path: Path) -> Path:
    with Journal(path) as journal:
        journal.append(RECORDS)
    return path


class TestContentKey:
    def test_golden_value(self) -> None:
        content = {"tokens": (2, 5), "seed": 44, "boost": 1.5, "latent": None, "text": "é"}
        assert content_key(content) == "3c661ce3e5a42ebc80d26980f4ec370c"

    def test_order_of_keys_and_kind_of_sequence_do_not_matter(self) -> None:
        assert content_key({"a": [1, 2], "b": 3}) == content_key({"b": 3, "a": (1, 2)})

    @pytest.mark.parametrize("other", [{"a": 2}, {"a": "1"}, {"b": 1}, {"a": 1, "b": None}, {}])
    def test_other_content_has_another_key(self, other: dict) -> None:
        assert content_key(other) != content_key({"a": 1})

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_what_is_no_number_has_no_key(self, value: float) -> None:
        with pytest.raises(ValueError, match="not JSON compliant"):
            content_key({"boost": value})


class TestAppending:
    def test_records_stand_after_reopening(self, written: Path) -> None:
        with Journal(written) as journal:
            assert [journal[f"k{i}"] for i in range(3)] == RECORDS
            assert len(journal) == 3
            assert "k3" not in journal

    def test_records_are_on_disk_as_soon_as_append_returns(self, path: Path) -> None:
        journal = Journal(path)
        for number, record in enumerate(RECORDS, start=1):
            journal.append([record])
            assert path.read_bytes().count(b"\n") == number
        journal.close()
        assert [json.loads(line) for line in path.read_text().splitlines()] == RECORDS

    def test_appending_again_changes_nothing(self, written: Path) -> None:
        before = written.read_bytes()
        with Journal(written) as journal:
            journal.append(RECORDS)
            journal.append([])
        assert written.read_bytes() == before

    def test_the_first_record_of_a_key_stands(self, path: Path) -> None:
        first, second = {"key": "a", "n": 1}, {"key": "a", "n": 2}
        with Journal(path) as journal:
            journal.append([first, second])
            journal.append([second])
            assert journal["a"] == first
        assert path.read_text() == '{"key": "a", "n": 1}\n'
        path.write_text('{"key": "a", "n": 1}\n{"key": "a", "n": 2}\n')  # of two writers
        with Journal(path) as journal:
            assert journal["a"] == first

    def test_a_record_is_the_same_before_and_after_a_restart(self, path: Path) -> None:
        with Journal(path) as journal:
            journal.append([{"key": "a", "tokens": (1, 2), "by": {3: None}}])
            before = journal["a"]
        with Journal(path) as journal:
            assert journal["a"] == before

    def test_nan_is_refused_and_with_it_all_of_the_append(self, written: Path) -> None:
        before = written.read_bytes()
        with Journal(written) as journal:
            with pytest.raises(ValueError, match="not JSON compliant"):
                journal.append([{"key": "good"}, {"key": "bad", "score": float("nan")}])
            assert "good" not in journal
        assert written.read_bytes() == before


class TestKills:
    def test_a_kill_within_a_line_loses_that_line_only(
        self, written: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        whole = written.read_bytes()
        ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
        for cut in range(len(whole)):
            caplog.clear()
            written.write_bytes(whole[:cut])
            with Journal(written) as journal:
                assert len(journal) == sum(end <= cut for end in ends)
                assert ("cut short" in caplog.text) == (cut not in {0, *ends})
                journal.append(RECORDS)
            assert written.read_bytes() == whole

    @pytest.mark.parametrize(
        "damage",
        [
            b"{not json}\n",
            b"\n",
            b'{"id": 1}\n',
            b'"k1"\n',
            b"7\n",
            b"\xff\xfe\n",
            b"a\rb\n",
            b"[" * 100_000 + b"\n",
        ],
    )
    @pytest.mark.parametrize("after", [b'{"key": "k9"}\n', b'{"key": "k9'])
    def test_a_damaged_whole_line_is_an_error_and_nothing_is_touched(
        self, written: Path, damage: bytes, after: bytes
    ) -> None:
        damaged = written.read_bytes() + damage + after
        written.write_bytes(damaged)
        with pytest.raises(EsrError, match=r"journal\.jsonl, line 4: .*by hand"):
            Journal(written)
        assert written.read_bytes() == damaged


HOLDER = """
import sys, time
from pathlib import Path
from esr.journal import Journal
with Journal(Path(sys.argv[1])) as journal:
    journal.append([{"key": "mine"}])
    print("open", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds a journal open."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


class TestTwoWriters:
    def test_a_second_writer_is_refused_with_the_first_ones_process(
        self, path: Path, holder: "subprocess.Popen[str]"
    ) -> None:
        before = path.read_bytes()
        with pytest.raises(
            EsrError, match=rf"journal\.jsonl: process {holder.pid} on .*writing it"
        ):
            Journal(path)
        assert path.read_bytes() == before

    def test_reading_needs_no_lock_and_never_writes(
        self, path: Path, holder: "subprocess.Popen[str]"
    ) -> None:
        with path.open("ab") as file:
            file.write(b'{"key": "half')
        before = path.read_bytes()
        assert list(read_journal(path)) == ["mine"]
        assert path.read_bytes() == before

    def test_a_killed_process_frees_the_lock(
        self, path: Path, holder: "subprocess.Popen[str]"
    ) -> None:
        holder.kill()
        holder.wait()
        with Journal(path) as journal:
            journal.append([{"key": "next"}])
        assert list(read_journal(path)) == ["mine", "next"]
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_a_reopened_journal_has_what_others_wrote_in_between(self, written: Path) -> None:
        journal = Journal(written)
        journal.close()
        with Journal(written) as other:
            other.append([{"key": "theirs"}])
        journal.reopen()
        assert "theirs" in journal
        journal.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB, where this machine lets one be made; elsewhere the test skips."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root alone, and not in every container")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


LARGE = [{"key": f"k{i}", "text": "x" * 3000} for i in range(40)]


class TestFullDisk:
    def test_what_stood_stands_and_it_goes_on_once_there_is_room(self, small_disk: Path) -> None:
        filler = small_disk / "filler"
        filler.write_bytes(bytes(40_000))
        journal = Journal(small_disk / "journal.jsonl")
        journal.append(LARGE[:2])
        before = journal.path.read_bytes()
        with pytest.raises(
            EsrError, match=r"journal\.jsonl could not .* No space left .*Make room"
        ):
            journal.append(LARGE[2:20])
        assert journal.path.read_bytes() == before
        assert "k2" not in journal
        filler.unlink()
        journal.append(LARGE[2:12])
        journal.close()
        with Journal(journal.path) as again:
            assert list(again) == [f"k{i}" for i in range(12)]

    def test_a_limit_that_cuts_a_record_in_half_leaves_whole_ones(self, path: Path) -> None:
        code = (
            "import json, sys; from pathlib import Path; from esr.journal import Journal\n"
            "journal = Journal(Path(sys.argv[1]))\n"
            "for record in json.loads(sys.argv[2]): journal.append([record])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), json.dumps(LARGE)],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "journal.jsonl could not be written: [Errno 27] File too large" in done.stderr
        assert [json.loads(line) for line in path.read_text().splitlines()] == LARGE[:3]
