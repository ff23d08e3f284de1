"""The vLLM engine against the reference: same tokens, log-probabilities and activations.

Real vLLM with its CPU backend, float32, greedy. It is imported once, and each engine is a fork.
"""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonschema import validate
from safetensors.torch import save_file

from esr.assets.sae import Activation, Sae
from esr.directions.sources import random_directions
from esr.engines.base import (
    EncodeRequest,
    Generation,
    Intervention,
    Operation,
    Pool,
    Request,
    Sampling,
    Window,
    generate,
    generate_all,
    new_id,
)
from esr.engines.batch import SMALL_BATCH
from esr.engines.hosts.linger import CPU, Stay
from esr.engines.journaled import generate_journaled
from esr.engines.readouts import ReadoutRequest
from esr.engines.transformers import TransformersEngine
from esr.engines.vllm.client import VllmEngine
from esr.engines.vllm.environment import launcher, pinned_version
from esr.engines.vllm.messages import Setup
from esr.errors import EsrError
from esr.journal import Journal, read_journal
from esr.judges.base import JudgeInput
from esr.judges.llm import CachedLlm
from esr.judges.local import LocalModel
from esr.judges.parse import failure_of_judgment
from esr.judges.replies import is_reply
from esr.judges.rubric_judge import LlmJudge
from esr.judges.rubrics import read_rubric
from esr.judges.stream import open_stream
from esr.judges.tasks import LlmRater
from helpers.checkout import REPO
from helpers.echo_host import a_run
from helpers.local_judge import judge_settings, local_model, tiny_judge
from helpers.tiny import STOP, VOCABULARY, tiny_model, tiny_multimodal_model
from helpers.vllm_hosts import ENVIRONMENT, ForkServer, launch_v2
from helpers.vllm_logprobs import FORKED_WORKERS, GeneratedWithLogprobs, GenerateWithLogprobs

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(shutil.which("uv") is None, reason="uv installs the environment"),
]

STEER, READ, D_MODEL, D_SAE = 1, 2, 64, 256
DIRECTIONS = random_directions("random", [3], torch.tensor([1.0]), D_MODEL, seed=46)
GREEDY = Sampling(temperature=0, max_new_tokens=24)
ALL = tuple(range(0, D_SAE, 8))
INTERVENTIONS = [
    Intervention(),
    Intervention(3, 4.0),
    Intervention(100, -3.0),
    Intervention(ablated=ALL),
    Intervention(7, 3.0, ablated=ALL),
    Intervention(8, 6.0, ablated=(8, 9, 17, 200)),
    Intervention(3, 5.0, window=Window(2, 14)),
    Intervention(7, 4.0, ablated=ALL, strength=0.5, window=Window(12)),
    Intervention(3, 4.0, ablated=ALL, directions="random"),
    Intervention(operations=tuple(Operation("clamp", latent, 1.5) for latent in ALL)),
    Intervention(
        3,
        2.0,
        operations=(
            Operation("add", 9, 3.0, 0, Window(2)),
            Operation("add", 3, -2.0, 0, Window(2), "random"),
            Operation("add", 9, 3.0, 3),
            Operation("clamp", 8, 2.0, 2, Window(0, 30)),
            Operation("ablate", 16, 0.5, 2, Window(0, 30)),
        ),
    ),
]
IDLE = Intervention(
    5, 0.0, operations=(Operation("add", 9, 0.0, 0), Operation("clamp", 8, 3.0, 2, Window(500)))
)


def tokens(length: int, seed: int) -> tuple[int, ...]:
    draw = torch.Generator().manual_seed(seed)
    return (2, *torch.randint(3, VOCABULARY, (length - 1,), generator=draw).tolist())


