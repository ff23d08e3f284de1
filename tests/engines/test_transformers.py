"""The transformers engine against its definition, computed row by row without cache or batch.

h' = h - sum over k in ablated of a_k(h) W_dec[k] + sum over k in clamped of (v_k - a_k(h)) W_dec[k]
       + boost W_dec[latent], after one decoder layer or several.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor, nn
from transformers import RepetitionPenaltyLogitsProcessor

from esr.assets.sae import Activation, Sae
from esr.directions.sources import random_directions
from esr.directions.vectors import Directions
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
)
from esr.engines.batch import SMALL_BATCH
from esr.engines.hooks import decoder_layers
from esr.engines.transformers import TransformersEngine, load_engine
from esr.errors import EsrError
from helpers.tiny import D_MODEL, D_SAE, FAMILIES, LAYERS, STOP, VOCABULARY, tiny_model, tiny_sae

STEER, READ = 1, 2
SAMPLING = Sampling(temperature=0.8, max_new_tokens=10)
GREEDY = Sampling(temperature=0, max_new_tokens=10)
INTERVENTIONS = {
    "none": Intervention(),
    "steered": Intervention(3, 2.0),
    "steered away": Intervention(20, -1.5),
    "ablated": Intervention(ablated=(0, 7, 11, 23)),
    "both": Intervention(7, 1.5, ablated=(4, 7)),
    "from the prompt's middle into the response": Intervention(3, 2.0, window=Window(4, 12)),
    "response, half ablated": Intervention(7, 2.5, (4, 7), strength=0.5, window=Window(5)),
    "along a direction": Intervention(40, 2.0, ablated=(4, 7), directions="random"),
    "clamped": Intervention(
        operations=(Operation("clamp", 7, 2.0), Operation("clamp", 11, 0.5)),
    ),
    "several layers": Intervention(
        3,
        1.5,
        operations=(
            Operation("add", 3, 1.5, STEER + 1, Window(3, 12)),
            Operation("add", 40, -1.0, STEER + 1, Window(3, 12), "random"),
            Operation("add", 9, 1.5, STEER - 1),
            Operation("clamp", 4, 1.0, STEER + 2, Window(5)),
            Operation("ablate", 7, 0.5, STEER + 2, Window(5)),
        ),
    ),
}
DIRECTIONS = random_directions("random", [3, 40], torch.tensor([1.0, 2.0]), D_MODEL, seed=46)


def tokens(length: int, seed: int = 0) -> tuple[int, ...]:
    """A prompt: BOS and words, never padding or the stop token."""
    words = torch.randint(
        3, VOCABULARY, (length - 1,), generator=torch.Generator().manual_seed(seed)
    )
    return (2, *words.tolist())


REQUESTS = [
    Request(tokens(length, seed=length), 44 + length, intervention)
    for length, intervention in zip(
        [9, 3, 12, 6, 7, 8, 5, 10, 11, 4], INTERVENTIONS.values(), strict=True
    )
]
"""One request of each intervention, of different lengths: a batch of them is left-padded."""
MANY = [replace(r, seed=r.seed + 100 * i) for i in range(4) for r in REQUESTS]
LONG = Sampling(temperature=0.8, max_new_tokens=30)


def make_engine(
    family: str = "llama",
    form: Activation = "relu",
    steer: int = STEER,
    read: int = READ,
    batch: int = 8,
    ablate: int | None = None,
    **changes: Any,
) -> TransformersEngine:
    model, sae = tiny_model(family, **changes), tiny_sae(form)
    return TransformersEngine(
        model, sae, steer, read, batch, ablate_layer=ablate, directions=[DIRECTIONS]
    )


def wrapped(model: Any) -> TransformersEngine:
    return TransformersEngine(model, tiny_sae(), STEER, READ, 8, directions=[DIRECTIONS])


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def engine() -> TransformersEngine:
    return make_engine()


# The definition, without batches, cache or hooks.


def changed(h: Tensor, sae: Sae, what: Intervention) -> Tensor:
    """Apply the operations of one layer by decoding: the encoder sees h as it was."""
    acts = torch.zeros(*h.shape[:-1], D_SAE)
    for k in what.ablated:
        acts[..., k] = sae.encode(h)[..., k]
    total = h - what.strength * (sae.decode(acts) - sae.b_dec)
    boost = () if what.latent is None else (steering(what),)
    for one in (*boost, *what.operations):
        rows = sae.W_dec if one.directions is None else DIRECTIONS.by_row()
        amount = torch.full(h.shape[:-1], one.amount)
        if one.kind != "add":
            encoded = sae.encode(h)[..., one.target]
            amount = one.amount - encoded if one.kind == "clamp" else -one.amount * encoded
        inside = torch.zeros_like(amount)
        inside[..., slice(*(one.window or (0, None)))] = 1
        total = total + (inside * amount)[..., None] * rows[one.target]
    return total


def steering(what: Intervention) -> Operation:
    """The boost of an intervention as an operation."""
    assert what.latent is not None
    return Operation("add", what.latent, what.boost, window=what.window, directions=what.directions)


def at_layer(what: Intervention, engine: TransformersEngine, layer: int) -> Intervention:
    """The part of an intervention that acts at a layer."""
    steers, ablates = layer == engine.steer_layer, layer == engine.ablate_layer
    default = {"add": engine.steer_layer, "ablate": engine.ablate_layer}
    default["clamp"] = engine.ablate_layer
    mine = [
        o for o in what.operations if (default[o.kind] if o.layer is None else o.layer) == layer
    ]
    return Intervention(
        what.latent if steers else None,
        what.boost if steers else 0.0,
        what.ablated if ablates else (),
        what.strength,
        what.window,
        what.directions,
        tuple(mine),
    )


@contextmanager
def changed_layer(engine: TransformersEngine, what: Intervention) -> Iterator[None]:
    """Replace the forward of every layer instead of hooking it."""

    def replaced(original: Callable[..., Tensor], part: Intervention) -> Callable[..., Tensor]:
        return lambda *args, **kwargs: changed(original(*args, **kwargs), engine.sae, part)

    layers = engine.model.model.layers
    for number, layer in enumerate(layers):
        layer.forward = replaced(layer.forward, at_layer(what, engine, number))
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


@torch.no_grad()
def by_hand(
    engine: TransformersEngine, request: Request, sampling: Sampling
) -> tuple[list[int], Float[Tensor, "steps vocabulary"]]:
    """Tokens of a request and the logits they were drawn from; a full forward pass each."""
    sequence, logits = list(request.tokens), []
    uniforms = torch.rand(
        sampling.max_new_tokens,
        generator=torch.Generator().manual_seed(request.seed),
        dtype=torch.float64,
    )
    penalty = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)
    with changed_layer(engine, request.intervention):
        for uniform in uniforms.tolist():
            ids = torch.tensor([sequence])
            logits.append(engine.model(input_ids=ids, use_cache=False).logits[0, -1])
            scores = penalty(ids, logits[-1][None])[0].double().numpy()
            if sampling.temperature == 0:
                drawn = int(scores.argmax())
            else:
                odds = np.exp((scores - scores.max()) / sampling.temperature)
                drawn = int((odds.cumsum() <= uniform * odds.sum()).sum())
            sequence.append(drawn)
            if drawn == STOP:
                break
    return sequence[len(request.tokens) :], torch.stack(logits)


# Hooks that record what the engine does.


def last_logits(out: Any) -> Tensor:
    """What a module returns; of a whole model, the logits of the next token."""
    return (out.logits[:, -1] if hasattr(out, "logits") else out).clone()


@contextmanager
def watched(module: nn.Module, *, entering: bool = False) -> Iterator[list[Tensor]]:
    """Collect what enters or leaves a module; leaving, before any hook registered later."""
    seen: list[Tensor] = []
    if entering:
        hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    else:
        hook = module.register_forward_hook(lambda _, __, out: seen.append(last_logits(out)))
    try:
        yield seen
    finally:
        hook.remove()


def run(
    engine: TransformersEngine, requests: Sequence[Request], sampling: Sampling = SAMPLING
) -> list[Generation]:
    """Generate in the engine's own batches, in the order of the requests."""
    return generate_all(engine, requests, sampling)


