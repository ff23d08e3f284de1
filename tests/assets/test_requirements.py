"""The versions that are fixed in several places are the same in all of them."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.checkout import REPO

ENVIRONMENTS = [REPO, *sorted(path.parent for path in REPO.glob("envs/*/pyproject.toml"))]
"""The main environment, and those of tools that cannot share it."""


@pytest.fixture(params=ENVIRONMENTS, ids=lambda path: "main" if path == REPO else path.name)
def environment(request: pytest.FixtureRequest) -> Path:
    return request.param


def project(environment: Path) -> dict[str, Any]:
    return tomllib.loads((environment / "pyproject.toml").read_text())


def lock(environment: Path) -> str:
    return (environment / "requirements.lock").read_text()


def test_the_environments_of_the_design_are_there() -> None:
    assert {path.name for path in ENVIRONMENTS[1:]} == {"serve", "serve-cpu", "finetune", "deposit"}


def test_direct_dependencies_are_pinned_and_locked(environment: Path) -> None:
    pins = dict(one.split("==") for one in project(environment)["project"]["dependencies"])
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", lock(environment), re.MULTILINE))
    assert pins.items() <= locked.items()


def test_the_lock_has_checksums_and_no_addresses(environment: Path) -> None:
    text = lock(environment)
    assert "://" not in text
    assert "/" not in "".join(line for line in text.splitlines() if line.startswith("#"))
    blocks = re.split(r"\n(?=[\w-])", text)[1:]
    assert len(blocks) == len(re.findall(r"^[\w-]", text, re.MULTILINE)) > 50
    installed = [block for block in blocks if "sys_platform == 'never'" not in block]
    assert all("==" in block and "--hash=sha256:" in block for block in installed)


@pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv")
def test_the_lock_is_the_export_of_the_resolution(environment: Path) -> None:
    if not (environment / "uv.lock").is_file():
        pytest.skip("this environment has not been synced here")
    command = ["uv", "export", "--quiet", "--frozen", "--offline", "--no-emit-project", "--no-dev"]
    done = subprocess.run(command, cwd=environment, capture_output=True, text=True, check=True)
    exported, committed = (
        [line for line in text.splitlines() if not line.startswith("#")]
        for text in (done.stdout, lock(environment))
    )
    assert committed == exported, "run the command in docs/environments.md"


def test_every_dependency_is_pinned_and_the_rest_fixed_by_a_date(environment: Path) -> None:
    table = project(environment)
    groups = table.get("dependency-groups", {}).values()
    for one in [*table["project"]["dependencies"], *(one for group in groups for one in group)]:
        assert re.fullmatch(r"[\w-]+==[\w.]+", one), one
    assert table["tool"]["uv"]["exclude-newer"] == project(REPO)["tool"]["uv"]["exclude-newer"]


def test_the_conda_file_names_the_same_versions() -> None:
    conda = yaml.safe_load((REPO / "envs/main.yaml").read_text())
    (pip,) = (entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict))
    main = project(REPO)["project"]
    assert sorted(pip) == sorted(main["dependencies"])
    assert f"python {main['requires-python']}" in conda["dependencies"]


def test_the_resolution_itself_is_not_committed() -> None:
    assert "uv.lock" in (REPO / ".gitignore").read_text().splitlines()