REQUESTS = tuple(
    Request(tokens(length, seed=i), 44 + i, INTERVENTIONS[i % len(INTERVENTIONS)])
    for i, length in enumerate([5, 9, 17, 40, 3, 28] * 4)
)
"""24 requests: unsteered, steered, ablated, clamped, with windows, at several layers; of different
lengths."""
OVERFLOW = Request(tokens(5, seed=0), 1, Intervention(3, 1e39))
"""Beyond float32: its residual stream is not finite."""
# 32 tokens a step; 9 blocks of 32 tokens for 24 requests of up to 64.
TIGHT = {"max_num_batched_tokens": 32, "block_size": 32, "num_gpu_blocks_override": 9}
ENCODE_REQUESTS = [EncodeRequest(r.tokens, len(r.tokens) // 3, r.intervention) for r in REQUESTS]


def make_model(family: str) -> Any:
    changes: dict[str, Any] = {"hidden_size": D_MODEL, "head_dim": 32, "initializer_range": 0.2}
    changes |= {"intermediate_size": 128, "max_position_embeddings": 256}
    if family.startswith("gemma"):
        changes |= {"tie_word_embeddings": True, "query_pre_attn_scalar": 32}
    if family == "qwen2":  # its head width follows from their number
        changes |= {"num_attention_heads": 2, "num_key_value_heads": 1}
    multimodal = family == "gemma3-multimodal"
    model = tiny_multimodal_model(**changes) if multimodal else tiny_model(family, **changes)
    model.generation_config.eos_token_id = STOP
    return model


def make_sae(form: Activation, family: str = "llama") -> Sae:
    """Random SAE whose decoder rows match the scale of the residual stream."""
    scale = 6 if family.startswith("gemma") else 1
    draw = torch.Generator().manual_seed(0)
    W_dec = torch.nn.functional.normalize(torch.randn(D_SAE, D_MODEL, generator=draw), dim=1)
    return Sae(
        form,
        W_enc=W_dec.T.contiguous(),
        b_enc=torch.randn(D_SAE, generator=draw) / 4,
        W_dec=scale * W_dec,
        b_dec=torch.randn(D_MODEL, generator=draw),
        threshold=torch.rand(D_SAE, generator=draw) if form == "jumprelu" else None,
        k=32 if form == "topk" else None,
    )


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Activation], Path]:
    """Folder with a checkpoint and an SAE file."""
    folder = tmp_path_factory.mktemp("assets")

    def made(family: str, form: Activation) -> Path:
        here = folder / f"{family}-{form}"
        if not here.is_dir():
            make_model(family).save_pretrained(here / "model")
            make_sae(form, family).save(here / "sae.safetensors")
            DIRECTIONS.save(here / "directions.safetensors")
        return here

    return made


@pytest.fixture(scope="module")
def opened(
    hosts: ForkServer, assets: Callable[[str, Activation], Path]
) -> Iterator[Callable[..., VllmEngine]]:
    """Open vLLM on a tiny model, eager by default."""
    engines: list[VllmEngine] = []

    def make(
        family: str = "llama",
        form: Activation = "relu",
        variables: dict[str, str] | None = None,
        setup: dict[str, Any] | None = None,
        stay: Stay | None = None,
        **options: Any,
    ) -> VllmEngine:
        folder = assets(family, form)
        settings: dict[str, Any] = {
            "source": str(folder / "model"),
            "revision": None,
            "adapter": None,
            "dtype": "float32",
            "sae_file": str(folder / "sae.safetensors"),
            "directions": (str(folder / "directions.safetensors"),),
            "steer_layer": STEER,
            "ablate_layer": STEER,
            "read_layer": READ,
            "add_layers": (0, 3),
            "encode_layers": (2,),
            "n_requests": 32,
            "n_ablated": 64,
            "max_model_len": 128,
            "prefix_caching": False,
            "options": {"enforce_eager": True, "kv_cache_memory_bytes": 2**24} | options,
        }
        engine = VllmEngine(
            Setup(**settings | (setup or {})),
            hosts.launcher(**(variables or {})),
            d_sae=D_SAE,
            max_positions=256,
            stop_tokens=(STOP,),
            identity={},
            environment=ENVIRONMENT,
            version=pinned_version(ENVIRONMENT),
            rows={"random": [3]},
            stay=stay,
        )
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture(scope="module")
def llama(opened: Callable[..., VllmEngine]) -> VllmEngine:
    return opened()


@cache
def reference(
    family: str = "llama", form: Activation = "relu", **layers: int
) -> TransformersEngine:
    settings: dict[str, Any] = {"steer_layer": STEER, "read_layer": READ, "batch_size": 32} | layers
    return TransformersEngine(
        make_model(family),
        make_sae(form, family),
        directions=[DIRECTIONS],
        **settings,
    )


def with_logprobs(
    engine: VllmEngine, requests: Sequence[Request], sampling: Sampling = GREEDY
) -> list[GeneratedWithLogprobs]:
    """Responses with the log-probabilities of their tokens."""
    jobs = [GenerateWithLogprobs(new_id(), r, sampling, (STOP,)) for r in requests]
    for job in jobs:
        engine.submit(job)
    found: dict[str, GeneratedWithLogprobs] = {}
    while len(found) < len(jobs):
        reply = engine.next_reply()
        assert isinstance(reply, GeneratedWithLogprobs)
        found[reply.id] = reply
    return [found[job.id] for job in jobs]


