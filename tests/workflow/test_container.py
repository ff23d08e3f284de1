"""The container: one definition, linted; its package step runs here, as it stands in the image."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from esr.docs_container import CONTAINERFILE, apptainer_definition, definition_of, instructions
from esr.errors import EsrError
from helpers.checkout import REPO
from helpers.deposits import validator

pytestmark = pytest.mark.skipif(shutil.which("uv") is None, reason="uv installs packages")

TEXT = (REPO / CONTAINERFILE).read_text()


def lint(path: Path) -> "subprocess.CompletedProcess[str]":
    linter = validator().with_name("hadolint")
    return subprocess.run([linter, path], capture_output=True, text=True, check=False)


def test_the_linter_finds_nothing() -> None:
    done = lint(REPO / CONTAINERFILE)
    assert done.returncode == 0, done.stdout


def test_the_linter_finds_a_version_that_is_not_pinned(tmp_path: Path) -> None:
    loose = re.sub(r"uv==[\d.]+", "uv", TEXT).replace("python:3.11-slim-bookworm", "python")
    (tmp_path / "Containerfile").write_text(loose)
    done = lint(tmp_path / "Containerfile")
    assert done.returncode != 0
    assert {"DL3006", "DL3013"} <= set(re.findall(r"DL\d+", done.stdout))


def test_the_image_runs_as_nobody_in_particular() -> None:
    found = dict(instructions(TEXT))
    assert found["USER"] == "1000:1000"
    assert list(dict(instructions(TEXT)))[-2:] == ["ENTRYPOINT", "CMD"]


def test_the_python_is_one_that_the_project_accepts() -> None:
    base = dict(instructions(TEXT))["FROM"]
    required = re.search(r'requires-python = ">=([\d.]+)"', (REPO / "pyproject.toml").read_text())
    assert required is not None
    assert re.search(r"python:([\d.]+)-", base)[1] == required[1]  # pyrefly: ignore[unsupported-operation]
    assert f"--python {required[1]} " in (REPO / "envs/container/install.sh").read_text()


def test_apptainer_has_every_step_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    text = apptainer_definition()
    assert f"From: {dict(instructions(TEXT))['FROM']}" in text
    for name, rest in instructions(TEXT):
        if name in ("RUN", "ENV"):
            assert rest in text
    assert "src /opt/esr/src" in text
    assert 'exec snakemake "$@"' in text


def test_an_instruction_without_a_counterpart_is_refused() -> None:
    with pytest.raises(EsrError, match="HEALTHCHECK has no counterpart"):
        definition_of(TEXT + "\nHEALTHCHECK NONE\n")
    with pytest.raises(EsrError, match="is no instruction"):
        definition_of("FROM x\nnonsense\n")


def copied(folder: Path) -> Path:
    """What the image has below /opt/esr, by the COPY lines of its definition."""
    for name, rest in instructions(TEXT):
        if name == "COPY":
            *sources, target = shlex.split(rest)
            for source in sources:
                place = folder / target.removeprefix("/opt/esr/")
                place = place / Path(source).name if target.endswith("/") else place
                copy = shutil.copytree if (REPO / source).is_dir() else shutil.copy
                place.parent.mkdir(parents=True, exist_ok=True)
                copy(REPO / source, place)
    return folder


def test_the_package_step_finds_every_version_of_the_lock(tmp_path: Path) -> None:
    """`uv pip install --dry-run`: every version is there; nothing is installed."""
    source = copied(tmp_path / "image")
    command = ["sh", str(source / "install.sh"), str(source), str(tmp_path / "venv"), "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    locked = len(
        re.findall(r"^[\w.-]+==", (source / "requirements.lock").read_text(), re.MULTILINE)
    )
    found = len(re.findall(r"^ \+ ", done.stderr, re.MULTILINE))
    assert 0.9 * locked < found <= locked + 1  # packages of other platforms are left out
    assert " + esr @ file://" in done.stderr
    assert " + snakemake==" in done.stderr


def test_the_package_step_refuses_another_checksum(tmp_path: Path) -> None:
    source = copied(tmp_path / "image")
    lock = source / "requirements.lock"
    package = re.search(r"^idna==.*?(?=^\S)", lock.read_text(), re.MULTILINE | re.DOTALL)
    assert package is not None
    lock.write_text(re.sub(r"sha256:[0-9a-f]{8}", "sha256:00000000", package[0]))
    command = ["sh", str(source / "install.sh"), str(source), str(tmp_path / "venv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode != 0
    assert "hash mismatch" in done.stderr.lower()
