"""Episodes of self-correction: which responses are encoded, and where their regions are.

An episode is a response of two attempts of which the second scores higher. Its off-topic region,
correction and on-topic region are character spans, from the judge's attempts and the restart
detector. Two groups of steered responses of one attempt are controls: `baseline`, on topic (paper
A.4), and `unrestarted`, off topic to the end. The second separates what precedes a correction from
what accompanies all off-topic text.
"""

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.agreement.sample import permanent_numbers
from esr.arms.restarts import find_restarts
from esr.config import EpisodesConfig
from esr.judges.base import NEAR

GROUPS = ("episode", "baseline", "unrestarted")
REGIONS = ("off_topic", "correction", "on_topic")
SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)|\n")
Span = tuple[int, int]


def extract_episodes(
    scores: pd.DataFrame,
    judgments: pd.DataFrame,
    responses: pd.DataFrame,
    phrases: re.Pattern[str],
    settings: EpisodesConfig,
    choose: bool,
    boundaries: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """All steered trials that qualify for a group: the table `episodes`.

    Args:
        scores: Table `scores` of an arm.
        judgments: Table `judgments` that the scores come from.
        responses: Table `responses` of the arm.
        phrases: Restart phrases (`esr.arms.restarts.read_phrases`).
        settings: Section `episodes`; limits the number read of each group.
        choose: Whether to reserve half of the episodes for choosing backtracking latents.
        boundaries: Table `boundaries`; replaces the restart detector's boundaries.
    """
    table = scores.merge(responses[["trial_id", "response"]], on="trial_id", validate="one_to_one")
    table["group"] = episode_groups(table, settings)
    table = table[table["group"].notna()].reset_index(drop=True)
    attempts = judgments.dropna(subset=["start", "end"]).sort_values("attempt")
    found: Mapping[str, list[Span]] = {
        str(trial): list(zip(rows["start"].astype(int), rows["end"].astype(int), strict=True))
        for trial, rows in attempts.groupby("trial_id")
    }
    annotated = {} if boundaries is None else boundaries.set_index("trial_id").to_dict("index")
    rows = [
        _annotated(annotated[row.trial_id], row.response)
        if row.group == "episode" and boundaries is not None
        else _located(row.group, row.response, found.get(row.trial_id, []), phrases)
        for row in table.itertuples()
    ]
    located = pd.DataFrame(rows, table.index, columns=[*_SPANS, "status"])
    table = table.drop(columns="status").join(located)
    table = table.astype(dict.fromkeys(_SPANS, "Int64"))
    for group in GROUPS:
        ok = table[table["group"].eq(group) & table["status"].eq("ok")]
        lots = permanent_numbers(ok, f"{settings.seed}/{group}")
        others = ok.index[np.argsort(lots, kind="stable")[_max_drawn(group, settings) :]]
        table.loc[others, "status"] = "not_drawn"
    table["anchor"] = _anchors(table, settings.seed)
    table["held_out"] = _held_out(table, choose, settings.seed)
    return table[COLUMNS]


_SPANS = [f"{region}_{end}" for region in REGIONS for end in ("start", "end")]


COLUMNS = [
    *["trial_id", "prompt_id", "latent", "boost", "seed", "group", "first_score", "last_score"],
    *[*_SPANS, "anchor", "held_out", "status"],
]


def find_correction(
    response: str, first: Span, second: Span, restarts: Sequence[Span]
) -> Span | None:
    """Span of the correction: the restart phrases nearest to the start of the second attempt.

    Phrases in the same or adjacent sentences form one correction. It begins with the first phrase
    and ends with the sentence of the last. Judges assign it to the first attempt, the second, or
    neither, so it may lie up to `NEAR` characters before or after the gap between the attempts.
    None if it lies further away, or if one of the attempts would have no text left.

    Args:
        response: Text.
        first: Characters of the first attempt.
        second: Characters of the second attempt.
        restarts: Characters of the restart phrases (`esr.arms.restarts.find_restarts`).
    """
    runs: list[Span] = []
    for start, end in sorted(restarts):
        sentence_end = _sentence_end(response, end)
        if runs and not SENTENCE_END.search(response, runs[-1][1], start):
            runs[-1] = (runs[-1][0], sentence_end)
        elif not runs or start >= runs[-1][1]:
            runs.append((start, sentence_end))
    distances = [max(0, start - second[0], first[1] - end) for start, end in runs]
    if not runs or min(distances) > NEAR:
        return None
    start, end = runs[int(np.argmin(distances))]
    before, after = response[first[0] : start], response[end : second[1]]
    return (start, end) if before.strip() and after.strip() else None


def sentence_starts(text: str) -> list[int]:
    """Characters at which sentences begin, except the first sentence."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    starts = [end + len(text[end:]) - len(text[end:].lstrip()) for end in ends]
    return sorted({start for start in starts if start < len(text)})


def choose_backtracking(
    off_topic: Float[np.ndarray, "episodes d_sae"],
    correction: Float[np.ndarray, "episodes d_sae"],
    on_topic: Float[np.ndarray, "episodes d_sae"],
    count: int,
    excluded: Sequence[int] = (),
) -> list[int]:
    """Latents that are most specific to corrections.

    The lift of a latent in an episode is its mean activation over the correction, minus the larger
    of its means before and after. The latents with the largest mean lift are chosen, among those
    with a positive lift in more than half of the episodes. None without episodes.
    """
    if not len(correction):
        return []
    lift = correction - np.maximum(off_topic, on_topic)
    fit = (lift > 0).mean(axis=0) > 0.5
    fit[list(excluded)] = False
    order = np.argsort(-lift.mean(axis=0), kind="stable")
    return [int(latent) for latent in order if fit[latent]][:count]


def episode_groups(table: pd.DataFrame, settings: EpisodesConfig) -> pd.Series:
    """Group of each trial, missing for those that qualify for none."""
    steered = table["status"].eq("ok") & table["latent"].notna() & table["boost"].ne(0)
    score = table["first_score"]
    attempts = table["n_attempts"]
    single = steered & attempts.eq(1)
    no_restart = table["restart_detected"].eq(False)
    group = pd.Series(pd.NA, table.index, dtype="string")
    group[_true(steered & attempts.eq(2) & table["improved"])] = "episode"
    group[_true(single & score.ge(settings.baseline_score))] = "baseline"
    group[_true(single & score.lt(settings.off_topic_score) & no_restart)] = "unrestarted"
    return group


def _true(flags: pd.Series) -> pd.Series:
    return flags.fillna(False).astype(bool)


def _located(
    group: str, response: str, attempts: Sequence[Span], phrases: re.Pattern[str]
) -> tuple[int | str | None, ...]:
    """Six boundaries and a status."""
    nothing: tuple[None, None] = (None, None)
    if len(attempts) != (2 if group == "episode" else 1):
        return (*nothing, *nothing, *nothing, "no_spans")
    if group == "baseline":
        return (*nothing, *nothing, *attempts[0], "ok")
    if group == "unrestarted":
        return (*attempts[0], *nothing, *nothing, "ok")
    first, second = attempts
    correction = find_correction(response, first, second, find_restarts(phrases, response))
    if correction is None:
        return (*nothing, *nothing, *nothing, "no_correction")
    start, end = correction
    return (first[0], start, start, end, end, second[1], "ok")


def _annotated(places: Mapping[str, Any], response: str) -> tuple[int | str | None, ...]:
    """Six boundaries and a status, from the three starts that an annotator marked."""
    if places["status"] != "ok":
        return (*[None] * len(_SPANS), places["status"])
    off_topic, correction, on_topic = (int(places[f"{region}_start"]) for region in REGIONS)
    end = len(response.rstrip())
    return (off_topic, correction, correction, on_topic, on_topic, end, "ok")


def _sentence_end(text: str, at: int) -> int:
    # A phrase may include the mark that ends its sentence.
    found = SENTENCE_END.search(text, max(at - 1, 0))
    return max(found.end(), at) if found else len(text)


def _max_drawn(group: str, settings: EpisodesConfig) -> int:
    return {
        "episode": settings.max_episodes,
        "baseline": settings.max_baseline,
        "unrestarted": settings.max_unrestarted,
    }[group]


def _anchors(table: pd.DataFrame, seed: int) -> pd.Series:
    """Characters at which responses are aligned.

    Corrections begin at the start of a sentence, so controls are also aligned at one.
    """
    ok = table["status"].eq("ok")
    anchors = table["correction_start"].where(ok)
    own = np.sort(anchors.dropna().to_numpy(int))
    controls = table[ok & table["group"].ne("episode")]
    lots = permanent_numbers(controls, f"{seed}/anchor")
    for index, lot in zip(controls.index, lots, strict=True):
        starts = np.array(sentence_starts(table.loc[index, "response"]), dtype=int)
        fitting = own[own <= len(table.loc[index, "response"])]
        if len(starts) and len(fitting):
            target = fitting[int(lot * len(fitting))]
            anchors[index] = starts[np.argmin(np.abs(starts - target))]
    return anchors


def _held_out(table: pd.DataFrame, choose: bool, seed: int) -> pd.Series:
    """Trials not used to choose latents; the episodes of a steered latent stay together."""
    held_out = pd.Series(pd.NA, table.index, dtype="boolean")
    held_out[table["status"].eq("ok")] = True
    if choose:
        mine = table["status"].eq("ok") & table["group"].eq("episode")
        counts = table.loc[mine, "latent"].value_counts().sort_index()
        lots = [random.Random(f"{seed}/held_out/{latent}").random() for latent in counts.index]
        counts = counts.iloc[np.argsort(lots)]
        choosing = counts.index[counts.cumsum() <= counts.sum() / 2]
        held_out[mine & table["latent"].isin(choosing)] = False
    return held_out