@cache
def expected_logprobs(
    engine: TransformersEngine, requests: tuple[Request, ...], sampling: Sampling = GREEDY
) -> tuple[list[Generation], list[np.ndarray]]:
    """Responses of the reference, and the log-probabilities of their tokens.

    From batches that lose no row, so that each step has the logits of all.
    """
    found: list[Generation] = []
    logprobs: list[np.ndarray] = []
    for begin in range(0, len(requests), SMALL_BATCH):
        logits: list[torch.Tensor] = []
        hook = engine.model.register_forward_hook(
            lambda _, __, out, seen=logits: seen.append(out.logits[:, -1].float().log_softmax(-1))
        )
        (done,) = generate(engine, [requests[begin : begin + SMALL_BATCH]], sampling)
        hook.remove()
        table = torch.stack(logits, dim=1)
        found += done
        logprobs += [
            table[row, range(len(one.tokens)), list(one.tokens)].numpy()
            for row, one in enumerate(done)
        ]
    return found, logprobs


def check_parity(
    engine: VllmEngine,
    plain: TransformersEngine,
    requests: tuple[Request, ...] = REQUESTS,
    sampling: Sampling = GREEDY,
) -> None:
    done, logprobs = expected_logprobs(plain, requests, sampling)
    found = with_logprobs(engine, requests, sampling)
    assert [Generation(f.tokens, f.finish_reason) for f in found] == done
    for one, expected in zip(found, logprobs, strict=True):
        np.testing.assert_allclose(one.logprobs, expected, atol=1e-4)
    # The interventions have an effect. Without one, all of the above would hold, too.
    unsteered = tuple(replace(request, intervention=Intervention()) for request in requests)
    bare, _ = expected_logprobs(plain, unsteered, sampling)
    changed = [a.tokens != b.tokens for a, b in zip(done, bare, strict=True)]
    assert sum(changed) >= 0.6 * len(requests) * 5 / 6
    assert not any(changed[:: len(INTERVENTIONS)])


def check_overflow(
    engine: VllmEngine, plain: TransformersEngine, times: int = 2, sampling: Sampling = GREEDY
) -> None:
    """Non-finite values do not reach other requests through reused blocks of the KV cache."""
    good = REQUESTS[:6]
    mixed = [one for r in good for one in (replace(OVERFLOW, tokens=r.tokens), r)]
    (expected,) = generate(plain, [good], sampling)
    for _ in range(times):
        done = generate_all(engine, mixed, sampling)
        assert done[::2] == [Generation((), "error")] * len(good)
        assert done[1::2] == expected


def check_activations(found: np.ndarray, expected: np.ndarray) -> None:
    """Activations are compared relative to the largest: those of large models reach 16,000."""
    largest = np.abs(expected).max(initial=1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * largest)


def check_encoding(
    engine: VllmEngine,
    plain: TransformersEngine,
    pools: Sequence[Pool | None] = ("max",),
    latents: Sequence[int] | None = None,
    requests: Sequence[EncodeRequest] = ENCODE_REQUESTS,
) -> None:
    for pool in pools:
        found = engine.encode(requests, latents, pool)
        for acts, expected in zip(found, plain.encode(requests, latents, pool), strict=True):
            check_activations(acts, expected)


def check_readouts(
    engine: VllmEngine, plain: TransformersEngine, of: Sequence[Request] = REQUESTS
) -> None:
    """Log-probabilities of named tokens, one row of which is not finite."""
    requests = [ReadoutRequest(r.tokens, (7, 30, 9), r.intervention) for r in of]
    requests.append(ReadoutRequest(OVERFLOW.tokens, (7, 30, 9), OVERFLOW.intervention))
    found, expected = engine.log_probs(requests), plain.log_probs(requests)
    assert found.pop() is expected.pop() is None
    for one, other in zip(found, expected, strict=True):
        assert one is not None
        assert other is not None
        np.testing.assert_allclose(one, other, atol=1e-4)


