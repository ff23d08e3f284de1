"""What is done to the model by hand: the operations that arms have, for one request."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Literal, TypedDict

from pydantic import ValidationError

from esr.arms.responses import intervention_of
from esr.config import ArmConfig
from esr.config.load import explain
from esr.engines.base import Intervention
from esr.errors import EsrError

Ends = tuple[int | None, int | None]
"""First token of a window and the one after its last, counted from the first of the response."""


class How(TypedDict, total=False):
    """How latents are steered and ablated, beyond boost and names; as in arms.

    `ablate_to`: what ablated latents are clamped to, instead of being removed: `mean`, their mean
    activation on unsteered answers, or an activation (units of the SAE). `strength`: share of their
    contribution that is removed, above 0 and at most 1. `layers`: decoder layers (0-based) at whose
    output the boost is added, at each the whole of it. `window`: tokens at which it is added, from
    the first to before the last, where 0 is the first one of the response and None is no end.
    """

    ablate_to: float | Literal["mean"] | None
    strength: float | None
    layers: Sequence[int] | None
    window: Ends | None


@dataclass(frozen=True)
class Change:
    """What is done to the model in one response.

    Attributes:
        latent: Steered latent; None = not steered.
        boost: Boost (decoder units).
        ablated: Latents that are ablated or clamped.
        ablated_to: What each of these is clamped to; empty: they are removed.
        strength: Share of their contribution that is removed.
        layers: Layers at which the boost is added; empty: `steer_layer`.
        window: Tokens at which it is added; None = all.
    """

    latent: int | None = None
    boost: float = 0.0
    ablated: tuple[int, ...] = ()
    ablated_to: tuple[float, ...] = ()
    strength: float = 1.0
    layers: tuple[int, ...] = ()
    window: Ends | None = None

    def intervention(self, n_prompt: int) -> Intervention:
        """The intervention on a request, as that of a trial with the same settings.

        Args:
            n_prompt: Tokens before the first one of the response.

        Raises:
            EsrError: the window ends before the first token of the prompt.
        """
        steers = self.latent is not None and self.boost != 0
        start, stop = self.window if self.window and steers else (None, None)
        row = SimpleNamespace(
            latent=self.latent,
            boost=self.boost if steers else 0.0,
            directions=None,
            ablated=self.ablated,
            ablated_to=self.ablated_to,
            strength=None if self.strength == 1 else self.strength,
            layers=self.layers,
            window_start=start,
            window_stop=stop,
        )
        made = intervention_of(row, n_prompt)
        return made if steers else replace(made, latent=self.latent)


def change_of(intervention: Intervention, n_prompt: int) -> Change:
    """What an intervention of `Change.intervention` does."""
    added = [one for one in intervention.all_operations() if one.kind == "add"]
    clamped = [one for one in intervention.operations if one.kind == "clamp"]
    window = added[0].window if added else None
    start = None if window is None or window.start == 0 else window.start - n_prompt
    stop = None if window is None or window.stop is None else window.stop - n_prompt
    return Change(
        latent=added[0].target if added else intervention.latent,
        boost=added[0].amount if added else 0.0,
        ablated=intervention.ablated or tuple(one.target for one in clamped),
        ablated_to=tuple(one.amount for one in clamped),
        strength=intervention.strength,
        layers=tuple(one.layer for one in added if one.layer is not None),
        window=None if window is None else (start, stop),
    )


def checked(latent: int | None, ablated: Sequence[int], how: How) -> ArmConfig:
    """The settings as an arm, by whose rules they are checked.

    Raises:
        EsrError: an arm could not have them.
    """
    given: dict[str, Any] = {name: value for name, value in how.items() if value is not None}
    for name in ("layers", "window"):
        if latent is None and name in given:
            raise EsrError(f"{name}: places the boost of a latent, but none is steered; name one")
    if "window" in given:
        ends = tuple(given["window"])
        if len(ends) != 2:
            raise EsrError(f"window: {ends}; give two ends such as (0, 40), None for none")
        given["window"] = dict(zip(("start", "stop"), ends, strict=True))
    drawn = {"over": "latents"} if latent is not None else {"over": "prompts", "boost": "none"}
    try:
        return ArmConfig.model_validate(drawn | {"trials": 1, "ablate": tuple(ablated)} | given)
    except ValidationError as error:
        lines = [explain(problem).removeprefix("config: ") for problem in error.errors()]
        raise EsrError("; ".join(lines)) from None
