"""`snakemake verify`: every check passes here, fails when its part is broken, and names nobody."""

import getpass
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from esr.config import Config
from esr.config.files import study_config
from esr.engines.base import Generation, Intervention, Request
from esr.errors import EsrError
from esr.judges.base import Attempt, Judgment
from esr.verify import engines, premises
from esr.verify.issue import issue_block, machine_facts, without_names
from esr.verify.organism import BOOST, MODEL, SAMPLING, STUDY, Organism
from esr.verify.outcomes import NotRun, Outcome, run_checks, write_record
from helpers.checkout import REPO, load_script


@pytest.fixture(scope="module")
def organism(tmp_path_factory: pytest.TempPathFactory) -> Organism:
    return Organism(REPO, tmp_path_factory.mktemp("verify"))


@pytest.fixture
def broken(organism: Organism) -> Iterator[Organism]:
    """The organism, to be broken: its engine steers elsewhere until the end of the test."""
    engine: Any = organism.engine
    layer, sae = engine.steer_layer, engine.sae
    yield organism
    engine.steer_layer, engine.sae = layer, sae
    engine.__dict__.pop("_intervene", None)
    engine.__dict__.pop("generate_batch", None)


# What passes here


def test_the_reference_engine_computes_what_plain_pytorch_does(organism: Organism) -> None:
    found = engines.check_reference(organism)
    assert found.startswith("12 sequences as in plain PyTorch: activations within ")
    assert "greedy tokens equal" in found


def test_boosts_reach_the_model_and_a_boost_of_zero_does_not(organism: Organism) -> None:
    found = engines.check_canary(organism)
    assert found == f"a boost of {BOOST:g} changes 3 of 3 responses, a boost of 0 none"


def test_the_gate_passes_the_shipped_sae_and_refuses_a_permuted_one(organism: Organism) -> None:
    assert "with its decoder permuted (refused)" in premises.check_sae_gate(organism)


def test_judges_grade_a_response_whose_attempts_are_known(organism: Organism) -> None:
    assert premises.check_lexical_judge(organism).startswith("2 attempts, 0 and 100 points")
    assert premises.check_endpoint_judge(REPO).startswith("2 attempts, 0 and 100 points")


def test_the_round_trip_needs_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    before = dict(os.environ)
    assert premises.check_endpoint_judge(REPO).startswith("2 attempts")
    assert dict(os.environ) == before


# What fails


def test_an_engine_that_steers_another_layer_fails(broken: Organism) -> None:
    broken.engine.steer_layer = 1  # pyrefly: ignore[missing-attribute]
    with pytest.raises(EsrError, match="activations of the reference engine and of plain PyTorch"):
        engines.check_reference(broken)
    with pytest.raises(EsrError, match=r"under boost 327.2 of latent 435 is not the one of plain"):
        engines.compare_tokens(
            broken.engine, engines.plain_model(broken), broken.requests, "the reference engine"
        )


def test_an_engine_that_ablates_with_a_wrong_sign_fails(broken: Organism) -> None:
    broken.engine.sae = replace(broken.sae, W_enc=-broken.sae.W_enc)  # pyrefly: ignore[missing-attribute]
    with pytest.raises(EsrError, match="differ by"):
        engines.check_reference(broken)


def test_an_engine_that_never_steers_fails_the_canary(broken: Organism) -> None:
    broken.engine._intervene = lambda _: nullcontext()  # pyrefly: ignore[missing-attribute]
    with pytest.raises(EsrError, match="leaves 3 of 3 responses unchanged: steering does not"):
        engines.check_canary(broken)


def test_an_engine_that_steers_at_boost_zero_fails_the_canary(broken: Organism) -> None:
    true = broken.engine.generate_batch  # pyrefly: ignore[missing-attribute]

    def always(group: Sequence[Request], sampling: Any) -> list[Generation]:
        return list(
            true(
                [
                    replace(r, intervention=Intervention(435, BOOST))
                    if r.intervention.latent is not None
                    else r
                    for r in group
                ],
                sampling,
            )
        )

    broken.engine.generate_batch = always  # pyrefly: ignore[missing-attribute]
    with pytest.raises(EsrError, match="a boost of 0 changes a response"):
        engines.check_canary(broken)