class TestParity:
    def test_readouts(self, llama: VllmEngine) -> None:
        check_readouts(llama, reference())

    def test_eager(self, llama: VllmEngine) -> None:
        check_parity(llama, reference())

    def test_interventions_that_do_nothing_leave_every_bit(self, llama: VllmEngine) -> None:
        one_by_one = [
            with_logprobs(llama, [replace(request, intervention=what)])[0]
            for request in REQUESTS[:4]
            for what in (Intervention(), Intervention(5, 0.0), IDLE)
        ]
        for plain, zero, idle in zip(*(one_by_one[i::3] for i in range(3)), strict=True):
            for found in (zero, idle):
                assert found.tokens == plain.tokens
                np.testing.assert_array_equal(found.logprobs, plain.logprobs)

    def test_a_continued_prefix_has_the_rest_of_the_response(self, llama: VllmEngine) -> None:
        plain, cut = reference(), 6
        whole = generate_all(plain, REQUESTS, GREEDY)
        prefixed = [
            replace(request, tokens=request.tokens + done.tokens[:cut])
            for request, done in zip(REQUESTS, whole, strict=True)
            if len(done.tokens) > cut
        ]
        expected = [done.tokens[cut:] for done in whole if len(done.tokens) > cut]
        assert len(expected) >= 20
        shorter = replace(GREEDY, max_new_tokens=GREEDY.max_new_tokens - cut)
        for engine in (llama, plain):
            found = generate_all(engine, prefixed, shorter)
            assert [done.tokens for done in found] == expected

    def test_a_step_has_as_many_tokens_as_in_plain_vllm(self, llama: VllmEngine) -> None:
        assert llama.status()["largest_step"] == 4096  # of its `LLM` class, on a CPU

    @pytest.mark.parametrize("latents", [None, (5, 200, 8)], ids=["all", "some"])
    def test_activations(self, llama: VllmEngine, latents: tuple[int, ...] | None) -> None:
        check_encoding(llama, reference(), ("max", "mean", "activity", None), latents)

    @pytest.mark.parametrize("family", ["gemma3", "gemma3-multimodal", "qwen2", "qwen3"])
    def test_other_families(self, opened: Callable[..., VllmEngine], family: str) -> None:
        with opened(family, "jumprelu") as engine:
            check_parity(engine, reference(family, "jumprelu"))
            check_encoding(engine, reference(family, "jumprelu"))

    def test_model_runner_v2_with_chunked_prompts_and_preemption(
        self, opened: Callable[..., VllmEngine]
    ) -> None:
        engine = opened(**TIGHT | {"num_gpu_blocks_override": 8})
        engine._launch = launch_v2
        # One of each kind, and fewer tokens: its steps are slow.
        n, sampling = len(INTERVENTIONS) + 1, replace(GREEDY, max_new_tokens=16)
        with engine:
            check_parity(engine, reference(), REQUESTS[:n], sampling)
            assert engine.facts["runner"] == "V2"
            assert engine.facts["steps"] == 0  # the warm-up does not count
            check_encoding(engine, reference(), requests=ENCODE_REQUESTS[:n])
            check_readouts(engine, reference(), REQUESTS[:n])
            check_overflow(engine, reference(), times=1, sampling=sampling)
            assert engine.status()["preemptions"] >= 2

    def test_two_workers_in_tensor_parallel(self, opened: Callable[..., VllmEngine]) -> None:
        with opened(variables={FORKED_WORKERS: "1"}, tensor_parallel_size=2) as engine:
            check_parity(engine, reference())
            check_encoding(engine, reference())

    @pytest.mark.parametrize(
        ("family", "form", "eager"),
        [("llama", "relu", True), ("llama", "jumprelu", False), ("gemma2", "topk", False)],
        ids=["eager", "compiled", "compiled-gemma2"],
    )
    def test_chunked_prompts_and_preemption(
        self, opened: Callable[..., VllmEngine], family: str, form: Activation, eager: bool
    ) -> None:
        with opened(family, form, **TIGHT, enforce_eager=eager) as engine:
            plain = reference(family, form)
            check_parity(engine, plain)
            check_encoding(engine, plain, ("max", "mean"))
            check_overflow(engine, plain)
            done = engine.status()
            assert done["preemptions"] >= 5
            assert min(done["steered_tokens"], done["ablated_tokens"]) > 500

    def test_latents_ablated_at_a_layer_of_their_own(
        self, opened: Callable[..., VllmEngine]
    ) -> None:
        with opened("llama", "topk", setup={"steer_layer": 2, "ablate_layer": 0}) as engine:
            plain = reference("llama", "topk", steer_layer=2, ablate_layer=0)
            check_parity(engine, plain)
            check_encoding(engine, plain)

    def test_a_cached_prefix_is_that_of_the_same_intervention(
        self, opened: Callable[..., VllmEngine]
    ) -> None:
        with opened(setup={"prefix_caching": True}, block_size=32) as engine:
            prompt = tokens(70, seed=5)
            same = [Request(prompt, 1, what) for what in INTERVENTIONS]
            (expected,) = generate(reference(), [same], GREEDY)
            for from_cache in (0, 64 * len(same)):  # the second time, both full blocks of each
                done = generate_all(engine, same, GREEDY)
                assert done == expected
                assert engine.status()["cached_tokens"] == from_cache
            encode_requests = [EncodeRequest(prompt, 3, what) for what in INTERVENTIONS]
            for acts, other in zip(
                engine.encode(encode_requests, None, "mean"),
                reference().encode(encode_requests, None, "mean"),
                strict=True,
            ):
                check_activations(acts, other)
            assert engine.status()["cached_tokens"] == from_cache  # encoding never uses the cache
            bad = replace(OVERFLOW, tokens=prompt)
            failed = Generation((), "error")
            for request, wanted in ((bad, failed), (bad, failed), (same[0], expected[0])):
                assert list(generate(engine, [[request]], GREEDY)) == [[wanted]]
                # The cache is emptied each time, so that it holds no zeroed blocks.
                assert engine.status()["cached_tokens"] == from_cache

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_half_precision_agrees_up_to_rounding(
        self, opened: Callable[..., VllmEngine], dtype: str
    ) -> None:
        with opened(setup={"dtype": dtype}) as engine:
            done, logprobs = expected_logprobs(reference(), REQUESTS)
            found = with_logprobs(engine, REQUESTS)
            # First tokens only: a small difference may change all that follow.
            agree = [f.tokens[0] == d.tokens[0] for f, d in zip(found, done, strict=True)]
            assert sum(agree) >= 20
            off = [
                abs(f.logprobs[0] - e[0])
                for f, e, same in zip(found, logprobs, agree, strict=True)
                if same
            ]
            assert np.median(off) < 0.05


