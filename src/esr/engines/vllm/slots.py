"""Slots of a buffer, shared by users of the same content, and the copy of values into it."""

from collections.abc import Hashable
from typing import Generic, TypeVar

from torch import Tensor

Key = TypeVar("Key", bound=Hashable)


class Slots(Generic[Key]):
    """Slots of a buffer. Users of the same key share a slot; slot 0 is never assigned."""

    def __init__(self, size: int) -> None:
        self._free = list(range(size, 0, -1))
        self._slot: dict[Key, int] = {}
        self._users: dict[Key, int] = {}

    def acquire(self, key: Key) -> tuple[int, bool]:
        """Return the slot of a key and whether it was assigned just now.

        Raises:
            RuntimeError: all slots are in use.
        """
        new = key not in self._slot
        if new:
            if not self._free:
                raise RuntimeError(f"esr: all {len(self._slot)} slots are in use, none for {key!r}")
            self._slot[key] = self._free.pop()
        self._users[key] = self._users.get(key, 0) + 1
        return self._slot[key], new

    def release(self, key: Key) -> None:
        """Remove one user of a key. The last one frees the slot."""
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self._free.append(self._slot.pop(key))

    def __len__(self) -> int:
        return len(self._slot)

    def __contains__(self, key: Key) -> bool:
        return key in self._slot

    def __getitem__(self, key: Key) -> int:
        return self._slot[key]


def upload(target: Tensor, source: Tensor) -> None:
    """Copy values from the host to a buffer on the device, without waiting for it."""
    if target.device.type != "cpu":
        # Pinned memory makes the copy asynchronous. It is new memory for every step, so the
        # next step cannot overwrite it before the copy has finished.
        source = source.pin_memory()
    target.copy_(source, non_blocking=True)
