# /// script
# requires-python = ">=3.11"
# dependencies = ["mfusepy==3.1.1"]
# ///
"""Planning, and a job, on a disk whose every metadata operation takes 0, 2 or 10 ms.

    uv run benchmarks/slow_disk.py          # as root, with Debian's fuse3; half an hour

A FUSE mount of `/` delays each look at a file (getattr, readlink), listing, opening and change;
reads and writes are not delayed. As NFS does for a file that does not change, the kernel remembers
its attributes for 30 seconds, and never that a file is missing. The study is `paper`; a finished
one has empty files and Snakemake's records of them.
Writes benchmarks/slow_disk.csv: one row a case and delay, with the operations by kind.
"""

import csv
import errno
import json
import logging
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

log = logging.getLogger(__name__)
REMEMBERED = 30.0
"""Seconds for which the kernel remembers attributes; of NFS, 3 to 60 (`acregmin`, `acregmax`)."""
KINDS = {
    "look": ["getattr", "access", "readlink"],
    "list": ["readdir"],
    "open": ["open", "create"],
    "change": ["mkdir", "rmdir", "unlink", "rename", "symlink"],
    "attributes": ["chmod", "chown", "truncate", "utimens", "fsync"],
    "lock": ["lock"],
}
PAPER = ["--profile", "slurm", "--config", "study=paper"]
FILE, DATABASE = "results/organism/planted/arms/answers/plan.parquet", ".snakemake/metadata.db"
PLAN = ["bin/snakemake", "-n", *PAPER]
JOB = ["-m", "snakemake", "--cores", "1", "--config", "study=organism", "--forcerun", "plan_arm"]
DB = ["--persistence-backend", "db"]
LOCAL = ["--persistence-backend-db-url", ""]
CASES: list[tuple[str, str, bool, list[str]]] = [
    # What is done; in which folder; whether the libraries are on the slow disk, too; by what
    ("plan of a new study", "new", False, [*PLAN, "--", "all"]),
    ("plan of a finished study", "file", False, [*PLAN, "--", "all"]),
    ("plan, `--trust-io-cache`", "file", False, [*PLAN, "--trust-io-cache", "--", "all"]),
    ("plan, `--persistence-backend db`", "db", False, [*PLAN, *DB, "--", "all"]),
    ("plan, the database on a local disk", "db", False, [*PLAN, *DB, *LOCAL, "--", "all"]),
    ("plan, `~/.cache` on the slow disk, too", "file", False, [*PLAN, "--", "all"]),
    ("plan, `.venv` on the slow disk, too", "file", True, [*PLAN, "--", "all"]),
    ("job", "file", False, [*JOB, "--", FILE]),
    ("job, `PYTHONSAFEPATH=1`", "file", False, [*JOB, "--", FILE]),
    ("job, `.venv` on the slow disk, too", "file", True, [*JOB, "--", FILE]),
]


def attributes(path: str, handle: int | None = None) -> dict[str, int]:
    """What `stat` shows of a file; times in nanoseconds."""
    found = os.lstat(path) if handle is None else os.fstat(handle)
    names = ["st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_ino", "st_blocks"]
    times = {f"st_{x}time": getattr(found, f"st_{x}time_ns") for x in "amc"}
    return {name: getattr(found, name) for name in names} | times


def utimens(path: str, times: tuple[float, float] | None = None) -> None:
    """Set both times of a file (nanoseconds), also to what FUSE has for `now` and `as it was`."""
    found, now = os.lstat(path), time.time_ns()
    special = {2**30 - 1: (now, now), 2**30 - 2: (found.st_atime_ns, found.st_mtime_ns)}
    both = [special.get(int(t), (int(t), int(t)))[i] for i, t in enumerate(times or (now, now))]
    os.utime(path, ns=(both[0], both[1]), follow_symlinks=False)


DELAYED: dict[str, Callable[..., Any]] = {
    "getattr": attributes,
    "readlink": os.readlink,
    "readdir": lambda path, handle: [".", "..", *os.listdir(path)],  # noqa: PTH208
    "open": os.open,
    "create": lambda path, mode, *_: os.open(path, os.O_RDWR | os.O_CREAT, mode),
    "mkdir": os.mkdir,
    "rmdir": os.rmdir,
    "unlink": os.unlink,
    "rename": os.rename,
    "symlink": lambda new, old: Path(new).symlink_to(old),
    "chmod": os.chmod,
    "chown": os.lchown,
    "truncate": lambda path, length, handle=None: os.truncate(path, length),
    "utimens": utimens,
    "fsync": lambda path, data, handle: os.fsync(handle),
    "lock": lambda path, handle, command, lock: None,  # of one machine: each is granted
}


