"""What the interventions of a batch add to the residual stream, layer by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from esr.assets.sae import Sae
from esr.engines.hooks import Change, Positions
from esr.engines.intervention import LayerChange


@dataclass(frozen=True)
class Deltas:
    """Makes deltas of interventions.

    Attributes:
        sae: The SAE.
        vectors: Rows of each set of directions.
        device: Device of the model.
    """

    sae: Sae
    vectors: Mapping[str, Mapping[int, Tensor]]
    device: torch.device

    def by_layer(
        self, rows: Sequence[Mapping[int, LayerChange]], positions: Positions
    ) -> dict[int, list[Change]]:
        """Return the deltas of each layer at which a row of the batch changes something."""
        changes: dict[int, list[Change]] = {}
        for layer in sorted({layer for row in rows for layer in row}):
            here = [row.get(layer, LayerChange()) for row in rows]
            changes[layer] = []
            if any(one.added for one in here):
                changes[layer].append(self._addition(here, positions))
            if any(one.encoded for one in here):
                changes[layer].append(self._encoded(here, positions))
        return changes

    def _addition(self, rows: Sequence[LayerChange], positions: Positions) -> Change:
        """Directions that are added at a layer."""
        total: Float[Tensor, "rows 1 d_model"] = torch.zeros(
            len(rows), 1, self.sae.d_model, device=self.device
        )
        for row, change in enumerate(rows):
            for (name, number), amount in change.added.items():
                known = self.sae.W_dec if name is None else self.vectors[name]
                total[row, 0] += amount * known[number].to(self.device)
        touched = self._column([bool(change.added) for change in rows])
        windows = [change.added_window for change in rows]
        if not any(windows):
            return Change(lambda: touched, lambda _: total)
        return Change(
            lambda: touched & positions.inside(windows, self.device),
            lambda _: total * positions.inside(windows, self.device),
        )

    def _encoded(self, rows: Sequence[LayerChange], positions: Positions) -> Change:
        """Latents that are ablated or clamped at a layer: value - share * a, by their directions.

        One product with the union of all rows' latents. `share` and `value` are 0 for those of
        other rows.
        """
        union = sorted({latent for change in rows for latent in change.encoded})
        column = {latent: i for i, latent in enumerate(union)}
        share: Float[Tensor, "rows 1 n"] = torch.zeros(len(rows), 1, len(union), device=self.device)
        value = torch.zeros_like(share)
        for row, change in enumerate(rows):
            for latent, one in change.encoded.items():
                share[row, 0, column[latent]] = one.strength
                value[row, 0, column[latent]] = one.value
        latents = torch.tensor(union, device=self.device)
        directions = self.sae.W_dec[latents]
        touched = self._column([bool(change.encoded) for change in rows])
        windows = [change.encoded_window for change in rows]

        def delta(h: Float[Tensor, "rows positions d_model"]) -> Tensor:
            return (value - self.sae.encode(h, latents) * share) @ directions

        if not any(windows):
            return Change(lambda: touched, delta)
        return Change(
            lambda: touched & positions.inside(windows, self.device),
            lambda h: delta(h) * positions.inside(windows, self.device),
        )

    def _column(self, rows: Sequence[bool]) -> Bool[Tensor, "rows 1 1"]:
        return torch.tensor(rows, dtype=torch.bool, device=self.device)[:, None, None]
