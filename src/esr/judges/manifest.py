"""The manifest of batches, a journal beside the journal of replies.

A batch is planned, created and closed; each step is a record that is written before the next step.
So after a kill it is known which batches may exist at the API.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from esr.journal import Journal, content_key

log = logging.getLogger(__name__)


class BatchManifest:
    """Batches of one job, by a name that is part of the id of each of their requests."""

    def __init__(self, journal: Journal) -> None:
        """Keep the manifest in a journal."""
        self._journal = journal

    @property
    def open(self) -> list[str]:
        """Batches that are planned and not closed, in order."""
        keys = [key for key in self._journal if key.endswith("/planned")]
        names = [key.removesuffix("/planned") for key in keys]
        return [name for name in names if f"{name}/closed" not in self._journal]

    @property
    def known_ids(self) -> set[str]:
        """Ids at the API of all batches, closed ones included."""
        return {self._journal[key]["id"] for key in self._journal if key.endswith("/created")}

    def plan(self, calls: Sequence[str], facts: Mapping[str, Any]) -> str:
        """Plan a batch of calls, by their keys; its name."""
        number = sum(key.endswith("/planned") for key in self._journal)
        name = content_key({"calls": list(calls), "number": number})[:12]
        record = {"key": f"{name}/planned", "calls": list(calls), "time": time.time(), **facts}
        self._journal.append([record])
        return name

    def planned(self, name: str) -> dict[str, Any]:
        """Plan of a batch: its calls, their identity and temperature, and when it was planned."""
        return self._journal[f"{name}/planned"]

    def created(self, name: str, batch: str) -> None:
        """Note the id of a batch at the API."""
        self._journal.append([{"key": f"{name}/created", "id": batch}])
        log.info("batch %s of %d calls is %s", name, len(self.planned(name)["calls"]), batch)

    def id_of(self, name: str) -> str | None:
        """Id of a batch at the API; None if it is not known."""
        key = f"{name}/created"
        return self._journal[key]["id"] if key in self._journal else None

    def was_not_found(self, name: str) -> bool:
        """Whether the API did not find a batch in this run; True from the second run on."""
        key = f"{name}/not_found"
        before = key in self._journal
        self._journal.append([{"key": key, "time": time.time()}])
        return before

    def close(self, name: str, why: str) -> None:
        """Close a batch: nothing more is expected of it."""
        self._journal.append([{"key": f"{name}/closed", "why": why}])
        log.info("batch %s: %s", name, why)
