"""Scripts in forks of one process: they end as in a process of their own, whatever is killed."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.benchmark import BenchmarkRecord

from esr import forks
from esr.huge_pages import _own_memory
from helpers.checkout import REPO, run_snakemake, snakemake_command

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are used on Linux alone")

PATIENCE = 120
"""Longest wait in seconds: machines may be busy."""


def ended(path: Path, script: str, **variables: str) -> forks.Ended:
    """How a script ended that ran in a fork."""
    path.write_text(script)
    fork = forks.start_fork(path.as_posix(), variables)
    assert fork is not None
    return forks.result_of(*fork)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


class TestFork:
    def test_a_script_is_the_program_of_its_process(self, tmp_path: Path) -> None:
        script = "import os, sys, tempfile\nassert __name__ == '__main__'\n"
        script += "print(sys.argv, os.environ['TMPDIR'], tempfile.gettempdir(), "
        script += f"file=open({(tmp_path / 'out').as_posix()!r}, 'w'))\n"
        script += "sum(i * i for i in range(10**6))\n"
        script += "len(b'1' * (300 << 20))\n"
        path = tmp_path / "script.py"
        done = ended(path, script, TMPDIR=tmp_path.as_posix())
        assert done.code == 0
        assert 0 < done.cpu_seconds < 10
        assert 300 < done.memory < 1500, "its peak, which it no longer holds"
        assert (tmp_path / "out").read_text() == f"['{path}'] {tmp_path} {tmp_path}\n"

    def test_an_error_reaches_the_hook_of_the_script(self, tmp_path: Path) -> None:
        out = (tmp_path / "out").as_posix()
        script = "import sys\ndef hook(kind, error, trace):\n"
        script += f"    open({out!r}, 'w').write(f'{{kind.__name__}} {{error}}')\n"
        script += "sys.excepthook = hook\nraise ValueError('no such latent')\n"
        assert ended(tmp_path / "script.py", script).code == 1
        assert Path(out).read_text() == "ValueError no such latent"

    @pytest.mark.parametrize(
        ("script", "code"),
        [("import sys; sys.exit(3)", 3), ("import sys; sys.exit('bad')", 1), ("exit()", 0)],
    )
    def test_an_exit_code_is_that_of_the_script(
        self, tmp_path: Path, script: str, code: int
    ) -> None:
        assert ended(tmp_path / "script.py", script).code == code

    def test_what_a_script_registers_for_its_end_is_done(self, tmp_path: Path) -> None:
        out, finalized = tmp_path / "out", tmp_path / "finalized"
        script = "import atexit, pathlib, weakref\nclass Thing: pass\nthing = Thing()\n"
        script += f"atexit.register(pathlib.Path({str(out)!r}).touch)\n"
        script += f"weakref.finalize(thing, pathlib.Path({str(finalized)!r}).touch)\n"
        assert ended(tmp_path / "script.py", script).code == 0
        assert out.exists()
        assert finalized.exists()

    def test_a_killed_script_is_a_failure_and_the_next_one_runs(self, tmp_path: Path) -> None:
        script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        assert ended(tmp_path / "script.py", script) == (forks.KILLED, 0.0, 0.0)
        assert ended(tmp_path / "script.py", "").code == 0

    def test_a_job_whose_script_is_killed_fails_as_such(self, tmp_path: Path) -> None:
        path = tmp_path / "script.py"
        path.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        job = SimpleNamespace(resources={}, bench_record=BenchmarkRecord())
        with pytest.raises(subprocess.CalledProcessError) as error:
            forks._run_forked(job, path.as_posix())
        assert error.value.returncode == forks.KILLED

    def test_a_script_whose_result_is_not_read_ends_without_an_error(self, tmp_path: Path) -> None:
        path, out = tmp_path / "script.py", tmp_path / "out"
        path.write_text(f"import pathlib\npathlib.Path({str(out)!r}).touch()\n")
        fork = forks.start_fork(path.as_posix(), {})
        assert fork is not None
        process, results = fork
        assert results.poll(PATIENCE)
        results.close()
        process.join()
        assert process.exitcode == 0

    def test_a_script_outlives_the_server_and_the_next_one_has_another(
        self, tmp_path: Path
    ) -> None:
        path, started, go = (tmp_path / name for name in ("script.py", "started", "go"))
        path.write_text(
            f"import os, time\nopen({str(started)!r}, 'w').write(str(os.getppid()))\n"
            f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        )
        fork = forks.start_fork(path.as_posix(), {})
        assert fork is not None
        wait_until(lambda: started.exists() and started.read_text() != "")
        server = int(started.read_text())
        assert server == forkserver._forkserver._forkserver_pid  # pyrefly: ignore[missing-attribute]
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: not alive(server))
        go.touch()
        assert forks.result_of(*fork).code == 0
        assert ended(path, "").code == 0
        assert server != forkserver._forkserver._forkserver_pid  # pyrefly: ignore[missing-attribute]


SNAKEFILE = """
from esr import forks

