"""Files of vectors and pairs are checked before any job runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import save_file as torch_save

from esr.config import Config
from esr.planning.directions import check_directions, check_vector_widths
from helpers.checkout import REPO
from helpers.studies import load_study, save_vectors

NAMES = ["wool", "iron", "bees", "tea"]
UNITS = {"unit": "decoder", "doses": [100], "behaviour": False}


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)  # models of the study are named relative to it


def injecting(source: dict[str, Any], **changes: Any) -> Config:
    """A study of self-report that injects a set of directions."""
    section = {"directions": "mine"} | UNITS | changes
    return load_study({"directions": {"mine": source}, "introspection": section})


def of_file(path: Path, **changes: Any) -> list[str]:
    return list(check_directions(injecting({"kind": "file", "path": str(path)}, **changes)))


@pytest.mark.parametrize("names", [NAMES, ["a/b", "a, b", "de l'été", "模型 $x_{", "../a"]])
def test_vectors_that_fit_are_no_problem(tmp_path: Path, names: list[str]) -> None:
    save_vectors(tmp_path / "mine.safetensors", names)
    assert of_file(tmp_path / "mine.safetensors") == []


@pytest.mark.parametrize(
    ("file", "changes", "line"),
    [
        ({"layer": 7}, {}, "its vectors belong to the output of layer 7, but steer_layer is"),
        ({"width": 5}, {}, "tensor 'bees' has shape [5], but the residual stream needs [128]"),
        ({"names": NAMES[:3]}, {}, "introspection.choices: 4 options, but 'mine' has 3 vectors ("),
        ({}, {"latents": 3}, "and introspection.latents is 3; lower `choices` (0 = no forced"),
        ({"names": ["tea"]}, {"choices": 0}, "'mine' has 1 vector ("),
        ({"names": ["tea", " "]}, {"choices": 0}, "the name ' ' is blank; name the direction"),
        ({"names": ["tea", "Tea "]}, {"choices": 0}, "'tea' and 'Tea ' would be two directions"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, file: dict[str, Any], changes: dict[str, Any], line: str
) -> None:
    content: dict[str, Any] = {"names": NAMES, **file}
    save_vectors(tmp_path / "mine.safetensors", **content)
    found = of_file(tmp_path / "mine.safetensors", **changes)
    assert len(found) == 2, "a line a model: planted and twin"
    assert all(line in one for one in found)
    assert of_file(tmp_path / "mine.safetensors", **changes | {"directions": None}) == []


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_vector_without_a_direction_is_named(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "mine.safetensors"
    save_vectors(path, NAMES)
    with safe_open(path, framework="numpy") as file:
        facts, vectors = file.metadata(), {name: file.get_tensor(name) for name in NAMES}
    save_file(vectors | {"iron": np.full_like(vectors["iron"], bad)}, path, facts)
    found = of_file(path)
    assert len(found) == 2
    assert all(f"{path}: tensor 'iron' is zero or not finite" in line for line in found)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float8_e4m3fn])
def test_vectors_in_a_type_that_numpy_lacks_pass_the_check(
    tmp_path: Path, kind: torch.dtype
) -> None:
    path = tmp_path / "mine.safetensors"
    save_vectors(path, NAMES)
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
        vectors = {name: file.get_tensor(name).to(kind) for name in NAMES}
    torch_save(vectors, path, facts)
    assert of_file(path) == []


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    missing = f"directions.mine.path: {path} does not exist (model "
    assert of_file(path) == [f"{missing}planted)", f"{missing}twin)"]
    path.write_text("version https://git-lfs.github.com/spec/v1")
    assert all("no safetensors file with vectors" in line for line in of_file(path))


def test_pairs_are_counted_by_direction(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    rows = [f"{name},{name} is it,this is not {number}" for number, name in enumerate(NAMES * 2)]
    pairs.write_text("\n".join(["direction,positive,negative", *rows]))
    contrast = {"kind": "contrast", "pairs": str(pairs)}
    assert list(check_directions(injecting(contrast))) == []
    (line,) = check_directions(injecting(contrast, choices=5))
    assert line.startswith("introspection.choices: 5 options, but 'mine' has 4 vectors (")
    pairs.write_text("direction,positive\ntea,x\n")
    (line,) = check_directions(injecting(contrast))
    assert "has columns" in line


def test_pairs_of_a_set_that_an_arm_steers_along_are_checked(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("direction,positive,negative\ntea,x,\n")
    study = load_study(
        {
            "directions": {"mine": {"kind": "contrast", "pairs": str(pairs)}},
            "arms": {"along": {"over": "latents", "trials": 1, "directions": "mine"}},
        }
    )
    (line,) = check_directions(study)
    assert line == f"directions.mine.pairs: {pairs}, line 2: a cell is empty; fill it in, or " + (
        "remove the pair"
    )


def test_a_file_is_needed_for_the_models_that_are_steered_along_it(tmp_path: Path) -> None:
    path = str(tmp_path / "{model}.safetensors")
    save_vectors(tmp_path / "twin.safetensors", NAMES)
    along = {"over": "latents", "trials": 1, "directions": "mine"}
    mine = {"directions": {"mine": {"kind": "file", "path": path}}}
    assert list(check_directions(load_study(mine | {"arms": {"along": along}}))) == [
        f"directions.mine.path: {tmp_path}/planted.safetensors does not exist (model planted)"
    ]
    study = load_study(mine | {"arms": {"along": along | {"models": ["twin"]}}})
    assert list(check_directions(study)) == []
    assert list(check_vector_widths(study, "twin", 128)) == []
    assert list(check_vector_widths(study, "planted", 64)) == []
    (line,) = check_vector_widths(study, "twin", 64)
    assert "has shape [128], but the residual stream needs [64] (model twin)" in line