def test_a_host_that_stays_gives_the_next_job_the_same_tokens(
    opened: Callable[..., VllmEngine], llama: VllmEngine
) -> None:
    """Tokens at a temperature, and activations; the second job finds no cached prefix."""
    sampling = Sampling(temperature=1.0, max_new_tokens=24)
    expected = generate_all(llama, REQUESTS, sampling)
    plain, facts = reference(), []
    with a_run(CPU) as stay:
        for _ in range(2):
            with opened(setup={"prefix_caching": True}, stay=stay) as engine:
                assert generate_all(engine, REQUESTS, sampling) == expected
                check_encoding(engine, plain)
                facts.append(engine.status() | {"hosts": sorted(stay.folder.iterdir())})
    assert facts[0]["hosts"] == facts[1]["hosts"]
    assert facts[1]["cached_tokens"] == 2 * facts[0]["cached_tokens"]
    assert facts[1]["pid"] == facts[0]["pid"]


class TestSampling:
    SAMPLED = Sampling(temperature=1.0, max_new_tokens=12)

    def test_a_response_depends_on_its_seed_and_not_on_its_batch(self, llama: VllmEngine) -> None:
        prompt = tokens(6, seed=1)
        requests = [Request(prompt, seed) for seed in (1, 1, 2, 3, 4, 5, 6)]
        done = generate_all(llama, requests, self.SAMPLED)
        (alone,) = generate(llama, [[requests[3]]], self.SAMPLED)
        assert done[0] == done[1]
        assert alone == [done[3]]
        assert len({one.tokens for one in done}) >= 5

    def test_repetition_penalty_equals_that_of_the_reference(self, llama: VllmEngine) -> None:
        sampling = replace(GREEDY, repetition_penalty=1.3)
        done = generate_all(llama, REQUESTS, sampling)
        (expected,) = generate(reference(), [REQUESTS], sampling)
        (plain,) = generate(reference(), [REQUESTS], GREEDY)
        assert done == expected != plain

    def test_the_stop_token_is_part_of_the_response(self, llama: VllmEngine) -> None:
        many = [Request(tokens(5, seed=i), i) for i in range(40)]
        done = generate_all(llama, many, self.SAMPLED)
        ended = [one for one in done if one.finish_reason == "stop"]
        assert 0 < len(ended) < 40
        assert all(one.tokens[-1] == STOP and STOP not in one.tokens[:-1] for one in ended)
        cut = [one for one in done if one.finish_reason == "length"]
        assert all(len(one.tokens) == 12 and STOP not in one.tokens for one in cut)

    def test_non_finite_logits_are_an_error_without_tokens(self, llama: VllmEngine) -> None:
        good = REQUESTS[1]
        found = [one for (one,) in generate(llama, [[OVERFLOW], [good], [OVERFLOW]], GREEDY)]
        (expected,) = generate(reference(), [[good]], GREEDY)
        assert found == [Generation((), "error"), expected[0], Generation((), "error")]

    def test_activations_that_are_not_finite_are_an_error(self, llama: VllmEngine) -> None:
        """Read at a layer after the one that overflows, whose stream has been replaced there."""
        bad = EncodeRequest(OVERFLOW.tokens, 1, OVERFLOW.intervention)
        for engine in (llama, reference()):
            with pytest.raises(EsrError, match="encode request 1: the residual stream leaves"):
                engine.encode([ENCODE_REQUESTS[0], bad], None, "max")

    def test_non_finite_values_do_not_reach_other_requests(self, llama: VllmEngine) -> None:
        check_overflow(llama, reference())


