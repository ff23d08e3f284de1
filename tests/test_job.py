"""Messages of a rule's script that fails."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import errno
from types import SimpleNamespace
from esr.errors import EsrError
from esr.job import start

class Shard(Exception):
    "As of a library that writes by itself."

start(SimpleNamespace(log=["job.log"]))
{body}
"""


def run(folder: Path, body: str) -> tuple[str, str]:
    """What a script that fails writes to the terminal and to its log."""
    command = [sys.executable, "-c", SCRIPT.format(body=body)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr, (folder / "job.log").read_text()


def test_a_message_that_is_meant_for_the_user_has_no_stack(tmp_path: Path) -> None:
    for output in run(tmp_path, "raise EsrError('prompts: no such file; add it')"):
        assert "EsrError: prompts: no such file; add it" in output
        assert "Traceback" not in output


def test_anything_else_is_a_bug_and_has_one(tmp_path: Path) -> None:
    for output in run(tmp_path, "1 / 0"):
        assert "ZeroDivisionError" in output
        assert "Traceback" in output


@pytest.mark.parametrize(
    "body",
    [
        "raise OSError(errno.ENOSPC, 'No space left on device')",
        "raise Shard('I/O error: No space left on device (os error 28)')",
        "try:\n    raise OSError(errno.EDQUOT, 'No space left on device: quota')\n"
        "except OSError as error:\n    raise RuntimeError('cannot save') from error",
    ],
)
def test_a_full_disk_is_reported_with_its_remedy(tmp_path: Path, body: str) -> None:
    for output in run(tmp_path, body):
        assert "could not be written" in output
        assert "Make room" in output
        assert "the same command again" in output
        assert " GB" in output
        assert "Traceback" not in output


def test_a_log_on_a_full_disk_does_not_hide_the_message(tmp_path: Path) -> None:
    (tmp_path / "job.log").symlink_to("/dev/full")
    command = [
        sys.executable,
        "-c",
        SCRIPT.format(body="open('/dev/full', 'w').write('x' * 10**5)"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Make room" in done.stderr
    assert "Logging error" not in done.stderr