forks.LIBRARIES = ["esr.forks_environment"]

onstart:
    forks.install(forks.FEWEST, engine=False)

rule all:
    input: "one/0", "one/1", "one/2", "two/0", "failed/0"

rule wait:
    output: "{kind}/{number}"
    wildcard_constraints: kind="one|two"
    threads: lambda wildcards: {"one": 1, "two": 2}[wildcards.kind]
    benchmark: "{kind}/{number}.tsv"
    script: "wait.py"

rule fail:
    output: "failed/{number}"
    script: "fail.py"

rule hang:
    output: "hung"
    script: "hang.py"
"""
SCRIPTS = {
    "wait.py": "import gc, os\nassert gc.isenabled()\n"
    "open(snakemake.output[0], 'w').write(str(os.getppid()))\n"
    "sum(i * i for i in range(2 * 10**6))\nlen(b'1' * (300 << 20))\n",
    "fail.py": "raise ValueError('no such latent')\n",
    "hang.py": "import os, time\nfrom esr.orphans import end_with_snakemake\nend_with_snakemake()\n"
    "open('begun', 'w').write(f'{os.getppid()} {os.getpid()}')\ntime.sleep(1000)\n",
}


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    for name, script in SCRIPTS.items():
        (tmp_path / name).write_text(script)
    return tmp_path


def test_jobs_of_one_thread_are_forks_and_others_are_not(workflow: Path) -> None:
    done = subprocess.run(
        snakemake_command("--cores", "2", "--keep-going"),
        cwd=workflow,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "ValueError: no such latent" in done.stderr
    parents = {int((workflow / f"one/{number}").read_text()) for number in range(3)}
    assert len(parents) == 1
    assert int((workflow / "two/0").read_text()) not in parents
    assert not (workflow / "failed/0").exists()
    wait_until(lambda: not any(alive(pid) for pid in parents))
    header, row = (workflow / "one/0.tsv").read_text().splitlines()
    record = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert 0.02 < float(record["cpu_time"]) < 10
    assert float(record["s"]) >= float(record["cpu_time"]) - 0.02
    assert 300 < float(record["max_rss"]) < 1500
    assert record["max_uss"] == record["io_in"] == "-"


def test_when_snakemake_is_killed_its_jobs_end_and_so_does_the_server(workflow: Path) -> None:
    command = snakemake_command("--cores", "1", "--quiet", "all", "--", "hung")
    with subprocess.Popen(command, cwd=workflow) as run:
        begun = workflow / "begun"
        wait_until(lambda: begun.exists() and len(begun.read_text().split()) == 2)
        run.kill()
    server, job = map(int, begun.read_text().split())
    wait_until(lambda: not alive(job) and not alive(server))


def test_a_run_of_few_jobs_has_no_server() -> None:
    assert not forks.install(forks.FEWEST - 1, engine=True)


CHECK = """
import gc, re, sys, threading, weakref
from importlib import import_module
from pathlib import Path
from esr import forks

