"""The operation inside vLLM's graph, its buffers, the prompt encoder and the checks; without vLLM.

h' = h - sum over k in ablated of a_k(h) W_dec[k] + sum over k in clamped of (v_k - a_k(h)) W_dec[k]
       + boost W_dec[latent], with h = hidden + residual.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esr.assets.sae import Sae
from esr.directions.sources import random_directions
from esr.engines.base import Intervention, Operation, Pool, Window
from esr.engines.vllm.encoding import EncodeOptions, PromptEncoder
from esr.engines.vllm.interventions import Interventions, Site
from esr.engines.vllm.messages import Setup
from esr.engines.vllm.patches import (
    check_supported,
    decoder_layers,
    install_site,
    job_arguments,
    job_id,
    method,
    not_finite,
    wrap,
)
from esr.engines.vllm.slots import Slots
from helpers.tiny import D_MODEL, D_SAE, tiny_sae

CPU = torch.device("cpu")
WHAT = {
    "plain": Intervention(),
    "steered": Intervention(3, 2.5),
    "away": Intervention(20, -1.5),
    "ablated": Intervention(ablated=(0, 7, 11, 23)),
    "both": Intervention(7, 4.0, ablated=(7, 2)),
    "zero": Intervention(5, 0.0),
    "half": Intervention(ablated=(7, 2), strength=0.5),
    "window": Intervention(9, 2.0, window=Window(12, 14)),
    "direction": Intervention(3, 2.0, directions="random"),
    "clamped": Intervention(operations=(Operation("clamp", 7, 1.5), Operation("clamp", 2, 0.0))),
    "in windows": Intervention(
        ablated=(4,),
        operations=(
            Operation("add", 5, 1.5, window=Window(7, 9)),
            Operation("add", 40, -2.0, window=Window(7, 9), directions="random"),
        ),
    ),
    "clamped for a while": Intervention(
        3, 1.0, operations=(Operation("clamp", 7, 2.0, window=Window(0, 2)),)
    ),
    "idle": Intervention(operations=(Operation("add", 5, 0.0),)),
}
COUNTS = [4, 1, 3, 6, 5, 2, 3, 4, 2, 3, 4, 3, 2]
COMPUTED = [0, 9, 0, 3, 0, 1, 0, 11, 5, 0, 6, 0, 0]
"""Tokens that earlier steps computed: the window begins after one token of this step."""
N = sum(COUNTS)
DIRECTIONS = random_directions("random", [3, 40], torch.tensor([1.0, 2.0]), D_MODEL, seed=46)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["relu", "jumprelu", "topk"])
def sae(request: pytest.FixtureRequest) -> Sae:
    return tiny_sae(request.param)


def buffers(
    sae: Sae, folder: Path, n_ablated: int = 8, n_tokens: int = 48, **options: Any
) -> Interventions:
    path = folder / "sae.safetensors"
    sae.save(path)
    return Interventions(
        path,
        n_tokens,
        n_requests=8,
        n_ablated=n_ablated,
        device=CPU,
        directions=[DIRECTIONS],
        **options,
    )


@pytest.fixture
def what(sae: Sae, tmp_path: Path) -> Interventions:
    found = buffers(sae, tmp_path)
    for name, intervention in WHAT.items():
        found.add(name, intervention)
    return found


def by_definition(sae: Sae, h: Tensor, intervention: Intervention, first: int = 0) -> Tensor:
    """Residual stream of the positions from `first`, changed, where all operations have a layer."""
    acts, changed = sae.encode(h), h.clone()
    window, rows = intervention.window, intervention.directions
    every = [Operation("ablate", k, intervention.strength) for k in set(intervention.ablated)]
    if intervention.latent is not None:
        every += [Operation("add", intervention.latent, intervention.boost, None, window, rows)]
    for one in [*every, *intervention.operations]:
        vector = (sae.W_dec if one.directions is None else DIRECTIONS.by_row())[one.target]
        start, stop = one.window or Window(0)
        for t in range(len(h)):
            if start <= first + t < (stop or np.inf):
                a = 0.0 if one.kind == "add" else acts[t, one.target].item()
                factor = {"add": one.amount, "ablate": -one.amount * a, "clamp": one.amount - a}
                changed[t] += factor[one.kind] * vector
    return changed


def apply(site: Site, n: int = N, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """Residual stream before and after a site, for tokens of a step with padding."""
    hidden, residual = normal(n, D_MODEL).to(dtype), normal(n, D_MODEL, seed=2).to(dtype)
    before = hidden + residual
    torch.ops.esr.intervene_(hidden, residual, site.number)
    return before, hidden + residual


class TestOperation:
    def test_each_request_gets_its_own_intervention(self, what: Interventions, sae: Sae) -> None:
        site = Site(what, steers=True, ablates=True, taps=False)
        what.fill(list(WHAT), COUNTS, COMPUTED)
        before, after = apply(site)
        for h, changed, one, first in zip(
            before.split(COUNTS), after.split(COUNTS), WHAT.values(), COMPUTED, strict=True
        ):
            expected = by_definition(sae, h, one, first)
            torch.testing.assert_close(changed, expected, atol=1e-5, rtol=1e-5)

    def test_padding_and_requests_without_intervention_do_not_change(
        self, what: Interventions
    ) -> None:
        site = Site(what, steers=True, ablates=True, taps=False)
        what.fill(list(WHAT), COUNTS, COMPUTED)
        what.fill(["steered", "plain"], [2, 3], [0, 4])  # fewer tokens: the rest is padding now
        before, after = apply(site)
        assert torch.equal(after[2:], before[2:])
        assert (after[:2] != before[:2]).any()

    def test_a_window_is_followed_from_step_to_step(self, what: Interventions, sae: Sae) -> None:
        site = Site(what, steers=True, ablates=True, taps=False)
        pieces = [8, 3, 1, 1, 1, 1]  # the prompt in two pieces, then tokens one by one
        done, steered = 0, []
        for n in pieces:
            what.fill(["window"], [n], [done])
            before, after = apply(site, n)
            expected = by_definition(sae, before, WHAT["window"], done)
            torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-5)
            steered += (after != before).any(dim=1).tolist()
            done += n
        assert [t for t, on in enumerate(steered) if on] == [12, 13]
        assert site.count_mismatch() == ""

    def test_two_layers_may_ablate_and_steer(self, what: Interventions, sae: Sae) -> None:
        ablating = Site(what, steers=False, ablates=True, taps=False)
        steering = Site(what, steers=True, ablates=False, taps=False)
        what.fill(["both"], [3], [0])
        before, after = apply(ablating, 3)
        expected = by_definition(sae, before, Intervention(ablated=WHAT["both"].ablated))
        torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-5)
        before, after = apply(steering, 3)
        torch.testing.assert_close(after - before, (4 * sae.W_dec[7]).expand(3, -1))

    def test_each_of_several_layers_has_its_own_operations(self, sae: Sae, tmp_path: Path) -> None:
        what = buffers(sae, tmp_path, adds=[2, 0, 5], encodes=[2, 5])
        sites = {
            layer: Site(what, layer=layer, steers=True, ablates=layer > 0, taps=False)
            for layer in (0, 2, 5)
        }
        here = {
            0: (Operation("add", 3, 2.0, 0),),
            2: (Operation("clamp", 7, 1.5),),  # the first layer is that of operations without one
            5: (Operation("add", 3, -1.0, 5, Window(4)), Operation("ablate", 2, 0.5, 5)),
        }
        one = Intervention(9, 3.0, operations=sum(here.values(), ()))
        what.add("several", one)
        what.add("plain", Intervention())
        what.add("usual", Intervention(9, 1.0))
        what.fill(["several", "plain", "usual"], [6, 2, 3], [0, 0, 0])
        usual = {2: Intervention(9, 1.0)}
        boosted = {2: Intervention(9, 3.0)}
        for layer, site in sites.items():
            before, after = apply(site, 11)
            part = replace(boosted.get(layer, Intervention()), operations=here[layer])
            parts = [part, Intervention(), usual.get(layer, Intervention())]
            for h, changed, each in zip(
                before.split([6, 2, 3]), after.split([6, 2, 3]), parts, strict=True
            ):
                expected = by_definition(sae, h, each)
                torch.testing.assert_close(changed, expected, atol=1e-5, rtol=1e-5)
            assert site.count_mismatch() == ""
        assert what.host_counts.tolist() == [[1, 6, 0], [1, 9, 6], [1, 2, 6]]

    def test_a_layer_without_a_site_is_an_error_and_not_unsteered(
        self, sae: Sae, tmp_path: Path
    ) -> None:
        what = buffers(sae, tmp_path, adds=[2, 5], encodes=[2])
        for one in (Operation("add", 3, 1.0, 4), Operation("clamp", 3, 1.0, 5)):
            with pytest.raises(RuntimeError, match=f"no site for .* at layer {one.layer}"):
                what.add("r", Intervention(operations=(one,)))

    def test_as_many_requests_as_the_batch_holds_may_all_differ_at_all_layers(
        self, sae: Sae, tmp_path: Path
    ) -> None:
        what = buffers(sae, tmp_path, n_ablated=D_SAE, adds=[0, 1, 2], encodes=[0])
        for i in range(16):  # twice the batch: the next one arrives before the end of the last
            adds = [Operation("add", (i + layer) % D_SAE, 1.0 + i, layer) for layer in range(3)]
            clamp = Operation("clamp", i % D_SAE, float(i))
            what.add(f"r{i}", Intervention(operations=(*adds, clamp)))
        for i in range(16):
            what.drop(f"r{i}")
        assert not len(what._slots)
        assert not len(what.latents._sets)

    def test_a_boost_of_zero_leaves_every_bit_of_the_stream(self, sae: Sae, tmp_path: Path) -> None:
        what = buffers(sae, tmp_path)
        site = Site(what, steers=True, ablates=True, taps=False)
        for name in ("plain", "zero", "idle"):
            what.add(name, WHAT[name])
            what.fill([name], [4], [0])
            before, after = apply(site, 4)
            assert torch.equal(before, after)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_sums_are_taken_in_float32_and_rounded_once(
        self, what: Interventions, sae: Sae, dtype: torch.dtype
    ) -> None:
        site = Site(what, steers=True, ablates=False, taps=False)
        what.fill(["steered"], [5], [0])
        hidden, residual = normal(5, D_MODEL).to(dtype), torch.zeros(5, D_MODEL, dtype=dtype)
        expected = (hidden.float() + 2.5 * sae.W_dec[3]).to(dtype)
        torch.ops.esr.intervene_(hidden, residual, site.number)
        assert torch.equal(hidden, expected)

    def test_the_tap_holds_the_residual_stream_interventions_included(
        self, what: Interventions
    ) -> None:
        site = Site(what, steers=True, ablates=True, taps=True)
        what.fill(list(WHAT), COUNTS, COMPUTED)
        _, after = apply(site)
        assert site.tap is not None
        torch.testing.assert_close(site.tap[:N], after, atol=1e-6, rtol=1e-6)

    @pytest.mark.filterwarnings("ignore:overflow encountered in cast")
    def test_a_stream_that_is_not_finite_is_replaced_and_its_request_marked(
        self, sae: Sae, tmp_path: Path
    ) -> None:
        what = buffers(sae, tmp_path)
        first = Site(what, steers=True, ablates=False, taps=False)
        later = Site(what, steers=False, ablates=True, taps=True)
        known = {
            "steered": WHAT["steered"],
            "overflow": Intervention(3, 1e39, window=Window(1, 2)),
            "ablated": WHAT["ablated"],
        }
        for name, one in known.items():
            what.add(name, one)
        what.fill(list(known), [2, 3, 2], [0, 0, 0])
        hidden, residual = normal(8, D_MODEL), normal(8, D_MODEL, seed=2)
        before = hidden + residual
        torch.ops.esr.intervene_(hidden, residual, first.number)
        assert torch.equal(hidden[3], torch.zeros(D_MODEL))  # the second token of its request
        assert torch.equal((hidden + residual)[[2, 4, 5, 6, 7]], before[[2, 4, 5, 6, 7]])
        torch.ops.esr.intervene_(hidden, residual, later.number)
        assert (hidden + residual).isfinite().all()
        assert later.tap is not None  # whatever a later site reads of that request is no number
        assert later.tap[:7].isnan().any(dim=1).tolist() == [False] * 2 + [True] * 3 + [False] * 2
        assert what.flags.read(list(known)) == [False, True, False]
        what.fill(["overflow", "steered"], [1, 1], [3, 2])
        apply(later, 2)
        what.add("overflow", known["overflow"])  # again, after a preemption
        assert what.flags.read(["steered", "overflow"]) == [False, True]
        what.drop("overflow")
        what.add("next", WHAT["plain"])  # in its slot
        assert what.flags.read(["next", "steered"]) == [False, False]

    @pytest.mark.filterwarnings("ignore:overflow encountered in cast")
    def test_activations_are_those_of_the_request_if_it_overflows_after_the_tap(
        self, sae: Sae, tmp_path: Path
    ) -> None:
        what = buffers(sae, tmp_path, adds=[1], encodes=[0])
        reading = Site(what, steers=False, ablates=True, taps=True, layer=0)
        later = Site(what, steers=True, ablates=False, taps=False, layer=1, tapped=False)
        what.add("overflow", Intervention(3, 1e39))
        for done in (0, 4):  # the prompt in two pieces
            what.fill(["overflow"], [4], [done])
            before, _ = apply(reading, 4)
            apply(later, 4)
            assert reading.tap is not None
            assert torch.equal(reading.tap[:4], before)
        assert what.flags.read(["overflow"]) == [True]

    @pytest.mark.filterwarnings("ignore:overflow encountered in cast")
    def test_no_value_of_one_request_marks_another(self, sae: Sae, tmp_path: Path) -> None:
        what = buffers(sae, tmp_path)
        site = Site(what, steers=True, ablates=True, taps=False)
        what.add("infinite", Intervention(operations=(Operation("clamp", 7, 1e39),)))
        what.add("ablated", WHAT["ablated"])
        what.add("large", Intervention())
        what.fill(["infinite", "ablated", "large"], [2, 2, 2], [0, 0, 0])
        hidden, residual = normal(6, D_MODEL), torch.zeros(6, D_MODEL)
        hidden[4:] = 1.5e38 * sae.W_enc[:, 7].sign()
        assert sae.encode(hidden)[4:, 7].isinf().all()
        torch.ops.esr.intervene_(hidden, residual, site.number)
        assert hidden.isfinite().all()
        assert what.flags.read(["infinite", "ablated", "large"]) == [True, False, False]

    @pytest.mark.filterwarnings("ignore:overflow encountered in cast")
    def test_with_prefix_caching_what_is_not_finite_stays_so(
        self, sae: Sae, tmp_path: Path
    ) -> None:
        what = buffers(sae, tmp_path, contain=False)
        site = Site(what, steers=True, ablates=False, taps=False)
        what.add("overflow", Intervention(3, 1e39))
        what.fill(["overflow"], [3], [0])
        _, after = apply(site, 3)
        assert not after.isfinite().any(dim=1).any()
        assert what.flags.read(["overflow"]) == [False]  # its logits will mark it
        what.flags.mark_logits(torch.tensor([True]))
        assert what.flags.read(["overflow"]) == [True]

    def test_one_compiled_graph_serves_all_interventions(
        self, what: Interventions, sae: Sae
    ) -> None:
        site, graphs = Site(what, steers=True, ablates=True, taps=False), []

        def layer(hidden: Tensor, residual: Tensor) -> Tensor:
            hidden = hidden * 2
            torch.ops.esr.intervene_(hidden, residual, site.number)
            return hidden + residual

        def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
            graphs.append(graph)
            return graph

        compiled = torch.compile(layer, backend=backend, fullgraph=True)
        for name in ("steered", "both", "plain"):
            what.fill([name], [4], [0])
            hidden, residual = normal(4, D_MODEL), normal(4, D_MODEL, seed=3)
            expected = by_definition(sae, 2 * hidden + residual, WHAT[name])
            torch.testing.assert_close(compiled(hidden, residual), expected, atol=1e-5, rtol=1e-5)
        assert len(graphs) == 1


class TestBuffers:
    def test_slots_are_shared_and_freed_with_the_last_user(self) -> None:
        slots = Slots[str](2)
        assert slots.acquire("a") == (1, True)
        assert slots.acquire("b") == (2, True)
        assert slots.acquire("a") == (1, False)
        with pytest.raises(RuntimeError, match="all 2 slots are in use, none for 'c'"):
            slots.acquire("c")
        slots.release("a")
        with pytest.raises(RuntimeError, match="slots are in use"):
            slots.acquire("c")
        slots.release("a")
        assert slots.acquire("c") == (1, True)

    def test_slots_are_reused_without_end(self, sae: Sae, tmp_path: Path) -> None:
        what = buffers(sae, tmp_path)
        site = Site(what, steers=True, ablates=True, taps=False)
        for i in range(60):
            latent, ablated = i % D_SAE, ((5 * i) % D_SAE, (5 * i + 1) % D_SAE)
            one = Intervention(latent, 1.5, ablated)
            what.add(f"r{i}", one)
            what.drop(f"r{i - 3}")
            what.fill([f"r{i}"], [2], [0])
            before, after = apply(site, 2)
            torch.testing.assert_close(after, by_definition(sae, before, one), atol=1e-5, rtol=1e-5)

    def test_a_preempted_request_does_not_take_a_second_slot(
        self, sae: Sae, tmp_path: Path
    ) -> None:
        what = buffers(sae, tmp_path, n_ablated=4)
        for _ in range(20):
            what.add("again", WHAT["ablated"])
        what.drop("again")
        what.add("other", Intervention(ablated=(1, 2, 3, 4)))

    def test_too_many_tokens_are_an_error(self, what: Interventions) -> None:
        with pytest.raises(RuntimeError, match="a step of 49 tokens exceeds buffers of 48"):
            what.fill(["plain"], [49], [0])

    def test_an_unknown_request_is_an_error_and_not_unsteered(self, what: Interventions) -> None:
        with pytest.raises(KeyError, match="stranger"):
            what.fill(["plain", "stranger"], [1, 1], [0, 0])


class TestCounts:
    def test_device_and_host_agree(self, what: Interventions) -> None:
        sites = [
            Site(what, steers=True, ablates=False, taps=True),
            Site(what, steers=False, ablates=True, taps=False),
        ]
        steps = [(list(WHAT), COUNTS, COMPUTED), (["both"], [1], [5]), (["both"], [1], [6])]
        for requests, counts, computed in steps:
            what.fill(requests, counts, computed)
            for site in sites:
                apply(site)
        steered = 1 + 3 + 5 + 2 + 2 + 2 + (2 + 3)  # the last two: in windows, and for a while
        encoded = 6 + 5 + 3 + (3 + 4 + 2) + 2
        assert what.host_counts.tolist() == [[3, steered, encoded]]
        assert [site.count_mismatch() for site in sites] == ["", ""]

    def test_a_step_without_the_operation_is_detected(self, what: Interventions) -> None:
        site = Site(what, steers=True, ablates=True, taps=False)
        what.fill(list(WHAT), COUNTS, COMPUTED)
        wrong = "steps: 0 of 1, steered tokens: 0 of 18, ablated tokens: 0 of 23"
        assert site.count_mismatch() == wrong

    def test_missing_tokens_are_detected(self, what: Interventions) -> None:
        site = Site(what, steers=True, ablates=True, taps=False)
        what.fill(list(WHAT), COUNTS, COMPUTED)
        apply(site, n=6)
        assert (
            site.count_mismatch()
            == "steps: 1 of 1, steered tokens: 2 of 18, ablated tokens: 0 of 23"
        )


LENGTHS = {"a": 7, "b": 1, "c": 5}
STARTS = {"a": 2, "b": 0, "c": 4}


class TestPromptEncoder:
    """Sequences of 7, 1 and 5 tokens, computed in pieces."""

    def encode(
        self, sae: Sae, options: EncodeOptions, steps: list[dict[str, int]]
    ) -> dict[str, np.ndarray]:
        encoder, done = PromptEncoder(sae), dict.fromkeys(LENGTHS, 0)
        texts = {name: normal(n, D_MODEL, seed=n) for name, n in LENGTHS.items()}
        for name, length in LENGTHS.items():
            encoder.add(name, options, STARTS[name], length)
        for step in steps:
            tap = torch.cat([texts[name][done[name] : done[name] + n] for name, n in step.items()])
            encoder.plan(list(step), list(step.values()), [done[name] for name in step])
            encoder.collect(tap)
            for name, n in step.items():
                done[name] += n
        return {name: encoder.result(name) for name in LENGTHS}

    @pytest.mark.parametrize("pool", ["max", "mean", "activity", None])
    @pytest.mark.parametrize("latents", [None, (5, 0, 23)])
    def test_activations_do_not_depend_on_the_pieces(
        self, sae: Sae, pool: Pool | None, latents: tuple[int, ...] | None
    ) -> None:
        options = EncodeOptions(latents, pool)
        whole = self.encode(sae, options, [LENGTHS])
        pieces = self.encode(sae, options, [{"a": 1, "c": 2}, {"b": 1, "a": 4}, {"a": 2, "c": 3}])
        for name, length in LENGTHS.items():
            acts = sae.encode(normal(length, D_MODEL, seed=length))[STARTS[name] :]
            acts = acts if latents is None else acts[:, list(latents)]
            expected = {
                "max": acts.amax(0),
                "mean": acts.mean(0),
                "activity": torch.stack([(acts > 0).float(), acts]).mean(1),
                None: acts,
            }[pool]
            for found in (whole[name], pieces[name]):
                np.testing.assert_allclose(found, expected.numpy(), atol=1e-5, rtol=1e-5)

    def test_batches_are_cut_to_bound_memory(
        self, sae: Sae, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = self.encode(sae, EncodeOptions(None, "max"), [LENGTHS])
        monkeypatch.setattr("esr.engines.vllm.encoding.MAX_ACTIVATIONS", 2 * D_SAE)
        found = self.encode(sae, EncodeOptions(None, "max"), [LENGTHS])
        for name in LENGTHS:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-6)

    def test_a_preempted_sequence_starts_again(self) -> None:
        sae, text = tiny_sae(), normal(4, D_MODEL)
        encoder = PromptEncoder(sae)
        encoder.add("a", EncodeOptions(None, "mean"), 0, 4)
        for computed, count in ((0, 3), (0, 2), (2, 2)):
            encoder.plan(["a"], [count], [computed])
            encoder.collect(text[computed : computed + count])
        np.testing.assert_allclose(encoder.result("a"), sae.encode(text).mean(0), atol=1e-6)

    def test_generated_tokens_are_not_encoded(self) -> None:
        encoder, text = PromptEncoder(tiny_sae()), normal(5, D_MODEL)
        encoder.add("a", EncodeOptions(None, None), 0, 4)
        encoder.plan(["a"], [5], [0])
        encoder.collect(text)
        encoder.plan(["a"], [1], [5])
        encoder.collect(text[:1])
        assert encoder.result("a").shape == (4, D_SAE)

    def test_a_skipped_prefix_is_an_error(self) -> None:
        encoder = PromptEncoder(tiny_sae())
        encoder.add("a", EncodeOptions(None, "max"), 0, 5)
        with pytest.raises(
            RuntimeError, match="request a continues at position 2 after 0 encoded positions"
        ):
            encoder.plan(["a"], [3], [2])
        encoder.plan(["a"], [3], [0])
        encoder.collect(normal(3, D_MODEL))
        with pytest.raises(RuntimeError, match="3 of 5 positions were encoded"):
            encoder.result("a")


class LlamaDecoderLayer(nn.Module):
    """Has the name and the signature of a tested layer."""

    def forward(
        self, positions: Tensor, hidden_states: Tensor, residual: Tensor
    ) -> tuple[Tensor, Tensor]:
        return hidden_states, residual


class Qwen3DecoderLayer(nn.Module):
    def forward(self, hidden_states: Tensor, positions: Tensor) -> Tensor:
        return hidden_states


def vllm_config(**changes: object) -> SimpleNamespace:
    """The attributes of vLLM's configuration that are checked; one device."""
    parallel: dict[str, object] = {
        "use_ubatching": False,
        "pipeline_parallel_size": 1,
        "prefill_context_parallel_size": 1,
        "decode_context_parallel_size": 1,
        "data_parallel_size": 1,
        "use_sequence_parallel_moe": False,
        "enable_hc_sp": False,
        "enable_batch_sharded_sampling": None,
    }
    return SimpleNamespace(
        speculative_config=None, parallel_config=SimpleNamespace(**parallel | changes)
    )


