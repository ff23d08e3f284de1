"""What happens inside vLLM's graph, without vLLM: the operation, its buffers, readers, the guards.

h' = h - sum over k in ablated of a_k(h) W_dec[k] + boost W_dec[latent], with h = hidden + residual.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esr.assets.sae import Sae
from esr.engines.base import Intervention, Pool
from esr.engines.vllm.encoding import Readers, Wanted
from esr.engines.vllm.interventions import Interventions, Site, Slots
from esr.engines.vllm.messages import Setup
from esr.engines.vllm.patches import (
    check_supported,
    decoder_layers,
    install_site,
    intervention_of,
    method,
    not_finite,
    wrap,
)
from helpers.tiny import D_MODEL, D_SAE, tiny_sae

CPU = torch.device("cpu")
WHAT = {
    "plain": Intervention(),
    "steered": Intervention(3, 2.5),
    "away": Intervention(20, -1.5),
    "ablated": Intervention(ablated=(0, 7, 11, 23)),
    "both": Intervention(7, 4.0, ablated=(7, 2)),
    "zero": Intervention(5, 0.0),
}
COUNTS = [4, 1, 3, 6, 5, 2]
N = sum(COUNTS)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["relu", "jumprelu", "topk"])
def sae(request: pytest.FixtureRequest) -> Sae:
    return tiny_sae(request.param)


def buffers(sae: Sae, folder: Path, n_ablated: int = 8, n_tokens: int = 32) -> Interventions:
    path = folder / "sae.safetensors"
    sae.save(path)
    return Interventions(path, n_tokens, n_requests=6, n_ablated=n_ablated, device=CPU)


@pytest.fixture
def what(sae: Sae, tmp_path: Path) -> Interventions:
    found = buffers(sae, tmp_path)
    for name, intervention in WHAT.items():
        found.add(name, intervention)
    return found


def by_definition(sae: Sae, h: Tensor, intervention: Intervention) -> Tensor:
    acts = torch.zeros(len(h), D_SAE)
    for k in intervention.ablated:
        acts[:, k] = sae.encode(h)[:, k]
    changed = h - acts @ sae.W_dec
    if intervention.latent is not None:
        changed = changed + intervention.boost * sae.W_dec[intervention.latent]
    return changed


def apply(site: Site, n: int = N, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """Residual stream before and after a site, for tokens of a step with padding."""
    hidden, residual = normal(n, D_MODEL).to(dtype), normal(n, D_MODEL, seed=2).to(dtype)
    before = hidden + residual
    torch.ops.esr.intervene_(hidden, residual, site.number)
    return before, hidden + residual


class TestOperation:
    def test_each_request_gets_what_was_asked_for_it(self, what: Interventions, sae: Sae) -> None:
        site = Site(what, steers=True, ablates=True, taps=False)
        what.fill(list(WHAT), COUNTS)
        before, after = apply(site)
        for h, changed, one in zip(
            before.split(COUNTS), after.split(COUNTS), WHAT.values(), strict=True
        ):
            torch.testing.assert_close(changed, by_definition(sae, h, one), atol=1e-5, rtol=1e-5)

    def test_padding_and_requests_without_intervention_are_left_alone(
        self, what: Interventions
    ) -> None:
        site = Site(what, steers=True, ablates=True, taps=False)
        what.fill(list(WHAT), COUNTS)
        what.fill(["steered", "plain"], [2, 3])  # fewer: what was a token is padding now
        before, after = apply(site)
        assert torch.equal(after[2:], before[2:])
        assert (after[:2] != before[:2]).any()

    def test_layers_may_share_the_work(self, what: Interventions, sae: Sae) -> None:
        ablating = Site(what, steers=False, ablates=True, taps=False)
        steering = Site(what, steers=True, ablates=False, taps=False)
        what.fill(["both"], [3])
        before, after = apply(ablating, 3)
        expected = by_definition(sae, before, Intervention(ablated=WHAT["both"].ablated))
        torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-5)
        before, after = apply(steering, 3)
        torch.testing.assert_close(after - before, (4 * sae.W_dec[7]).expand(3, -1))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_sums_are_taken_in_float32_and_rounded_once(
        self, what: Interventions, sae: Sae, dtype: torch.dtype
    ) -> None:
        site = Site(what, steers=True, ablates=False, taps=False)
        what.fill(["steered"], [5])
        hidden, residual = normal(5, D_MODEL).to(dtype), torch.zeros(5, D_MODEL, dtype=dtype)
        expected = (hidden.float() + 2.5 * sae.W_dec[3]).to(dtype)
        torch.ops.esr.intervene_(hidden, residual, site.number)
        assert torch.equal(hidden, expected)

    def test_the_tap_holds_the_residual_stream_interventions_included(
        self, what: Interventions
    ) -> None:
        site = Site(what, steers=True, ablates=True, taps=True)
        what.fill(list(WHAT), COUNTS)
        _, after = apply(site)
        assert site.tap is not None
        torch.testing.assert_close(site.tap[:N], after, atol=1e-6, rtol=1e-6)

    def test_it_can_be_compiled_and_steering_is_no_part_of_the_graph(
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
            what.fill([name], [4])
            hidden, residual = normal(4, D_MODEL), normal(4, D_MODEL, seed=3)
            expected = by_definition(sae, 2 * hidden + residual, WHAT[name])
            torch.testing.assert_close(compiled(hidden, residual), expected, atol=1e-5, rtol=1e-5)
        assert len(graphs) == 1


class TestBuffers:
    def test_places_are_shared_and_freed_with_the_last_user(self) -> None:
        slots = Slots[str](2)
        assert slots.take("a") == (1, True)
        assert slots.take("b") == (2, True)
        assert slots.take("a") == (1, False)
        with pytest.raises(RuntimeError, match="no place is left for 'c' beside 2"):
            slots.take("c")
        slots.give_back("a")
        with pytest.raises(RuntimeError, match="no place"):
            slots.take("c")
        slots.give_back("a")
        assert slots.take("c") == (1, True)

    def test_requests_come_and_go_for_ever(self, sae: Sae, tmp_path: Path) -> None:
        what = buffers(sae, tmp_path)
        site = Site(what, steers=True, ablates=True, taps=False)
        for i in range(60):
            latent, ablated = i % D_SAE, ((5 * i) % D_SAE, (5 * i + 1) % D_SAE)
            one = Intervention(latent, 1.5, ablated)
            what.add(f"r{i}", one)
            what.drop(f"r{i - 3}")
            what.fill([f"r{i}"], [2])
            before, after = apply(site, 2)
            torch.testing.assert_close(after, by_definition(sae, before, one), atol=1e-5, rtol=1e-5)

    def test_a_request_that_comes_back_is_not_counted_twice(self, sae: Sae, tmp_path: Path) -> None:
        what = buffers(sae, tmp_path, n_ablated=4)
        for _ in range(20):
            what.add("again", WHAT["ablated"])
        what.drop("again")
        what.add("other", Intervention(ablated=(1, 2, 3, 4)))

    def test_more_tokens_than_there_is_room_for_are_an_error(self, what: Interventions) -> None:
        with pytest.raises(RuntimeError, match="a step of 33 tokens, buffers for 32"):
            what.fill(["plain"], [33])

    def test_a_request_that_nobody_told_of_is_an_error_and_not_unsteered(
        self, what: Interventions
    ) -> None:
        with pytest.raises(KeyError, match="stranger"):
            what.fill(["plain", "stranger"], [1, 1])


class TestOdometer:
    def test_device_and_host_agree(self, what: Interventions) -> None:
        sites = [
            Site(what, steers=True, ablates=False, taps=True),
            Site(what, steers=False, ablates=True, taps=False),
        ]
        for requests, counts in ((list(WHAT), COUNTS), (["both"], [1]), (["both"], [1])):
            what.fill(requests, counts)
            for site in sites:
                apply(site)
        assert what.expected.tolist() == [3, 1 + 3 + 5 + 2, 6 + 5 + 2]
        assert [site.discrepancy() for site in sites] == ["", ""]

    def test_a_step_without_the_operation_is_found_out(self, what: Interventions) -> None:
        site = Site(what, steers=True, ablates=True, taps=False)
        what.fill(list(WHAT), COUNTS)
        wrong = "steps: 0 of 1, steered tokens: 0 of 9, ablated tokens: 0 of 11"
        assert site.discrepancy() == wrong

    def test_tokens_left_out_are_found_out(self, what: Interventions) -> None:
        site = Site(what, steers=True, ablates=True, taps=False)
        what.fill(list(WHAT), COUNTS)
        apply(site, n=6)
        assert (
            site.discrepancy() == "steps: 1 of 1, steered tokens: 2 of 9, ablated tokens: 0 of 11"
        )


LENGTHS = {"a": 7, "b": 1, "c": 5}
STARTS = {"a": 2, "b": 0, "c": 4}


class TestReaders:
    """Sequences of 7, 1 and 5 tokens, computed in pieces."""

    def read(self, sae: Sae, wanted: Wanted, steps: list[dict[str, int]]) -> dict[str, np.ndarray]:
        readers, done = Readers(sae), dict.fromkeys(LENGTHS, 0)
        texts = {name: normal(n, D_MODEL, seed=n) for name, n in LENGTHS.items()}
        for name, length in LENGTHS.items():
            readers.add(name, wanted, STARTS[name], length)
        for step in steps:
            tap = torch.cat([texts[name][done[name] : done[name] + n] for name, n in step.items()])
            readers.plan(list(step), list(step.values()), [done[name] for name in step])
            readers.collect(tap)
            for name, n in step.items():
                done[name] += n
        return {name: readers.result(name) for name in LENGTHS}

    @pytest.mark.parametrize("pool", ["max", "mean", "share", None])
    @pytest.mark.parametrize("latents", [None, (5, 0, 23)])
    def test_activations_do_not_depend_on_the_pieces(
        self, sae: Sae, pool: Pool | None, latents: tuple[int, ...] | None
    ) -> None:
        wanted = Wanted(latents, pool)
        whole = self.read(sae, wanted, [LENGTHS])
        pieces = self.read(sae, wanted, [{"a": 1, "c": 2}, {"b": 1, "a": 4}, {"a": 2, "c": 3}])
        for name, length in LENGTHS.items():
            acts = sae.encode(normal(length, D_MODEL, seed=length))[STARTS[name] :]
            acts = acts if latents is None else acts[:, list(latents)]
            expected = {
                "max": acts.amax(0),
                "mean": acts.mean(0),
                "share": (acts > 0).float().mean(0),
                None: acts,
            }[pool]
            for found in (whole[name], pieces[name]):
                np.testing.assert_allclose(found, expected.numpy(), atol=1e-5, rtol=1e-5)

    def test_batches_are_cut_to_bound_memory(
        self, sae: Sae, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = self.read(sae, Wanted(None, "max"), [LENGTHS])
        monkeypatch.setattr("esr.engines.vllm.encoding.CELLS", 2 * D_SAE)
        found = self.read(sae, Wanted(None, "max"), [LENGTHS])
        for name in LENGTHS:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-6)

    def test_a_preempted_sequence_is_read_anew(self) -> None:
        sae, readers, text = tiny_sae(), Readers(tiny_sae()), normal(4, D_MODEL)
        readers.add("a", Wanted(None, "mean"), 0, 4)
        for computed, count in ((0, 3), (0, 2), (2, 2)):
            readers.plan(["a"], [count], [computed])
            readers.collect(text[computed : computed + count])
        np.testing.assert_allclose(readers.result("a"), sae.encode(text).mean(0), atol=1e-6)

    def test_what_was_generated_is_not_read(self) -> None:
        readers, text = Readers(tiny_sae()), normal(5, D_MODEL)
        readers.add("a", Wanted(None, None), 0, 4)
        readers.plan(["a"], [5], [0])
        readers.collect(text)
        readers.plan(["a"], [1], [5])
        readers.collect(text[:1])
        assert readers.result("a").shape == (4, D_SAE)

    def test_a_skipped_prefix_is_an_error_and_not_a_smaller_maximum(self) -> None:
        readers = Readers(tiny_sae())
        readers.add("a", Wanted(None, "max"), 0, 5)
        with pytest.raises(RuntimeError, match="a goes on at 2, read 0"):
            readers.plan(["a"], [3], [2])
        readers.plan(["a"], [3], [0])
        readers.collect(normal(3, D_MODEL))
        with pytest.raises(RuntimeError, match="read 3 of 5 positions"):
            readers.result("a")


class LlamaDecoderLayer(nn.Module):
    """Named as one that is known."""

    def forward(
        self, positions: Tensor, hidden_states: Tensor, residual: Tensor
    ) -> tuple[Tensor, Tensor]:
        return hidden_states, residual


class Qwen3DecoderLayer(nn.Module):
    def forward(self, hidden_states: Tensor, positions: Tensor) -> Tensor:
        return hidden_states


def vllm_config(**changes: object) -> SimpleNamespace:
    """One device; of vLLM's configuration what is looked at."""
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
    def test_a_known_layer_calls_the_operation_on_its_output(self, tmp_path: Path) -> None:
        sae = tiny_sae()
        what = buffers(sae, tmp_path)
        site = Site(what, steers=True, ablates=False, taps=False)
        layer, other = LlamaDecoderLayer(), LlamaDecoderLayer()
        install_site(site.number, layer)
        what.add("r", WHAT["steered"])
        what.fill(["r"], [2])
        zeros = torch.zeros(2, D_MODEL)
        hidden, _ = layer(torch.arange(2), zeros.clone(), zeros)
        torch.testing.assert_close(hidden, (2.5 * sae.W_dec[3]).expand(2, -1))
        assert not other(torch.arange(2), zeros.clone(), zeros)[0].any()

    @pytest.mark.parametrize(
        ("layer", "said"),
        [
            (nn.Linear(2, 2), "decoder layer Linear is not among those tested"),
            (
                Qwen3DecoderLayer(),
                r"takes \['hidden_states', 'positions'\]: vLLM has moved",
            ),
        ],
        ids=["unknown", "moved"],
    )
    def test_any_other_layer_is_refused(self, layer: nn.Module, said: str) -> None:
        with pytest.raises(RuntimeError, match=said):
            install_site(0, layer)

    def test_methods_are_found_by_name_and_signature(self) -> None:
        class Runner:
            def prepare(self, scheduler_output: int, counts: int) -> str:
                return "prepared"

        runner, other = Runner(), Runner()
        prepare = method(runner, "prepare", ["scheduler_output"])
        wrap(runner, "prepare", lambda _, *args: f"watched, {prepare(*args)}")
        assert runner.prepare(1, 2) == "watched, prepared"
        assert other.prepare(1, 2) == "prepared"
        with pytest.raises(RuntimeError, match=r"no finish\(\) any more: vLLM has moved"):
            method(runner, "finish", [])
        with pytest.raises(RuntimeError, match=r"prepare takes .* not \['batch'\]: vLLM"):
            method(other, "prepare", ["batch"])

    @pytest.mark.parametrize(
        ("changes", "said"),
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
    def test_what_would_leave_tokens_unsteered_is_refused(
        self, changes: dict[str, object], said: str
    ) -> None:
        check_supported(vllm_config())
        with pytest.raises(RuntimeError, match=f"esr: {said}.* is not supported under steering"):
            check_supported(vllm_config(**changes))

    def test_a_setting_that_is_gone_does_not_pass_for_one_that_is_off(self) -> None:
        config = vllm_config()
        del config.parallel_config.enable_hc_sp
        with pytest.raises(RuntimeError, match="no attribute 'enable_hc_sp': vLLM has moved"):
            check_supported(config)

    def test_a_request_that_does_not_say_what_is_done_to_it_is_an_error(self) -> None:
        def request(extra: dict[str, object] | None) -> SimpleNamespace:
            return SimpleNamespace(req_id="r1", sampling_params=SimpleNamespace(extra_args=extra))

        assert intervention_of(request({"esr": {"order": 3}})) == {"order": 3}
        nobody = SimpleNamespace(req_id="r1", sampling_params=None)
        for stranger in (request(None), request({"other": 1}), nobody):
            with pytest.raises(RuntimeError, match="request r1 does not say what is done to it"):
                intervention_of(stranger)

    def test_logits_are_looked_at_request_by_request(self) -> None:
        logits = torch.zeros(4, 5, dtype=torch.bfloat16)
        logits[1, 2], logits[2, 0], logits[3, :2] = torch.nan, torch.inf, -3e38
        assert not_finite(logits, 4).tolist() == [False, True, True, True]
        with pytest.raises(RuntimeError, match="logits of 4 rows for 3 requests: vLLM has moved"):
            not_finite(logits, 3)

    def test_layers_are_found_in_the_text_part(self) -> None:
        text = SimpleNamespace(model=SimpleNamespace(layers=["a"]))
        assert decoder_layers(text) == ["a"]
        assert decoder_layers(SimpleNamespace(language_model=text)) == ["a"]
        with pytest.raises(RuntimeError, match=r"no decoder layers at model\.layers"):
            decoder_layers(SimpleNamespace(model=SimpleNamespace()))


def setup(**changes: object) -> Setup:
    settings: dict = dict.fromkeys(Setup.__dataclass_fields__, 0)
    return Setup(**settings | changes)


def test_a_graph_is_compiled_anew_for_other_layers_and_for_no_other_sae() -> None:
    key = setup(steer_layer=3, sae_file="a").compute_hash()
    assert setup(steer_layer=3, sae_file="b", n_ablated=9).compute_hash() == key
    assert setup(steer_layer=4, sae_file="a").compute_hash() != key
