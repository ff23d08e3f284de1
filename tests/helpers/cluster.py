"""A real Slurm of one node on this machine, for the tests: two GPUs that are none, four cores.

Tests that plan for a cluster meanwhile find the partitions of the profile in it, without a limit.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PROGRAMS = ["munged", "slurmctld", "slurmd", "squeue", "sbatch", "scontrol"]
CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={host} MaxTime=INFINITE State=UP
"""
GRES = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"
ETC = Path("/etc/slurm")
SAVED = 6
"""Seconds after which the controller has saved its jobs; one that it has not, a crash loses."""


def why_not() -> str | None:
    """Why no Slurm can be started here; None if one can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"needs Debian's slurm-wlm and munge ({', '.join(missing)} not found)"
    if os.geteuid() != 0:
        return "needs root, to write /etc/slurm and start the daemons"
    if (ETC / "slurm.conf").exists():
        return f"{ETC}/slurm.conf is there already: this machine has a Slurm, which is left alone"
    return None


def on_slurm(folder: Path, *arguments: str, output: IO[bytes] | int) -> "subprocess.Popen[bytes]":
    """Start Snakemake in a folder and a session of its own; output and errors go to one place."""
    program = Path(__file__).with_name("snakemake") / "on_slurm.py"
    command = [sys.executable, str(program), *arguments]
    # Errors name their rules in lines that are not broken.
    variables = os.environ | {"COLUMNS": "200"}
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=variables,
    )


class Cluster:
    """The running daemons."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        self.munged: subprocess.Popen[bytes] | None = None
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        facts = {"host": self.host, "folder": self.folder}
        ETC.mkdir(exist_ok=True)
        conf = CONF.format(**facts, memory=int(pages / 2**20 * 0.8))
        (ETC / "slurm.conf").write_text(conf)
        (ETC / "gres.conf").write_text(GRES)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        # munge refuses to talk through a folder that is not its own
        Path("/run/munge").mkdir(exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        if not Path("/run/munge/munge.socket.2").exists():
            command = ["runuser", "-u", "munge", "--", "munged", "--foreground"]
            self.munged = subprocess.Popen(command)
            time.sleep(1)
        self.daemon("slurmctld")
        self.daemon("slurmd")
        self.wait_until(lambda: self.slurm("sinfo", "-h", "-o", "%t") in {"idle", "mix", "alloc"})

    def daemon(self, name: str) -> None:
        """Start slurmctld or slurmd in the foreground of a process of its own."""
        self.running[name] = subprocess.Popen([name, "-D"], stderr=subprocess.DEVNULL)

    def restart(self, name: str) -> None:
        """Kill a daemon without warning, and start it again."""
        time.sleep(SAVED)
        self.running[name].kill()
        self.running[name].wait()
        time.sleep(1)
        self.daemon(name)

    def stop(self) -> None:
        self.slurm("scancel", "--user=root")
        time.sleep(1)
        for process in reversed(self.running.values()):
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
        if self.munged is not None:
            self.munged.terminate()
            self.munged.wait(timeout=30)
        for name in ("slurm.conf", "gres.conf"):
            (ETC / name).unlink(missing_ok=True)

    def slurm(self, *command: str) -> str:
        """Output of a Slurm command; raises with its error if it failed."""
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() or done.stderr.strip()

    def node(self, state: str) -> None:
        """Set the state of the node: drain, resume, ..."""
        self.slurm("scontrol", "update", f"NodeName={self.host}", f"State={state}", "Reason=a test")

    def job_of(self, rule: str, timeout: float = 600) -> str:
        """Wait until a job of a rule (of any, if empty) runs; its id."""
        found: list[str] = []

        def runs() -> bool:
            lines = self.slurm("squeue", "-h", "-t", "R", "-o", "%i %k").splitlines()
            found[:] = [line.split()[0] for line in lines if f"rule_{rule}" in line]
            return bool(found)

        self.wait_until(runs, timeout)
        return found[0]

    def state(self) -> str:
        """State of the node: idle, mix, drained, ..."""
        return self.slurm("sinfo", "-h", "-N", "-o", "%T").split("\n")[0].rstrip("*")

    def queue(self) -> list[str]:
        """Jobs waiting or running."""
        return self.slurm("squeue", "-h", "-o", "%i").split()

    def gone(self, job: str) -> bool:
        """Whether a job is no more in the queue."""
        return job not in self.queue()

    def wait_until(self, condition: Callable[[], object], timeout: float = 120) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, self.slurm("sinfo") + self.slurm("squeue")
            time.sleep(0.2)


@contextmanager
def slurm(folder: Path) -> Iterator[Cluster]:
    """A Slurm that is stopped, and its configuration removed, when it is no longer needed."""
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
