"""Keys and values of a batch, in tensors with room for the tokens to come.

The cache of transformers concatenates: each token copies all keys and values before it. Without
these copies generation on a CPU takes an eighth less time. The static cache of transformers does
not copy either, but attention then reads the empty positions, too.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers.cache_utils import DynamicLayer

ROOM = 32
"""Tokens by which the tensors grow: each time copies the cache."""

States = Float[Tensor, "rows heads length d_head"]


class RoomyLayer(DynamicLayer):
    """A layer of transformers' dynamic cache that writes new keys and values into free room."""

    def __init__(self, keys: States, values: States) -> None:
        """Begin with the keys and values of a prompt."""
        super().__init__()
        self.lazy_initialization(keys, values)
        self._store(_with_room(keys), _with_room(values), keys.shape[-2])

    def update(self, key_states: States, value_states: States, *_: Any, **__: Any) -> Any:
        """Add the keys and values of new tokens; return all until now."""
        begin = self.get_seq_length()
        end = begin + key_states.shape[-2]
        if end > self._keys.shape[-2]:
            self._store(_with_room(self.keys, end), _with_room(self.values, end), begin)
        self._keys[..., begin:end, :] = key_states
        self._values[..., begin:end, :] = value_states
        self._store(self._keys, self._values, end)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows alone."""
        self._store(self._keys[indices], self._values[indices], self.get_seq_length())

    def _store(self, keys: States, values: States, length: int) -> None:
        self._keys, self._values = keys, values
        self.keys, self.values = keys[..., :length, :], values[..., :length, :]


def make_room(cache: Any) -> None:
    """Replace the layers of a cache that concatenate; others (sliding windows, say) stay."""
    for index, layer in enumerate(getattr(cache, "layers", [])):
        if type(layer) is DynamicLayer and layer.keys is not None and layer.values is not None:
            cache.layers[index] = RoomyLayer(layer.keys, layer.values)


def _with_room(states: States, length: int = 0) -> States:
    """A copy of states in a tensor with room for more tokens."""
    rows, heads, used, d_head = states.shape
    room = states.new_empty(rows, heads, max(length, used) + ROOM, d_head)
    room[..., :used, :] = states
    return room
