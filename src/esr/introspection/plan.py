"""Trials of self-report: every question with every direction, dose and window, and without any."""

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from esr.arms.plan import usable_thresholds
from esr.config.introspection import IntrospectionConfig
from esr.errors import EsrError
from esr.journal import content_key

log = logging.getLogger(__name__)

CHOICE = "choice"
KINDS = ("on_target", "off_target")
UNHASHED = {"label", "is_random"}
"""What the id of a trial does not depend on; `directions` tells random directions apart."""
COLUMNS = ["trial_id", "model", "latent", "directions", "is_random", "window", "dose", "boost"]
COLUMNS += ["label", "kind", "question_id", "rotation", "options", "prompt"]

Row = dict[str, Any]


class Chosen(NamedTuple):
    """A direction to inject: its label, and the boost of one unit of dose (decoder units)."""

    label: str | None
    unit: float


def introspection_plan(
    settings: IntrospectionConfig,
    model: str,
    latents: pd.DataFrame,
    thresholds: pd.DataFrame | None,
    questions: pd.DataFrame,
) -> pd.DataFrame:
    """The table `introspection_plan` of a model.

    Args:
        settings: Doses, windows, controls.
        model: Its name.
        latents: Table `latents`, or `directions` of the set that is injected.
        thresholds: Table `thresholds` of the same; None where doses are in decoder units.
        questions: Of `read_questions`.

    Raises:
        EsrError: fewer than two latents or vectors are left, or vectors than options.
    """
    chosen = chosen_latents(settings, latents, thresholds)
    labels = {latent: one.label for latent, one in chosen.items()}
    options = option_sets(labels, settings.choices, settings.seed)
    if settings.choices and not options:
        _refuse_few_vectors(settings, int(latents["selected"].sum()))
        log.warning("fewer than %d labels differ: no forced choice", settings.choices)
    asked = [*_questions(questions), *_choices(settings, labels, options)]
    rows: list[Row] = []
    for window in settings.windows:
        rows += [_injected(one, window) for one in asked]
        for latent, facts in chosen.items():
            own = [one for one in asked if one["latent"] in (None, latent)]
            for dose in settings.doses:
                added = {"dose": dose, "boost": dose * facts.unit}
                named = {"latent": latent, "label": facts.label}
                for directions in (settings.directions, *settings.controls):
                    which = {
                        "directions": directions,
                        "is_random": directions in settings.controls,
                    }
                    rows += [_injected(one, window, **which, **added, **named) for one in own]
    for row in rows:
        content = {name: row[name] for name in row if name not in UNHASHED}
        row["trial_id"] = content_key(content)[:16]
    return (
        pd.DataFrame(rows)
        .assign(model=model)[COLUMNS]
        .astype({"latent": "Int64", "rotation": "Int64"})
    )


def chosen_latents(
    settings: IntrospectionConfig, latents: pd.DataFrame, thresholds: pd.DataFrame | None
) -> dict[int, Chosen]:
    """Latents, or vectors of a set, to inject: in the order of their table.

    Raises:
        EsrError: fewer than two are selected, or have a usable threshold above 0.
    """
    found = latents[latents["selected"]].sort_values("order")
    found = found.head(settings.latents or len(found))
    labels = {
        int(latent): None if pd.isna(label) else one_line(str(label))
        for latent, label in zip(found["latent"], found["label"], strict=True)
    }
    if len(labels) < 2:
        raise EsrError(
            f"introspection: {len(labels)} of the {what_is_injected(settings)} can be injected, "
            "and a mean over directions needs two or more; raise latents.count, or add vectors"
        )
    if settings.unit == "decoder":
        return {latent: Chosen(label, 1.0) for latent, label in labels.items()}
    assert thresholds is not None
    unit = {int(latent): float(value) for latent, value in usable_thresholds(thresholds).items()}
    kept = {
        latent: Chosen(label, unit[latent])
        for latent, label in labels.items()
        if unit.get(latent, 0) > 0
    }
    if len(kept) < 2:
        raise EsrError(
            f"introspection: {len(kept)} of {len(found)} {what_is_injected(settings)} have a "
            "usable threshold above 0; see tables/thresholds.csv, or set `unit: decoder` and "
            "`doses` in decoder units"
        )
    return kept


def one_line(label: str) -> str | None:
    """A label on one line, since each option has a line of its own; None if it is blank."""
    return " ".join(label.split()) or None


def what_is_injected(settings: IntrospectionConfig) -> str:
    """Latents, or the vectors of a set, in words."""
    return "latents" if settings.directions is None else f"vectors of {settings.directions!r}"


def _refuse_few_vectors(settings: IntrospectionConfig, count: int) -> None:
    """Raise if a set has fewer vectors than a forced choice has options; its names all differ.

    A set that has enough, but not enough thresholds, goes without a forced choice, as latents do.
    """
    left = min(count, settings.latents or count)
    if settings.directions is not None and left < settings.choices:
        raise EsrError(
            f"introspection.choices: {settings.choices} options, but {left} "
            f"{what_is_injected(settings)} can be injected; lower it (0 = no forced choice), or "
            "add vectors"
        )


def option_sets(labels: Mapping[int, str | None], count: int, seed: int) -> dict[int, list[int]]:
    """Options of each labelled latent: itself and the labels that follow it in a random circle.

    Over all latents every label is the right one once, and a wrong one `count` - 1 times, so that
    a model that likes a label is right with it as often as chance. Of labels that are equal, case
    aside, the first latent's counts.
    """
    named: dict[str, int] = {}
    for latent, label in labels.items():
        if label is not None:
            named.setdefault(label.casefold(), latent)
    # Each latent has a place of its own, so that one more does not move the others.
    place = {one: random.Random(f"{seed}/place/{one}").random() for one in named.values()}
    circle = sorted(place, key=place.__getitem__)
    if not count or len(circle) < count:
        return {}
    double = circle * 2
    return {latent: double[i : i + count] for i, latent in enumerate(circle)}


def _questions(questions: pd.DataFrame) -> Iterator[Row]:
    for pair in questions.to_dict("records"):
        for kind in KINDS:
            yield _asked(kind, pair["question_id"], pair[kind])


def _choices(
    settings: IntrospectionConfig,
    labels: Mapping[int, str | None],
    options: Mapping[int, Sequence[int]],
) -> Iterator[Row]:
    """Forced choices: the options of each latent, shuffled, then rotated through every letter."""
    for latent, members in options.items():
        order = list(members)
        random.Random(f"{settings.seed}/{latent}").shuffle(order)
        for rotation in range(len(order)):
            shown = order[rotation:] + order[:rotation]
            lines = zip(settings.options, shown, strict=True)
            text = "\n".join(f"{letter}: {labels[member]}" for letter, member in lines)
            prompt = settings.choice_question.format(options=text)
            yield _asked(CHOICE, CHOICE, prompt) | {
                "latent": latent,
                "label": labels[latent],
                "rotation": rotation,
                "options": shown,
            }


def _asked(kind: str, question_id: str, prompt: str) -> Row:
    """A question without an injection."""
    blank: Row = {"latent": None, "label": None, "rotation": None, "options": []}
    return blank | {"kind": kind, "question_id": question_id, "prompt": prompt}


def _injected(asked: Row, window: str, **injection: Any) -> Row:
    nothing: Row = {"directions": None, "is_random": False, "dose": 0.0, "boost": 0.0}
    return nothing | asked | injection | {"window": window}
