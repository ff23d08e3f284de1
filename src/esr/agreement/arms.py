"""Models and arms that the cross-judge sample is drawn from: those that a study's claims read."""

from collections.abc import Iterator, Mapping
from typing import Any

from esr.analysis.claims import parse_where, read_claims
from esr.config import Config, random_sets

Cell = tuple[str, str]
"""A model and an arm."""

STEERED, SWEEP = "steered", "boost-sweep"
OF_JUDGES = {"figures/figA2.csv", "figures/figA3.csv", "figures/figA4.csv"}
"""Tables about the sample itself; a claim that reads them adds no arm."""
BY_KIND = {"pair": STEERED, "sweep": SWEEP, "point": SWEEP, "peak": SWEEP, "share": STEERED}
"""Arm behind a row of `models` or `contrasts` that does not name it."""


def sampled_cells(config: Config) -> list[Cell]:
    """Models and arms to sample from, in the order of the configuration.

    `agreement.arms`, if given, in every base model. Otherwise what the claims read. `steered` of
    the base models is always included, since Figures A2 to A4 show it; so is every arm that a
    sampled arm replays, which makes differences of arms comparable.

    Raises:
        EsrError: a file of claims cannot be read.
    """
    named = {(model, STEERED) for model in config.base_models}
    if config.agreement.arms is None:
        for claim in read_claims(config.claims).to_dict("records"):
            named |= set(_cells_of_claim(config, claim))
    else:
        arms = config.agreement.arms
        named = {(model, arm) for model in config.base_models for arm in arms}
    for model, arm in list(named):
        replayed = config.arms[arm].replay if arm in config.arms else None
        while replayed is not None:
            named.add((model, replayed))
            replayed = config.arms[replayed].replay
    return [
        (model, arm)
        for model in config.models
        for arm in config.arms_of(model)
        if (model, arm) in named
    ]


def _cells_of_claim(config: Config, claim: Mapping[str, Any]) -> Iterator[Cell]:
    """Every model and arm that a claim about scores refers to."""
    if claim["table"] in OF_JUDGES:
        return
    where: dict[str, list[str]] = {}
    for column, sign, values in parse_where(claim["where"]):
        if sign == "=":
            where[column] = where.get(column, []) + values
    arms = _arms(config, claim["table"], where)
    for model in _models(config, where):
        for arm in arms:
            yield model, arm


def _arms(config: Config, table: str, where: Mapping[str, list[str]]) -> set[str]:
    """Arms of a claim: those that it names, or those behind a table without a column `arm`.

    The name that random sets share, such as `ablate-random`, stands for each of them.
    """
    if "arm" in where:
        parts = {part for value in where["arm"] for part in value.split(" - ")}
        sets = random_sets(config.arms)
        of_sets = {arm for part in parts & set(sets) for arm in sets[part].arms}
        return {name for name in config.arms if parts & {name, "*"} or name in of_sets}
    if table in ("tables/models.csv", "tables/contrasts.csv"):
        return {BY_KIND[kind] for kind in where.get("kind", []) if kind in BY_KIND}
    return {STEERED}


def _models(config: Config, where: Mapping[str, list[str]]) -> set[str]:
    """Models of a claim, fine-tuned ones included; all base models if it names none."""
    named = {*where.get("model", []), *where.get("against", [])} - {"*"}
    found = {name for name in named if name in config.models} or (
        set() if named else set(config.base_models)
    )
    if where.get("kind") == ["share"]:
        shares = where.get("share")
        for name, tuned in config.finetuned.items():
            if tuned.base in found and (shares is None or str(tuned.share) in shares):
                found = found | {name}
    return found
