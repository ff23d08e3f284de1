"""What `gpu_session.py` measures on the reference engine: parity and speed, with random weights."""

import copy
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from esr.assets.sae import Sae
from esr.engines.base import EncodeRequest, Intervention, Request, Sampling, Window, generate_all
from esr.engines.transformers import DTYPES, TransformersEngine

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Size:
    """A random Llama and SAE, and what is computed with them."""

    layers: int
    d_model: int
    heads: int
    vocabulary: int
    d_sae: int
    requests: int
    prompt: int
    new: int
    ablated: int
    rounds: int

    @property
    def layer(self) -> int:
        """Layer that is steered and read."""
        return self.layers // 2

    @property
    def speed_bound(self) -> str:
        """Least speed under an intervention, as a share of that without; none of a tiny model."""
        return "" if self.d_model < 1024 else f">= {RELATIVE:g}"


PARITY = Size(6, 512, 8, 4096, 8192, 8, 32, 16, 26, 1)
SPEED = Size(32, 4096, 32, 32000, 65536, 256, 64, 64, 26, 3)  # as Llama 3.1 8B; the authors' SAE
TINY = Size(2, 64, 2, 128, 256, 8, 12, 8, 4, 2)

LOGPROBS = {"float32": 1e-3, "bfloat16": 0.15}
"""Largest difference of log-probabilities from float32 on the CPU (nats)."""
ACTIVATIONS = {"float32": 1e-4, "bfloat16": 3e-2}
"""Largest relative error of activations, norm of the difference over norm."""
RELATIVE = 0.95
"""Least speed under an intervention, as a share of that without."""
PLAIN = "transformers without our code"
SAME = "greedy tokens before the first that differs"
"""What `agreeing` measures."""
EFFECT = "effect of the intervention on log-probability"
"""Without one, parity would say nothing."""


@dataclass(frozen=True)
class Row:
    """A measured value."""

    part: str
    case: str
    quantity: str
    value: float | None
    unit: str = ""
    bound: str = ""
    status: str = "ok"


def row(part: str, case: str, quantity: str, value: float, unit: str, bound: str = "") -> Row:
    """A value and whether it lies within its bound."""
    relation, _, number = bound.partition(" ")
    inside = {"": True, "<=": value <= float(number or 0), ">=": value >= float(number or 0)}
    return Row(
        part, case, quantity, float(value), unit, bound, "ok" if inside[relation] else "outside"
    )


# Random models


def random_model(size: Size, device: str, dtype: str) -> LlamaForCausalLM:
    """A random Llama, made on its device."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.d_model,
        intermediate_size=int(3.5 * size.d_model),
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=max(size.heads // 4, 1),
        max_position_embeddings=1024,
        initializer_range=0.8 / size.d_model**0.5,
        tie_word_embeddings=False,
    )
    with torch.device(device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(DTYPES[dtype])
        try:
            model = LlamaForCausalLM(config)
        finally:
            torch.set_default_dtype(before)
    model.generation_config = GenerationConfig(eos_token_id=0, pad_token_id=0)
    return model


def random_sae(size: Size, device: str) -> Sae:
    """A random JumpReLU SAE in float32; about a fifth of its latents are active."""
    generator = torch.Generator(device).manual_seed(1)
    W_dec = torch.randn(size.d_sae, size.d_model, generator=generator, device=device)
    W_dec /= W_dec.norm(dim=1, keepdim=True)
    zeros = torch.zeros(size.d_sae, device=device)
    return Sae(
        "jumprelu",
        W_dec.T.contiguous(),
        zeros,
        W_dec,
        torch.zeros(size.d_model, device=device),
        threshold=zeros + 0.3,
    )


def engine_of(model: LlamaForCausalLM, sae: Sae, size: Size) -> TransformersEngine:
    """The reference engine for a model and SAE on one device."""
    return TransformersEngine(model, sae, size.layer, size.layer, batch_size=size.requests)


def prompts_of(size: Size) -> list[tuple[int, ...]]:
    """Prompts of random tokens, all of one length."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(1, size.vocabulary, (size.requests, size.prompt))
    return [tuple(one) for one in drawn.tolist()]


