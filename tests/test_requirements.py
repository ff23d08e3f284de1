"""The versions that are fixed in several places are the same in all of them."""

import re
import shutil
import subprocess
import tomllib

import pytest
import yaml

from checkout import REPO

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())


def lock() -> dict[str, str]:
    text = (REPO / "requirements.lock").read_text()
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


def test_direct_dependencies_are_pinned_and_locked() -> None:
    pins = dict(one.split("==") for one in PROJECT["project"]["dependencies"])
    assert pins.items() <= lock().items()


def test_the_lock_has_checksums_and_no_addresses() -> None:
    text = (REPO / "requirements.lock").read_text()
    assert "://" not in text
    assert "/" not in "".join(line for line in text.splitlines() if line.startswith("#"))
    blocks = re.split(r"\n(?=[\w-])", text)[1:]
    assert len(blocks) == len(re.findall(r"^[\w-]", text, re.MULTILINE)) > 50
    assert all("==" in block and "--hash=sha256:" in block for block in blocks)


@pytest.mark.skipif(
    shutil.which("uv") is None or not (REPO / "uv.lock").is_file(), reason="needs uv and uv.lock"
)
def test_the_lock_is_the_export_of_the_resolution() -> None:
    command = ["uv", "export", "--quiet", "--frozen", "--offline", "--no-emit-project", "--no-dev"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
    exported, committed = (
        [line for line in text.splitlines() if not line.startswith("#")]
        for text in (done.stdout, (REPO / "requirements.lock").read_text())
    )
    assert committed == exported, "run the command in docs/environments.md"


def test_every_dependency_is_pinned_and_the_rest_fixed_by_a_date() -> None:
    groups = PROJECT["dependency-groups"].values()
    for one in [*PROJECT["project"]["dependencies"], *(one for group in groups for one in group)]:
        assert re.fullmatch(r"[\w-]+==[\w.]+", one), one
    assert PROJECT["tool"]["uv"]["exclude-newer"]


def test_the_conda_file_names_the_same_versions() -> None:
    conda = yaml.safe_load((REPO / "envs/main.yaml").read_text())
    (pip,) = (entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict))
    assert sorted(pip) == sorted(PROJECT["project"]["dependencies"])
    assert f"python {PROJECT['project']['requires-python']}" in conda["dependencies"]


def test_the_resolution_itself_is_not_committed() -> None:
    assert "uv.lock" in (REPO / ".gitignore").read_text().splitlines()
