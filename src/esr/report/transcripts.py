"""Trials for the transcript browser: an index in columns, and their texts in chunks.

The browser loads the index at once and a chunk when one of its trials is opened. Both are scripts
that call a function with JSON, because a page opened from disk may load scripts but not files.
Text is JSON data throughout; the browser shows it as text and never as HTML.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from esr.arms.files import ArmFiles
from esr.arms.plan import PREFIX, WINDOW, listed
from esr.arms.restarts import find_restarts
from esr.errors import EsrError
from esr.tables import read_table, read_tables

CHUNK = 200
"""Trials in a chunk: a few hundred kB of text."""
FLAGS = {"restart_detected": 1, "degraded": 2, "traced": 4}
"""Bits of the column `flags`."""
Row = dict[str, Any]


class Coded:
    """A column of texts coded as integers in order of appearance; a missing text is -1."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._codes: dict[str, int] = {}

    def code(self, text: Any) -> int:
        """Number of a text."""
        if text is None or pd.isna(text):
            return -1
        if text not in self._codes:
            self._codes[text] = len(self.texts)
            self.texts.append(text)
        return self._codes[text]


def read_trials(
    arm: ArmFiles, phrases: re.Pattern[str], traces: Mapping[str, Mapping[str, list[list[float]]]]
) -> Iterator[Row]:
    """Every trial of an arm: its entry in the index (`index`), and its texts (`text`).

    Args:
        arm: Its four files.
        phrases: Restart phrases to mark.
        traces: Summed activations by token, by trial (`read_traces`).
    """
    if arm.responses is None or arm.judgments is None or arm.scores is None:
        raise EsrError(f"{arm.plan}: responses, judgments or scores of this arm are not given")
    prompts = dict(_columns(arm.plan, "plan", "trial_id", "prompt"))
    texts = _columns(arm.responses, "responses", "trial_id", "response", "finish_reason")
    responses = {trial: (response, finish) for trial, response, finish in texts}
    attempts: dict[str, list[list[Any]]] = {}
    judged = _columns(arm.judgments, "judgments", "trial_id", "attempt", "start", "end", "score")
    for trial, attempt, *span in sorted(judged, key=lambda row: (row[0], row[1] or 0)):
        if attempt is not None:
            attempts.setdefault(trial, []).append(span)
    for score in read_table(arm.scores, "scores").to_dict("records"):
        trial = score["trial_id"]
        response, finish = responses[trial]
        # The scores say in which responses to search: in few, and a search takes long.
        searched = response if score["restart_detected"] is True else ""
        yield {
            "index": {**score, "traced": trial in traces},
            "text": {
                "id": trial,
                "prompt": prompts[trial],
                "response": response,
                "attempts": attempts.get(trial, []),
                "restarts": restarts_of(phrases, searched, score["prefix_end"]),
                "meta": _plain(score["meta_prompt"]),
                "prefill": score["prefill"],
                "directions": _plain(score["directions"]),
                "ablated": [int(latent) for latent in score["ablated"]],
                "strength": _plain(score["strength"]),
                "clamped": bool(listed(score["ablated_to"], float)),
                "layers": listed(score["layers"], int),
                "window": [_plain(score[bound]) for bound in WINDOW],
                "prefix": [_plain(score[name]) for name in ("prefix_end", *PREFIX[:2])],
                "finish": finish,
                "heat": traces.get(trial, {}),
            },
        }


def restarts_of(phrases: re.Pattern[str], response: str, begin: Any) -> list[list[int]]:
    """Characters of the restart phrases that count: after a prefix, those of the continuation."""
    first = 0 if pd.isna(begin) else int(begin)
    return [list(span) for span in find_restarts(phrases, response) if span[0] >= first]


def _columns(path: Path, table: str, *names: str) -> Iterator[tuple[Any, ...]]:
    """Rows of some columns as plain values, None where one is missing."""
    frame = read_table(path, table)
    return zip(*(frame[name].to_numpy(object, na_value=None) for name in names), strict=True)