def test_an_engine_that_writes_nothing_fails(broken: Organism) -> None:
    broken.engine.generate_batch = (  # pyrefly: ignore[missing-attribute]
        lambda group, _: [Generation((), "error") for _ in group]
    )
    with pytest.raises(EsrError, match="wrote no token"):
        engines.compare_tokens(
            broken.engine, engines.plain_model(broken), broken.requests, "the reference engine"
        )


def test_an_sae_of_another_model_fails_the_gate(organism: Organism) -> None:
    rows = torch.randperm(organism.sae.d_sae, generator=torch.Generator().manual_seed(1))
    other = replace(organism.sae, W_dec=organism.sae.W_dec[rows])
    wrong = SimpleNamespace(**{name: getattr(organism, name) for name in GATE}, sae=other)
    with pytest.raises(EsrError, match="of the variance at layer 2 unexplained"):
        premises.check_sae_gate(wrong)  # pyrefly: ignore[bad-argument-type]


def test_a_gate_without_a_limit_fails(organism: Organism, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(premises, "fit_findings", lambda *_: [])
    with pytest.raises(EsrError, match=r"permuted passes the gate.*would stop no misfit"):
        premises.check_sae_gate(organism)


GATE = ("config", "manifest", "requests", "engine")


class Judge:
    """A judge with the same judgment for everything."""

    def __init__(self, judgment: Judgment) -> None:
        self.judgment = judgment

    def judge(self, inputs: Sequence[Any]) -> list[Judgment]:
        return [self.judgment] * len(inputs)


@pytest.mark.parametrize(
    ("judgment", "message"),
    [
        (Judgment("unparsable"), "status 'unparsable' in place of two attempts"),
        (Judgment("ok", (Attempt(0, 10, 0),)), r"attempts \[\(0, 10, 0\)\] in place of 0 points"),
        (Judgment("ok", (Attempt(0, 34, 100), Attempt(35, 108, 0))), "in place of 0 points"),
    ],
)
def test_a_judge_that_grades_otherwise_fails(judgment: Judgment, message: str) -> None:
    with pytest.raises(EsrError, match=message):
        premises.check_judgment(Judge(judgment), "x")  # pyrefly: ignore[bad-argument-type]


def test_an_address_with_another_judgment_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    serve = premises.serve_judge
    monkeypatch.setattr(premises, "serve_judge", lambda listed: serve([("no such text", 5)]))
    with pytest.raises(EsrError, match="judge over HTTP"):
        premises.check_endpoint_judge(REPO)


def test_a_disk_that_is_too_small_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1e3))
    with pytest.raises(EsrError, match="results need"):
        premises.check_disk_and_memory(study_config(REPO, STUDY))


def test_packages_that_differ_from_their_pins_fail(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["numpy==1.0.0", "no-such-package==2.0.0"]\n'
    )
    with pytest.raises(EsrError, match=r"2 of 2 .*numpy .*, not 1.0.0; no-such-package is missing"):
        premises.check_main_environment(tmp_path)
    assert "packages as pinned" in premises.check_main_environment(REPO)


def test_an_environment_fails_only_if_it_is_there_and_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "serve"
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[project]\ndependencies = ["vllm==0.32.0"]\n')
    with pytest.raises(NotRun, match=r"not installed .*needed by vLLM on GPUs"):
        premises.check_environment("serve", tmp_path)
    facts = folder / ".venv/lib/python3.11/site-packages/vllm-0.1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Name: vllm\nVersion: 0.1.0\n")
    (folder / ".venv/bin").mkdir()
    (folder / ".venv/bin/python").touch()
    with pytest.raises(EsrError, match=r"has vllm 0\.1\.0, not 0\.32\.0 as pinned"):
        premises.check_environment("serve", tmp_path)


def test_vllm_is_not_run_without_its_environment(organism: Organism, tmp_path: Path) -> None:
    with pytest.raises(NotRun, match="serve-cpu is not installed"):
        engines.check_vllm(organism, tmp_path)


