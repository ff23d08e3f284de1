"""Excess log-odds of yes, and forced choices, from the readouts of a plan.

With L = log P(yes) - log P(no), for a direction d at a dose, and a pair q of questions:

    shift(d, q) = [L(on-target) - L0(on-target)] - [L(off-target) - L0(off-target)]
    excess(d, q) = shift(d, q) - mean over random directions r in place of d of shift(r, q)

L0 is that without an injection. A push towards yes that every question gets cancels in the shift.
One that any vector of that norm gives to questions about oneself cancels in the excess. The excess
of a random direction, for comparison, is its shift minus that of the random directions in place of
the next latent: the same rule where there is nothing to report.
A single latent has no next one, and its random directions no excess, since their own mean would
hold them. Vectors of a set (`introspection.directions`) take the place of latents throughout.

What does not cancel are answers that fade: log-odds that shrink towards 0 by a share s, more under
d than under r. Their shift is -s U, with U = L0(on-target) - L0(off-target), so that |U| bounds
what fading adds to the excess.
"""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from esr.introspection.plan import CHOICE
from esr.tables import TABLES

PLACE = ["latent", "window", "dose"]
NAMES = {"latent": "Int64", "directions": "string", "label": "string"}
NOT_READ = "engine_error"
"""Status of rows that lack a readout: logits were not finite."""
ALONE = "one_direction"
"""Status of random directions in place of the only latent: none is left to compare them with."""


def self_reports(plan: pd.DataFrame, readouts: pd.DataFrame) -> pd.DataFrame:
    """The table `self_reports`: one row a direction, window, dose and pair of questions."""
    trials = plan[plan["kind"].ne(CHOICE)]
    trials = trials.assign(
        log_odds=trials["trial_id"].map(log_odds(readouts)).astype(float),
        directions=trials["directions"].fillna(""),
        question=list(zip(trials["window"], trials["kind"], trials["question_id"], strict=True)),
    )
    unsteered = trials[trials["dose"].eq(0)].set_index("question")["log_odds"]
    steered = trials[trials["dose"].ne(0)]
    before = steered["question"].map(unsteered).astype(float)
    steered = steered.assign(before=before, change=steered["log_odds"] - before)
    keys = [*PLACE, "directions", "question_id"]
    table = steered[steered["kind"].eq("on_target")].set_index(keys)
    off = steered[steered["kind"].eq("off_target")].set_index(keys).reindex(table.index)
    table = table.assign(on_target=table["change"], off_target=off["change"])
    table["shift"] = table["on_target"] - table["off_target"]
    table = table.assign(unsteered=table["before"] - off["before"]).reset_index()
    is_random = table["is_random"]
    place = [*PLACE, "question_id"]
    each = table[is_random].groupby(place, sort=False)["shift"]
    control = each.mean().where(each.count().eq(each.size()))  # every random set, or none
    latents = table["latent"].drop_duplicates().tolist()
    following = dict(zip(latents, latents[1:] + latents[:1], strict=True))
    is_alone = is_random & (len(latents) == 1)
    source = table["latent"].mask(is_random, table["latent"].map(following))
    own = pd.MultiIndex.from_frame(table[place].assign(latent=source))
    table["control"] = np.where(is_alone, np.nan, control.reindex(own).to_numpy(float))
    table["excess"] = table["shift"] - table["control"]
    lost = np.where(is_alone & table["shift"].notna(), ALONE, NOT_READ)
    status = np.where(table["excess"].notna(), "ok", lost)
    return _finished(table.assign(status=status), "self_reports")


def log_odds(readouts: pd.DataFrame) -> "pd.Series[float]":
    """Log P(affirmed) - log P(denied) by trial (nats); NaN where either is missing."""
    by_trial = readouts.set_index("trial_id")
    yes, no = (by_trial.loc[by_trial["name"].eq(n), "log_prob"] for n in ("affirmed", "denied"))
    return yes.astype(float) - no.astype(float)


def choices(plan: pd.DataFrame, readouts: pd.DataFrame) -> pd.DataFrame:
    """The table `choices`: one row a direction, window, dose and order of the options."""
    trials = plan[plan["kind"].eq(CHOICE)]
    trials = trials.assign(directions=trials["directions"].fillna(""))
    read = readouts[readouts["trial_id"].isin(trials["trial_id"])]
    letters = read.groupby("trial_id")["log_prob"]  # in the order of the options
    by_trial = {str(trial): values.to_numpy(float, na_value=np.nan) for trial, values in letters}
    found = [
        chosen(by_trial[row.trial_id], list(row.options).index(row.latent))
        for row in trials.itertuples()
    ]
    names = ["right", "probability"]
    trials = trials.assign(**dict(zip(names, np.array(found).reshape(-1, 2).T, strict=True)))
    trials["chance"] = 1 / trials["options"].map(len).astype(float)
    trials["at"] = list(zip(trials["latent"], trials["window"], trials["rotation"], strict=True))
    unsteered = trials[trials["dose"].eq(0)].set_index("at")["right"]
    table = trials[trials["dose"].ne(0)]
    table = table.assign(unsteered=table["at"].map(unsteered).astype(float))
    ok = table["right"].notna() & table["unsteered"].notna()
    return _finished(table.assign(status=np.where(ok, "ok", NOT_READ)), "choices")


def chosen(log_probs: Float[np.ndarray, " letters"], place: int) -> tuple[float, float]:
    """Whether a letter is the most likely one, and its probability among the letters.

    Letters that tie share the choice. Both are NaN where a log-probability is missing.
    """
    if np.isnan(log_probs).any():
        return np.nan, np.nan
    best = log_probs == log_probs.max()
    odds = np.exp(log_probs - log_probs.max())
    return float(best[place] / best.sum()), float(odds[place] / odds.sum())


def _finished(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The columns of a table, with their types; an empty set of directions is a missing one."""
    columns = TABLES[name].columns
    table = table.assign(directions=table["directions"].replace("", pd.NA))
    types: dict[str, Any] = {one: "Float64" for one in columns if columns[one].optional} | NAMES
    return table[list(columns)].astype(types)
