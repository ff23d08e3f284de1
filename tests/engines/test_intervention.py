"""Operations: their values, what they do by layer, what contradicts, and their journal keys."""

import json
from dataclasses import astuple
from typing import Any

import pytest

from esr.engines.base import Intervention, Operation, Reach, Request, Window
from esr.errors import EsrError
from esr.journal import content_key

REACH = Reach(24, {"random": [3, 40]}, steer_layer=2, ablate_layer=1, adds=(2, 5), encodes=(1, 4))
CLAMP = Operation("clamp", 7, 1.5)
GOLDEN = "7219b3d8a9cab2c4d10b3067c93f927a"
"""Key of a request before there were operations."""


def doing(*operations: Operation, **short: Any) -> Intervention:
    return Intervention(operations=operations, **short)


class TestByLayer:
    def test_the_short_form_acts_at_the_layers_of_the_engine(self) -> None:
        short = Intervention(3, 2.0, (9, 7, 9), 0.5, Window(4), "random")
        long = doing(
            Operation("add", 3, 2.0, 2, Window(4), "random"),
            Operation("ablate", 7, 0.5, 1),
            Operation("ablate", 9, 0.5, 1),
        )
        assert short.at_layers(2, 1) == long.at_layers(2, 1)

    def test_ablation_and_clamp_are_one_formula(self) -> None:
        one = doing(CLAMP, Operation("ablate", 3, 0.25))
        change = one.at_layers(2, 1)[1]
        # value - strength * a, times the latent's direction
        assert change.encoded == {7: (1.0, 1.5), 3: (0.25, 0.0)}

    def test_layers_at_which_nothing_is_done_are_absent(self) -> None:
        idle = doing(Operation("add", 3, 0.0, 5), latent=4, boost=0.0)
        assert idle.at_layers(2, 1) == {}
        assert set(doing(CLAMP, Operation("add", 3, 1.0, 5)).at_layers(2, 1)) == {1, 5}


@pytest.mark.parametrize(
    ("what", "named"),
    [
        (doing(Operation("clamp", 24, 1.0)), r"latent 24 is not in the SAE \(latents 0 to 23\)"),
        (doing(Operation("ablate", -1, 1.0)), "latent -1 is not in the SAE"),
        (doing(Operation("clamp", 7, float("nan"))), "clamp 7: nan is not a finite number"),
        (doing(Operation("add", 7, float("inf"))), "add 7: inf is not a finite number"),
        (doing(Operation("ablate", 7, 0.0)), "ablate 7: share 0.0; give one above 0"),
        (doing(Operation("ablate", 7, 1.5)), "ablate 7: share 1.5; .* at most 1"),
        (doing(Operation("set", 7, 1.5)), "operation 'set': give `add`, `ablate` or `clamp`"),  # pyrefly: ignore[bad-argument-type]
        (doing(Operation("add", 7, 1.0, directions="random")), "'random' have no row 7"),
        (doing(Operation("add", 7, 1.0, directions="topics")), r"has loaded \['random'\]"),
        (doing(Operation("clamp", 3, 1.0, directions="random")), "'random' have no encoder"),
        (doing(Operation("add", 7, 1.0, window=Window(4, 4))), "4 to 4: it holds no position"),
        (
            doing(Operation("add", 7, 1.0, 3)),
            r"layer 3: this engine adds directions at layers 2, 5",
        ),
        (doing(Operation("clamp", 7, 1.0, 2)), r"layer 2: this engine ablates .* at layers 1, 4"),
        (doing(CLAMP, ablated=(7,)), "layer 1: 7 is ablated or clamped twice"),
        (doing(CLAMP, Operation("clamp", 7, 0.0, 1)), "layer 1: 7 is ablated or clamped twice"),
        (
            doing(Operation("add", 3, -2.0, 2), latent=3, boost=2.0),
            "layer 2: 3 is added twice; give it one operation",
        ),
        (
            doing(Operation("add", 4, 1.0, window=Window(9)), latent=3, boost=2.0),
            r"layer 2: added directions have the windows None and Window\(start=9, stop=None\)",
        ),
        (
            doing(CLAMP, Operation("ablate", 3, 1.0, window=Window(0, 4))),
            "layer 1: ablated and clamped latents have the windows",
        ),
    ],
)
def test_what_is_invalid_is_named(what: Intervention, named: str) -> None:
    with pytest.raises(EsrError, match=named):
        what.check(REACH)


@pytest.mark.parametrize(
    "what",
    [
        doing(CLAMP, latent=7, boost=3.0),  # clamped at one layer, boosted at another
        doing(CLAMP, Operation("clamp", 7, 1.5, 4)),
        doing(Operation("add", 3, 2.0), Operation("add", 3, 2.0, 5)),
        doing(Operation("add", 3, 2.0), Operation("add", 3, 1.0, directions="random")),
        doing(Operation("add", 3, 0.0), latent=3, boost=2.0),
    ],
)
def test_what_goes_together_is_accepted(what: Intervention) -> None:
    what.check(REACH)


class TestKeys:
    def test_keys_of_interventions_without_operations_are_those_of_before(self) -> None:
        window = Intervention(3, 2.5, (7, 1), 0.5, Window(4, 9), "random")
        assert json.loads(json.dumps(window.content())) == {
            "latent": 3,
            "boost": 2.5,
            "ablated": [7, 1],
            "strength": 0.5,
            "window": [4, 9],
            "directions": "random",
        }
        plain = Request((2, 5), 44, Intervention(3, 2.5, (7, 1)))
        assert content_key(plain.content()) == GOLDEN

    def test_every_value_of_an_operation_changes_the_key(self) -> None:
        different = [
            doing(CLAMP),
            doing(Operation("clamp", 7, 1.0)),
            doing(Operation("clamp", 8, 1.5)),
            doing(Operation("add", 7, 1.5)),
            doing(Operation("clamp", 7, 1.5, 2)),
            doing(Operation("clamp", 7, 1.5, window=Window(0, 4))),
            doing(Operation("add", 7, 1.5, directions="random")),
            doing(CLAMP, CLAMP),
            Intervention(),
        ]
        keys = {content_key(Request((2,), 1, one).content()) for one in different}
        assert len(keys) == len(different)

    def test_an_intervention_survives_its_way_to_a_worker_as_lists(self) -> None:
        what = doing(
            CLAMP,
            Operation("add", 3, 1.0, 5, Window(2), "random"),
            latent=3,
            boost=2.0,
            ablated=(1, 2),
            window=Window(0, 4),
        )
        assert Intervention.from_values(json.loads(json.dumps(astuple(what)))) == what
