"""Responses that were generated elsewhere, as the plan and the responses of an arm.

A file is JSON Lines, Parquet, or a result file of the authors' code (one JSON object with
`results_by_feature`). Each row has a prompt and a response; `FIELDS` are the others. A row that
cannot be used stops the import and is named by its line, so that no response is lost silently.
"""

import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from esr.arms.plan import COLUMNS, trial_id, trial_seed
from esr.errors import EsrError
from esr.handwritten import read_handwritten
from esr.text import fold

log = logging.getLogger(__name__)

FIELDS: dict[str, type] = {
    "prompt": str,
    "response": str,
    "status": str,
    "latent": int,
    "concept": str,
    "boost": float,
    "seed": int,
    "sample": int,
    "prompt_id": str,
    "finish_reason": str,
}
"""Fields of a row and their types; `prompt` and `response` are needed."""
AUTHORS = "results_by_feature"
"""Key by which a result file of the authors is known."""
OWN = {"ok", "engine_error", "unfinished_thought", "no_detectors"}
"""Statuses with a meaning of their own; of these a row may only have `ok`."""


class Row(NamedTuple):
    """A row: where it stands (such as `line 3`), and its fields."""

    where: str
    fields: dict[str, Any]

    @property
    def names_concept_alone(self) -> bool:
        """Whether it names a concept and no latent, so that no latent of the SAE is known."""
        return "concept" in self.fields and "latent" not in self.fields


def read_transcripts(path: Path) -> list[Row]:
    """Read and check a file of responses.

    Returns:
        Its rows, with the fields in `FIELDS` that have a value.

    Raises:
        EsrError: the file cannot be read; a row lacks a field, has one twice or of another type,
            or is steered without a boost. The message names the line.
    """
    if path.suffix == ".parquet":
        rows = list(_parquet_rows(path))
    elif path.suffix in (".jsonl", ".ndjson", ".json"):
        rows = list(_json_rows(path))
    else:
        raise EsrError(f"{path}: responses are read from .jsonl, .parquet or .json; convert it")
    if not rows:
        raise EsrError(f"{path} has no rows; give one response a line")
    unknown = Counter(name for row in rows for name in row.fields if name not in FIELDS)
    if unknown:
        shown = ", ".join(f"{name} ({count})" for name, count in sorted(unknown.items()))
        log.warning("%s: fields that are not used, with their rows: %s", path, shown)
    return [Row(row.where, _checked(path, row)) for row in rows]