class TestGuards:
    def test_a_tested_layer_applies_the_operation_to_its_output(self, tmp_path: Path) -> None:
        sae = tiny_sae()
        what = buffers(sae, tmp_path)
        site = Site(what, steers=True, ablates=False, taps=False)
        layer, other = LlamaDecoderLayer(), LlamaDecoderLayer()
        install_site(site.number, layer)
        what.add("r", WHAT["steered"])
        what.fill(["r"], [2], [0])
        zeros = torch.zeros(2, D_MODEL)
        hidden, _ = layer(torch.arange(2), zeros.clone(), zeros)
        torch.testing.assert_close(hidden, (2.5 * sae.W_dec[3]).expand(2, -1))
        assert not other(torch.arange(2), zeros.clone(), zeros)[0].any()

    @pytest.mark.parametrize(
        ("layer", "message"),
        [
            (nn.Linear(2, 2), "decoder layer Linear is not among those tested"),
            (
                Qwen3DecoderLayer(),
                r"takes \['hidden_states', 'positions'\]: vLLM's internals changed",
            ),
        ],
        ids=["unknown", "signature"],
    )
    def test_any_other_layer_is_refused(self, layer: nn.Module, message: str) -> None:
        with pytest.raises(RuntimeError, match=message):
            install_site(0, layer)

    def test_methods_are_found_by_name_and_signature(self) -> None:
        class Runner:
            def prepare(self, scheduler_output: int, counts: int) -> str:
                return "prepared"

        runner, other = Runner(), Runner()
        prepare = method(runner, "prepare", ["scheduler_output"])
        wrap(runner, "prepare", lambda _, *args: f"wrapped, {prepare(*args)}")
        assert runner.prepare(1, 2) == "wrapped, prepared"
        assert other.prepare(1, 2) == "prepared"
        with pytest.raises(RuntimeError, match=r"no method finish\(\): vLLM's internals changed"):
            method(runner, "finish", [])
        with pytest.raises(RuntimeError, match=r"prepare takes .* not \['batch'\]: vLLM"):
            method(other, "prepare", ["batch"])

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"use_ubatching": True}, "computing in microbatches"),
            ({"pipeline_parallel_size": 2}, "pipeline parallelism"),
            ({"prefill_context_parallel_size": 2}, "context parallelism"),
            ({"decode_context_parallel_size": 2}, "context parallelism"),
            ({"data_parallel_size": 2}, "data parallelism"),
            ({"use_sequence_parallel_moe": True}, "sequence parallelism"),
            ({"enable_hc_sp": True}, "sequence parallelism"),
            ({"enable_batch_sharded_sampling": True}, "batch-sharded sampling"),
        ],
        ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
    )
    def test_untested_features_are_refused(self, changes: dict[str, object], message: str) -> None:
        check_supported(vllm_config())
        with pytest.raises(RuntimeError, match=f"esr: {message}.* is not supported under steering"):
            check_supported(vllm_config(**changes))

    def test_a_missing_setting_does_not_count_as_disabled(self) -> None:
        config = vllm_config()
        del config.parallel_config.enable_hc_sp
        with pytest.raises(
            RuntimeError, match="no attribute 'enable_hc_sp': vLLM's internals changed"
        ):
            check_supported(config)

    def test_a_request_without_an_intervention_is_an_error(self) -> None:
        def request(extra: dict[str, object] | None) -> SimpleNamespace:
            params = SimpleNamespace(extra_args=extra)
            return SimpleNamespace(req_id="id3-0a1b2c3d", sampling_params=params)

        assert job_arguments(request({"esr": {"id": "id3"}})) == {"id": "id3"}
        bare = SimpleNamespace(req_id="id3-0a1b2c3d", sampling_params=None)
        for without in (request(None), request({"other": 1}), bare):
            with pytest.raises(RuntimeError, match="id3-0a1b2c3d has no intervention attached"):
                job_arguments(without)

    def test_the_id_of_a_job_follows_from_the_id_of_vllm(self) -> None:
        assert job_id("a0b1-0a1b2c3d") == job_id("a0b1") == "a0b1"
        extra = {"esr": {"id": "other"}}
        params = SimpleNamespace(extra_args=extra)
        renamed = SimpleNamespace(req_id="a0b1-0a1b2c3d", sampling_params=params)
        with pytest.raises(RuntimeError, match="belongs to job other: vLLM's internals changed"):
            job_arguments(renamed)

    def test_non_finite_logits_are_flagged_request_by_request(self) -> None:
        logits = torch.zeros(4, 5, dtype=torch.bfloat16)
        logits[1, 2], logits[2, 0], logits[3, :2] = torch.nan, torch.inf, -3e38
        assert not_finite(logits, 4).tolist() == [False, True, True, True]
        with pytest.raises(
            RuntimeError, match="4 rows of logits for 3 requests: vLLM's internals changed"
        ):
            not_finite(logits, 3)

    def test_layers_are_found_in_the_text_part(self) -> None:
        text = SimpleNamespace(model=SimpleNamespace(layers=["a"]))
        assert decoder_layers(text) == ["a"]
        assert decoder_layers(SimpleNamespace(language_model=text)) == ["a"]
        with pytest.raises(RuntimeError, match=r"no decoder layers at model\.layers"):
            decoder_layers(SimpleNamespace(model=SimpleNamespace()))


def setup(**changes: Any) -> Setup:
    settings: dict[str, Any] = dict.fromkeys(Setup.__dataclass_fields__, 0)
    return Setup(**settings | {"add_layers": (), "encode_layers": ()} | changes)


def test_a_compiled_graph_depends_on_the_layers_and_not_on_the_sae() -> None:
    key = setup(steer_layer=3, sae_file="a").compute_hash()
    assert setup(steer_layer=3, sae_file="b", n_ablated=9).compute_hash() == key
    for other in ({"steer_layer": 4}, {"add_layers": (4,)}, {"encode_layers": (4,)}):
        assert setup(**{"steer_layer": 3, "sae_file": "a"} | other).compute_hash() != key