missing = {*forks.LIBRARIES, *forks.ENGINE, forks.READY} - sys.modules.keys()
assert not missing, missing
# A fork takes no library apart at its end.
known = list(weakref.finalize._registry)
assert len(known) > 100
assert not any(each.atexit for each in known)
for names in forks.JUDGES.values():
    for name in names:
        import_module(name)
import torch

assert threading.active_count() == 1
assert torch.get_num_threads() == 1
assert not torch.cuda.is_initialized()
# No fork collects what is loaded, compiles the restart phrases, or looks for versions.
assert gc.get_freeze_count() > 10**5
from esr.arms.restarts import read_phrases

re.purge()
read_phrases(Path(REPO) / "resources/restart_phrases.txt")
assert not re._cache
from esr.provenance import versions

assert versions.cache_info().currsize == 1
import transformers.conversion_mapping as old

assert old._checkpoint_conversion_mapping_cache
Path(snakemake.output[0]).touch()
"""


def test_the_server_has_every_library_no_thread_of_python_and_no_gpu(tmp_path: Path) -> None:
    install = "from esr import forks\nonstart: forks.install(1, engine=True)\n"
    rule = "rule check:\n    output: 'checked'\n    script: 'check.py'\n"
    (tmp_path / "Snakefile").write_text(install + rule)
    (tmp_path / "check.py").write_text(CHECK.replace("REPO", repr(REPO.as_posix())))
    done = run_snakemake(tmp_path, "--cores", "1")  # one job: in a fork in tests alone
    assert done.returncode == 0, done.stdout[-4000:]


def test_only_memory_of_no_file_is_moved() -> None:
    line = b"7f0000000000-7f0000400000 %s 00000000 fe:00 12%s"
    maps = [line % (b"rw-p", name) for name in (b"", b" ", b"        [heap]")]
    others = [
        b" /a file",
        b" /caf\xe9.so",
        b" /a\x0cb",
        b" /a\xe2\x80\xa8b",
        b" [stack]",
        b" /[heap]",
    ]
    maps += [line % (b"rw-p", b"       " + name) for name in others]
    maps += [line % (b"r--p", b""), b"7f0000000000-7f0000100000 rw-p 0 0:0 0", b"", b"odd"]
    assert list(_own_memory(b"\n".join(maps))) == [(0x7F0000000000, 0x7F0000400000)] * 3


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not HUGE_PAGES.exists()
    or "[never]" in HUGE_PAGES.read_text()
    or tuple(map(int, os.uname().release.split(".")[:2])) < (6, 1),
    reason="Linux 6.1 moves memory to huge pages",
)
def test_the_memory_of_the_server_is_moved_to_huge_pages() -> None:
    check = "import pathlib\nfrom esr.huge_pages import use_huge_pages\ndef huge():\n"
    check += "    lines = pathlib.Path('/proc/self/smaps_rollup').read_text().splitlines()\n"
    check += "    return next(int(one.split()[1]) for one in lines if 'AnonHuge' in one)\n"
    check += "data = [bytes([i % 251]) * 2**16 for i in range(500)]\nbefore = huge()\n"
    check += "use_huge_pages()\nassert huge() >= before + 2**13\n"
    check += "assert all(one == bytes([i % 251]) * 2**16 for i, one in enumerate(data))\n"
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc 2.33 counts these")
def test_large_tensors_are_no_mappings_of_their_own_which_the_kernel_clears_each_time() -> None:
    check = "import ctypes, esr.forks_environment\nlibc = ctypes.CDLL(None)\n"
    check += "libc.malloc.restype = ctypes.c_void_p\nclass Info(ctypes.Structure):\n"
    check += "    _fields_ = [(name, ctypes.c_size_t) for name in 'abcdefghij']\n"
    check += "libc.mallinfo2.restype = Info\nmappings = libc.mallinfo2().d\n"
    check += "assert libc.malloc(8 << 20)\nassert libc.mallinfo2().d == mappings\n"
    subprocess.run([sys.executable, "-c", check], cwd=REPO, check=True)