def run_watched(
    engine: TransformersEngine, requests: Sequence[Request], sampling: Sampling = SAMPLING
) -> tuple[list[Generation], Float[Tensor, "steps batch vocabulary"]]:
    """Generate one batch in the order given, and the logits of each step."""
    with watched(engine.model) as logits:
        (done,) = generate(engine, [requests], sampling)
    return done, torch.stack(logits)


def watched_rows(
    engine: TransformersEngine, sampling: Sampling = SAMPLING
) -> Iterator[tuple[Request, Generation, Float[Tensor, "steps vocabulary"]]]:
    """Each of `REQUESTS`, its response and its logits, from batches that lose no row."""
    for begin in range(0, len(REQUESTS), SMALL_BATCH):
        batch = REQUESTS[begin : begin + SMALL_BATCH]
        done, logits = run_watched(engine, batch, sampling)
        for row, request in enumerate(batch):
            yield request, done[row], logits[:, row]


@contextmanager
def rigged(engine: TransformersEngine, change: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Change the logits (batch vocabulary) of each step in place."""
    step = 0

    def hook(_: nn.Module, __: Any, out: Any) -> None:
        nonlocal step
        change(step, out.logits[:, -1])
        step += 1

    handle = engine.model.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def scripted(engine: TransformersEngine, rows: Sequence[Sequence[int]]) -> list[Generation]:
    """Generate with a model whose next tokens are fixed for each row."""

    def set_logits(step: int, logits: Tensor) -> None:
        logits.zero_()
        for row, script in enumerate(rows):
            logits[row, script[min(step, len(script) - 1)]] = 100

    with rigged(engine, set_logits):
        return run_watched(engine, [Request(tokens(5), i) for i in range(len(rows))])[0]


class TestInterventions:
    @pytest.mark.parametrize("sampling", [SAMPLING, GREEDY], ids=["sampled", "greedy"])
    def test_a_mixed_batch_gives_what_each_request_gives_by_hand(
        self, family: str, sampling: Sampling
    ) -> None:
        engine = make_engine(family)
        for request, done, logits in watched_rows(engine, sampling):
            expected, expected_logits = by_hand(engine, request, sampling)
            assert list(done.tokens) == expected
            torch.testing.assert_close(
                logits[: len(expected)], expected_logits, atol=2e-4, rtol=2e-4
            )

    @pytest.mark.parametrize("form", ["relu", "jumprelu", "topk"])
    @pytest.mark.parametrize("steer", [0, LAYERS - 1], ids=["first layer", "last layer"])
    def test_every_form_of_sae_at_any_layer(self, form: Activation, steer: int) -> None:
        engine = make_engine(form=form, steer=steer)
        for request, done, logits in watched_rows(engine):
            expected, expected_logits = by_hand(engine, request, SAMPLING)
            assert list(done.tokens) == expected
            torch.testing.assert_close(
                logits[: len(expected)], expected_logits, atol=2e-4, rtol=2e-4
            )

    @pytest.mark.parametrize("ablate", [STEER - 1, STEER + 2], ids=["before", "after"])
    def test_latents_may_be_ablated_at_a_layer_of_their_own(self, ablate: int) -> None:
        engine = make_engine(ablate=ablate)
        rows = zip(watched_rows(engine), watched_rows(make_engine()), strict=True)
        for (request, done, logits), (_, _, at_steer_layer) in rows:
            expected, expected_logits = by_hand(engine, request, SAMPLING)
            assert list(done.tokens) == expected
            torch.testing.assert_close(
                logits[: len(expected)], expected_logits, atol=2e-4, rtol=2e-4
            )
            what = request.intervention
            ablated = what.ablated or what is INTERVENTIONS["clamped"]
            assert torch.equal(logits[0], at_steer_layer[0]) != bool(ablated)
        assert not any(layer._forward_hooks for layer in engine.layers)

    def test_the_boost_is_added_at_every_position_of_prompt_and_response(
        self, engine: TransformersEngine
    ) -> None:
        what = Intervention(3, 2.5)
        before, after = engine.layers[STEER], engine.layers[STEER + 1]
        with watched(before) as plain, watched(after, entering=True) as steered:
            (done,) = run(engine, [Request(tokens(7), 44, what)])
        assert [h.shape[1] for h in plain] == [7] + [1] * (len(done.tokens) - 1)
        for h, h_changed in zip(plain, steered, strict=True):
            expected = (2.5 * engine.sae.W_dec[3]).expand_as(h)
            torch.testing.assert_close(h_changed - h, expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize(
        ("window", "steered"),
        [
            (Window(0, 5), (0, 5)),
            (Window(5), (5, None)),
            (Window(3, 9), (3, 9)),
            (Window(7, 8), (7, 8)),
        ],
        ids=["prompt", "response", "across", "one token"],
    )
    def test_the_boost_is_added_in_the_window_alone_and_other_tokens_keep_their_bits(
        self, engine: TransformersEngine, window: Window, steered: tuple[int, int | None]
    ) -> None:
        what = Intervention(3, 2.5, window=window)
        before, after = engine.layers[STEER], engine.layers[STEER + 1]
        with watched(before) as plain, watched(after, entering=True) as entering:
            run(engine, [Request(tokens(5), 44, what)])
        h, h_changed = torch.cat(plain, dim=1)[0], torch.cat(entering, dim=1)[0]
        inside = torch.zeros(len(h), dtype=torch.bool)
        inside[slice(*steered)] = True
        assert torch.equal(h[~inside], h_changed[~inside])
        expected = (2.5 * engine.sae.W_dec[3]).expand(int(inside.sum()), -1)
        torch.testing.assert_close(h_changed[inside] - h[inside], expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("length", [4, 9])
    def test_a_window_over_every_token_is_none_and_one_after_the_end_is_no_steering(
        self, engine: TransformersEngine, length: int
    ) -> None:
        def response(what: Intervention) -> tuple[list[Generation], Tensor]:
            requests = [Request(tokens(length), 44, what), Request(tokens(12), 45)]
            return run_watched(engine, requests)

        boost = Intervention(3, 2.5)
        for window, same in ((Window(0), boost), (Window(500), Intervention())):
            (done, logits), (expected, expected_logits) = map(
                response, (replace(boost, window=window), same)
            )
            assert done == expected
            assert torch.equal(logits, expected_logits)

    def test_a_direction_takes_the_place_of_the_decoder_row_of_its_number(
        self, engine: TransformersEngine
    ) -> None:
        row, direction = Intervention(3, 2.0), Intervention(3, 2.0, directions="random")
        before, after = engine.layers[STEER], engine.layers[STEER + 1]
        for what, vector in ((row, engine.sae.W_dec[3]), (direction, DIRECTIONS.vectors[0])):
            with watched(before) as plain, watched(after, entering=True) as steered:
                run(engine, [Request(tokens(5), 44, what)])
            expected = (2 * vector).expand_as(plain[0])
            torch.testing.assert_close(steered[0] - plain[0], expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize(
        ("what", "message"),
        [
            (Intervention(3, 1.0, directions="topics"), "has loaded \\['random'\\]"),
            (Intervention(4, 1.0, directions="random"), "'random' have no row 4"),
            (Intervention(directions="random"), "'random' without a row to boost"),
        ],
    )
    def test_a_direction_that_was_not_loaded_is_refused_before_any_compute(
        self, engine: TransformersEngine, what: Intervention, message: str
    ) -> None:
        with watched(engine.layers[STEER]) as passes, pytest.raises(EsrError, match=message):
            run(engine, [Request(tokens(5), 44), Request(tokens(5), 44, what)])
        assert not passes

    def test_directions_of_another_width_are_refused(self) -> None:
        wide = Directions("wide", torch.tensor([0]), torch.ones(1, D_MODEL + 1))
        with pytest.raises(EsrError, match=f"'wide' have width {D_MODEL + 1}"):
            TransformersEngine(tiny_model(), tiny_sae(), STEER, READ, 8, directions=[wide])

    def test_ablation_is_taken_from_the_unsteered_residual_then_steering_is_added(
        self, engine: TransformersEngine
    ) -> None:
        what, sae = Intervention(7, 4.0, ablated=(7, 2, 9)), engine.sae
        with (
            watched(engine.layers[STEER]) as plain,
            watched(engine.layers[STEER + 1], entering=True) as after,
        ):
            run(engine, [Request(tokens(12), 44, what)])
        h, acts = plain[0], torch.zeros(1, 12, D_SAE)
        acts[..., [7, 2, 9]] = sae.encode(h)[..., [7, 2, 9]]
        decoded = h - (sae.decode(acts) - sae.b_dec)
        torch.testing.assert_close(after[0], decoded + 4 * sae.W_dec[7], atol=1e-5, rtol=1e-5)
        other_way = sae.encode(h + 4 * sae.W_dec[7])[..., 7]
        assert (other_way - acts[..., 7]).abs().max() > 0.1  # the order matters here

    def test_ablation_of_all_latents_leaves_bias_and_error(self) -> None:
        engine = make_engine(form="topk")
        request = EncodeRequest(tokens(9), intervention=Intervention(ablated=tuple(range(D_SAE))))
        with (
            watched(engine.layers[STEER]) as plain,
            watched(engine.layers[STEER + 1], entering=True) as after,
        ):
            engine.encode([request])
        error = plain[0] - engine.sae.decode(engine.sae.encode(plain[0]))
        torch.testing.assert_close(after[0], error + engine.sae.b_dec, atol=1e-5, rtol=1e-5)

    def test_layers_up_to_the_steered_one_do_not_change(self, family: str) -> None:
        engine = make_engine(family)
        reached = {}
        for name in ("none", "steered"):
            request = EncodeRequest(tokens(9), intervention=INTERVENTIONS[name])
            outputs = []
            for layer in engine.layers:
                with watched(layer) as seen:
                    engine.encode([request])
                outputs.append(seen[0])
            reached[name] = outputs
        for number, (plain, steered) in enumerate(
            zip(reached["none"], reached["steered"], strict=True)
        ):
            # Layer STEER itself is seen before the boost is added to its output.
            assert torch.equal(plain, steered) == (number <= STEER)

    def test_every_latent_changes_the_logits_and_no_two_in_the_same_way(
        self, engine: TransformersEngine
    ) -> None:
        steered = [
            Request(tokens(6), 1, Intervention(k, b)) for k in range(D_SAE) for b in (0.5, -0.5)
        ]
        _, logits = run_watched(
            engine, [Request(tokens(6), 1), *steered], replace(GREEDY, max_new_tokens=1)
        )
        apart = torch.cdist(logits[0], logits[0]) + torch.eye(len(steered) + 1)
        assert apart.min() > 1e-3

    def test_an_ablation_changes_the_logits_exactly_if_its_latent_is_active(
        self, engine: TransformersEngine
    ) -> None:
        (acts,) = engine.encode([EncodeRequest(tokens(6))])
        at_steer = make_engine(read=STEER).encode([EncodeRequest(tokens(6))])[0]
        assert not np.array_equal(acts, at_steer)
        active = at_steer > 0
        assert 0 < active.sum() < D_SAE
        requests = [Request(tokens(6), 1, Intervention(ablated=(k,))) for k in range(D_SAE)]
        _, logits = run_watched(
            engine, [Request(tokens(6), 1), *requests], replace(GREEDY, max_new_tokens=1)
        )
        assert ((logits[0, 1:] != logits[0, 0]).any(-1).numpy() == active).all()

    def test_a_boost_of_zero_equals_no_intervention_bit_for_bit(self, family: str) -> None:
        engine = make_engine(family)
        some = REQUESTS[:SMALL_BATCH]
        plain = [replace(request, intervention=Intervention()) for request in some]
        expected, expected_logits = run_watched(engine, plain)
        idle = (Operation("add", 5, 0.0), Operation("add", 3, 0.0, STEER + 1, Window(0)))
        late = Operation("clamp", 7, 2.0, window=Window(500))
        for nothing in (
            Intervention(5, 0.0),
            Intervention(operations=idle),
            Intervention(operations=(late,)),
        ):
            done, logits = run_watched(engine, [replace(r, intervention=nothing) for r in some])
            assert done == expected
            assert torch.equal(logits, expected_logits)

    def test_a_clamped_latent_has_its_value_and_the_others_are_read_from_the_unchanged_stream(
        self,
    ) -> None:
        # Decoder rows at right angles, and an encoder that reads them: clamping one latent leaves
        # the activations of the others, so that each is read off after the change.
        engine, rows = make_engine(read=STEER), torch.linalg.qr(torch.randn(D_MODEL, D_MODEL))[0]
        unit = Sae("relu", rows.T.clone(), torch.zeros(D_MODEL), rows, torch.zeros(D_MODEL))
        engine = TransformersEngine(engine.model, unit, STEER, STEER, 8)
        clamps = Operation("clamp", 3, 2.0), Operation("clamp", 5, 0.0)
        request = EncodeRequest(tokens(9))
        (plain,) = engine.encode([request], pool=None)
        (found,) = engine.encode(
            [replace(request, intervention=Intervention(operations=clamps))], pool=None
        )
        assert (plain[:, 3] != 2).any()
        assert (plain[:, 5] > 0).any()
        # An inactive latent has a component below 0, which the encoder does not see.
        active = plain[:, 3] > 0
        np.testing.assert_allclose(found[active, 3], 2.0, atol=1e-5)
        np.testing.assert_allclose(found[:, 5], 0.0, atol=1e-5)
        others = [k for k in range(D_MODEL) if k not in (3, 5)]
        np.testing.assert_allclose(found[:, others], plain[:, others], atol=1e-5)
        full, partial = (
            run_watched(engine, [Request(tokens(6), 1, what)], GREEDY)[1]
            for what in (
                Intervention(operations=(Operation("clamp", 3, 0.0),)),
                Intervention(ablated=(3,)),
            )
        )
        torch.testing.assert_close(full, partial)  # a clamp to 0 is the full ablation

    def test_a_layer_that_the_model_lacks_is_refused_before_any_compute(
        self, engine: TransformersEngine
    ) -> None:
        for operation in (Operation("add", 3, 1.0, LAYERS), Operation("clamp", 3, 1.0, -1)):
            what = Intervention(operations=(operation,))
            with (
                watched(engine.model) as passes,
                pytest.raises(EsrError, match=f"layer {operation.layer}: .* layers 0 to 3"),
            ):
                run(engine, [Request(tokens(5), 44, what)])
            assert not passes

    def test_repeated_latents_are_ablated_once(self, engine: TransformersEngine) -> None:
        once, twice = (
            run_watched(engine, [Request(tokens(6), 1, Intervention(ablated=a))])[1]
            for a in ((7, 11), (11, 7, 7))
        )
        assert torch.equal(once, twice)


class TestBatches:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_rows_that_are_not_steered_keep_their_bits(self, dtype: torch.dtype) -> None:
        engine = wrapped(tiny_model().to(dtype))
        always = [request for request in REQUESTS if request.intervention.window is None]
        always = always[:SMALL_BATCH]  # a batch that loses no row
        plain = [replace(request, intervention=Intervention()) for request in always]
        mixed = [*plain[:2], *always[2:]]
        with (
            watched(engine.layers[STEER]) as before,
            watched(engine.layers[STEER + 1], entering=True) as after,
        ):
            done, logits = run_watched(engine, mixed)
        for h, h_after in zip(before, after, strict=True):
            assert torch.equal(h[:2], h_after[:2])
            assert torch.equal(h[:2].signbit(), h_after[:2].signbit())
            assert (h[2:] != h_after[2:]).any(-1).any(-1).all()
        expected, expected_logits = run_watched(engine, plain)
        steps = min(len(logits), len(expected_logits))
        assert done[:2] == expected[:2]
        assert torch.equal(logits[:steps, :2], expected_logits[:steps, :2])

    def test_negative_zeros_of_an_unsteered_row_stay_negative(
        self, engine: TransformersEngine
    ) -> None:
        layer = engine.layers[STEER]
        original = layer.forward
        layer.forward = lambda *args, **kwargs: -torch.zeros_like(original(*args, **kwargs))
        with watched(engine.layers[STEER + 1], entering=True) as after:
            run(engine, [Request(tokens(4), 1), Request(tokens(4), 1, Intervention(3, 1.0, (4,)))])
        assert after[0][0].signbit().all()

    def test_left_padding_does_not_change_a_row(self, family: str) -> None:
        engine = make_engine(family)
        short = Request(tokens(3), 44, Intervention(3, 2.0))
        long = Request(tokens(20), 45, Intervention(ablated=(7,)))
        alone, logits = run_watched(engine, [short])
        padded, padded_logits = run_watched(engine, [short, long])
        assert padded[0] == alone[0]
        steps = min(len(logits), len(padded_logits))
        torch.testing.assert_close(
            padded_logits[:steps, 0], logits[:steps, 0], atol=2e-4, rtol=2e-4
        )

    @pytest.mark.parametrize("batch", [1, 2, 3, 15])
    def test_tokens_do_not_depend_on_the_rest_of_the_batch(self, batch: int) -> None:
        requests = [replace(r, seed=r.seed + 100 * i) for i in range(3) for r in REQUESTS]
        expected = run(make_engine(batch=5), requests)
        engine = make_engine(batch=batch)
        assert run(engine, requests) == expected
        assert run(engine, requests[::-1]) == expected[::-1]

    def test_partition_covers_every_request_once_in_batches(
        self, engine: TransformersEngine
    ) -> None:
        requests = [Request(tokens(2 + i % 5), i) for i in range(21)]
        groups = engine.partition(requests)
        assert sorted(i for group in groups for i in group) == list(range(21))
        assert [len(group) for group in groups] == [8, 8, 5]
        lengths = [len(requests[i].tokens) for group in groups for i in group]
        assert lengths == sorted(lengths)
        assert engine.partition([]) == []

    def test_no_hooks_are_left_between_batches(self, engine: TransformersEngine) -> None:
        request = EncodeRequest(tokens(6))
        (expected,) = engine.encode([request])
        stream = generate(engine, [[REQUESTS[1]], [REQUESTS[2]]], SAMPLING)
        next(stream)
        assert np.array_equal(engine.encode([request])[0], expected)
        assert not engine.layers[STEER]._forward_hooks

    def test_no_hooks_are_left_after_an_error(self, engine: TransformersEngine) -> None:
        def fail(step: int, logits: Tensor) -> None:
            raise RuntimeError("out of memory")

        with rigged(engine, fail):
            for act in (
                lambda: run(engine, REQUESTS),
                lambda: engine.encode([EncodeRequest(tokens(4))]),
            ):
                with pytest.raises(RuntimeError, match="out of memory"):
                    act()
        assert not any(layer._forward_hooks for layer in engine.layers)

    def test_responses_arrive_group_by_group(self, engine: TransformersEngine) -> None:
        with watched(engine.model) as calls:
            stream = generate(engine, [[request] for request in REQUESTS], GREEDY)
            assert len(calls) == 0
            next(stream)
            assert 0 < len(calls) <= GREEDY.max_new_tokens


class TestSampling:
    def test_same_seed_same_tokens_and_other_seeds_differ(self, engine: TransformersEngine) -> None:
        requests = [Request(tokens(5), seed) for seed in (1, 1, 2, 3, 4, 5)]
        done = run(engine, requests)
        assert run(engine, requests) == done
        assert done[0] == done[1]
        assert len({generation.tokens for generation in done}) == 5

    @pytest.mark.parametrize("cut", [1, 7])
    def test_a_greedy_response_continued_from_a_cut_is_the_rest_of_it(
        self, engine: TransformersEngine, cut: int
    ) -> None:
        greedy = Sampling(temperature=0, max_new_tokens=16, repetition_penalty=1.2)
        whole = generate_all(engine, REQUESTS, greedy)
        long = [i for i, done in enumerate(whole) if len(done.tokens) > cut]
        assert len(long) >= len(REQUESTS) - 2
        prefixed = [
            replace(REQUESTS[i], tokens=REQUESTS[i].tokens + whole[i].tokens[:cut]) for i in long
        ]
        rest = generate_all(engine, prefixed, replace(greedy, max_new_tokens=16 - cut))
        assert [done.tokens for done in rest] == [whole[i].tokens[cut:] for i in long]
        bare = [replace(request, intervention=Intervention()) for request in prefixed]
        other = generate_all(engine, bare, replace(greedy, max_new_tokens=16 - cut))
        assert other != rest, "without the intervention the rest is another one"

    def test_temperature_zero_takes_the_likeliest_token_whatever_the_seed(
        self, engine: TransformersEngine
    ) -> None:
        done, logits = run_watched(engine, [Request(tokens(5), seed) for seed in (1, 2)], GREEDY)
        assert done[0] == done[1]
        expected = logits[:, 0].argmax(-1)[: len(done[0].tokens)]
        assert list(done[0].tokens) == expected.tolist()

    def test_a_higher_limit_only_extends_the_response(self, engine: TransformersEngine) -> None:
        requests = [Request(tokens(5), seed) for seed in range(8)]
        short, long = (run(engine, requests, replace(SAMPLING, max_new_tokens=n)) for n in (3, 9))
        for few, many in zip(short, long, strict=True):
            assert many.tokens[:3] == few.tokens

    @pytest.mark.parametrize("temperature", [0.6, 2.0])
    def test_token_frequencies_follow_the_softmax(self, temperature: float) -> None:
        engine = make_engine(vocab_size=8, initializer_range=0.2, batch=1500)
        prompt, number = (2, 5, 4), 1500
        sampling = Sampling(temperature, max_new_tokens=1)
        done, logits = run_watched(
            engine, [Request(prompt, seed) for seed in range(number)], sampling
        )
        counts = np.bincount([generation.tokens[0] for generation in done], minlength=8)
        expected = (logits[0, 0].double() / temperature).softmax(-1).numpy()
        assert expected.min() * number > 5  # for the chi-square distribution to hold
        assert expected.max() < 0.5
        assert stats.chisquare(counts, expected * number).pvalue > 0.01
        even = np.full(8, number / 8)
        assert stats.chisquare(counts, even).pvalue < 1e-4

    @pytest.mark.parametrize("penalty", [1.0, 1.15, 1.8])
    @pytest.mark.parametrize("temperature", [0.0, 0.8])
    def test_repetition_penalty_equals_that_of_transformers(
        self, engine: TransformersEngine, penalty: float, temperature: float
    ) -> None:
        sampling = Sampling(temperature, 16, penalty)
        done = run(engine, REQUESTS, sampling)
        assert [list(d.tokens) for d in done] == [by_hand(engine, r, sampling)[0] for r in REQUESTS]
        plain = run(engine, REQUESTS, replace(sampling, repetition_penalty=1.0))
        assert (done == plain) == (penalty == 1)

    def test_padding_is_not_penalised(self, engine: TransformersEngine) -> None:
        # Padding is token 0: it is the likeliest by less than the penalty would take from it.
        def prefer_zero(_: int, logits: Tensor) -> None:
            logits.fill_(-1)
            logits[:, 0], logits[:, 39] = 1.0, 0.9

        requests = [Request((2, 5), 1), Request((2, 5, 6, 7), 1)]
        with rigged(engine, prefer_zero):
            done, _ = run_watched(engine, requests, Sampling(0, 1, repetition_penalty=1.5))
        assert [generation.tokens for generation in done] == [(0,), (0,)]


class TestEndings:
    def test_responses_end_with_the_stop_token_or_at_the_limit(
        self, engine: TransformersEngine
    ) -> None:
        done = scripted(engine, [[5, 6, STOP, 7], [5, 6], [STOP]])
        assert done == [
            Generation((5, 6, STOP), "stop"),
            Generation((5, *[6] * 9), "length"),
            Generation((STOP,), "stop"),
        ]

    def test_each_of_several_stop_tokens_ends_a_response(self) -> None:
        model = tiny_model()
        model.generation_config.eos_token_id = [STOP, 9]
        engine = TransformersEngine(model, tiny_sae(), STEER, READ, 8)
        done = scripted(engine, [[5, 9, 6], [5, STOP]])
        assert done == [Generation((5, 9), "stop"), Generation((5, STOP), "stop")]

    def test_a_stop_token_as_last_of_the_length_is_a_stop(self, engine: TransformersEngine) -> None:
        (done,) = scripted(engine, [[5] * 9 + [STOP]])
        assert done == Generation((*[5] * 9, STOP), "stop")

    def test_nothing_is_computed_once_all_rows_have_ended(self, engine: TransformersEngine) -> None:
        with watched(engine.model) as calls:
            scripted(engine, [[5, STOP], [STOP]])
        assert len(calls) == 2

    @pytest.mark.parametrize("stops", [None, []])
    def test_a_model_without_a_stop_token_is_refused(self, stops: Any) -> None:
        model = tiny_model()
        model.generation_config.eos_token_id = stops
        with pytest.raises(EsrError, match="eos_token_id"):
            TransformersEngine(model, tiny_sae(), STEER, READ, 8)


class TestEndedRows:
    """Rows that have ended are dropped from the batch and its cache."""

    def test_responses_are_those_of_small_batches_which_drop_no_row(self, family: str) -> None:
        whole, small = make_engine(family, batch=20), make_engine(family, batch=SMALL_BATCH)
        with watched(whole.model) as logits:
            done = run(whole, MANY, LONG)
        sizes = [len(step) for step in logits]
        assert sizes[0] == 20
        assert len(set(sizes)) >= 2, "rows were dropped"
        assert done == run(small, MANY, LONG)

    def test_a_batch_computed_again_gives_the_same_bytes(self) -> None:
        found = []
        for _ in range(2):
            engine = make_engine(batch=20)
            with watched(engine.model) as logits:
                found.append((run(engine, MANY, LONG), logits))
        assert found[0][0] == found[1][0]
        for first, second in zip(found[0][1], found[1][1], strict=True):
            assert torch.equal(first, second)

    def test_nearly_all_computed_tokens_are_kept(self) -> None:
        engine = make_engine(batch=32)
        ends = torch.arange(6, 102, 3)  # the row whose prompt ends in token k ends at ends[k - 3]
        steps: list[int] = []

        def end_rows(_: nn.Module, __: Any, kwargs: Any, out: Any) -> None:
            last = kwargs["input_ids"][:, -1]
            steps.append(len(last))
            following = torch.where(ends[last - 3] == len(steps), STOP, last)
            out.logits[:, -1] = 100 * nn.functional.one_hot(following, VOCABULARY).float()

        handle = engine.model.register_forward_hook(end_rows, with_kwargs=True)
        requests = [Request((2, 3 + row), row) for row in range(32)]
        done = run(engine, requests, replace(GREEDY, max_new_tokens=110))
        handle.remove()
        assert [len(generation.tokens) for generation in done] == ends.tolist()
        assert ends.sum() / sum(steps) >= 0.9

    def test_a_row_that_failed_is_dropped_and_the_others_go_on(self) -> None:
        engine = make_engine(batch=20)
        requests = [
            replace(r, intervention=Intervention(3, 1e39)) if i % 2 else r
            for i, r in enumerate(MANY)
        ]
        with watched(engine.model) as logits:
            done = run(engine, requests, LONG)
        assert len(logits[1]) <= 10, "those that failed are dropped at once"
        expected = run(make_engine(batch=SMALL_BATCH), MANY, LONG)
        for i, (generation, alone) in enumerate(zip(done, expected, strict=True)):
            assert generation == (Generation((), "error") if i % 2 else alone)


class TestErrors:
    @pytest.mark.parametrize("sampling", [SAMPLING, GREEDY], ids=["sampled", "greedy"])
    def test_a_boost_beyond_the_range_of_the_dtype_is_an_error_of_its_row_alone(
        self, engine: TransformersEngine, sampling: Sampling
    ) -> None:
        requests = list(REQUESTS)
        expected = run(engine, requests, sampling)
        requests[2] = replace(requests[2], intervention=Intervention(3, 1e39))
        done = run(engine, requests, sampling)
        assert done[2] == Generation((), "error")
        assert [d for i, d in enumerate(done) if i != 2] == [
            d for i, d in enumerate(expected) if i != 2
        ]

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    @pytest.mark.parametrize("sampling", [SAMPLING, GREEDY], ids=["sampled", "greedy"])
    def test_one_non_finite_logit_voids_a_running_response(
        self, engine: TransformersEngine, value: float, sampling: Sampling
    ) -> None:
        def poison(step: int, logits: Tensor) -> None:
            logits[:, STOP] = -100
            if step == 4:
                logits[1, 7] = value

        requests = [Request(tokens(5), seed) for seed in range(3)]
        with rigged(engine, poison):
            done, _ = run_watched(engine, requests, sampling)
        assert done[1] == Generation((), "error")
        assert [generation.finish_reason for generation in done] == ["length", "error", "length"]

    def test_logits_after_the_end_of_a_row_are_ignored(self, engine: TransformersEngine) -> None:
        def poison(step: int, logits: Tensor) -> None:
            logits.zero_()
            logits[0, STOP], logits[1, 5] = 100, 100
            if step >= 1:
                logits[0] = torch.nan

        with rigged(engine, poison):
            done, _ = run_watched(engine, [Request(tokens(5), 1), Request(tokens(5), 2)])
        assert done == [Generation((STOP,), "stop"), Generation((5,) * 10, "length")]

    @pytest.mark.parametrize(
        ("what", "named"),
        [
            (Intervention(D_SAE, 1.0), r"latent 24 is not in the SAE \(latents 0 to 23\)"),
            (Intervention(-1, 1.0), "latent -1 is not in the SAE"),
            (Intervention(ablated=(3, 99)), "latent 99 is not in the SAE"),
            (Intervention(ablated=(-2,)), "latent -2 is not in the SAE"),
            (Intervention(3, float("nan")), "boost nan of latent 3 is not a finite number"),
            (Intervention(3, float("inf")), "boost inf of latent 3 is not a finite number"),
            (Intervention(None, 2.0), "boost 2.0 without a latent"),
            (Intervention(ablated=(3,), strength=0.0), r"strength 0.0: give a share above 0"),
            (Intervention(ablated=(3,), strength=1.5), r"strength 1.5: .* at most 1"),
            (Intervention(3, 2.0, strength=0.5), "strength 0.5 without latents to ablate"),
            (Intervention(3, 2.0, window=Window(4, 4)), "window from 4 to 4: it holds no position"),
            (Intervention(3, 2.0, window=Window(-1)), "window from -1 to None: it holds no"),
            (Intervention(window=Window(4)), "window from 4 to None without a boost"),
        ],
    )
    def test_an_invalid_intervention_is_named_before_anything_is_computed(
        self, engine: TransformersEngine, what: Intervention, named: str
    ) -> None:
        good, bad = REQUESTS[0], Request(tokens(4), 1, what)
        with watched(engine.model) as calls:
            with pytest.raises(EsrError, match=named):
                generate(engine, [[good], [good, bad]], SAMPLING)
            with pytest.raises(EsrError, match=named):
                engine.encode(
                    [EncodeRequest(tokens(40)), EncodeRequest(tokens(4), intervention=what)]
                )
        assert calls == []

    @pytest.mark.parametrize("latents", [[3, D_SAE], [-1]])
    def test_encoding_a_latent_that_is_not_in_the_sae(
        self, engine: TransformersEngine, latents: list[int]
    ) -> None:
        with pytest.raises(EsrError, match=f"latent {latents[-1]} is not in the SAE"):
            engine.encode([EncodeRequest(tokens(4))], latents)

    @pytest.mark.parametrize(("length", "start"), [(4, 4), (4, 9), (4, -1), (0, 0)])
    def test_encoding_an_empty_range(
        self, engine: TransformersEngine, length: int, start: int
    ) -> None:
        with pytest.raises(
            EsrError, match=f"{length} tokens cannot be encoded from position {start}"
        ):
            engine.encode([EncodeRequest(tokens(4)), EncodeRequest(tokens(4)[:length], start)])

    def test_non_finite_activations_are_an_error(self, engine: TransformersEngine) -> None:
        overflowing = EncodeRequest(tokens(4), intervention=Intervention(3, 1e39))
        pools: tuple[Pool | None, ...] = ("max", "mean", "activity", None)
        for pool in pools:
            with pytest.raises(
                EsrError, match=r"encode request 1: .* leaves the range of torch\.float32"
            ):
                engine.encode([EncodeRequest(tokens(4)), overflowing], pool=pool)

    @pytest.mark.parametrize("name", ["steer", "read", "ablate"])
    @pytest.mark.parametrize("layer", [-1, LAYERS])
    def test_unknown_layers(self, name: str, layer: int) -> None:
        place: dict[str, Any] = {name: layer}
        with pytest.raises(EsrError, match=f"{name}_layer {layer}: the model has layers 0 to 3"):
            make_engine(**place)

    def test_an_sae_of_another_width(self) -> None:
        with pytest.raises(
            EsrError, match="SAE has input width 16, the residual stream has width 32"
        ):
            make_engine(hidden_size=32)

    def test_a_model_with_another_layout(self) -> None:
        with pytest.raises(EsrError, match=r"Linear: no decoder layers at model\.layers"):
            decoder_layers(nn.Linear(2, 2))


class TestEncoding:
    REQUESTS = (
        EncodeRequest(tokens(9), 1),
        EncodeRequest(tokens(3), 2, Intervention(3, 2.0)),
        EncodeRequest(tokens(12), 5, Intervention(7, 1.5, (4, 7))),
        EncodeRequest(tokens(5)),
    )

    @torch.no_grad()
    def encode_by_hand(self, engine: TransformersEngine, request: EncodeRequest) -> np.ndarray:
        """Activations of every latent at every position, from the hidden states of transformers."""
        with changed_layer(engine, request.intervention):
            out = engine.model(torch.tensor([request.tokens]), output_hidden_states=True)
        return engine.sae.encode(out.hidden_states[engine.read_layer + 1][0]).numpy()

    @pytest.mark.parametrize("read", [STEER - 1, STEER, STEER + 1])
    def test_activations_are_those_of_the_hidden_states_of_transformers(
        self, family: str, read: int
    ) -> None:
        engine = make_engine(family, read=read)
        found = engine.encode(self.REQUESTS, pool=None)
        for request, acts in zip(self.REQUESTS, found, strict=True):
            assert acts.shape == (len(request.tokens) - request.start, D_SAE)
            expected = self.encode_by_hand(engine, request)[request.start :]
            np.testing.assert_allclose(acts, expected, atol=2e-4, rtol=2e-4)
            assert (acts > 0).any()

    def test_the_last_layer_is_encoded_before_the_final_norm(self, family: str) -> None:
        engine = make_engine(family, read=LAYERS - 1)
        with watched(engine.model.model.norm, entering=True) as residual:
            (acts,) = engine.encode([EncodeRequest(tokens(6))], pool=None)
        np.testing.assert_array_equal(acts, engine.sae.encode(residual[0][0]).numpy())

    def test_encoding_at_the_steered_layer_includes_the_intervention(self) -> None:
        engine = make_engine(read=STEER)
        plain, steered = engine.encode(
            [EncodeRequest(tokens(6)), EncodeRequest(tokens(6), intervention=Intervention(3, 5.0))],
            [3],
            None,
        )
        gain = 5 * (engine.sae.W_dec[3] @ engine.sae.W_enc[:, 3]).item()
        both = (plain > 0) & (steered > 0)
        assert both.any()
        np.testing.assert_allclose((steered - plain)[both], gain, rtol=1e-4)

    @pytest.mark.parametrize("pool", ["max", "mean", "activity", None])
    @pytest.mark.parametrize("form", ["relu", "jumprelu", "topk"])
    def test_some_latents_are_columns_of_all(self, form: Activation, pool: Pool | None) -> None:
        engine, some = make_engine(form=form), [20, 0, 7]
        for acts, subset in zip(
            engine.encode(self.REQUESTS, pool=pool),
            engine.encode(self.REQUESTS, some, pool),
            strict=True,
        ):
            assert subset.dtype == np.float32
            np.testing.assert_allclose(subset, acts[..., some], atol=1e-5)

    def test_pools_are_over_the_positions_from_start(self, engine: TransformersEngine) -> None:
        each = engine.encode(self.REQUESTS, pool=None)
        pools: dict[Pool, Any] = {
            "max": np.max,
            "mean": np.mean,
            "activity": lambda acts, axis: np.stack([acts > 0, acts]).mean(axis + 1),
        }
        for pool, expected in pools.items():
            for acts, pooled in zip(each, engine.encode(self.REQUESTS, pool=pool), strict=True):
                np.testing.assert_allclose(pooled, expected(acts, axis=0), rtol=1e-5, atol=1e-6)

    def test_activations_do_not_depend_on_the_batch_and_keep_their_order(self) -> None:
        expected = [make_engine(batch=1).encode([request])[0] for request in self.REQUESTS]
        for batch in (2, 3, 4):
            found = make_engine(batch=batch).encode(self.REQUESTS)
            np.testing.assert_allclose(np.stack(found), np.stack(expected), atol=1e-4, rtol=1e-4)
        assert make_engine().encode([]) == []


class TestPrecision:
    def test_in_bfloat16_the_sum_is_taken_in_float32_and_rounded_once(self) -> None:
        engine = wrapped(tiny_model().bfloat16())
        what, sae = Intervention(3, 2.3, (4, 7)), engine.sae
        with (
            watched(engine.layers[STEER]) as plain,
            watched(engine.layers[STEER + 1], entering=True) as after,
        ):
            run(engine, [Request(tokens(9), 44, what)])
        for h, h_changed in zip(plain, after, strict=True):
            assert h.dtype == h_changed.dtype == torch.bfloat16
            exact = changed(h.float(), sae, what)
            # Half a unit in the last of bfloat16's 8 places.
            assert ((h_changed.float() - exact).abs() <= 2**-8 * exact.abs() + 1e-5).all()

    def test_bfloat16_differs_from_float32_by_rounding_only(self) -> None:
        prompts = [replace(request, seed=0) for request in REQUESTS]
        one = replace(GREEDY, max_new_tokens=1)
        _, exact = run_watched(make_engine(), prompts, one)
        rounded = wrapped(tiny_model().bfloat16())
        _, logits = run_watched(rounded, prompts, one)
        error = (logits.float() - exact).norm(dim=-1) / exact.norm(dim=-1)
        assert 0 < error.max() < 0.1  # two of these requests differ by 0.6 at least

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_cuda_agrees_with_the_cpu(self, family: str) -> None:
        cpu = make_engine(family)
        cuda = wrapped(tiny_model(family).cuda())
        done, logits = run_watched(cuda, REQUESTS)
        expected, expected_logits = run_watched(cpu, REQUESTS)
        assert done == expected
        torch.testing.assert_close(logits.cpu(), expected_logits, atol=1e-3, rtol=1e-3)
        for found, wanted in zip(
            cuda.encode(TestEncoding.REQUESTS), cpu.encode(TestEncoding.REQUESTS), strict=True
        ):
            np.testing.assert_allclose(found, wanted, atol=1e-3, rtol=1e-3)


class TestLoading:
    def load(self, source: Any, **changes: Any) -> TransformersEngine:
        settings: dict[str, Any] = {
            "revision": None,
            "dtype": "float32",
            "device": "cpu",
            "steer_layer": STEER,
            "read_layer": READ,
            "batch_size": 8,
            "threads": torch.get_num_threads(),
            "identity": {"model": "tiny"},
        }
        return load_engine(source, tiny_sae(), directions=[DIRECTIONS], **settings | changes)

    def test_a_checkpoint_from_disk_gives_the_same_responses(
        self, tmp_path: Any, family: str
    ) -> None:
        model = tiny_model(family)
        model.save_pretrained(tmp_path)
        engine = self.load(tmp_path)
        assert run(engine, REQUESTS) == run(make_engine(family), REQUESTS)
        assert engine.identity == {"engine": "transformers", "model": "tiny"}

    def test_the_dtype_is_the_given_one(self, tmp_path: Any) -> None:
        tiny_model().save_pretrained(tmp_path)
        assert self.load(tmp_path, dtype="bfloat16").model.dtype == torch.bfloat16

    def test_layers_of_the_text_part_are_found_in_a_multimodal_model(self) -> None:
        from transformers import Gemma3Config, Gemma3ForConditionalGeneration

        text = tiny_model("gemma3").config
        vision = {
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 8,
            "patch_size": 4,
        }
        config = Gemma3Config(
            text_config=text.to_dict(), vision_config=vision, mm_tokens_per_image=4
        )
        model = Gemma3ForConditionalGeneration(config).float()
        model.generation_config.eos_token_id = STOP
        assert list(decoder_layers(model)) == list(model.model.language_model.layers)
        assert decoder_layers(model)[0].hidden_size == D_MODEL
        engine = TransformersEngine(model, tiny_sae(), STEER, READ, 8)
        plain, steered = run_watched(
            engine, [Request(tokens(6), 1), Request(tokens(6), 1, Intervention(3, 2.0))]
        )[1][0]
        assert not torch.allclose(plain, steered, atol=1e-2)
