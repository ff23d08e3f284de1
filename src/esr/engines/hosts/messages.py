"""Messages between any client and its host: plain data, pickled. Jobs and replies are the engine's.

A client first sends what the host is to load. The host replies `Ready`, or `Failed`.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StatusRequest:
    """Request for a `Ready` message with current facts."""


@dataclass(frozen=True)
class Ready:
    """The host runs: the version of the library that computes, and facts such as its counters."""

    version: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """The host has failed, and why."""

    message: str
