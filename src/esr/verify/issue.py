"""The block to paste into an issue: versions, platform, outcomes; nothing that names a machine."""

import getpass
import os
import platform
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from esr.provenance import git_revision, versions
from esr.verify.outcomes import Outcome, counts

SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
"""Names of environment variables whose values must not leave the machine."""
_ADDRESS = re.compile(r"(\w+://)[^\s/@]+@")
_FOLDER = re.compile(r"(?<![\w.:/~])/(?:[\w.+@-]+/)+(?=[\w.+@-])")


def machine_facts(study: str, device: str) -> dict[str, Any]:
    """Versions and platform of this machine.

    Args:
        study: Study of the run.
        device: Device of the checks (`cpu`, or the name of the GPU).
    """
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return {
        "revision": git_revision(),
        "study": study,
        "Python": platform.python_version(),
        "platform": system,
        "cores": os.cpu_count(),
        "device": device,
    } | versions()


def issue_block(outcomes: Sequence[Outcome], facts: Mapping[str, Any]) -> str:
    """Markdown of one block: outcomes first, then versions.

    A text in it may come from any library, so paths, names and keys are taken out of the whole.
    """
    rows = [("check", "outcome", "seconds"), ("---", "---", "---:")]
    rows += [
        (o.check, f"{o.status}: {o.found}" if o.found else o.status, f"{o.seconds:g}")
        for o in outcomes
    ]
    lines = [f"### snakemake verify: {counts(outcomes)}", ""]
    lines += [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows]
    lines += ["", ", ".join(f"{name} {value}" for name, value in facts.items())]
    return without_names("\n".join(lines) + "\n")


def without_names(text: str) -> str:
    """A text without values of secret variables, paths of this machine, its name or its user's."""
    for name, value in os.environ.items():
        if SECRET.search(name) and len(value) >= 6:
            text = text.replace(value, f"<{name}>")
    text = _ADDRESS.sub(r"\1<user>@", text)
    for path, shown in ((str(Path().absolute()), "."), (_or_empty(Path.home), "~")):
        if len(path) > 1:
            text = text.replace(path, shown)
    text = _FOLDER.sub("<folder>/", text)
    for name in (socket.gethostname(), _or_empty(getpass.getuser)):
        if len(name) > 1 and name != "root":
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "<name>", text)
    return text


def _or_empty(find: Callable[[], object]) -> str:
    """A name of this machine's; empty in a container that runs under a number without one."""
    try:
        return str(find())
    except (KeyError, OSError, RuntimeError):
        return ""