class TestAdapters:
    def test_an_adapter_gives_the_responses_of_the_merged_model(
        self, opened: Callable[..., VllmEngine], tmp_path: Path
    ) -> None:
        model, rank = make_model("llama"), 8
        draw = torch.Generator().manual_seed(3)
        weights: dict[str, torch.Tensor] = {}
        for number, layer in enumerate(model.model.layers):
            for name in ("q_proj", "v_proj"):
                linear = getattr(layer.self_attn, name)
                A = torch.randn(rank, linear.in_features, generator=draw) / 4
                B = torch.randn(linear.out_features, rank, generator=draw) / 4
                path = f"base_model.model.model.layers.{number}.self_attn.{name}"
                weights |= {f"{path}.lora_A.weight": A, f"{path}.lora_B.weight": B}
                linear.weight.data += 2 * B @ A
        save_file(weights, tmp_path / "adapter_model.safetensors")
        (tmp_path / "adapter_config.json").write_text(
            '{"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, '
            '"target_modules": ["q_proj", "v_proj"], "bias": "none"}'
        )
        merged = TransformersEngine(
            model, make_sae("relu"), STEER, READ, 32, directions=[DIRECTIONS]
        )
        with opened(setup={"adapter": str(tmp_path)}, max_lora_rank=8) as engine:
            check_parity(engine, merged)


