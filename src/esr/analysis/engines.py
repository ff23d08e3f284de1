"""Arms are paired only if one engine generated them: same model, dtype, backend, parallelism.

Another engine, dtype, attention backend or number of GPUs rounds differently, so a trial and its
replay would differ without any change of condition. Snakemake regenerates an arm when a setting
changes, but not after `--touch`. The scores of an arm carry the identity of its engine.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from esr.arms.scores import GATE, GATED, JUDGED
from esr.tables import read_provenance, read_tables

log = logging.getLogger(__name__)

STATUS = "engines_differ"
MASKED = ["difference", "low", "high", "relative_change", "relative_low", "relative_high"]
MASKED += ["p_value"]
"""Columns of a comparison that need pairs."""

UNSCORED = [*JUDGED, *GATED, *GATE, "restart_detected", "degraded"]
"""Columns of scores that a trial without a score lacks."""

DIRECTIONS = "directions"
"""Fact with the digest of each set of directions that an engine was opened with."""

Identities = dict[tuple[str, str], Mapping[str, Any]]
"""Identity of the engine by model and arm."""


def engines_of(paths: Iterable[str | Path]) -> Identities:
    """Identity of the engine behind each file of scores; arms that generated nothing have none."""
    found: Identities = {}
    for path in paths:
        facts = read_provenance(Path(path))
        if facts.get("engine"):
            of_file = facts["wildcards"]
            found[(of_file["model"], of_file["arm"])] = facts["engine"]
    return found


def engine_differences(
    first: Mapping[str, Any] | None, second: Mapping[str, Any] | None
) -> list[str]:
    """Facts in which two engines differ: `dtype float32 / bfloat16`; none if one is unknown."""
    if not first or not second:
        return []
    one, other = _comparable(first, second), _comparable(second, first)
    return [
        f"{name} {_short(one.get(name))} / {_short(other.get(name))}"
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]


def _comparable(facts: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of an engine; of the sets of directions those that the other one has, too.

    A set that one arm lacks is its condition. A set of one name with other vectors is not.
    """
    sets, theirs = (each.get(DIRECTIONS) or {} for each in (facts, other))
    shared = {f"{DIRECTIONS} {name}": sets[name] for name in sets if name in theirs}
    return {name: fact for name, fact in facts.items() if name != DIRECTIONS} | shared


def read_scores_to_pair(paths: Sequence[str | Path], replays: Mapping[str, str]) -> pd.DataFrame:
    """Scores of several arms, without those that cannot be paired (`unpair_other_engines`)."""
    return unpair_other_engines(read_tables(paths, "scores"), engines_of(paths), replays)


def unpair_other_engines(
    scores: pd.DataFrame, engines: Identities, replays: Mapping[str, str]
) -> pd.DataFrame:
    """Scores in which trials of another engine than the replayed arm's have none.

    Their status is `engines_differ`; they count like trials of any other arm that was not scored.

    Args:
        scores: Scores of several arms.
        engines: As `engines_of` returns them.
        replays: Replayed arm by replaying arm.
    """
    scores = scores.copy()
    for model, arm in engines:
        against = replays.get(arm, arm)
        different = engine_differences(engines.get((model, against)), engines[model, arm])
        if different:
            rows = scores["model"].eq(model) & scores["arm"].eq(arm)
            scores.loc[rows, "status"] = STATUS
            scores.loc[rows, [name for name in UNSCORED if name in scores]] = pd.NA
            log.warning("%s", _line(model, against, arm, different))
    return scores


def mask_other_engines(
    table: pd.DataFrame, engines: Identities, columns: Sequence[str] = MASKED
) -> tuple[pd.DataFrame, list[str]]:
    """Comparisons without a difference where the engines of the two arms differ.

    Args:
        table: Comparisons with the columns model, arm, against, status and those to mask; rows
            without `against` compare nothing.
        engines: As `engines_of` returns them.
        columns: Columns that need pairs.

    Returns:
        The table, in which such rows have the status `engines_differ`; and a line for each pair.
    """
    table = table.copy()
    lines = []
    pairs = table[["model", "arm", "against"]].drop_duplicates()
    for model, arm, against in pairs.itertuples(index=False):
        different = engine_differences(engines.get((model, against)), engines.get((model, arm)))
        if different:
            rows = table["model"].eq(model) & table["arm"].eq(arm) & table["against"].eq(against)
            table.loc[rows, list(columns)] = np.nan
            table.loc[rows, "status"] = STATUS
            lines.append(_line(model, against, arm, different))
    return table, lines


def _line(model: str, against: str, arm: str, different: list[str]) -> str:
    return (
        f"{model}: {against} and {arm} were generated by different engines "
        f"({'; '.join(different)}) and are not compared; regenerate one of them"
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