def test_vllm_is_held_against_plain_pytorch(organism: Organism, tmp_path: Path) -> None:
    """The reference engine stands in for vLLM; tests/engines holds vLLM itself to it."""
    (tmp_path / "serve-cpu/.venv/bin").mkdir(parents=True)
    (tmp_path / "serve-cpu/.venv/bin/python").touch()
    opened: list[Config] = []

    def stand_in(config: Config, *_: Any) -> Any:
        opened.append(config)
        return organism.engine

    good = replace(organism, open_with=stand_in)
    assert "greedy tokens as in plain PyTorch" in engines.check_vllm(good, tmp_path)
    (config,) = opened
    assert config.engine.name == "vllm"
    assert config.environment(MODEL) == "serve-cpu"
    assert engines.vllm_config(organism, on_gpu=True).environment(MODEL) == "serve"


# The whole


def test_one_failure_stops_no_other_check() -> None:
    def unlucky() -> str:
        raise EsrError("the disk is\n full")

    def absent() -> str:
        raise NotRun("no GPU")

    def buggy() -> str:
        raise ZeroDivisionError("division by zero")

    found = run_checks({"a": unlucky, "b": absent, "c": buggy, "d": lambda: "fine"})
    assert [(one.status, one.found) for one in found] == [
        ("failed", "the disk is full"),
        ("not run", "no GPU"),
        ("failed", "ZeroDivisionError: division by zero"),
        ("ok", "fine"),
    ]


def test_the_block_names_versions_and_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-very-secret")
    monkeypatch.chdir(REPO)
    where = f"{REPO}/results/x.json and {Path.home()}/.cache/y and /data/team/z.bin"
    proxy = "http://alice:hunter2@proxy:3128"
    told = f"{where} on {socket.gethostname()} with sk-very-secret through {proxy} | a pipe"
    block = issue_block([Outcome("disk", "failed", told, 1.5)], machine_facts(STUDY, "CPU"))
    assert "### snakemake verify: 1 failed" in block
    assert "torch 2." in block
    assert "./results/x.json and ~/.cache/y and <folder>/z.bin" in block
    hidden = [str(REPO), str(Path.home()), "/data/team", "sk-very", "hunter2", "alice"]
    assert not [text for text in hidden if text in block]
    assert f"on {socket.gethostname()} " not in block
    assert "&#124; a pipe" in block


def test_the_name_of_a_user_is_taken_out_only_as_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    assert without_names("ann: an annotated plan of ann") == "<name>: an annotated plan of <name>"
    address = "https://huggingface.co/a/b/c"
    assert without_names(address) == address


def test_a_user_without_a_name_or_a_home_gets_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that runs under a number which no file of it names."""

    def unknown(*_: object) -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(getpass, "getuser", unknown)
    monkeypatch.setattr(Path, "home", homeless)
    assert without_names("fine in /data/team/z.bin") == "fine in <folder>/z.bin"


def test_a_failed_check_fails_the_job_after_both_files_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = load_script("verify")
    monkeypatch.setattr(module, "config_of", lambda job: study_config(REPO, STUDY))
    checks: dict[str, Any] = {"good": lambda: "fine", "bad": lambda: 1 / 0}
    monkeypatch.setattr(module, "checks_of", lambda *_: checks)
    params = SimpleNamespace(
        environments=[], record=tmp_path / "new/verify.json", block=tmp_path / "new/verify.md"
    )
    with pytest.raises(EsrError, match="1 ok, 1 failed"):
        module.main(SimpleNamespace(params=params))
    record = json.loads(params.record.read_text())
    assert [one["status"] for one in record["checks"]] == ["ok", "failed"]
    assert "ZeroDivisionError" in params.block.read_text()
    checks.pop("bad")
    module.main(SimpleNamespace(params=params))
    assert "snakemake verify: 1 ok" in params.block.read_text()


def test_every_environment_and_part_has_its_check(organism: Organism) -> None:
    names = list(load_script("verify").checks_of(organism.config, organism, ["serve", "finetune"]))
    assert names == [
        *("environment", "envs/serve", "envs/finetune", "disk and memory", "reference engine"),
        *("steering canary", "SAE gate", "judge, lexical", "judge, over HTTP", "vLLM"),
    ]


def test_records_are_json(tmp_path: Path) -> None:
    write_record([Outcome("a", "ok", "é", 0.1)], {"cores": np.int64(2).item()}, tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["machine"] == {"cores": 2}
    assert SAMPLING.temperature == 0
