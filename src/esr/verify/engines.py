"""Checks of engines: against plain PyTorch, the canary of steering, vLLM against the reference."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from esr.assets.environments import ENVIRONMENTS, sync_command
from esr.config import Config
from esr.config.files import study_config
from esr.engines.base import EncodeRequest, Engine, Intervention, Request, generate_all
from esr.engines.hosts.connection import HostConnection
from esr.errors import EsrError
from esr.verify.organism import BOOST, LATENT, MODEL, SAMPLING, STUDY, Organism
from esr.verify.outcomes import NotRun
from esr.verify.plain import PlainModel

TOLERANCE = 1e-3
"""Largest difference of activations, relative to the largest one: rounding of float32."""
TIE = 1e-2
"""Difference of two logits below which rounding may decide which token is the greater one."""

REPORT = "open an issue with this block: results of this machine would be wrong"


def plain_model(organism: Organism) -> PlainModel:
    """The independent computation for the organism."""
    settings = organism.config.models[MODEL]
    assert settings.sae.path is not None, "the shipped SAE is a folder"
    return PlainModel.load(
        organism.source,
        organism.root / settings.sae.path,
        int(organism.cfg()["k"]),
        settings.steer_layer,
    )


def check_reference(organism: Organism) -> str:
    """Compare the reference engine with plain PyTorch: activations, and greedy tokens.

    Raises:
        EsrError: they differ by more than rounding.
    """
    plain, requests = plain_model(organism), organism.requests
    found = organism.engine.encode(
        [EncodeRequest(r.tokens, 0, r.intervention) for r in requests], pool=None
    )
    worst = 0.0
    for request, acts in zip(requests, found, strict=True):
        h = plain.run(list(request.tokens), request.intervention)[1]
        expected = plain.encode(h).numpy()
        worst = max(worst, float(np.abs(acts - expected).max() / np.abs(expected).max()))
    if not worst <= TOLERANCE:
        raise EsrError(
            f"activations of the reference engine and of plain PyTorch differ by {worst:.1e} "
            f"(limit {TOLERANCE:g}); {REPORT}"
        )
    tokens = compare_tokens(organism.engine, plain, requests, "the reference engine")
    return (
        f"{len(requests)} sequences as in plain PyTorch: activations within {worst:.0e}, "
        f"{tokens} greedy tokens equal"
    )


def compare_tokens(
    engine: Engine, plain: PlainModel, requests: Sequence[Request], name: str
) -> int:
    """Compare greedy tokens of an engine with the largest logits of plain PyTorch.

    The logits are those after the engine's own tokens, so that one rounding at a tie does not
    count again at every later token.

    Returns:
        Number of tokens compared.

    Raises:
        EsrError: a token is not the largest one, nor nearly so.
    """
    compared = 0
    for request, one in zip(requests, generate_all(engine, requests, SAMPLING), strict=True):
        if not one.tokens:
            raise EsrError(f"{name} wrote no token ({one.finish_reason}); {REPORT}")
        sequence = [*request.tokens, *one.tokens]
        logits = plain.run(sequence[:-1], request.intervention)[0][len(request.tokens) - 1 :]
        chosen = logits.gather(-1, torch.tensor(one.tokens)[:, None])[:, 0]
        behind = logits.amax(dim=-1) - chosen
        if not bool((behind <= TIE).all()):
            place = int((~(behind <= TIE)).nonzero()[0])
            raise EsrError(
                f"token {place} of {name} under {shown(request.intervention)} is not the one of "
                f"plain PyTorch: its logit is {float(behind[place]):.2g} below; {REPORT}"
            )
        compared += len(one.tokens)
    return compared


def check_canary(organism: Organism) -> str:
    """Compare responses without steering, with boost 0, and with a boost at the threshold.

    Raises:
        EsrError: boost 0 changes a response, or the boost changes none.
    """
    plain = [r for r in organism.requests if r.intervention == Intervention()]
    zero, boosted = (
        [Request(r.tokens, r.seed, Intervention(LATENT, boost)) for r in plain]
        for boost in (0.0, BOOST)
    )
    engine = organism.engine
    unsteered, same, steered = (
        [one.tokens for one in generate_all(engine, requests, SAMPLING)]
        for requests in (plain, zero, boosted)
    )
    if unsteered != same:
        raise EsrError(f"a boost of 0 changes a response, which it must not; {REPORT}")
    unchanged = sum(a == b for a, b in zip(unsteered, steered, strict=True))
    if unchanged:
        raise EsrError(
            f"a boost of {BOOST:g} leaves {unchanged} of {len(plain)} responses unchanged: "
            f"steering does not reach the model; {REPORT}"
        )
    return f"a boost of {BOOST:g} changes {len(plain)} of {len(plain)} responses, a boost of 0 none"


def check_vllm(organism: Organism, environments: Path = ENVIRONMENTS) -> str:
    """Compare vLLM with plain PyTorch, in the environment that this machine has for it.

    Raises:
        NotRun: no environment is installed.
        EsrError: tokens differ by more than rounding, or vLLM does not start.
    """
    config = vllm_config(organism, on_gpu=torch.cuda.is_available())
    environment = environments / str(config.environment(MODEL))
    if not (environment / ".venv/bin/python").is_file():
        raise NotRun(f"{environment} is not installed (`{sync_command(environment)}`)")
    engine = organism.open(config)
    try:
        tokens = compare_tokens(engine, plain_model(organism), organism.requests, "vLLM")
    finally:
        if isinstance(engine, HostConnection):
            engine.close()
    return f"{tokens} greedy tokens as in plain PyTorch, in {environment}"


def vllm_config(organism: Organism, on_gpu: bool) -> Config:
    """The organism's study with vLLM as its engine, on the device that there is."""
    engine = {"name": "vllm", "device": "auto" if on_gpu else "cpu", "vllm": {"eager": True}}
    config = study_config(organism.root, STUDY, engine=engine)
    if not on_gpu:
        return config
    jobs = [size.model_copy(update={"gpus": 1}) for size in config.jobs]
    return config.model_copy(update={"jobs": jobs})


def shown(change: Intervention) -> str:
    """An intervention in words."""
    steered = f"boost {change.boost:g} of latent {change.latent}" if change.latent else ""
    ablated = f"ablation of {list(change.ablated)}" if change.ablated else ""
    return " and ".join(part for part in (steered, ablated) if part) or "no intervention"
