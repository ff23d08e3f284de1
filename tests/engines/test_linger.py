"""Engine processes that stay: who joins them, who ends them, and what faults leave behind."""

import os
import pickle
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from esr.directions.vectors import Directions
from esr.engines.base import EncodeRequest, Intervention, Request, Sampling, generate_all
from esr.engines.host import load_here
from esr.engines.hosts import connection as connections
from esr.engines.hosts import linger
from esr.engines.hosts.connection import HostConnection
from esr.engines.hosts.files import LONGEST, folder_for
from esr.engines.hosts.linger import CPU, Stay, evict, gpu_devices, stamps_of, stay_of
from esr.engines.loading import Load
from esr.engines.readouts import ReadoutRequest
from esr.engines.remote import RemoteEngine
from esr.errors import EsrError
from esr.orphans import Process, find_process
from helpers.echo_host import a_run, fork_host
from helpers.tiny import D_MODEL, tiny_model, tiny_sae

GPU = ("0",)


@pytest.fixture
def stay() -> Iterator[Stay]:
    """How hosts on a GPU stay for a run."""
    with a_run(*GPU) as found:
        yield found


def job(stay: Stay, touched: Path | None = None) -> HostConnection:
    """The connection of a job that needs the host of `stay`."""
    setup = SimpleNamespace(source="a model", touched=touched)
    return HostConnection(setup, fork_host, environment=Path(), version="1", stay=stay)


def work(connection: HostConnection, text: str = "a text") -> int:
    """Do a job; the number of the process that did it."""
    connection.send(("echo", text))
    reply: Any = connection.next_reply()
    assert reply.text == text
    return int(connection.facts["pid"])


def is_soon(condition: Callable[[], bool], within: float = 10) -> bool:
    until = time.monotonic() + within
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


def ends(pid: int, within: float = 10) -> bool:
    return is_soon(lambda: find_process(pid) is None, within)


def test_the_next_job_uses_the_process_of_the_one_before(stay: Stay) -> None:
    pids = []
    for number in range(3):
        with job(stay) as connection:
            pids.append(work(connection, str(number)))
            assert connection.status()["rests"] == number
    assert len(set(pids)) == 1


def test_two_jobs_at_once_never_share_a_process(stay: Stay) -> None:
    with job(stay) as one, job(stay) as other:
        first, second = work(one), work(other)
        assert first != second
        assert work(one, "again") == first
    with job(stay) as third:
        assert work(third) in {first, second}


def test_files_are_for_the_user_alone(stay: Stay) -> None:
    with job(stay) as connection:
        work(connection)
        assert stat.S_IMODE(stay.folder.stat().st_mode) == 0o700


def test_a_host_ends_at_once_with_its_snakemake(stay: Stay) -> None:
    with job(stay) as connection:
        pid = work(connection)
    os.kill(stay.snakemake.pid, signal.SIGKILL)
    assert ends(pid, within=2)
    assert is_soon(lambda: not stay.folder.exists())


def test_a_busy_host_ends_with_its_snakemake_too(stay: Stay) -> None:
    connection = job(stay)
    pid = work(connection)
    connection.send(("sleep", ""))
    os.kill(stay.snakemake.pid, signal.SIGKILL)
    assert ends(pid, within=2)
    with pytest.raises(EsrError, match="exited without an error message"):
        connection.next_reply()
    connection.close()


def test_an_idle_host_ends_after_its_time(stay: Stay) -> None:
    with job(replace(stay, seconds=0.2)) as connection:
        pid = work(connection)
        time.sleep(0.4)
        assert work(connection, "in use, it does not end") == pid
    assert ends(pid)
    assert is_soon(lambda: not stay.folder.exists())


