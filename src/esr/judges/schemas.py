"""JSON Schemas of replies: what APIs refuse in them, and one rating for every label."""

from collections.abc import Mapping
from typing import Any

BOUNDS = frozenset(
    ["minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "prefixItems"]
)
"""Keywords that structured output of Anthropic or OpenAI refuses."""


def without_bounds(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without `BOUNDS`, for an API. They are checked when the reply is read."""
    return {name: _without(name, value) for name, value in schema.items() if name not in BOUNDS}


def _without(keyword: str, value: Any) -> Any:
    if keyword == "properties":  # its keys are names, not keywords
        return {name: without_bounds(each) for name, each in value.items()}
    if isinstance(value, Mapping):
        return without_bounds(value)
    if isinstance(value, list):
        return [without_bounds(one) if isinstance(one, Mapping) else one for one in value]
    return value


def one_rating_each(schema: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The schema of ratings, with one for each of the numbers 1 to `count`, in order."""
    ratings = schema["properties"]["ratings"]
    item = ratings["items"]
    numbered = [
        {**item, "properties": {**item["properties"], "number": {"const": number}}}
        for number in range(1, count + 1)
    ]
    exact = {**ratings, "minItems": count, "maxItems": count, "prefixItems": numbered}
    return {**schema, "properties": {**schema["properties"], "ratings": exact}}