class TestFaults:
    """Clear errors. Finished responses stay in the journal; a rerun computes only the rest."""

    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            (Request((2, 3), 1, Intervention(D_SAE, 1.0)), "latent 256 is not in the SAE"),
            (Request((2, 3), 1, Intervention(3, float("nan"))), "boost nan of latent 3"),
            (Request((2,) * 120, 1), "a prompt of 120 tokens and 24 new tokens exceed"),
            (
                Request((2, 3), 1, Intervention(ablated=tuple(range(65)))),
                "65 distinct latents, more than 64; raise engine.vllm.max_ablated",
            ),
        ],
        ids=["latent", "boost", "length", "ablated"],
    )
    def test_a_bad_request_is_named_before_a_host_is_started(
        self, opened: Callable[..., VllmEngine], request_: Request, message: str
    ) -> None:
        engine = opened()
        with pytest.raises(EsrError, match=message):
            generate(engine, [[REQUESTS[0]], [request_]], GREEDY)
        assert engine.facts == {}

    def test_an_exception_in_the_worker_reaches_the_client_and_a_rerun_does_the_rest(
        self, opened: Callable[..., VllmEngine], llama: VllmEngine, tmp_path: Path
    ) -> None:
        good, path = REQUESTS[:5], tmp_path / "journal.jsonl"
        bad = Request((2, 3, 4), 1, Intervention(D_SAE + 5, 1.0))
        engine = opened(setup={"n_requests": 2})
        engine.reach = engine.reach._replace(d_sae=D_SAE + 10)  # so that the client lets it pass
        message = "vLLM failed: IndexError: index 261 is out of bounds .*Finished responses are in"
        with Journal(path) as journal, pytest.raises(EsrError, match=message):
            generate_journaled(engine, [*good[:3], bad, *good[3:]], GREEDY, journal)
        kept = path.read_bytes()
        assert kept.count(b"\n") in (2, 3)
        (expected,) = generate(reference(), [good], GREEDY)
        with Journal(path) as journal:
            assert generate_journaled(llama, good, GREEDY, journal) == expected
        assert path.read_bytes().startswith(kept)
        assert path.read_bytes().count(b"\n") == len(good)

    def test_a_missing_file_is_named(
        self, opened: Callable[..., VllmEngine], tmp_path: Path
    ) -> None:
        engine = opened(setup={"sae_file": str(tmp_path / "gone.safetensors")})
        with pytest.raises(EsrError, match=r"vLLM failed: FileNotFoundError: .*gone\.safetensors"):
            list(generate(engine, [REQUESTS[:2]], GREEDY))

    @pytest.mark.parametrize(
        "workers",
        [
            pytest.param(1, id="one worker"),
            pytest.param(2, id="two workers", marks=pytest.mark.rebuild),
        ],
    )
    def test_an_sae_of_another_width_is_refused(
        self, opened: Callable[..., VllmEngine], tmp_path: Path, workers: int
    ) -> None:
        sae = make_sae("relu")
        narrow = replace(sae, W_enc=sae.W_enc[:32], W_dec=sae.W_dec[:, :32], b_dec=sae.b_dec[:32])
        narrow.save(tmp_path / "sae.safetensors")
        engine = opened(
            setup={"sae_file": str(tmp_path / "sae.safetensors")}, tensor_parallel_size=workers
        )
        with pytest.raises(
            EsrError, match="SAE has input width 32, the residual stream has width 64"
        ):
            list(generate(engine, [REQUESTS[:2]], GREEDY))

    def test_another_version_of_vllm_is_refused(self, opened: Callable[..., VllmEngine]) -> None:
        engine = opened()
        engine.version = "0.31.0"
        message = r"has vLLM 0\.32\.0, esr needs 0\.31\.0; run `uv sync --project .*/serve-cpu"
        with pytest.raises(EsrError, match=message):
            list(generate(engine, [REQUESTS[:2]], GREEDY))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"speculative_config": {"method": "ngram", "num_speculative_tokens": 2}},
                "speculative decoding",
            ),
            (
                {"ubatch_size": 2, "all2all_backend": "deepep_low_latency"},
                "computing in microbatches",
            ),
            ({"enable_hc_sp": True}, "sequence parallelism"),
        ],
        ids=["speculative", "microbatches", "sequence"],
    )
    def test_untested_features_are_refused(
        self, opened: Callable[..., VllmEngine], options: dict[str, Any], message: str
    ) -> None:
        engine = opened(**options)
        with pytest.raises(EsrError, match=f"{message}.* is not supported under steering"):
            list(generate(engine, [REQUESTS[:2]], GREEDY))

    def test_the_error_for_an_unknown_quantisation_lists_the_known_ones(
        self, opened: Callable[..., VllmEngine]
    ) -> None:
        message = (
            r"Unknown quantization method: fp9\..* 'compressed-tensors'.*; set models\.<model>"
        )
        with pytest.raises(EsrError, match=f"(?s){message}"):
            list(generate(opened(quantization="fp9"), [REQUESTS[:2]], GREEDY))

    def test_too_little_memory_names_the_key(self, opened: Callable[..., VllmEngine]) -> None:
        engine = opened(kv_cache_memory_bytes=2**12)
        message = (
            r"No available memory for the cache blocks.* a GPU, engine\.vllm\.cpu_cache\), lower"
        )
        with pytest.raises(EsrError, match=message):
            list(generate(engine, [REQUESTS[:2]], GREEDY))

    def test_a_killed_engine_leaves_the_journal_and_a_rerun_does_the_rest(
        self, opened: Callable[..., VllmEngine], tmp_path: Path
    ) -> None:
        sampling = replace(GREEDY, max_new_tokens=60)
        requests = [replace(r, tokens=r.tokens[:9], seed=i) for i, r in enumerate(REQUESTS)]
        path = tmp_path / "journal.jsonl"
        expected = generate_journaled(
            opened(), requests, sampling, Journal(tmp_path / "whole.jsonl")
        )
        engine = opened(max_num_seqs=4)

        class Watched(Journal):
            def append(self, records: Any) -> None:
                super().append(records)
                if len(self) == 5:
                    os.kill(engine.facts["pid"], signal.SIGKILL)

        with (
            Watched(path) as journal,
            pytest.raises(EsrError, match="the vLLM process exited without an error message"),
        ):
            generate_journaled(engine, requests, sampling, journal)
        kept = path.read_bytes()
        assert 5 <= kept.count(b"\n") < len(REQUESTS)
        with Journal(path) as journal:
            assert generate_journaled(opened(), requests, sampling, journal) == expected
        assert path.read_bytes().startswith(kept)

    def test_the_error_for_a_missing_environment_gives_the_command(self, tmp_path: Path) -> None:
        command = rf"uv sync --project {tmp_path}/serve` on"
        with pytest.raises(EsrError, match=command):
            launcher(tmp_path / "serve", {})


def passes_a_token(journal: Path) -> float:
    """Passes of the model for each token of the replies in a journal."""
    records = filter(is_reply, read_journal(journal).values())
    bodies = [json.loads(record["raw"]) for record in records]
    return sum(b["passes"] for b in bodies) / sum(b["usage"]["completion_tokens"] for b in bodies)


