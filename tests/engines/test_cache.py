"""The cache with room holds what the cache of transformers holds."""

import pytest
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from esr.engines.cache import ROOM, RoomyLayer, make_room

ROWS, HEADS, D_HEAD = 6, 2, 4


def states(length: int, rows: int = ROWS, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of some tokens."""
    rng = torch.Generator().manual_seed(seed)
    shape = (rows, HEADS, length, D_HEAD)
    return torch.randn(shape, generator=rng), torch.randn(shape, generator=rng)


def both(prompt: int) -> tuple[DynamicLayer, RoomyLayer]:
    """A layer of transformers and one with room, after a prompt."""
    layer = DynamicLayer()
    layer.update(*states(prompt))
    return layer, RoomyLayer(*states(prompt))


@pytest.mark.parametrize("prompt", [1, ROOM - 1, ROOM, ROOM + 1])
@pytest.mark.parametrize("piece", [1, 3, ROOM + 5])
def test_it_holds_what_the_layer_of_transformers_holds(prompt: int, piece: int) -> None:
    layers = both(prompt)
    rows = torch.arange(ROWS)
    for step in range(2 * ROOM + 3):
        if step in (2, ROOM):  # rows end
            rows = torch.arange(len(rows))[1:]
            for layer in layers:
                layer.batch_select_indices(rows)
        returned = [layer.update(*states(piece, len(rows), seed=step)) for layer in layers]
        for expected, found in zip(*returned, strict=True):
            assert torch.equal(expected, found)
    assert layers[0].get_seq_length() == layers[1].get_seq_length()
    assert layers[0].get_mask_sizes(1) == layers[1].get_mask_sizes(1)


def test_a_token_copies_none_before_it() -> None:
    layer = both(5)[1]
    before = layer.update(*states(1))[0].data_ptr()
    assert all(layer.update(*states(1))[0].data_ptr() == before for _ in range(ROOM - 1))
    assert layer.update(*states(1))[0].data_ptr() != before


def test_the_prompt_is_copied_and_not_written_to() -> None:
    keys, values = states(5)
    layer = RoomyLayer(keys, values)
    layer.keys.zero_()
    assert torch.equal(keys, states(5)[0])


def test_layers_of_other_kinds_stay() -> None:
    cache = DynamicCache()
    cache.update(*states(5), 0)
    window = DynamicSlidingWindowLayer(sliding_window=3)
    unused = DynamicLayer()
    cache.layers += [window, unused]
    make_room(cache)
    assert isinstance(cache.layers[0], RoomyLayer)
    assert cache.layers[1:] == [window, unused]
    make_room(object())  # a cache of another library