def read_traces(
    episodes: Iterable[str], activations: Iterable[str]
) -> dict[str, dict[str, dict[str, list[list[float]]]]]:
    """Summed activation of each kind of latents at every token that has text.

    Args:
        episodes: Files of the table `episodes`, one a model.
        activations: Files of the table `episode_activations`.

    Returns:
        By model, trial and kind: [first character, character after the last, SAE units] a token.
    """
    table = read_tables(episodes, "episodes").query("status == 'ok'")[["model", "trial_id"]]
    table = table.merge(read_tables(activations, "episode_activations"), on=["model", "trial_id"])
    table = table[table["end"].gt(table["start"])]
    by = ["model", "trial_id", "kind", "position", "start", "end"]
    sums = table.groupby(by, sort=True)["activation"].sum().reset_index()
    found: dict[str, dict[str, dict[str, list[list[float]]]]] = {}
    for (model, trial, kind), rows in sums.groupby(["model", "trial_id", "kind"], sort=False):
        values = rows[["start", "end", "activation"]].astype(float).round(3)
        found.setdefault(str(model), {}).setdefault(str(trial), {})[str(kind)] = [
            [int(start), int(end), value] for start, end, value in values.to_numpy().tolist()
        ]
    return found


def full_bars(traces: Mapping[str, Mapping[str, list[list[float]]]]) -> dict[str, float]:
    """Activation at a full bar by kind of latents; one token in 50 exceeds it."""
    values: dict[str, list[float]] = {}
    for kinds in traces.values():
        for kind, tokens in kinds.items():
            values.setdefault(kind, []).extend(value for _, _, value in tokens)
    return {kind: float(f"{np.quantile(found, 0.98):.3g}") for kind, found in values.items()}


def write_transcripts(
    folder: Path,
    trials: Iterable[Row],
    labels: Mapping[str, str],
    scales: Mapping[str, Any],
    latent_pages: Mapping[str, str] | None = None,
) -> int:
    """Write `index.js` and the chunks it names; returns the number of trials.

    Args:
        folder: Folder to write to; created if missing.
        trials: As from `read_trials`; trials of an arm together, so that they share chunks.
        labels: Name of each model as shown.
        scales: Activation by model and kind that a full bar of the heat strip stands for.
        latent_pages: Address of the public pages of a model's latents, without `/<latent>`; models
            without such pages are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {name: Coded() for name in ("model", "arm", "prompt", "label", "status")}
    columns: dict[str, list[Any]] = {}
    chunk: list[Row] = []
    count = 0
    for row in trials:
        for name, value in _index_row(row, texts).items():
            columns.setdefault(name, []).append(value)
        chunk.append(row["text"])
        count += 1
        if len(chunk) == CHUNK:
            _write_chunk(folder, (count - 1) // CHUNK, chunk)
            chunk = []
    if chunk:
        _write_chunk(folder, (count - 1) // CHUNK, chunk)
    index = {
        "chunk": CHUNK,
        "count": count,
        "texts": {name: coded.texts for name, coded in texts.items()},
        "labels": [labels.get(name, name) for name in texts["model"].texts],
        "flags": FLAGS,
        "scales": scales,
        "pages": dict(latent_pages or {}),
        "columns": columns,
    }
    _write_script(folder / "index.js", f"esrIndex({_json(index)});")
    return count


def _index_row(row: Row, texts: Mapping[str, Coded]) -> Row:
    trial = row["index"]
    coded = {
        "model": trial["model"],
        "arm": trial["arm"],
        "prompt": row["text"]["prompt"],
        "label": trial["label"],
        "status": trial["status"],
    }
    flags = sum(bit for name, bit in FLAGS.items() if _plain(trial[name]))
    numbers = {
        "id": trial["trial_id"],
        "latent": _plain(trial["latent"]),
        "boost": _short(trial["boost"]),
        "sweep_level": _short(trial["sweep_level"]),
        "seed": _plain(trial["seed"]),
        "attempts": _plain(trial["n_attempts"]),
        "first": _short(trial["first_score"]),
        "last": _short(trial["last_score"]),
        "flags": flags,
    }
    return {name: texts[name].code(text) for name, text in coded.items()} | numbers


def _short(value: Any) -> float | None:
    return None if pd.isna(value) else float(f"{value:.4g}")


def _plain(value: Any) -> Any:
    if value is None or pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _write_chunk(folder: Path, number: int, rows: list[Row]) -> None:
    _write_script(folder / f"chunk-{number}.js", f"esrChunk({number}, {_json(rows)});")


def _json(value: Any) -> str:
    # ASCII only: some browsers treat U+2028 in a response as a line end.
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _write_script(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="ascii")
