"""esr.engines.readouts: named tokens, their log-probabilities, and the journal of readouts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from esr.engines.base import Intervention, Request, Sampling, Window, generate_all
from esr.engines.readouts import (
    LogProbs,
    ReadoutRequest,
    named_tokens,
    read_journaled,
    summed,
)
from esr.engines.transformers import TransformersEngine
from esr.errors import EsrError
from esr.gate import MINIMUM
from esr.journal import Journal
from helpers.tiny import D_SAE, VOCABULARY, llama_tokenizer, tiny_model, tiny_sae

WHOLE = tuple(range(VOCABULARY))
BOOST = Intervention(3, 2.0)
REQUESTS = [
    ReadoutRequest((2, *range(5, 5 + length)), WHOLE, what)
    for length in (3, 7, 5)
    for what in (Intervention(), BOOST, replace(BOOST, window=Window(0, 3)))
]


def engine(batch: int = 4) -> TransformersEngine:
    return TransformersEngine(tiny_model(), tiny_sae(), 1, 2, batch)


class Reader:
    """A fake engine: the log-probability of a token is minus its id; long sequences overflow."""

    def __init__(self, independent: bool = False, overflow: int = 99) -> None:
        self.identity = {"engine": "fake"}
        self.independent = independent
        self.overflow = overflow
        self.computed: list[Sequence[ReadoutRequest]] = []

    def partition(self, requests: Sequence[Request | ReadoutRequest]) -> list[list[int]]:
        size = 1 if self.independent else 2
        return [list(range(len(requests)))[i : i + size] for i in range(0, len(requests), size)]

    def log_probs(self, requests: Sequence[ReadoutRequest]) -> list[LogProbs | None]:
        self.computed.append(requests)
        return [
            None if len(one.tokens) >= self.overflow else -np.array(one.targets, float)
            for one in requests
        ]


def read(reader: Any, requests: Sequence[ReadoutRequest], path: Path) -> list[LogProbs | None]:
    with Journal(path) as journal:
        return read_journaled(reader, requests, journal)


def arrays(found: Sequence[LogProbs | None]) -> list[LogProbs]:
    """Readouts, none of which failed."""
    assert all(each is not None for each in found)
    return [each for each in found if each is not None]


class TestLogProbs:
    def test_they_are_those_of_the_first_generated_token(self) -> None:
        reader = engine()
        found = arrays(reader.log_probs(REQUESTS))
        greedy = Sampling(temperature=0, max_new_tokens=1)
        same = [Request(one.tokens, 0, one.intervention) for one in REQUESTS]
        drawn = [done.tokens[0] for done in generate_all(reader, same, greedy)]
        assert [int(np.argmax(each)) for each in found] == drawn
        for each in found:
            assert np.exp(each).sum() == pytest.approx(1, abs=1e-5)

    def test_they_are_those_of_the_model_alone(self) -> None:
        reader = engine()
        plain = [one for one in REQUESTS if one.intervention == Intervention()]
        for one, found in zip(plain, arrays(reader.log_probs(plain)), strict=True):
            with torch.no_grad():
                logits = reader.model(input_ids=torch.tensor([one.tokens])).logits[0, -1]
            np.testing.assert_allclose(found, logits.log_softmax(-1), atol=1e-5)

    def test_a_window_that_ended_is_carried_by_the_cache_alone(self) -> None:
        reader = engine()
        none, steered, window = (np.array(each) for each in reader.log_probs(REQUESTS[3:6]))
        assert np.abs(window - none).max() > 0.01
        assert np.abs(window - steered).max() > 0.01

    def test_only_the_targets_are_returned_in_their_order(self) -> None:
        two = replace(REQUESTS[1], targets=(9, 4))
        whole, some = arrays(engine().log_probs([REQUESTS[1], two]))
        np.testing.assert_array_equal(some, whole[[9, 4]])

    def test_a_row_that_overflows_has_none_and_leaves_its_batch_alone(self) -> None:
        bad = ReadoutRequest((2, 6, 7), WHOLE, Intervention(3, 1e39))
        first, none, last = engine().log_probs([REQUESTS[0], bad, REQUESTS[2]])
        assert none is None
        expected = arrays(engine().log_probs([REQUESTS[0], REQUESTS[2]]))
        np.testing.assert_allclose(arrays([first, last]), expected, atol=1e-5)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"targets": ()}, "at least one token"),
            ({"targets": (3, 3)}, "each token id once"),
            ({"targets": tuple(range(129))}, "at most 128"),
            ({"tokens": ()}, "after no token"),
            ({"intervention": Intervention(D_SAE, 1.0)}, "not in the SAE"),
        ],
    )
    def test_an_invalid_request_is_refused(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(EsrError, match=message):
            engine().log_probs([REQUESTS[0], replace(REQUESTS[0], **change)])


class TestNames:
    def test_spellings_are_summed_under_one_name(self) -> None:
        found = summed(np.log([0.1, 0.2, 0.4]), (5, 6, 7), {"yes": (5, 7), "no": (6,)})
        assert found == pytest.approx({"yes": np.log(0.5), "no": np.log(0.2)})
        assert np.isnan(list(summed(None, (5, 6), {"yes": (5,), "no": (6,)}).values())).all()

    def test_two_spellings_of_one_token_count_once(self) -> None:
        found = named_tokens(llama_tokenizer(), {"yes": ["wait", " wait"], "no": ["that"]}, "x")
        assert found == {"yes": (11,), "no": (13,)}

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            ({"yes": ["bake bread"]}, r"x.yes: 'bake bread' .* \['bake', 'bread'\]"),
            ({"yes": ["zebra"]}, r"x.yes: 'zebra' .* the unknown token"),
            ({"yes": ["wait"], "no": ["wait"]}, "yes and no share the token 'wait'"),
        ],
    )
    def test_a_spelling_of_several_tokens_is_refused(
        self, names: dict[str, list[str]], message: str
    ) -> None:
        with pytest.raises(EsrError, match=message):
            named_tokens(llama_tokenizer(), names, "x")


class TestJournal:
    @pytest.mark.parametrize("independent", [False, True])
    def test_a_rerun_computes_nothing_and_returns_the_same(
        self, tmp_path: Path, independent: bool
    ) -> None:
        path, again = tmp_path / "j.jsonl", Reader(independent)
        first = arrays(read(Reader(independent), REQUESTS, path))
        second = arrays(read(again, REQUESTS, path))
        assert again.computed == []
        np.testing.assert_array_equal(first, second)

    def test_equal_requests_are_computed_once(self, tmp_path: Path) -> None:
        reader = Reader()
        assert len(read(reader, [REQUESTS[0]] * 5, tmp_path / "j.jsonl")) == 5
        assert len(reader.computed) == 1

    def test_what_an_interrupted_run_wrote_is_kept(self, tmp_path: Path) -> None:
        path, rest = tmp_path / "j.jsonl", Reader()
        read(Reader(), REQUESTS[:4], path)
        read(rest, REQUESTS, path)
        assert [one for group in rest.computed for one in group] == REQUESTS[4:]

    def test_what_overflowed_is_none_and_is_not_computed_again(self, tmp_path: Path) -> None:
        path, again = tmp_path / "j.jsonl", Reader(overflow=7)
        found = read(Reader(overflow=7), REQUESTS, path)
        assert [each is None for each in found] == [len(r.tokens) >= 7 for r in REQUESTS]
        read(again, REQUESTS, path)
        assert again.computed == []

    def test_it_stops_when_all_readouts_overflow(self, tmp_path: Path) -> None:
        many = [ReadoutRequest((i, 1), (3,)) for i in range(MINIMUM)]
        with pytest.raises(EsrError, match="not finite"):
            read(Reader(overflow=0), many, tmp_path / "j.jsonl")

    def test_readouts_of_other_targets_are_others(self, tmp_path: Path) -> None:
        path, other = tmp_path / "j.jsonl", Reader()
        read(Reader(), REQUESTS[:1], path)
        read(other, [replace(REQUESTS[0], targets=(3,))], path)
        assert len(other.computed) == 1
