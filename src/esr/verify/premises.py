"""Checks around the engines: does the SAE gate decide, do judges grade, disk, environments."""

import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from esr.assets.environments import ENVIRONMENTS, check_environments, pins, sync_command
from esr.assets.sae_fit import (
    Text,
    fit_findings,
    load_layers,
    measure_fit,
    measured_layers,
    refuse_findings,
)
from esr.assets.sae_origin import SaeOrigin
from esr.config import Config, OpenAiJudgeConfig
from esr.engines.base import Intervention, generate_all
from esr.errors import EsrError
from esr.judges import open_judge
from esr.judges.base import Judge, JudgeInput
from esr.planning.check import check_machines
from esr.verify.endpoint import serve_judge
from esr.verify.organism import MODEL, SAMPLING, Organism
from esr.verify.outcomes import NotRun

PROMPT = "Explain how to compose a melody."
OFF_TOPIC = "cast the trout rod into the river."
RESTART = "wait, that is not right."
ON_TOPIC = "strum the guitar and sing the melody with a chord."
GRADED = JudgeInput(PROMPT, f"{OFF_TOPIC} {RESTART} {ON_TOPIC}")
"""A response that drifts, restarts and recovers, in the organism's language."""


def check_sae_gate(organism: Organism) -> str:
    """Pass the shipped SAE through the gate of the study, and one whose decoder is permuted.

    Raises:
        EsrError: the gate refuses the first or passes the second.
    """
    settings = organism.config.models[MODEL]
    layers = measured_layers(
        settings.read_layer, settings.steer_layer, organism.manifest["n_layers"]
    )
    model = load_layers(organism.manifest, settings.dtype, "cpu", max(layers) + 1)
    unsteered = [r for r in organism.requests if r.intervention == Intervention()]
    answers = generate_all(organism.engine, unsteered, SAMPLING)
    texts = [
        Text((*request.tokens, *answer.tokens), len(request.tokens))
        for request, answer in zip(unsteered, answers, strict=True)
    ]
    rows = torch.randperm(organism.sae.d_sae, generator=torch.Generator().manual_seed(0))
    permuted = replace(organism.sae, W_dec=organism.sae.W_dec[rows.to(organism.sae.W_dec.device)])
    found = {}
    for name, sae in (("shipped", organism.sae), ("permuted", permuted)):
        table = measure_fit(model, sae.to("cpu"), texts, layers, organism.config.sae_fit.tokens)
        findings = list(fit_findings(table, SaeOrigin(), organism.config, MODEL))
        fvu = float(table.set_index("layer").loc[settings.read_layer, "fvu"])
        found[name] = fvu, findings
    refuse_findings(found["shipped"][1], settings.accept_sae, MODEL)
    if not any(finding.name == "fvu" for finding in found["permuted"][1]):
        raise EsrError(
            "an SAE whose decoder rows are permuted passes the gate, with "
            f"{found['permuted'][0]:.2f} of the variance unexplained (limit: sae_fit.max_fvu "
            f"{organism.config.sae_fit.max_fvu:g}); the gate would stop no misfit"
        )
    return (
        f"unexplained variance {found['shipped'][0]:.2f} with the shipped SAE (passes), "
        f"{found['permuted'][0]:.1f} with its decoder permuted (refused)"
    )


def check_lexical_judge(organism: Organism) -> str:
    """Grade a response whose two attempts are known with the organism's judge.

    Raises:
        EsrError: another number of attempts, or other scores.
    """
    settings = organism.config.judging.judges[organism.config.judging.primary]
    path = organism.root / settings.files["lexicon"]
    judge = open_judge(settings.model_copy(update={"lexicon": path}))
    return check_judgment(judge, organism.config.judging.primary)


def check_endpoint_judge(root: Path) -> str:
    """Grade the same response over HTTP: SDK, rubric, journal and parser, on this machine alone.

    Args:
        root: Folder of the project.

    Raises:
        EsrError: the judgment is not the one that the stand-in wrote.
    """
    quoted = [(f"{OFF_TOPIC}", 0), (f"{RESTART} {ON_TOPIC}", 100)]
    with serve_judge(quoted) as url, _without_proxies(), tempfile.TemporaryDirectory() as folder:
        settings = OpenAiJudgeConfig(
            kind="openai",
            model="stand-in",
            rubric=root / "resources/rubrics/blind.yaml",
            key_variable=None,
            base_url=url,
            retries=0,
            timeout=20,
        )
        judge = open_judge(settings, Path(folder) / "replies.jsonl")
        return check_judgment(judge, "over HTTP")


def check_judgment(judge: Judge, name: str) -> str:
    """Compare a judge's attempts with those of `GRADED`.

    Raises:
        EsrError: they differ.
    """
    (judgment,) = judge.judge([GRADED])
    if judgment.status != "ok":
        raise EsrError(f"judge {name}: status {judgment.status!r} in place of two attempts")
    spans = [(a.start, a.end, a.score) for a in judgment.attempts]
    texts = [GRADED.response[a:b].rstrip(" .") for a, b, _ in spans]
    wanted = [OFF_TOPIC.rstrip("."), f"{RESTART} {ON_TOPIC}".rstrip(".")]
    if texts != wanted or [score for *_, score in spans] != [0, 100]:
        raise EsrError(
            f"judge {name}: attempts {spans} in place of 0 points before the restart and 100 after"
        )
    return "2 attempts, 0 and 100 points, at the right characters"


@contextmanager
def _without_proxies() -> Iterator[None]:
    """Reach this machine's own address directly, whatever proxy the environment names."""
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    os.environ.update(dict.fromkeys(before, "127.0.0.1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def check_disk_and_memory(config: Config) -> str:
    """Disk, GPU memory, partitions and walltime of the study.

    Raises:
        EsrError: what is too small.
    """
    return "; ".join(check_machines(config)).removeprefix("machines: ")


def check_main_environment(project: Path = Path()) -> str:
    """Compare the installed packages with the pins of the project.

    Raises:
        EsrError: a package is missing or has another version.
    """
    pinned = pins(project)
    wrong = [
        f"{name} {found or 'is missing'}, not {wanted}"
        for name, wanted in pinned.items()
        if (found := _installed(name)) != wanted
    ]
    if wrong:
        raise EsrError(
            f"{len(wrong)} of {len(pinned)} packages differ from their pins: {'; '.join(wrong)}. "
            "Run `uv sync` (or install requirements.lock)"
        )
    return f"Python {platform.python_version()}, {len(pinned)} packages as pinned"


def _installed(name: str) -> str | None:
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        return None


def check_environment(name: str, folder: Path = ENVIRONMENTS) -> str:
    """Compare an environment of `envs/` with its pins.

    Raises:
        NotRun: it is not installed; a study that needs it installs it.
        EsrError: it differs from its pins.
    """
    place = folder / name
    if not (place / ".venv/bin/python").is_file():
        raise NotRun(f"not installed (`{sync_command(place)}`; needed by {needed_by(name)})")
    wrong: Sequence[str] = list(check_environments([name], folder))
    if wrong:
        raise EsrError("; ".join(wrong))
    return f"{len(pins(place))} packages as pinned"


def needed_by(environment: str) -> str:
    """What an environment is for, in words."""
    return {
        "serve": "vLLM on GPUs",
        "serve-cpu": "vLLM on a CPU",
        "finetune": "fine-tuning",
    }.get(environment, "no rule")
