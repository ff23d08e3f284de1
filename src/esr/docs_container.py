"""The Apptainer definition, written from the Containerfile, so that there is one definition.

Only the instructions that `envs/container/Containerfile` uses are known. `USER` and `WORKDIR` have
no counterpart: Apptainer runs as its caller, in the folder where it is called.
"""

import json
import re
import shlex
from pathlib import Path, PurePosixPath

from esr.errors import EsrError

CONTAINERFILE = Path("envs/container/Containerfile")
DEFINITION = Path("envs/container/apptainer.def")
HEAD = f"# Written from {CONTAINERFILE} by `python -m esr.docs_reference`: edit that file.\n"


def instructions(text: str) -> list[tuple[str, str]]:
    """Instructions of a Containerfile with their arguments, comments left out, lines joined.

    Raises:
        EsrError: a line is no instruction.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        match = re.fullmatch(r"([A-Z]+)\s+(.+)", line)
        if match is None:
            raise EsrError(f"{CONTAINERFILE}: {line!r} is no instruction")
        found.append((match[1], match[2]))
    return found


def apptainer_definition() -> str:
    """The definition file of the image."""
    return definition_of(CONTAINERFILE.read_text(encoding="utf-8"))


def definition_of(text: str) -> str:
    """A Containerfile as a definition file.

    Raises:
        EsrError: an instruction that has no counterpart here.
    """
    base, files, environment, post, command = "", [], [], ["set -eu"], ""
    for name, rest in instructions(text):
        if name == "FROM":
            base = rest
        elif name == "COPY":
            *sources, target = shlex.split(rest)
            files += [f"{source} {_inside(source, target)}" for source in sources]
        elif name == "ENV":
            environment.append(f"export {rest}")
        elif name == "RUN":
            post.append(rest)
        elif name == "ENTRYPOINT":
            command = shlex.join(json.loads(rest))
        elif name not in ("USER", "WORKDIR", "CMD"):
            raise EsrError(f"{CONTAINERFILE}: {name} has no counterpart in {DEFINITION}")
    sections = {
        "files": files,
        "post": post,
        "environment": environment,
        "runscript": [f'exec {command} "$@"'],
    }
    body = "".join(
        f"\n%{name}\n" + "".join(f"    {line}\n" for line in lines)
        for name, lines in sections.items()
    )
    return f"{HEAD}Bootstrap: docker\nFrom: {base}\n{body}"


def _inside(source: str, target: str) -> str:
    """Where a file is put: a target that ends in a slash is a folder."""
    return f"{target}{PurePosixPath(source).name}" if target.endswith("/") else target