def interventions_of(size: Size) -> dict[str, Callable[[int], Intervention]]:
    """Intervention of request i, by case; every request has its own latent and boost."""
    latents = tuple(range(size.ablated))
    later = Window(size.prompt, size.prompt + size.new // 2)

    def boosted(i: int, **others: Any) -> Intervention:
        return Intervention(size.ablated + i, 4.0 + 0.1 * i, **others)

    return {
        "no intervention": lambda _: Intervention(),
        "boost": boosted,
        "boost in a window": lambda i: boosted(i, window=later),
        "ablation": lambda _: Intervention(ablated=latents),
        "half ablation": lambda _: Intervention(ablated=latents, strength=0.5),
        "boost and ablation": lambda i: boosted(i, ablated=latents),
    }


# Parity


@dataclass(frozen=True)
class Computed:
    """What an engine computes for the requests of a case."""

    tokens: list[tuple[int, ...]]
    logprobs: np.ndarray
    activations: np.ndarray


def compute(
    engine: TransformersEngine, size: Size, intervene: Callable[[int], Intervention]
) -> Computed:
    """Greedy tokens, log-probabilities of the first new token, activations of the prompts."""
    prompts = prompts_of(size)
    requests = [Request(prompt, i, intervene(i)) for i, prompt in enumerate(prompts)]
    first: list[Tensor] = []

    def record(_model: Any, _inputs: Any, output: Any) -> None:
        if not first:
            first.append(output.logits[:, -1].float().log_softmax(-1).cpu())

    hook = engine.model.register_forward_hook(record)
    try:
        done = generate_all(engine, requests, Sampling(0, size.new))
    finally:
        hook.remove()
    encoded = engine.encode(
        [EncodeRequest(prompt, 0, intervene(i)) for i, prompt in enumerate(prompts)]
    )
    return Computed([one.tokens for one in done], first[0].numpy(), np.stack(encoded))


def agreeing(wanted: Sequence[Sequence[int]], found: Sequence[Sequence[int]]) -> float:
    """Share of wanted tokens before the first that differs (percent)."""
    same = 0
    for one, other in zip(wanted, found, strict=True):
        pairs = zip(one, other, strict=False)
        same += next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
    return 100 * same / sum(map(len, wanted))


def compare(case: str, dtype: str, reference: Computed, found: Computed) -> Iterator[Row]:
    """Differences of an engine from float32 on the CPU."""
    name = f"{case}, {dtype}"
    yield row("parity", name, SAME, agreeing(reference.tokens, found.tokens), "%")
    apart = float(np.abs(reference.logprobs - found.logprobs).max())
    yield row("parity", name, "log-probability", apart, "nats", f"<= {LOGPROBS[dtype]:g}")
    norm = float(np.linalg.norm(reference.activations))
    error = float(np.linalg.norm(reference.activations - found.activations)) / norm
    yield row("parity", name, "activations", error, "relative error", f"<= {ACTIVATIONS[dtype]:g}")


def measure_parity(size: Size, device: str) -> Iterator[Row]:
    """The reference engine on a device against itself on the CPU in float32, same weights."""
    for dtype in LOGPROBS:
        rounded: Any = random_model(size, "cpu", "float32")
        rounded = rounded.to(DTYPES[dtype])
        on_cpu = engine_of(copy.deepcopy(rounded).float(), random_sae(size, "cpu"), size)
        here = engine_of(rounded.to(device), random_sae(size, "cpu").to(device), size)
        plain = None
        for case, intervene in interventions_of(size).items():
            reference = compute(on_cpu, size, intervene)
            yield from compare(case, dtype, reference, compute(here, size, intervene))
            plain = reference if plain is None else plain
            effect = float(np.abs(reference.logprobs - plain.logprobs).max())
            # A window begins after the prompt, so the first token does not show it.
            least = "" if reference is plain or "window" in case else f">= {2 * LOGPROBS[dtype]:g}"
            yield row("parity", f"{case}, {dtype}", EFFECT, effect, "nats", least)


# Speed


def seconds_of(work: Callable[[], Any], device: str) -> float:
    """Wall time of some work, with what it left to the device."""
    finish = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    finish()
    begin = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - begin


def in_turn(
    modes: dict[str, Callable[[], Any]], rounds: int, device: str
) -> dict[str, list[float]]:
    """Seconds of each mode, round by round; the modes take turns, after a round to warm up."""
    found: dict[str, list[float]] = {name: [] for name in modes}
    for number in range(rounds + 1):
        for name, work in modes.items():
            seconds = seconds_of(work, device)
            log.info("round %d, %s: %.2f s", number, name, seconds)
            if number:
                found[name].append(seconds)
    return found


def speed_rows(
    part: str, seconds: dict[str, list[float]], tokens: int, base: str, bound: str = ""
) -> Iterator[Row]:
    """Tokens per second of each mode, and the median over rounds of its ratio to the base."""
    for name, times in seconds.items():
        yield row(part, name, "tokens", tokens / float(np.median(times)), "per second")
        if name != base:
            ratio = float(np.median(np.array(seconds[base]) / np.array(times)))
            yield row(part, name, f"speed relative to {base}", ratio, "", bound)


def measure_speed(size: Size, device: str, engine: TransformersEngine) -> Iterator[Row]:
    """Generation with as many different directions and boosts as requests, against none."""
    prompts = prompts_of(size)
    tokens = torch.tensor(prompts, device=device)
    engine.stop_tokens = (-1,)  # never drawn, so that every response has the same length

    def plain() -> None:
        length = {"min_new_tokens": size.new, "max_new_tokens": size.new, "do_sample": False}
        engine.model.generate(tokens, attention_mask=torch.ones_like(tokens), **length)

    def ours(intervene: Callable[[int], Intervention]) -> Callable[[], Any]:
        requests = [Request(prompt, i, intervene(i)) for i, prompt in enumerate(prompts)]
        return lambda: generate_all(engine, requests, Sampling(0, size.new))

    modes: dict[str, Callable[[], Any]] = {PLAIN: plain}
    modes |= {name: ours(intervene) for name, intervene in interventions_of(size).items()}
    seconds = in_turn(modes, size.rounds, device)
    n = size.requests * size.new
    yield from speed_rows("generation", {PLAIN: seconds.pop(PLAIN)}, n, PLAIN)
    yield from speed_rows("generation", seconds, n, "no intervention", size.speed_bound)


def measure_encoding(size: Size, device: str, engine: TransformersEngine) -> Iterator[Row]:
    """Encoding of all latents, pooled over positions, against reading the prompts alone."""
    prompts = prompts_of(size)
    tokens = torch.tensor(prompts, device=device)

    def read() -> None:
        with torch.inference_mode():
            engine.model(input_ids=tokens, use_cache=False, logits_to_keep=1)

    requests = [EncodeRequest(prompt) for prompt in prompts]
    modes = {"prompts alone": read, f"{size.d_sae} latents": lambda: engine.encode(requests)}
    seconds = in_turn(modes, size.rounds, device)
    n = size.requests * size.prompt
    yield from speed_rows("encoding", seconds, n, "prompts alone")


def measure_engine(size: Size, device: str) -> Iterator[Row]:
    """Speed of generation and encoding, and the memory of both."""
    dtype = "bfloat16" if device.startswith("cuda") else "float32"
    engine = engine_of(random_model(size, device, dtype), random_sae(size, device), size)
    for part, measure in {"generation": measure_speed, "encoding": measure_encoding}.items():
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
        yield from measure(size, device, engine)
        if device.startswith("cuda"):
            peak = torch.cuda.max_memory_allocated() / 2**30
            yield row(part, "all", "peak memory of the device", peak, "GiB")
