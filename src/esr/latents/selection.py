"""Selection of the steered latents of an SAE, with a reason for every exclusion (paper 2.2).

Candidates are drawn at random. Their labels are rated for concreteness, and their activations on
the prompts decide which prompts they are relevant to. The first `count` that pass are selected.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from esr.config import ConcretenessConfig
from esr.errors import EsrError
from esr.handwritten import read_csv_rows


def read_labels(path: Path | None, d_sae: int) -> pd.DataFrame:
    """Labels of all latents of an SAE: the table `labels`.

    A label may read "None" or "null"; only an empty one is missing.

    Raises:
        EsrError: no readable CSV (`esr.handwritten`), wrong columns, or a latent that is no number,
            that the SAE does not have, or that is labelled twice.
    """
    if path is None:
        return pd.DataFrame({"latent": range(d_sae), "label": None})
    columns, rows, lines = read_csv_rows(path)
    column = "latent" if "latent" in columns else "index_in_sae"
    if not {column, "label"} <= set(columns):
        raise EsrError(
            f"labels: {path} has columns {columns}, needs latent, label "
            "(latent may be called index_in_sae)"
        )
    labels: list[str | None] = [None] * d_sae
    seen: set[int] = set()
    for line, row in zip(lines, rows, strict=True):
        where = f"labels: {path}, line {line}"
        latent = _index(row[column])
        if latent is None:
            raise EsrError(f"{where}: {column} is {row[column]!r}; give the number of a latent")
        if not 0 <= latent < d_sae:
            raise EsrError(
                f"{where}: labels latent {latent}, but the SAE has latents 0 to {d_sae - 1}; these "
                "labels belong to another SAE"
            )
        if latent in seen:
            raise EsrError(f"{where}: labels latent {latent} twice; keep one of them")
        seen.add(latent)
        labels[latent] = row["label"] or None
    return pd.DataFrame({"latent": range(d_sae), "label": labels})


def _index(text: str) -> int | None:
    """A whole number, also as a spreadsheet writes it (`3.0`); None for anything else."""
    match = re.fullmatch(r"(-?\d+)(\.0+)?", text)
    return int(match[1]) if match else None


def draw_candidates(labels: pd.DataFrame, number: int, seed: int) -> pd.DataFrame:
    """Draw candidates without replacement from all latents: the table `candidates`.

    A latent without a label is drawn, too, and excluded later. If no latent of the SAE has a label,
    none is excluded for that.
    """
    order = np.random.default_rng(seed).permutation(len(labels))[:number]
    drawn = labels[["latent", "label"]].iloc[order].reset_index(drop=True)
    return drawn.assign(order=range(len(drawn)))[["latent", "order", "label"]]


def select_latents(
    candidates: pd.DataFrame,
    concreteness: pd.DataFrame,
    relevance: pd.DataFrame,
    *,
    count: int,
    trials: int,
    criteria: ConcretenessConfig,
    scope: str,
) -> pd.DataFrame:
    """Select the first `count` candidates that pass: the table `latents`.

    Raises:
        EsrError: fewer than `count` survive (with their number and what excluded the others), or
            the relevance of a candidate was not measured.
    """
    unread = sorted(set(candidates["latent"]) - set(relevance["latent"]))
    if unread:
        raise EsrError(
            f"relevance: {len(unread)} candidates have no relevance, first {unread[0]}; measure it "
            "on these candidates"
        )
    table = candidates.merge(concreteness.drop(columns="status"), on="latent", how="left")
    table = table.sort_values("order", ignore_index=True)
    prompts = list(dict.fromkeys(relevance["prompt_id"]))
    hits = relevance[relevance["relevant"]].groupby("latent")["prompt_id"].agg(set)
    relevant = [hits.get(latent, set()) for latent in table["latent"]]
    table["relevant_prompts"] = [len(found) for found in relevant]
    table["prompts"] = [[p for p in prompts if p not in found] for found in relevant]
    table["reason"] = _reasons(table, criteria, scope, trials)
    passed = table["reason"].eq("")
    if passed.sum() < count:
        raise EsrError(_too_few(table["reason"], int(passed.sum()), count))
    chosen = passed & (passed.cumsum() <= count)
    table["reason"] = table["reason"].mask(passed & ~chosen, "enough latents before it")
    table["reason"] = table["reason"].mask(chosen, "selected")
    return table.assign(selected=chosen)


def _reasons(
    table: pd.DataFrame, criteria: ConcretenessConfig, scope: str, trials: int
) -> pd.Series:
    """First reason to exclude each candidate; empty if there is none."""
    reason = pd.Series("", index=table.index)
    rating = table["concreteness"]
    if table["label"].notna().any():  # an SAE without labels skips concreteness
        median = rating.median() if rating.notna().any() else criteria.minimum
        lowest = median if criteria.criterion == "median" else criteria.minimum
        reason[table["label"].isna()] = "no label"
        reason[reason.eq("") & rating.isna()] = "label not rated"
        reason[reason.eq("") & rating.lt(lowest).fillna(False)] = "label not concrete"
    if scope == "pool":
        reason[reason.eq("") & table["relevant_prompts"].gt(0)] = "relevant to a prompt"
    else:
        few = table["prompts"].map(len) < trials
        reason[reason.eq("") & few] = "relevant to too many prompts"
    return reason


def _too_few(reasons: pd.Series, survivors: int, count: int) -> str:
    excluded = reasons[reasons.ne("")].value_counts()
    listed = ", ".join(f"{number} {reason}" for reason, number in excluded.items())
    return (
        f"latents.count is {count}, but only {survivors} of {len(reasons)} "
        f"candidates survive (excluded: {listed or 'none'}); lower latents.count, raise "
        "latents.candidates, or loosen latents.concreteness or latents.relevance"
    )
