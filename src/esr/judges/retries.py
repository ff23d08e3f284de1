"""Which failed calls are sent again, and when.

The SDKs can do this by themselves, but then the failures are not seen by the level of calls in
flight (`esr.judges.level`), and calls that were refused together come back together.
"""

import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import ModuleType
from typing import NamedTuple

REFUSED = frozenset({429, 503, 529})
"""Statuses of a service that receives too many calls."""
PASSING = frozenset({408, 409, 429})
"""Statuses below 500 that may pass."""
FIRST, LONGEST = 0.5, 8.0
"""Seconds before the first retry, and before the later ones at most, if the service names none."""


class Again(NamedTuple):
    """A failure after which a call is sent again.

    Attributes:
        pause: Seconds after which the service wants the next call; None if it does not say.
        refused: Whether the reason is too many calls.
    """

    pause: float | None
    refused: bool


def may_pass(error: Exception, sdk: ModuleType) -> Again | None:
    """Whether a failure may pass by itself; None if not. `x-should-retry` decides if it is sent.

    Args:
        error: The failure.
        sdk: `anthropic` or `openai`, whichever raised it.
    """
    if isinstance(error, sdk.APIConnectionError):
        return Again(None, refused=False)
    if not isinstance(error, sdk.APIStatusError):
        return None
    headers = error.response.headers
    wanted = headers.get("x-should-retry")
    status = error.status_code
    passes = wanted == "true" or (wanted != "false" and (status in PASSING or status >= 500))
    return Again(pause_of(headers), status in REFUSED) if passes else None


def pause_of(headers: Mapping[str, str]) -> float | None:
    """Seconds in `retry-after-ms` or `retry-after` (a number or a date); None without either."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            pause = unit * float(headers[name])
        except (KeyError, ValueError):
            continue
        if 0 <= pause < float("inf"):
            return pause
    try:
        return max(parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time(), 0.0)
    except (KeyError, ValueError):
        return None


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures of a call, somewhat at random."""
    return min(FIRST * 2.0 ** min(failures - 1, 10), LONGEST) * random.uniform(0.75, 1.0)
