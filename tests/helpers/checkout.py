"""The workflow in a folder of its own, and how to run it there."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

REPO = Path(__file__).parents[2]
COPIED = [
    "Snakefile",
    "config.yaml",
    "docs",
    "envs",
    "profiles",
    "rules",
    "scripts",
    "slurm",
    "studies",
]
LINKED = ["resources"]


def link_checkout(folder: Path) -> Path:
    """Lay out the workflow in a folder of its own; what a run writes stays in it."""
    folder.mkdir(exist_ok=True)
    installed = shutil.ignore_patterns(".venv", "uv.lock")  # environments are synced from scratch
    for name in COPIED:
        if (REPO / name).is_dir():
            shutil.copytree(REPO / name, folder / name, ignore=installed)
        else:
            shutil.copy(REPO / name, folder / name)
    for name in LINKED:
        (folder / name).symlink_to(REPO / name)
    return folder


def snakemake_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", *arguments]


def run_snakemake(
    folder: Path,
    *arguments: str,
    timeout: float = 1200,
) -> "subprocess.CompletedProcess[str]":
    """Run Snakemake in a folder; output and errors come back as one text."""
    return subprocess.run(
        snakemake_command(*arguments),
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        env=os.environ | {"COLUMNS": "200"},
        check=False,
    )


def load_script(name: str) -> ModuleType:
    """A script of the workflow as a module, for its pure functions."""
    (path,) = (REPO / "scripts").glob(f"*/{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