class TestEviction:
    def test_another_model_on_the_same_gpu_ends_an_idle_host(self, stay: Stay) -> None:
        with job(stay) as connection:
            before = work(connection)
        with job(replace(stay, key="1" * 16)) as connection:
            work(connection)
            assert find_process(before) is None  # gone before the other one loads
            assert len(list(stay.folder.glob("*.host"))) == 1

    def test_a_busy_host_and_one_on_another_gpu_stay(self, stay: Stay) -> None:
        elsewhere = replace(stay, key="2" * 16, devices=("1",))
        with job(elsewhere) as connection:
            other = work(connection)
        with job(stay) as busy:
            pid = work(busy)
            with job(replace(stay, key="1" * 16)) as connection:
                work(connection)
                assert find_process(other) is not None
            assert work(busy, "not interrupted") == pid

    def test_the_judge_of_a_search_stays_for_the_next_one(
        self, stay: Stay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each search has the engine of its own model; the judge has the GPUs beside that."""
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
        judge = replace(stay, key="2" * 16, devices=gpu_devices(1, 2))
        engines, judges = [], []
        for key in "34":
            engine = replace(stay, key=key * 16, devices=gpu_devices(number=1))
            with job(engine) as generating, job(judge) as judging:
                engines.append(work(generating))
                judges.append(work(judging))
        assert judges[0] == judges[1]
        assert [find_process(pid) is not None for pid in engines] == [False, True]
        # What needs all GPUs of the allocation ends both.
        with job(replace(stay, key="5" * 16, devices=gpu_devices())) as connection:
            work(connection)
            assert [find_process(pid) for pid in (engines[1], judges[1])] == [None, None]

    def test_on_the_cpu_as_many_hosts_stay_as_there_are_cores(
        self, stay: Stay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
        pids = []
        for key in "123":
            with job(replace(stay, key=key * 16, devices=(CPU,))) as connection:
                pids.append(work(connection))
        assert [find_process(pid) is not None for pid in pids] == [False, True, True]

    def test_what_else_needs_the_gpu_ends_idle_hosts(
        self, stay: Stay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with job(stay) as connection:
            pid = work(connection)
        monkeypatch.setattr(linger, "find_run", lambda _: stay.snakemake)
        monkeypatch.setattr(linger, "folder_for", lambda _: stay.folder)
        evict(("1",))
        assert find_process(pid) is not None
        evict(("*",))
        assert find_process(pid) is None
        assert not stay.folder.exists()


class TestFaults:
    def test_a_job_killed_within_a_step_leaves_no_host_behind(
        self, stay: Stay, tmp_path: Path
    ) -> None:
        with job(stay) as connection:
            pid = work(connection)
        code = (
            "import pickle, sys; from pathlib import Path; from types import SimpleNamespace; "
            "from esr.engines.hosts.connection import HostConnection; "
            "stay = pickle.loads(sys.stdin.buffer.read()); "
            "setup = SimpleNamespace(source='a model', touched=None); "
            "one = HostConnection(setup, None, environment=Path(), version='1', stay=stay); "
            "one.send(('sleep', '')); print('sent', flush=True); one.next_reply()"
        )
        killed = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert killed.stdin is not None
        assert killed.stdout is not None
        killed.stdin.write(pickle.dumps(stay))
        killed.stdin.close()
        assert killed.stdout.readline() == b"sent\n"
        killed.kill()
        killed.wait()
        killed.stdout.close()
        assert ends(pid)
        with job(stay) as connection:
            assert work(connection) != pid

    def test_a_host_that_was_killed_is_replaced(self, stay: Stay) -> None:
        with job(stay) as connection:
            pid = work(connection)
        os.kill(pid, signal.SIGKILL)
        assert ends(pid)
        with job(stay) as connection:
            assert work(connection) != pid
            assert len(list(stay.folder.glob("*.host"))) == 1

    def test_a_host_that_hangs_is_killed_and_replaced(
        self, stay: Stay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with job(stay) as connection:
            pid = work(connection)
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(connections, "GREETING", 0.2)
        with job(stay) as connection:
            assert work(connection) != pid
        assert ends(pid)

    def test_a_host_that_never_became_ready_is_killed(self, stay: Stay) -> None:
        with job(stay) as connection:
            pid = work(connection)
        file = next(stay.folder.glob("*.host"))
        file.write_text(file.read_text().replace("true", "false"))
        with job(stay) as connection:
            assert work(connection) != pid
        assert ends(pid)

    def test_a_socket_without_a_host_is_removed(self, stay: Stay) -> None:
        stay.folder.mkdir(mode=0o700)
        for suffix in ("host", "sock"):
            (stay.folder / f"{stay.key}-0.{suffix}").touch()
        with job(stay) as connection:
            work(connection)

    def test_an_error_arrives_with_its_cause_and_ends_the_host(self, stay: Stay) -> None:
        with job(stay) as connection:
            pid = work(connection)
            connection.send(("fail", "luck"))
            with pytest.raises(EsrError, match="ValueError: no luck"):
                connection.next_reply()
        assert ends(pid)

    def test_a_folder_of_others_is_not_used(self, stay: Stay) -> None:
        stay.folder.mkdir(mode=0o755)
        stay.folder.chmod(0o755)
        with job(stay) as connection:
            pid = work(connection)
        assert ends(pid)
        assert list(stay.folder.iterdir()) == []


class TestWhatCounts:
    @pytest.fixture
    def above(self, stay: Stay, monkeypatch: pytest.MonkeyPatch) -> Process:
        """This process is a job of a Snakemake."""
        monkeypatch.setattr(linger, "find_run", lambda _: stay.snakemake)
        return stay.snakemake

    def test_without_snakemake_or_time_no_host_stays(self, above: Process) -> None:
        assert stay_of(60, GPU, []) is not None
        assert stay_of(0, GPU, []) is None

    def test_outside_of_a_run_no_host_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(linger, "find_run", lambda _: None)
        assert stay_of(60, GPU, []) is None

    def test_a_changed_checkpoint_setting_or_device_is_another_host(
        self, above: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "weights").write_text("1")

        def key(*parts: object, devices: tuple[str, ...] = GPU) -> str:
            found = stay_of(60, devices, [tmp_path], *parts)
            assert found is not None
            return found.key

        same = key("float32")
        assert key("float32") == same
        assert key("bfloat16") != same
        assert key("float32", devices=("1",)) != same
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
        assert key("float32") != same
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        (tmp_path / "weights").write_text("22")
        assert key("float32") != same

    def test_a_host_does_not_stay_if_a_file_changed_while_it_loaded(
        self, stay: Stay, tmp_path: Path
    ) -> None:
        file = tmp_path / "weights"
        file.write_text("1")
        with job(replace(stay, stamps=stamps_of([file])), touched=file) as connection:
            pid = work(connection)
        assert ends(pid)

    def test_files_are_watched_from_any_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A host need not run in the folder of its job."""
        (tmp_path / "model/__pycache__").mkdir(parents=True)
        for name in ("weights", "__pycache__/code.pyc.123"):
            (tmp_path / "model" / name).touch()
        monkeypatch.chdir(tmp_path)
        ((path, _, _),) = stamps_of([Path("model")])
        assert path == str(tmp_path / "model/weights")

    @pytest.mark.parametrize("name", ["short", "with a blank", "long" * 25])
    def test_paths_of_sockets_are_short_enough(
        self, name: str, above: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", f"/tmp/{name}")
        folder = folder_for(above)
        assert folder is not None
        assert len(str(folder / ("f" * 16 + "-99.sock"))) <= LONGEST
        assert (folder.parent == Path("/tmp")) == name.startswith("long")


DIRECTIONS = Directions("up", torch.tensor([0]), torch.ones(1, D_MODEL))
REQUESTS = [
    Request((2, 5, 6, 7, 8)[:n], seed, Intervention(latent, boost))
    for n, seed, latent, boost in [(3, 1, 0, 0.0), (5, 2, 3, 2.0), (4, 3, 7, -1.5), (5, 4, 3, 2.0)]
] + [Request((2, 5), 9, Intervention(0, 1.0, directions="up", ablated=(1, 2)))]


def test_bytes_are_those_of_the_engine_in_the_job(stay: Stay, tmp_path: Path) -> None:
    """Generated, encoded and read, first and later job, whatever the process computed before."""
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_sae().save(tmp_path / "sae.safetensors")
    DIRECTIONS.save(tmp_path / "up.safetensors")
    files = (str(tmp_path / "sae.safetensors"), (str(tmp_path / "up.safetensors"),))
    load = Load(
        str(tmp_path / "model"), None, *files, "float32", "cpu", 1, 2, None, batch_size=2, threads=1
    )
    before = torch.get_num_threads()
    here = load_here(load, {"model": "tiny"})
    sampling = Sampling(temperature=1.0, max_new_tokens=12)
    texts = [EncodeRequest(request.tokens, 1, request.intervention) for request in REQUESTS]

    def engine() -> RemoteEngine:
        return RemoteEngine(load, stay, here.reach, {"model": "tiny"})

    pids = set()
    for job_requests in (REQUESTS[::-1], REQUESTS):
        with engine() as there:
            assert there.identity == here.identity
            assert there.partition(job_requests) == here.partition(job_requests)
            expected = generate_all(here, job_requests, sampling)
            assert generate_all(there, job_requests, sampling) == expected
            for pool in ("max", None):
                for found, wanted in zip(
                    there.encode(texts, pool=pool), here.encode(texts, pool=pool), strict=True
                ):
                    np.testing.assert_array_equal(found, wanted)
            read = [ReadoutRequest(one.tokens, (4, 7), one.intervention) for one in job_requests]
            np.testing.assert_array_equal(there.log_probs(read), here.log_probs(read))
            pids.add(next(stay.folder.glob("*.host")).read_text())
    assert len(pids) == 1
    with engine() as there:
        with pytest.raises(EsrError, match="latent 999 is not in the SAE"):
            there.stream(sampling).submit({"a": Request((2,), 1, Intervention(999, 1.0))})
        with pytest.raises(EsrError, match=r"encode request 0: the residual stream leaves"):
            there.encode([EncodeRequest((2, 5), 0, Intervention(0, 1e39))])
    torch.set_num_threads(before)