def serve(mount: str, delay: float, counts: Path) -> None:
    """Serve `/` at a mount point, until it is unmounted; write the number of operations.

    Only what lies in the folder of `counts` can be changed.
    """
    import mfusepy

    done: Counter[str] = Counter()
    lock = Lock()
    changing = {*KINDS["change"], *KINDS["attributes"], "create"}

    def delayed(name: str) -> Callable[..., Any]:
        def run(self: Any, path: str, *rest: Any) -> Any:
            changes = name == "open" and bool(rest[0] & (os.O_WRONLY | os.O_RDWR))
            if (changes or name in changing) and counts.parent not in Path(path).parents:
                raise mfusepy.FuseOSError(errno.EROFS)
            # A file that is closed gives back locks that it never had: no operation of NFS.
            if name != "lock" or path.endswith(".db"):
                with lock:
                    done[name] += 1
                time.sleep(delay / 1000)
            return DELAYED[name](path, *rest)

        return run

    def remember(self: Any, connection: Any, settings: Any) -> None:
        settings.attr_timeout = settings.entry_timeout = REMEMBERED

    methods = {name: delayed(name) for name in DELAYED} | {
        "read": lambda self, path, size, start, handle: os.pread(handle, size, start),
        "write": lambda self, path, data, start, handle: os.pwrite(handle, data, start),
        "release": lambda self, path, handle: os.close(handle),
        "init_with_config": remember,
        "destroy": lambda self, path: counts.write_text(json.dumps(done)),
    }
    slow = type("Slow", (mfusepy.Operations,), {"use_ns": True, **methods})
    mfusepy.FUSE(slow(), mount, foreground=True, default_permissions=True, max_threads=16)


@contextmanager
def mounted(folder: Path, delay: float) -> Iterator[Counter[str]]:
    """`/` at the mount point; afterwards, the operations by their names."""
    counts, mount, done = folder / "counts.json", Path(f"{folder}-slow"), Counter[str]()
    mount.mkdir()
    server = subprocess.Popen([sys.executable, __file__, "serve", mount, str(delay), counts])
    while not mount.is_mount():
        time.sleep(0.1)
        if server.poll() is not None:
            raise SystemExit("the FUSE mount ended; its message is above")
    try:
        yield done
    finally:
        subprocess.run(["fusermount3", "-u", "-z", mount], check=True)
        server.wait()
        mount.rmdir()
        done.update(json.loads(counts.read_text()))


def run(folder: Path, venv: Path, command: list[str], **variables: str) -> str:
    """Run Python in a checkout; what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), **variables}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    program = [venv / "bin/python", *(venv / c if c.startswith("bin/") else c for c in command)]
    done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout + done.stderr


def prepare(folder: Path, venv: Path) -> None:
    """Three checkouts: `new`, and two with a finished study, records in files and in a database."""
    tracked = subprocess.check_output(["git", "ls-files"], text=True).splitlines()
    for name in ("new", "file", "db"):
        for path in tracked:
            (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, folder / name / path, follow_symlinks=False)
    for name, backend in (("file", []), ("db", DB)):
        plan = run(folder / name, venv, [*PLAN, "--forceall", "--", "all"])
        for line in plan.splitlines():
            if line.startswith(("    output: ", "    log: ", "    benchmark: ")):
                for file in line.split(": ", 1)[1].split(", "):
                    (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name / file).touch()
        (folder / name / "results/paper/report").unlink()
        (folder / name / "results/paper/report").mkdir()
        touch = ["--executor", "local", "--cores", "1", "--no-hooks", "--touch", "--forceall"]
        run(folder / name, venv, ["bin/snakemake", *touch, *backend, *PAPER, "--", "all"])
        now = time.time()
        for made in (folder / name).glob("results/**/*"):
            os.utime(made, (now, now), follow_symlinks=False)
    with sqlite3.connect(folder / "db" / DATABASE) as records:  # by the path of the checkout
        there = f"{folder}-slow{folder}/db/.snakemake"
        records.execute("UPDATE snakemake_metadata SET namespace = ?", [there])
    shutil.copy(folder / "db" / DATABASE, folder / "local.db")
    run(folder / "file", venv, [*JOB, "--", FILE])


def measure(
    folder: Path, venv: Path, case: tuple[str, str, bool, list[str]], delay: int
) -> list[Any]:
    """A row of the table."""
    what, where, libraries, command = case
    slow = Path(f"{folder}-slow")
    command = [part or f"sqlite:///{folder}/local.db" for part in command]
    variables = {"PYTHONSAFEPATH": "1"} if "SAFE" in what else {}
    variables |= {"XDG_CACHE_HOME": f"{slow}{folder}/cache"} if "~/.cache" in what else {}
    checkout = slow / str(folder / where)[1:]
    with mounted(folder, delay) as done:
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        said = run(checkout, slow / str(venv)[1:] if libraries else venv, command, **variables)
        seconds = time.monotonic() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if where != "new" and "-n" in command and "Nothing to be done" not in said:
        raise SystemExit(f"{what}: the finished study was planned anew: {said[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    kinds = [sum(done[name] for name in names) for names in KINDS.values()]
    log.info("%s, %d ms: %d operations, %.0f s", what, delay, sum(kinds), seconds)
    return [what, delay, sum(kinds), *kinds, round(seconds, 1), round(cpu, 1)]


def main() -> None:
    """Measure every case; write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if os.geteuid() or not Path("/dev/fuse").exists() or not shutil.which("fusermount3"):
        raise SystemExit("needs root, /dev/fuse, and Debian's fuse3 (`apt-get install fuse3`)")
    venv = Path(".venv").resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, venv)
        with Path("benchmarks/slow_disk.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["case", "delay_ms", "operations", *KINDS, "seconds", "cpu_seconds"])
            for case in CASES:
                for delay in (0, 2, 10):
                    table.writerow(measure(folder, venv, case, delay))
                    file.flush()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