def transcript_tables(
    path: Path, prompts: pd.DataFrame, model: str, arm: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `plan` and `responses` of an arm, from a file of responses.

    Prompts that are in the study's list have its ids. Concepts without latents are numbered in the
    order of the file. Rows without seed and sample are numbered among those with the same prompt,
    latent and boost.

    Args:
        path: The file.
        prompts: The study's prompts (`read_prompts`).
        model: Model whose responses these are.
        arm: Name of the arm.

    Raises:
        EsrError: as in `read_transcripts`; two rows are the same trial, or only some of the steered
            rows have a latent, or one prompt id stands for two prompts.
    """
    rows = read_transcripts(path)
    latents = _latents(path, rows)
    ids = _prompt_ids(path, rows, prompts)
    planned = []
    seen: dict[str, str] = {}
    counts: Counter[tuple[Any, ...]] = Counter()
    texts: dict[tuple[Any, ...], str] = {}
    for row, latent, prompt_id in zip(rows, latents, ids, strict=True):
        fields = row.fields
        boost = float(fields.get("boost", 0.0))
        group = (fields["prompt"], latent, boost)
        _check_repetition(path, row, group, texts)
        trial = {
            **dict.fromkeys(COLUMNS),
            "prompt_id": prompt_id,
            "prompt": fields["prompt"],
            "latent": latent,
            "label": fields.get("concept"),
            "boost": boost,
            "seed": _seed(fields, counts[group]),
            "prefill": "",
            "ablated": [],
        }
        counts[group] += 1
        trial["trial_id"] = trial_id(trial)
        if trial["trial_id"] in seen:
            raise EsrError(
                f"{path}, {row.where}: the same prompt, latent, boost and seed as "
                f"{seen[trial['trial_id']]}; remove one of them, or give `sample` to tell them "
                "apart"
            )
        seen[trial["trial_id"]] = row.where
        planned.append(trial)
    plan = pd.DataFrame(planned)[COLUMNS].assign(model=model, arm=arm)
    return plan, _responses(plan, rows)


def _responses(plan: pd.DataFrame, rows: Sequence[Row]) -> pd.DataFrame:
    """The table `responses`: text and status; there are no tokens."""
    fields = [row.fields for row in rows]
    ends = [each.get("finish_reason") for each in fields]
    return pd.DataFrame(
        {
            "trial_id": plan["trial_id"],
            "status": [each.get("status", "ok") for each in fields],
            "response": [
                each.get("response") if each.get("status", "ok") == "ok" else None
                for each in fields
            ],
            "tokens": None,
            "n_prompt_tokens": None,
            "n_prefix_tokens": None,
            "prefix_end": None,
            "finish_reason": [end if end in ("stop", "length") else None for end in ends],
        }
    )


def _json_rows(path: Path) -> Iterator[Row]:
    text = read_handwritten(path)
    if path.suffix == ".json":
        whole = _parsed(path, "", text)
        if not isinstance(whole, dict) or AUTHORS not in whole:
            raise EsrError(
                f"{path} is no result file of the authors (a JSON object with `{AUTHORS}`); write "
                "other responses as JSON Lines, one object a line, to a .jsonl file"
            )
        yield from _authors_rows(whole[AUTHORS])
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"line {number}"
            found = _parsed(path, f", {where}", line)
            if not isinstance(found, dict):
                raise EsrError(f"{path}, {where}: not a JSON object; write {{...}} on each line")
            yield Row(where, found)


def _parsed(path: Path, where: str, text: str) -> Any:
    """JSON in which no key is given twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        doubled = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        if doubled:
            raise EsrError(f"{path}{where}: `{doubled[0]}` is given twice; remove one of them")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        place = where or f", line {error.lineno}"
        raise EsrError(
            f"{path}{place}, column {error.colno}: not valid JSON: {error.msg}; is it one object a "
            "line, and is the file complete?"
        ) from None


def _authors_rows(features: Any) -> Iterator[Row]:
    """Trials of a result file of the authors; one that failed has a status, and is kept."""
    for feature in features if isinstance(features, list) else []:
        latent = feature.get("feature_index_in_sae")
        for number, trial in enumerate(feature.get("trials") or (), start=1):
            fields = {
                "prompt": trial.get("prompt"),
                "response": trial.get("response"),
                "latent": trial.get("feature_index_in_sae", latent),
                "concept": trial.get("feature_label", feature.get("feature_label")),
                "boost": trial.get("threshold"),
                "seed": trial.get("seed"),
                "status": "source_error" if trial.get("error") else None,
            }
            yield Row(f"latent {latent}, trial {number}", fields)


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise EsrError(f"{path} is no readable Parquet file: {error}") from None
    names = table.column_names
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise EsrError(f"{path}: column `{doubled[0]}` is there twice; rename one of them")
    for number, fields in enumerate(table.to_pylist(), start=1):
        yield Row(f"row {number}", fields)


def _checked(path: Path, row: Row) -> dict[str, Any]:
    """Fields of a row that are known and have a value, with their types."""
    where = f"{path}, {row.where}"
    found = {}
    for name, kind in FIELDS.items():
        value = row.fields.get(name)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        found[name] = _typed(where, name, value, kind)
    if not found.get("prompt", "").strip():
        raise EsrError(f"{where}: `prompt` is missing or empty; give the user turn")
    status = found.get("status", "ok")
    if status in OWN - {"ok"}:
        raise EsrError(f"{where}: status {status!r} is one of this workflow's own; choose another")
    if status == "ok" and "response" not in found:
        raise EsrError(
            f"{where}: `response` is missing; give its text, or a `status` that names why there is "
            "none"
        )
    steered = "latent" in found or "concept" in found
    if steered and "boost" not in found:
        raise EsrError(f"{where}: `boost` is missing, but the row names a latent or concept")
    if not steered and found.get("boost", 0.0) != 0:
        raise EsrError(f"{where}: boost {found['boost']} without `latent` or `concept`")
    return found


def _typed(where: str, name: str, value: Any, kind: type) -> Any:
    """A value of the field's type; whole numbers may be written as floats."""
    if kind is str and isinstance(value, str):
        return value
    if kind is not str and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise EsrError(f"{where}: {name} {value} is not a finite number")
        if kind is float:
            return float(value)
        if float(value).is_integer():
            return int(value)
    words = {str: "text", int: "a whole number", float: "a number"}
    raise EsrError(f"{where}: `{name}` is {value!r}, but must be {words[kind]}")


def _latents(path: Path, rows: Sequence[Row]) -> list[int | None]:
    """Latent of each row; concepts are numbered where no row has a latent."""
    steered = [row for row in rows if "latent" in row.fields or "concept" in row.fields]
    bare = [row for row in steered if row.names_concept_alone]
    if not bare:
        return [row.fields.get("latent") for row in rows]
    if len(bare) < len(steered):
        raise EsrError(
            f"{path}, {bare[0].where}: a concept without `latent`, but other rows have one; give "
            "each steered row a latent, or none"
        )
    concepts = _numbered(row.fields["concept"] for row in steered)
    return [
        None if (concept := row.fields.get("concept")) is None else concepts[concept]
        for row in rows
    ]


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _prompt_ids(path: Path, rows: Sequence[Row], prompts: pd.DataFrame) -> list[str]:
    """Id of each row's prompt: as given, that of the study, or one that follows from its text."""
    known = {fold(row.prompt): row.prompt_id for row in prompts.itertuples()}
    owners: dict[str, str] = {}
    found = []
    for row in rows:
        prompt = row.fields["prompt"]
        text = fold(prompt)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        id_ = row.fields.get("prompt_id") or known.get(text) or f"imported-{digest}"
        if owners.setdefault(id_, text) != text:
            raise EsrError(f"{path}, {row.where}: prompt_id {id_!r} stands for two prompts")
        found.append(id_)
    return found


def _seed(fields: dict[str, Any], repetition: int) -> int:
    """Seed of a trial: as given, and the sample if there are both."""
    if "seed" in fields and "sample" in fields:
        return trial_seed(fields["seed"], "sample", fields["sample"])
    return int(fields.get("seed", fields.get("sample", repetition)))


def _check_repetition(
    path: Path, row: Row, group: tuple[Any, ...], texts: dict[tuple[Any, ...], str]
) -> None:
    """Refuse a row without seed and sample whose response is there already: a doubled line."""
    if "seed" in row.fields or "sample" in row.fields or "response" not in row.fields:
        return
    first = texts.setdefault((*group, row.fields["response"]), row.where)
    if first != row.where:
        raise EsrError(
            f"{path}, {row.where}: the same prompt and response as {first}; remove one of them, or "
            "give `sample` to tell them apart"
        )
