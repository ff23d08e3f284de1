"""esr.engines.journaled: reruns compute only what is missing. Tables of requests and responses."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from esr.arms.chat import prompt_tokens
from esr.arms.responses import requests_of, responses_table
from esr.engines.base import (
    Generation,
    Intervention,
    Operation,
    Reach,
    Request,
    Sampling,
    Window,
)
from esr.engines.journaled import JournaledStream, generate_journaled
from esr.engines.transformers import TransformersEngine
from esr.errors import EsrError
from esr.gate import MINIMUM
from esr.journal import Journal
from helpers.counting_engine import CountingEngine
from helpers.tiny import llama_tokenizer, tiny_model, tiny_sae

SAMPLING = Sampling(temperature=0.6, max_new_tokens=8)
REQUESTS = [
    Request((2, 3 + i % 3), seed, Intervention(i, 1.5)) for i, seed in enumerate(range(44, 51))
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def generate(
    engine: CountingEngine,
    path: Path,
    requests: Sequence[Request] = REQUESTS,
    sampling: Sampling = SAMPLING,
) -> list[Generation]:
    with Journal(path) as journal:
        return generate_journaled(engine, requests, sampling, journal)


class Overflowing(CountingEngine):
    """An engine of which every so-many-th response has activations that are not finite."""

    def __init__(self, every: int = 1) -> None:
        super().__init__()
        self.every = every

    def respond(self, group: Sequence[Request]) -> list[Generation]:
        failed = Generation((), "error")
        done = super().respond(group)
        return [
            one if request.seed % self.every else failed
            for one, request in zip(done, group, strict=True)
        ]


class TestJournaled:
    def test_responses_come_in_the_order_of_the_requests(self, path: Path) -> None:
        done = generate(CountingEngine(), path)
        assert [generation.tokens[0] for generation in done] == [r.seed for r in REQUESTS]

    def test_a_rerun_computes_nothing_and_returns_the_same(self, path: Path) -> None:
        first, again = CountingEngine(), CountingEngine()
        done, before = generate(first, path), path.read_bytes()
        assert len(first.computed) == 3
        assert generate(again, path) == done
        assert again.computed == []
        assert path.read_bytes() == before

    @pytest.mark.parametrize("groups", [0, 1, 2])
    def test_a_failure_keeps_the_groups_that_were_done(self, path: Path, groups: int) -> None:
        with pytest.raises(RuntimeError, match="out of memory"):
            generate(CountingEngine(fail_after=groups), path)
        assert path.read_bytes().count(b"\n") == 3 * groups
        rest = CountingEngine()
        generate(rest, path)
        assert len(rest.computed) == 3 - groups

    def test_resumed_after_a_kill_at_any_byte_is_the_uninterrupted_run(self, path: Path) -> None:
        done, whole = generate(CountingEngine(), path), path.read_bytes()
        for cut in range(0, len(whole), 7):
            path.write_bytes(whole[:cut])
            resumed = CountingEngine()
            assert generate(resumed, path) == done
            assert path.read_bytes() == whole
            # Never more than the incomplete groups.
            assert sum(map(len, resumed.computed)) - whole[cut:].count(b"\n") <= 2

    def test_a_recorded_response_stands_when_its_group_is_computed_again(self, path: Path) -> None:
        done = generate(CountingEngine(), path)
        lines = path.read_text().splitlines(keepends=True)
        changed = json.loads(lines[0]) | {"tokens": [7]}
        path.write_text(json.dumps(changed) + "\n" + "".join(lines[3:]))
        again = generate(CountingEngine(), path)
        at = [i for i, generation in enumerate(again) if generation.tokens == (7,)]
        assert len(at) == 1
        assert [g for i, g in enumerate(again) if i not in at] == [
            g for i, g in enumerate(done) if i not in at
        ]

    def test_groups_may_be_done_in_any_order(self, path: Path) -> None:
        expected = generate(CountingEngine(), path)
        path.unlink()
        assert generate(CountingEngine(backwards=True), path) == expected

    def test_recorded_responses_come_first_and_requests_may_be_added(self, path: Path) -> None:
        generate(CountingEngine(), path, REQUESTS[:2])
        engine = CountingEngine()
        with Journal(path) as journal:
            stream = JournaledStream(engine, SAMPLING, journal)
            (missing,) = stream.submit([REQUESTS[4]])
            recorded = stream.submit([REQUESTS[0], REQUESTS[1]])
            assert stream.n_computed_groups == 1
            results = stream.results()
            assert [next(results)[0], next(results)[0]] == recorded
            assert engine.computed == []
            (late,) = stream.submit([REQUESTS[5]])
            assert [id_ for id_, _ in results] == [missing, late]
        assert engine.computed == [[REQUESTS[4]], [REQUESTS[5]]]

    def test_equal_requests_are_computed_once(self, path: Path) -> None:
        engine = CountingEngine()
        done = generate(engine, path, [*REQUESTS, *REQUESTS[::-1]])
        assert done == [*done[:7], *done[:7][::-1]]
        assert sum(map(len, engine.computed)) == 7

    @pytest.mark.parametrize("n", [MINIMUM - 1, MINIMUM, 3 * MINIMUM])
    def test_total_failure_stops_the_job_early_and_after_a_restart_at_once(
        self, path: Path, n: int
    ) -> None:
        requests = [Request((2, 3), seed) for seed in range(n)]
        if n < MINIMUM:
            assert {g.finish_reason for g in generate(Overflowing(), path, requests)} == {"error"}
            return
        for _ in range(2):
            message = rf"^{MINIMUM} of {MINIMUM} responses failed .*not finite.*dtype to bfloat16"
            with pytest.raises(EsrError, match=message):
                generate(Overflowing(), path, requests)

    def test_some_failures_are_statuses(self, path: Path) -> None:
        requests = [Request((2, 3), seed) for seed in range(3 * MINIMUM)]
        done = generate(Overflowing(every=2), path, requests)
        assert sum(g.finish_reason == "error" for g in done) == len(requests) / 2

    def test_no_requests_give_no_responses(self, path: Path) -> None:
        assert generate(CountingEngine(), path, []) == []

    @pytest.mark.parametrize(
        "other",
        [
            {"engine": CountingEngine(sae="another")},
            {"sampling": Sampling(0.7, 8)},
            {"sampling": Sampling(0.6, 9)},
            {"sampling": Sampling(0.6, 8, repetition_penalty=1.1)},
            {"requests": [Request((2, 4), 44, Intervention(0, 1.5))]},
            {"requests": [Request((2, 3), 45, Intervention(0, 1.5))]},
            {"requests": [Request((2, 3), 44, Intervention(1, 1.5))]},
            {"requests": [Request((2, 3), 44, Intervention(0, 1.25))]},
            {"requests": [Request((2, 3), 44, Intervention(0, 1.5, (1,)))]},
            {"requests": [Request((2, 3), 44)]},
        ],
        ids=lambda other: str(*other.values())[:40],
    )
    def test_whatever_determines_a_response_is_part_of_its_key(
        self, path: Path, other: dict[str, Any]
    ) -> None:
        arguments: dict[str, Any] = {
            "engine": CountingEngine(),
            "requests": REQUESTS[:1],
            "sampling": SAMPLING,
        }
        generate(path=path, **arguments)
        arguments = arguments | other
        before = len(arguments["engine"].computed)
        generate(path=path, **arguments)
        assert len(arguments["engine"].computed) == before + 1

    def test_a_missing_response_is_an_error(self, path: Path) -> None:
        class Dropping(CountingEngine):
            def results(self, timeout: float | None = None) -> Iterator[dict[str, Generation]]:
                for finished in super().results(timeout):
                    yield dict(list(finished.items())[1:])

        with pytest.raises(RuntimeError, match="3 requests have no response"):
            generate(Dropping(), path)
        assert path.read_bytes().count(b"\n") == len(REQUESTS) - 3

    def test_the_id_of_a_request_is_its_key_in_the_journal(self, path: Path) -> None:
        with Journal(path) as journal:
            stream = JournaledStream(CountingEngine(), SAMPLING, journal)
            ids = stream.submit(REQUESTS[:3])
            assert sorted(id_ for id_, _ in stream.results()) == sorted(ids)
            assert list(journal) == ids

    def test_no_response_of_a_group_is_lost_between_two_calls(self, path: Path) -> None:
        with Journal(path) as journal:
            stream = JournaledStream(CountingEngine(), SAMPLING, journal)
            ids = stream.submit(REQUESTS[:3])
            assert [next(stream.results())[0] for _ in ids] == ids
            assert list(stream.results()) == []

    def test_a_request_that_is_being_computed_is_not_computed_twice(self, path: Path) -> None:
        engine = CountingEngine()
        with Journal(path) as journal:
            stream = JournaledStream(engine, SAMPLING, journal)
            assert stream.submit(REQUESTS[:2]) == stream.submit(REQUESTS[:2])
            assert len(list(stream.results())) == 2
        assert engine.computed == [REQUESTS[:2]]


def plan(**columns: Any) -> pd.DataFrame:
    """Two trials: steered and ablated; unsteered, of a latent, with a prefill."""
    rows = {
        "trial_id": ["a", "b"],
        "prompt": ["bake bread", "bake"],
        "latent": pd.array([3, 5], dtype="Int64"),
        "label": ["bread", None],
        "boost": [2.5, 0.0],
        "seed": [44, 45],
        "meta_prompt": [None, None],
        "prefill": ["", "wait ,"],
        "ablated": [np.array([7, 1]), np.array([], dtype=int)],
        "directions": [None, None],
        "strength": [None, None],
        "ablated_to": [None, None],
        "layers": [None, None],
        "window_start": pd.array([None, None], dtype="Int64"),
        "window_stop": pd.array([None, None], dtype="Int64"),
        "prefix": [None, None],
    }
    return pd.DataFrame(rows | columns)


TOKENIZER = llama_tokenizer()


class TestTables:
    def test_a_trial_becomes_its_request(self) -> None:
        steered, unsteered = requests_of(plan(), TOKENIZER, doubled_header=False)
        prompt = prompt_tokens(TOKENIZER, "bake bread")
        assert steered == Request(prompt, 44, Intervention(3, 2.5, (7, 1)))
        assert unsteered == Request(prompt_tokens(TOKENIZER, "bake", "wait ,"), 45)

    @pytest.mark.parametrize(
        ("start", "stop", "window"),
        [
            (0, None, lambda n: Window(n)),
            (None, 0, lambda n: Window(0, n)),
            (-1, 40, lambda n: Window(n - 1, n + 40)),
            (-1000, 3, lambda n: Window(0, n + 3)),
            (None, None, lambda n: None),
        ],
        ids=["response", "prompt", "last prompt token and 40 more", "all of the prompt", "none"],
    )
    def test_a_window_is_counted_from_the_first_generated_token(
        self, start: int | None, stop: int | None, window: Callable[[int], Window | None]
    ) -> None:
        bounds = {"window_start": start, "window_stop": stop}
        columns = {k: pd.array([v, None], dtype="Int64") for k, v in bounds.items()}
        steered, _ = requests_of(plan(**columns), TOKENIZER, doubled_header=False)
        assert steered.intervention.window == window(len(steered.tokens))

    def test_a_window_that_ends_before_the_prompt_is_an_error(self) -> None:
        columns = {"window_stop": pd.array([-50, None], dtype="Int64")}
        with pytest.raises(EsrError, match="stop -50 lies before the first token of a prompt"):
            requests_of(plan(**columns), TOKENIZER, doubled_header=False)

    def test_a_partial_ablation_reaches_the_request(self) -> None:
        steered, _ = requests_of(plan(strength=[0.5, None]), TOKENIZER, doubled_header=False)
        assert steered.intervention == Intervention(3, 2.5, (7, 1), strength=0.5)

    def test_a_clamp_sets_each_latent_to_its_activation(self) -> None:
        clamped = plan(ablated_to=[np.array([0.5, 2.0]), None])
        steered, _ = requests_of(clamped, TOKENIZER, doubled_header=False)
        values = Operation("clamp", 7, 0.5), Operation("clamp", 1, 2.0)
        assert steered.intervention == Intervention(3, 2.5, operations=values)

    def test_layers_take_the_boost_each_in_place_of_the_usual_layer(self) -> None:
        columns = {"window_stop": pd.array([40, None], dtype="Int64"), "directions": ["set", None]}
        several = plan(layers=[np.array([4, 9]), np.array([4, 9])], **columns)
        steered, unsteered = requests_of(several, TOKENIZER, doubled_header=False)
        window = Window(0, len(steered.tokens) + 40)
        adds = tuple(Operation("add", 3, 2.5, layer, window, "set") for layer in (4, 9))
        assert steered.intervention == Intervention(ablated=(7, 1), operations=adds)
        assert unsteered.intervention == Intervention()

    def test_keys_of_requests_without_window_and_strength_are_those_of_before(self) -> None:
        content = Request((2, 5), 44, Intervention(3, 2.5, (7, 1))).content()
        assert content == {
            "tokens": (2, 5),
            "seed": 44,
            "intervention": {"latent": 3, "boost": 2.5, "ablated": (7, 1)},
        }

    def test_a_boost_of_zero_is_the_request_of_no_latent(self) -> None:
        without = plan(latent=pd.array([3, None], dtype="Int64"))
        assert requests_of(plan(), TOKENIZER, False) == requests_of(without, TOKENIZER, False)

    def test_meta_prompt_and_doubled_header_reach_the_tokens(self) -> None:
        meta = plan(meta_prompt=["{prompt} . that is {label}", None])
        first, second = requests_of(meta, TOKENIZER, doubled_header=True)
        assert first.tokens == prompt_tokens(TOKENIZER, "bake bread . that is bread", "", True)
        assert second.tokens == prompt_tokens(TOKENIZER, "bake", "wait ,", True)

    def test_requests_of_a_plan_have_journal_keys(self, path: Path) -> None:
        assert len(generate(CountingEngine(), path, requests_of(plan(), TOKENIZER, False))) == 2

    def test_a_failed_generation_is_a_status_and_nothing_else(self) -> None:
        words = TOKENIZER.convert_tokens_to_ids(["that", "is", "wrong", "<|eot_id|>"])
        done = [Generation((), "error"), Generation(tuple(words), "stop")]
        requests = requests_of(plan(), TOKENIZER, False)
        table = responses_table(plan(), requests, done, TOKENIZER)
        failed, complete = table.astype(object).where(table.notna(), None).to_dict("records")
        assert failed == {
            "trial_id": "a",
            "status": "engine_error",
            "response": None,
            "tokens": None,
            "n_prompt_tokens": len(requests[0].tokens),
            "finish_reason": None,
            "n_prefix_tokens": None,
            "prefix_end": None,
        }
        assert complete == {
            "trial_id": "b",
            "status": "ok",
            "response": "wait , that is wrong",
            "tokens": words,
            "n_prompt_tokens": len(requests[1].tokens),
            "finish_reason": "stop",
            "n_prefix_tokens": None,
            "prefix_end": None,
        }

    def test_too_few_responses_are_an_error(self) -> None:
        requests = requests_of(plan(), TOKENIZER, False)
        with pytest.raises(ValueError, match="zip"):
            responses_table(plan(), requests, [Generation((), "error")], TOKENIZER)


def test_an_invalid_intervention_fails_before_it_is_journaled(path: Path) -> None:
    class Checking(CountingEngine):
        def submit(self, group: Mapping[str, Request]) -> None:
            for request in group.values():
                request.intervention.check(Reach(6, {}, 1, 1, adds=[1], encodes=[1]))
            super().submit(group)

    with pytest.raises(EsrError, match="latent 6 is not in the SAE"):
        generate(Checking(), path)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("boost", [float("nan"), float("inf")])
def test_the_error_for_a_boost_that_is_not_finite_names_its_latent(
    path: Path, boost: float
) -> None:
    engine = TransformersEngine(tiny_model(), tiny_sae(), steer_layer=1, read_layer=2, batch_size=2)
    with Journal(path) as journal:
        done = generate_journaled(engine, REQUESTS[:2], SAMPLING, journal)
        kept = path.read_bytes()
        bad = Request((2, 3), 1, Intervention(7, boost))
        with pytest.raises(EsrError, match=f"boost {boost} of latent 7 is not a finite number"):
            generate_journaled(engine, [REQUESTS[2], bad], SAMPLING, journal)
    assert path.read_bytes() == kept
    with Journal(path) as journal:
        assert generate_journaled(engine, REQUESTS[:2], SAMPLING, journal) == done
