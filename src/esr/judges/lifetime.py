"""The day on which a model is shut down, as its provider lists it."""

from datetime import UTC, date, datetime
from typing import Any


def last_day(model: Any) -> str | None:
    """Day (ISO) on which a listed model is shut down; None if the list does not say."""
    given = getattr(model, "shutdown_date", None) or getattr(model, "deprecation_date", None)
    if isinstance(given, int | float) and not isinstance(given, bool):
        return datetime.fromtimestamp(given, UTC).date().isoformat()
    try:
        return date.fromisoformat(str(given)[:10]).isoformat()
    except ValueError:
        return None
