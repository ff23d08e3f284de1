"""What an intervention is: operations on the residual stream, at layers and in windows.

At the output h of a decoder layer, at the positions t of their windows:

    h'[t] = h[t] - strength * sum over k in ablated of a_k(h[t]) * W_dec[k]
                 + sum over k in clamped of (value_k - a_k(h[t])) * W_dec[k]
                 + sum over directions of amount * direction

a is the SAE's encoder on the unchanged h. All operations at one layer thus read the same h, and
their order does not matter. Operations at several layers act in the order of the layers: a later
layer reads what the earlier ones have changed.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from esr.errors import EsrError

Kind = Literal["add", "ablate", "clamp"]


class Window(NamedTuple):
    """Half-open range of token positions, prompt included: `start` <= t < `stop`; None = no end."""

    start: int
    stop: int | None = None

    def clip(self, begin: int, end: int) -> tuple[int, int]:
        """First and last + 1 of its positions within `begin` to `end`; equal if it has none."""
        start = min(max(self.start, begin), end)
        return start, end if self.stop is None else min(max(self.stop, start), end)

    def check(self) -> None:
        """Raise if it holds no position."""
        if self.start < 0 or (self.stop is not None and self.stop <= self.start):
            raise EsrError(f"window from {self.start} to {self.stop}: it holds no position")


@dataclass(frozen=True)
class Operation:
    """One change to the residual stream at the output of one layer.

    Attributes:
        kind: `add` a direction, `ablate` a latent, or `clamp` it: set its activation to a value.
        target: Latent, or row of `directions`.
        amount: Factor of the direction (decoder units; 0 = nothing is added), share of the latent's
            component that is removed (above 0, at most 1), or activation (units of the SAE).
        layer: Decoder layer; None = the engine's layer for steering or, to ablate and clamp, its
            layer for ablation.
        window: Positions; None = all.
        directions: Set whose row `target` is added; None = the decoder. Goes with `add`.
    """

    kind: Kind
    target: int
    amount: float
    layer: int | None = None
    window: Window | None = None
    directions: str | None = None

    def check_values(self) -> None:
        """Raise if a value is invalid. Does not depend on the SAE."""
        if self.kind not in ("add", "ablate", "clamp"):
            raise EsrError(f"operation {self.kind!r}: give `add`, `ablate` or `clamp`")
        if not np.isfinite(self.amount):
            raise EsrError(f"{self.kind} {self.target}: {self.amount} is not a finite number")
        if self.kind == "ablate" and not 0 < self.amount <= 1:
            raise EsrError(
                f"ablate {self.target}: share {self.amount}; give one above 0 and at most 1"
            )
        if self.kind != "add" and self.directions is not None:
            raise EsrError(
                f"{self.kind} {self.target}: directions {self.directions!r} have no encoder; only "
                "latents are ablated or clamped"
            )
        if self.window is not None:
            self.window.check()

    def content(self) -> dict[str, Any]:
        """Return its values; those at their default count as absent."""
        found = dict(vars(self))
        for name in ("layer", "window", "directions"):
            if found[name] is None:
                del found[name]
        return found


class Row(NamedTuple):
    """A direction: a row of a set of directions, or of the decoder (None)."""

    directions: str | None
    number: int


class Encoded(NamedTuple):
    """What is done to a latent with activation a: `value - strength * a` times its direction."""

    strength: float
    value: float


@dataclass
class LayerChange:
    """What an intervention does at one layer.

    Attributes:
        added: Factor of each direction that is added.
        added_window: Positions at which they are added.
        encoded: What is done to each latent that is ablated or clamped.
        encoded_window: Positions at which it is done.
    """

    added: dict[Row, float] = field(default_factory=dict)
    added_window: Window | None = None
    encoded: dict[int, Encoded] = field(default_factory=dict)
    encoded_window: Window | None = None

    def include(self, operation: Operation, layer: int) -> None:
        """Add an operation at this layer.

        Raises:
            EsrError: it contradicts, repeats or cancels another one.
        """
        adds, target = operation.kind == "add", operation.target
        row = Row(operation.directions, target)
        others, window = (
            (self.added, self.added_window) if adds else (self.encoded, self.encoded_window)
        )
        if others and window != operation.window:
            raise EsrError(
                f"layer {layer}: {'added directions' if adds else 'ablated and clamped latents'} "
                f"have the windows {window} and {operation.window}; give all of a layer the same"
            )
        if (row in self.added) if adds else (target in self.encoded):
            what = "added" if adds else "ablated or clamped"
            raise EsrError(f"layer {layer}: {target} is {what} twice; give it one operation")
        if adds:
            self.added[row] = operation.amount
            self.added_window = operation.window
            return
        clamps = operation.kind == "clamp"
        self.encoded[target] = (
            Encoded(1.0, operation.amount) if clamps else Encoded(operation.amount, 0.0)
        )
        self.encoded_window = operation.window


class Reach(NamedTuple):
    """What an engine can intervene on.

    Attributes:
        d_sae: Latents of the SAE.
        rows: Rows of each set of directions that it has loaded.
        steer_layer: Layer at which directions are added, unless an operation names another.
        ablate_layer: Layer at which latents are ablated and clamped, likewise.
        adds: Layers at which it can add directions.
        encodes: Layers at which it can ablate and clamp.
    """

    d_sae: int
    rows: Mapping[str, Collection[int]]
    steer_layer: int
    ablate_layer: int
    adds: Collection[int]
    encodes: Collection[int]


@dataclass(frozen=True)
class Intervention:
    """Change to the residual stream of one request.

    The fields but `operations` are the short form of the usual case: one boosted direction and a
    set of ablated latents, at the layers of the engine.

    Attributes:
        latent: Latent whose decoder row is added.
        boost: Factor of that row (decoder units).
        ablated: Latents whose component is removed.
        strength: Share of that component that is removed, above 0 and at most 1.
        window: Positions at which the boost is added; None = all.
        directions: Set whose row `latent` is added in place of the decoder row; None = the decoder.
        operations: Further operations.
    """

    latent: int | None = None
    boost: float = 0.0
    ablated: tuple[int, ...] = ()
    strength: float = 1.0
    window: Window | None = None
    directions: str | None = None
    operations: tuple[Operation, ...] = ()

    def all_operations(self) -> Iterator[Operation]:
        """Yield every operation that does something, short form first."""
        if self.latent is not None and self.boost != 0:
            yield Operation(
                "add", self.latent, self.boost, None, self.window, directions=self.directions
            )
        for latent in sorted(set(self.ablated)):
            yield Operation("ablate", latent, self.strength)
        for one in self.operations:
            if one.kind != "add" or one.amount != 0:
                yield one

    def at_layers(self, steer_layer: int, ablate_layer: int) -> dict[int, LayerChange]:
        """Return what it does, by layer. Layers at which it does nothing are absent.

        Raises:
            EsrError: two operations at one layer do not go together.
        """
        found: dict[int, LayerChange] = {}
        for one in self.all_operations():
            default = steer_layer if one.kind == "add" else ablate_layer
            layer = default if one.layer is None else one.layer
            found.setdefault(layer, LayerChange()).include(one, layer)
        return found

    def check(self, reach: Reach) -> None:
        """Raise if it is invalid, or out of the engine's reach; before any compute."""
        self.check_values()
        check_latents(self.ablated, reach.d_sae)
        if self.latent is not None:
            _check_row(self.directions, self.latent, reach)
        for one in self.operations:
            _check_row(one.directions, one.target, reach)
        for layer, change in self.at_layers(reach.steer_layer, reach.ablate_layer).items():
            for part, verb, known in (
                (change.added, "adds directions", reach.adds),
                (change.encoded, "ablates and clamps", reach.encodes),
            ):
                if part and layer not in known:
                    raise EsrError(
                        f"layer {layer}: this engine {verb} at layers {_listed(known)}; choose one "
                        "of them, or name the layer when the engine is opened"
                    )

    def check_values(self) -> None:
        """Raise if a value is invalid. Does not depend on the SAE."""
        if not np.isfinite(self.boost):
            raise EsrError(f"boost {self.boost} of latent {self.latent} is not a finite number")
        if self.latent is None and self.boost != 0:
            raise EsrError(f"boost {self.boost} without a latent to boost")
        if self.latent is None and self.directions is not None:
            raise EsrError(f"directions {self.directions!r} without a row to boost")
        if not 0 < self.strength <= 1:
            raise EsrError(
                f"ablation strength {self.strength}: give a share above 0 and at most 1; to ablate "
                "nothing, list no latents"
            )
        if self.strength != 1 and not self.ablated:
            raise EsrError(f"ablation strength {self.strength} without latents to ablate")
        for one in self.operations:
            one.check_values()
        if self.window is None:
            return
        self.window.check()
        if self.boost == 0:
            start, stop = self.window
            raise EsrError(f"window from {start} to {stop} without a boost")

    def content(self) -> dict[str, Any]:
        """Return what identifies it in a journal: values at their default count as absent.

        Keys of interventions that use no later field thus stay as they were.
        """
        found = dict(vars(self))
        for name in ("strength", "window", "directions", "operations"):
            if found[name] == getattr(type(self), name):
                del found[name]
        if self.operations:
            found["operations"] = [one.content() for one in self.operations]
        return found

    @classmethod
    def from_values(cls, values: Sequence[Any]) -> "Intervention":
        """Restore an intervention from its values in order, in which tuples may be lists."""
        latent, boost, ablated, strength, window, directions, operations = values
        return cls(
            latent,
            boost,
            tuple(ablated),
            strength,
            _window(window),
            directions,
            tuple(
                Operation(kind, target, amount, layer, _window(inside), rows)
                for kind, target, amount, layer, inside, rows in operations
            ),
        )


UNCHANGED = Intervention()
"""The intervention that does nothing."""


def check_latents(latents: Iterable[int], d_sae: int) -> None:
    """Raise unless all latents are in the SAE. Negative indices would count from its end."""
    for latent in latents:
        if not 0 <= latent < d_sae:
            raise EsrError(f"latent {latent} is not in the SAE (latents 0 to {d_sae - 1})")


def _check_row(directions: str | None, number: int, reach: Reach) -> None:
    if directions is None:
        check_latents([number], reach.d_sae)
        return
    known = reach.rows.get(directions)
    if known is None:
        raise EsrError(
            f"directions {directions!r}: the engine has loaded {sorted(reach.rows)}; an engine "
            "steers along the sets that it was opened with"
        )
    if number not in known:
        raise EsrError(f"directions {directions!r} have no row {number}")


def _listed(layers: Collection[int]) -> str:
    if isinstance(layers, range):
        return f"{layers.start} to {layers.stop - 1}"
    return ", ".join(map(str, sorted(layers)))


def _window(bounds: Sequence[Any] | None) -> Window | None:
    return None if bounds is None else Window(*bounds)
