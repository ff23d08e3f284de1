"""Episodes read token by token: the same numbers as one would get by hand, and nothing invented."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from esr.engines.base import EncodeRequest, Intervention, Request
from esr.engines.transformers import TransformersEngine
from esr.errors import EsrError
from helpers.checkout import load_script
from helpers.tiny import D_SAE, tiny_model, tiny_sae

script = load_script("read_episodes")
STEERED = Intervention(latent=3, boost=2.0)
REGIONS = ["off_topic"] * 2 + ["correction"] * 2 + ["on_topic"] * 3 + [None]


@pytest.fixture(scope="module", name="engine")
def _engine() -> TransformersEngine:
    return TransformersEngine(tiny_model(), tiny_sae(), 1, 2, batch_size=3)


def trace(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    prompt, response = (tuple(rng.integers(3, 40, n).tolist()) for n in (4 + seed, len(REGIONS)))
    reading = EncodeRequest(prompt + response, len(prompt), STEERED)
    spans = [(i, i + 1) for i in range(len(response))]
    return script.Trace(f"t{seed}", reading, spans, list(REGIONS))


def test_means_over_a_region_are_those_of_its_tokens_in_the_full_response(
    engine: TransformersEngine,
) -> None:
    traces = [trace(seed) for seed in range(5)]
    rows = script.encode_tokens(engine, traces, list(range(D_SAE)), "detector")
    for region in ("off_topic", "correction", "on_topic"):
        by_hand = rows[rows["region"].eq(region)].pivot_table(
            "activation", "trial_id", "latent", aggfunc="mean"
        )
        np.testing.assert_allclose(
            script.region_means(engine, traces, region), by_hand, rtol=1e-4, atol=1e-5
        )


def test_every_token_and_latent_has_a_row(engine: TransformersEngine) -> None:
    rows = script.encode_tokens(engine, [trace(0), trace(1)], [7, 2], "backtracking")
    assert len(rows) == 2 * len(REGIONS) * 2
    one = rows[rows["trial_id"].eq("t1") & rows["latent"].eq(2)]
    expected = engine.encode([trace(1).request], [2], pool=None)[0][:, 0]
    np.testing.assert_allclose(one["activation"].astype(float), expected, rtol=1e-5, atol=1e-6)
    assert one["position"].tolist() == list(range(len(REGIONS)))
    assert [None if pd.isna(region) else region for region in one["region"]] == REGIONS


def test_nothing_to_read_gives_no_rows(engine: TransformersEngine) -> None:
    assert script.encode_tokens(engine, [], [1], "detector").empty
    assert script.encode_tokens(engine, [trace(0)], [], "detector").empty
    assert len(script.region_means(engine, [], "correction")) == 0


def trials(response: str = "ab") -> pd.DataFrame:
    spans = {f"{region}_{end}": pd.NA for region in ("correction", "on_topic") for end in _ENDS}
    row = {"trial_id": "t", "prefill": "", "tokens": [0, 1], "response": response}
    return pd.DataFrame([row | spans | {"off_topic_start": 0, "off_topic_end": 2}])


_ENDS = ("start", "end")


class Letters:
    """A tokenizer of three letters, without special tokens."""

    all_special_ids: tuple[int, ...] = ()
    added_tokens_decoder: ClassVar[dict[int, Any]] = {}

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool) -> str:
        return "".join("abc"[token] for token in tokens)


TOKENIZER = Letters()
REQUEST = Request((5, 6), seed=0, intervention=STEERED)


@pytest.mark.parametrize(("steer", "used"), [(True, STEERED), (False, Intervention())])
def test_a_response_is_read_as_it_was_steered_unless_that_is_off(
    steer: bool, used: Intervention
) -> None:
    (found,) = script.make_traces(trials(), [REQUEST], TOKENIZER, steer)
    assert found.request == EncodeRequest((5, 6, 0, 1), 2, used)
    assert found.regions == ["off_topic", "off_topic"]
    assert not script.complete(found)


def test_tokens_of_another_tokenizer_are_refused() -> None:
    with pytest.raises(EsrError, match="trial t: its tokens do not decode"):
        script.make_traces(trials("ba"), [REQUEST], TOKENIZER, steer=True)
