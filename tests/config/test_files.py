"""Strict reading of YAML files: what PyYAML would accept in silence is an error with its line."""

from pathlib import Path

import pytest
import yaml

from esr.config.files import check_study_file, read_yaml
from esr.errors import EsrError
from helpers.checkout import REPO

TWICE = """\
title: A study
models:
  first: {label: a}
  second: {label: b}
  first: {label: c}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


def test_a_key_that_is_given_twice_is_named_with_both_lines(file: Path) -> None:
    file.write_text(TWICE)
    with pytest.raises(EsrError) as caught:
        read_yaml(file)
    assert str(caught.value) == (
        f"{file}, line 5: `first` is given twice in one block, first in line 3; remove or rename "
        "one of them"
    )


@pytest.mark.parametrize(
    "text",
    ["a: 1\nb: 2\na: 1\n", "a: {x: 1, x: 2}\n", "a: [{x: 1}, {y: 1, y: 1}]\n", "<<: {}\n<<: {}\n"],
    ids=["equal values", "flow", "in a list", "merge key"],
)
def test_wherever_it_is(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(EsrError, match="is given twice"):
        read_yaml(file)


def test_the_same_key_in_two_blocks_and_an_overridden_merge_are_fine(file: Path) -> None:
    text = "a: &a {x: 1, y: 1}\nb: {<<: *a, x: 2}\nc: {<<: *a, <<x: 3}\n"
    file.write_text(text)
    assert read_yaml(file) == {
        "a": {"x": 1, "y": 1},
        "b": {"x": 2, "y": 1},
        "c": {"x": 1, "y": 1, "<<x": 3},
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1\nb: 2\n", "line 2, column 2: not valid YAML"),
        (b"a: \xff\n", "not UTF-8 .byte 3.; save it as UTF-8"),
        (b"a: \x07\n", "not valid YAML"),
    ],
)
def test_what_is_no_yaml_is_named_with_its_place(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(EsrError, match=f"mine.yaml.*{message}"):
        read_yaml(file)


def test_a_file_that_does_not_exist_is_named(file: Path) -> None:
    with pytest.raises(EsrError, match=r"mine\.yaml: cannot be read: No such file"):
        read_yaml(file)


def test_a_study_file_that_sets_study_is_refused(file: Path) -> None:
    file.write_text("study: organism\ntitle: x\n")
    with pytest.raises(
        EsrError, match=r"mine\.yaml: remove `study`; the file name names the study"
    ):
        check_study_file(file)


@pytest.mark.parametrize("text", ["- a\n", "text\n"])
def test_a_study_file_without_keys_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(EsrError, match="no keys at the top"):
        check_study_file(file)


def test_texts_are_continued_by_one_key_of_a_file(file: Path) -> None:
    arm = {"arm": "steered", "cuts": [80]}
    for given in ({"continued": arm}, {"continue": arm, "continued": arm}):
        file.write_text(yaml.safe_dump({"arms": {"off": None, "p": given}}))
        with pytest.raises(EsrError, match=r"arms\.p\.continued: unknown key; write `continue`"):
            check_study_file(file)
    file.write_text(yaml.safe_dump({"arms": {"off": None, "p": {"continue": arm}}}))
    check_study_file(file)


@pytest.mark.parametrize(
    "path",
    sorted([*(REPO / "studies").glob("*.yaml"), *(REPO / "resources").rglob("*.yaml")]),
    ids=lambda path: path.stem,
)
def test_our_own_files_are_read_like_by_pyyaml(path: Path) -> None:
    assert read_yaml(path) == yaml.safe_load(path.read_text())
    if path.parent.name == "studies":
        check_study_file(path)