class TestAJudge:
    """A plain model in the host, as judges of `kind: vllm` use it."""

    def test_every_reply_follows_the_schema_and_is_the_same_again_from_drafts(
        self, hosts: ForkServer, tmp_path: Path
    ) -> None:
        """The second time, prompt lookup drafts tokens, so that the replies take fewer passes."""
        source = tiny_judge(tmp_path / "judge")
        rubric = read_rubric(judge_settings(source).rubric)
        calls = [rubric.call(prompt=f"Explain {i}.", response=f"Boats {i}.") for i in range(24)]
        texts, passes = [], []
        for number, drafted in enumerate((0, 5)):
            settings = judge_settings(source, prompt_lookup=drafted)
            model = local_model(
                settings, hosts.launcher(), ENVIRONMENT, pinned_version(ENVIRONMENT)
            )
            llm = CachedLlm(settings, tmp_path / f"{number}.jsonl", local=model)
            replies = llm.replies(calls, failure_of_judgment)
            passes.append(passes_a_token(tmp_path / f"{number}.jsonl"))
            if number == 1:
                # 64 MiB of keys and values in float32: 2 layers, a head of 32.
                assert 0.9 < model.host.facts["cache_tokens"] / (2**26 / (2 * 2 * 32 * 4)) <= 1
                self.check_that_calls_join_those_in_flight(model, llm, tmp_path / "stream.jsonl")
            model.close()
            found = [reply for reply in replies if reply is not None]
            assert len(found) == 24
            for reply in found:
                # Where a schema bounds a string's length, xgrammar lets control characters through.
                validate(json.loads(reply.text, strict=False), rubric.reply)
                assert failure_of_judgment(reply) is None
            texts.append([reply.text for reply in found])
        assert texts[0] == texts[1]
        assert len(set(texts[0])) > 1
        # Without drafts a pass writes one token. A random model copies only names of the schema.
        assert passes[1] < 0.9 < 1 <= passes[0]

    def check_that_calls_join_those_in_flight(
        self, model: LocalModel, together: CachedLlm, journal: Path
    ) -> None:
        rubric = read_rubric(model.settings.rubric)
        inputs = {i: JudgeInput(f"Explain {i}.", f"Boats {i}.") for i in range(24)}
        judge = LlmJudge(rubric, CachedLlm(model.settings, journal, local=model))
        stream = open_stream(judge)
        stream.submit({i: inputs[i] for i in range(16)})
        found = dict(stream.results(60))
        assert len(found) > 0
        stream.submit({i: inputs[i] for i in range(16, 24)})
        while stream.pending:
            found |= dict(stream.results(60))
        assert sorted(found) == list(inputs)
        # What else is in flight changes rounding only, which rarely changes a token here.
        again = LlmJudge(rubric, together).judge(list(inputs.values()))
        same = [one.attempts == found[i].attempts for i, one in enumerate(again)]
        assert sum(same) >= 20

    def test_its_cache_is_in_fp8_where_the_cpu_has_avx512_and_refused_elsewhere(
        self, hosts: ForkServer, tmp_path: Path
    ) -> None:
        settings = judge_settings(tiny_judge(tmp_path / "judge"), kv_cache="fp8", prompt_lookup=5)
        rubric = read_rubric(settings.rubric)
        calls = [rubric.call(prompt=f"Explain {i}.", response=f"Boats {i}.") for i in range(8)]
        version = pinned_version(ENVIRONMENT)
        model = local_model(settings, hosts.launcher(), ENVIRONMENT, version)
        llm = CachedLlm(settings, tmp_path / "replies.jsonl", local=model)
        if torch.backends.cpu.get_cpu_capability() == "AVX512":
            for reply in llm.replies(calls, failure_of_judgment):
                assert reply is not None
                assert failure_of_judgment(reply) is None
        else:  # `check_cpu_cache` says so before a host starts
            with pytest.raises(EsrError, match=r"FP8 KV cache .* AVX-512.*kv_cache: null"):
                llm.replies(calls, failure_of_judgment)
        model.close()

    def test_labels_are_rated_by_the_schema(self, hosts: ForkServer, tmp_path: Path) -> None:
        settings = judge_settings(tiny_judge(tmp_path / "judge"))
        rubric = read_rubric(REPO / "resources/rubrics/concreteness.yaml").for_model(settings)
        rubric = rubric.model_copy(update={"system": "Rate."})
        version = pinned_version(ENVIRONMENT)
        model = local_model(settings, hosts.launcher(), ENVIRONMENT, version)
        llm = CachedLlm(settings, tmp_path / "replies.jsonl", local=model)
        ratings = LlmRater(rubric, llm, batch=2).rate(["boats", "bread", "tax law", "grief"])
        model.close()
        assert len(ratings) == 4
        assert all(rating is not None and 0 <= rating <= 100 for rating in ratings)
