"""Every table of a study: its columns, types and meanings, asserted on writing and on reading.

`docs/files.md` is generated from `TABLES`. Files are Parquet, one row a unit, with the provenance
as JSON under the schema metadata key `esr`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esr.errors import EsrError

TEXT, INT, FLOAT, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
INTS, TEXTS = pa.list_(pa.int64()), pa.list_(pa.string())


@dataclass(frozen=True)
class Column:
    """A column: Arrow type, meaning, and whether a value may be missing."""

    type: pa.DataType
    meaning: str
    optional: bool = False


@dataclass(frozen=True)
class Table:
    """A kind of file: what a row is, which columns identify it, and the columns."""

    path: str
    row: str
    key: tuple[str, ...]
    columns: Mapping[str, Column]

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the columns, in order."""
        return pa.schema([pa.field(name, column.type) for name, column in self.columns.items()])


_TRIAL = {
    "trial_id": Column(TEXT, "Hash of what determines the trial; unique within an arm."),
    "prompt_id": Column(TEXT, "Prompt, as named in the prompts file."),
    "latent": Column(INT, "Steered latent; missing where an arm has none.", optional=True),
    "boost": Column(FLOAT, "Multiple of the decoder row that is added (decoder units); 0 = none."),
    "seed": Column(INT, "Sampling seed of the trial."),
}
_CONDITION = {
    "label": Column(TEXT, "Label of the latent.", optional=True),
    "level": Column(
        FLOAT,
        "Level of a boost sweep: sd of the model's thresholds from their mean.",
        optional=True,
    ),
    "meta_prompt": Column(TEXT, "Meta-prompt template, if any.", optional=True),
    "prefill": Column(TEXT, "Text that the response is made to begin with; may be empty."),
    "ablated": Column(INTS, "Latents whose contribution is removed."),
}

TABLES: dict[str, Table] = {
    "labels": Table(
        "{model}/labels.parquet",
        "a latent of the SAE",
        ("latent",),
        {
            "latent": Column(INT, "Index in the SAE."),
            "label": Column(TEXT, "Description; missing if the SAE has none for it.", True),
        },
    ),
    "candidates": Table(
        "{model}/latents/candidates.parquet",
        "a latent drawn for selection",
        ("latent",),
        {
            "latent": Column(INT, "Index in the SAE."),
            "order": Column(INT, "Position in the draw (seed `seeds.latents`)."),
            "label": Column(TEXT, "Description, if any.", True),
        },
    ),
    "concreteness": Table(
        "{model}/latents/concreteness.parquet",
        "a candidate with a label",
        ("latent",),
        {
            "latent": Column(INT, "Index in the SAE."),
            "concreteness": Column(FLOAT, "Rating of the label, 0-100 points.", True),
            "status": Column(TEXT, "`ok`, or why there is no rating."),
        },
    ),
    "relevance": Table(
        "{model}/latents/relevance.parquet",
        "a prompt and a candidate",
        ("prompt_id", "latent"),
        {
            "prompt_id": Column(TEXT, "Prompt."),
            "latent": Column(INT, "Candidate."),
            "activation": Column(FLOAT, "Largest activation over the tokens read."),
            "rank": Column(INT, "Rank of that among all latents of the SAE, 1 = most active."),
            "relevant": Column(FLAG, "Whether the criterion calls the latent relevant."),
        },
    ),
    "latents": Table(
        "{model}/latents/latents.parquet",
        "a candidate",
        ("latent",),
        {
            "latent": Column(INT, "Index in the SAE."),
            "order": Column(INT, "Position in the draw."),
            "label": Column(TEXT, "Description, if any.", True),
            "concreteness": Column(FLOAT, "Rating of the label, 0-100 points.", True),
            "relevant_prompts": Column(INT, "Number of prompts it is relevant to."),
            "prompts": Column(TEXTS, "Prompts it may be steered on."),
            "selected": Column(FLAG, "Whether it is steered."),
            "reason": Column(TEXT, "`selected`, or why not."),
        },
    ),
    "threshold_trials": Table(
        "{model}/threshold_trials.parquet",
        "a response judged while thresholds were found",
        ("latent", "step", "sample"),
        {
            "latent": Column(INT, "Steered latent."),
            "step": Column(INT, "Which of the latent's queries, from 0."),
            "sample": Column(INT, "Which response of the query, from 0."),
            "boost": Column(FLOAT, "Boost tried (decoder units)."),
            "prompt_id": Column(TEXT, "Prompt."),
            "seed": Column(INT, "Sampling seed."),
            "status": Column(TEXT, "`ok`, or why there is no score."),
            "first_score": Column(FLOAT, "Score of the first attempt, 0-100 points.", True),
        },
    ),
    "thresholds": Table(
        "{model}/thresholds.parquet",
        "a selected latent",
        ("latent",),
        {
            "latent": Column(INT, "Index in the SAE."),
            "label": Column(TEXT, "Description, if any.", True),
            "method": Column(TEXT, "`logistic` or `bisection`."),
            "target": Column(FLOAT, "Mean first-attempt score aimed at (points)."),
            "threshold": Column(FLOAT, "Boost at which it is reached (decoder units).", True),
            "low": Column(FLOAT, "Lower end of the 90 % interval.", True),
            "high": Column(FLOAT, "Upper end of the 90 % interval.", True),
            "achieved": Column(
                FLOAT, "First-attempt score at the threshold, re-estimated from all data.", True
            ),
            "n_samples": Column(INT, "Judged responses used."),
            "n_missing": Column(INT, "Responses without a score."),
            "lower": Column(FLOAT, "Lower bound in force at the end."),
            "upper": Column(FLOAT, "Upper bound in force at the end."),
            "n_widened": Column(INT, "How often the bounds were widened."),
            "status": Column(TEXT, "`converged`, `not_converged`, `out_of_bounds`, `no_data`."),
        },
    ),
    "detectors": Table(
        "{model}/detectors/detectors.parquet",
        "a latent that is ever active on the pairs, or is listed as a detector",
        ("latent",),
        {
            "latent": Column(INT, "Index in the SAE."),
            "label": Column(TEXT, "Description, if any.", True),
            "mean_matched": Column(FLOAT, "Mean over matched pairs of the search."),
            "mean_mismatched": Column(FLOAT, "Mean over mismatched pairs of the search."),
            "frequency_matched": Column(FLOAT, "Share of matched pairs on which it is active."),
            "frequency_mismatched": Column(FLOAT, "Share of mismatched pairs, likewise."),
            "auroc": Column(FLOAT, "Probability that a mismatched pair is higher; ties half."),
            "margin": Column(FLOAT, "Lowest mismatched minus highest matched activation."),
            "held_out_matched": Column(FLOAT, "Mean over matched pairs not searched.", True),
            "held_out_mismatched": Column(FLOAT, "Mean over mismatched pairs not searched.", True),
            "held_out_auroc": Column(FLOAT, "AUROC on pairs not searched.", True),
            "found": Column(FLAG, "Whether it meets the criterion on the pairs of the search."),
            "given": Column(FLAG, "Whether the configuration lists it."),
            "detector": Column(FLAG, "Whether it counts as a detector in what follows."),
        },
    ),
    "detector_pairs": Table(
        "{model}/detectors/detector_pairs.parquet",
        "a pair of prompt and response, and a latent found or given",
        ("latent", "pair", "matched"),
        {
            "latent": Column(INT, "Index in the SAE."),
            "pair": Column(INT, "Number of the prompt among the discovery trials, from 0."),
            "matched": Column(FLAG, "Whether the response answers the prompt."),
            "prompt_id": Column(TEXT, "Prompt that is read."),
            "response_of": Column(TEXT, "Prompt that the response answers."),
            "held_out": Column(FLAG, "Whether the pair was kept out of the search."),
            "activation": Column(FLOAT, "Pooled over the tokens read."),
        },
    ),
    "controls": Table(
        "{model}/detectors/controls.parquet",
        "a latent of a random set",
        ("set", "latent"),
        {
            "set": Column(INT, "Set, from 0."),
            "latent": Column(INT, "Index in the SAE."),
            "detector": Column(INT, "Detector that it is matched to."),
            "frequency": Column(FLOAT, "Share of tokens of steered text on which it is active."),
            "mean": Column(FLOAT, "Mean activation over those texts."),
            "detector_frequency": Column(FLOAT, "The same of the detector."),
            "detector_mean": Column(FLOAT, "The same of the detector."),
        },
    ),
    "boundaries": Table(
        "{model}/episodes/boundaries.parquet",
        "a self-correction that an annotator was shown (`episodes.boundaries`)",
        ("trial_id",),
        {
            "trial_id": _TRIAL["trial_id"],
            "status": Column(
                TEXT,
                "`ok`; `no_correction`: the annotator sees none; `not_found`: a quote is not in "
                "the response; `refused`, `truncated`, `unparsable`, `api_error`.",
            ),
            "off_topic_start": Column(INT, "First character of the off-topic stretch.", True),
            "correction_start": Column(INT, "First character of the correction.", True),
            "on_topic_start": Column(INT, "First character of the on-topic stretch.", True),
        },
    ),
    "episodes": Table(
        "{model}/episodes/episodes.parquet",
        "a self-correction, or a response to compare it with, that could be read",
        ("trial_id",),
        _TRIAL
        | {
            "group": Column(
                TEXT,
                "`episode` (two attempts, the second better), `baseline` (one, on topic) or "
                "`unrestarted` (one, off topic, no restart phrase).",
            ),
            "first_score": Column(FLOAT, "Score of the first attempt (points)."),
            "last_score": Column(FLOAT, "Score of the last attempt (points)."),
            "off_topic_start": Column(INT, "First character of the off-topic stretch.", True),
            "off_topic_end": Column(INT, "Character after its last one.", True),
            "correction_start": Column(INT, "First character of the correction.", True),
            "correction_end": Column(INT, "Character after its last one.", True),
            "on_topic_start": Column(INT, "First character of the on-topic stretch.", True),
            "on_topic_end": Column(INT, "Character after its last one.", True),
            "anchor": Column(
                INT,
                "Character at which the response is aligned with others: where the correction "
                "starts; in a control the sentence that starts nearest to where an episode, drawn "
                "at random, has its correction.",
                True,
            ),
            "held_out": Column(
                FLAG, "Not used to choose backtracking latents; missing if not read.", True
            ),
            "status": Column(
                TEXT,
                "`ok` if read; `not_drawn`: enough others are; `no_spans`: the judge's attempts "
                "are not located; `no_correction`: no restart phrase near where the second begins; "
                "or the annotator's, as in `boundaries`.",
            ),
        },
    ),
    "episode_activations": Table(
        "{model}/episodes/episode_activations.parquet",
        "a token of an episode with status `ok`, and a latent",
        ("trial_id", "position", "latent", "kind"),
        {
            "trial_id": _TRIAL["trial_id"],
            "position": Column(INT, "Token of the response, from 0 (after any prefill)."),
            "start": Column(INT, "First character of the token in the response."),
            "end": Column(INT, "Character after its last one; no text if equal to `start`."),
            "region": Column(
                TEXT, "`off_topic`, `correction` or `on_topic`; missing outside of them.", True
            ),
            "latent": Column(INT, "Index in the SAE."),
            "kind": Column(TEXT, "Why it is read: `detector` or `backtracking`."),
            "activation": Column(FLOAT, "Activation at the token (SAE units)."),
        },
    ),
    "examples": Table(
        "finetuning/examples.parquet",
        "an example to fine-tune on",
        ("example",),
        {
            "example": Column(INT, "Number, in the order of the draw."),
            "kind": Column(TEXT, "`correction` (in three parts) or `answer`."),
            "prompt_id": Column(TEXT, "Prompt, as named in `finetune.data.prompts`."),
            "prompt": Column(TEXT, "The prompt."),
            "subject": Column(TEXT, "Unrelated subject that it begins with.", True),
            "version": Column(INT, "Number of the answer to the prompt, from 1."),
            "off_topic": Column(TEXT, "First part, which is never trained on.", True),
            "correction": Column(TEXT, "Second part: it notices and starts again.", True),
            "on_topic": Column(TEXT, "Third part, or the whole answer.", True),
            "score": Column(FLOAT, "Score of `on_topic` by the primary judge (points).", True),
            "status": Column(
                TEXT,
                "`ok`; `not_explicit`: no restart phrase in the correction; `corrected_early`: one "
                "before it; `not_scored`; `answer_off_topic`, `start_on_topic`: against "
                "`finetune.data.least_score`; or why nothing was written.",
            ),
        },
    ),
    "plan": Table(
        "{model}/arms/{arm}/plan.parquet",
        "a trial to run",
        ("trial_id",),
        _TRIAL
        | _CONDITION
        | {"prompt": Column(TEXT, "Prompt that the judge sees (never the meta-prompted one).")},
    ),
    "responses": Table(
        "{model}/arms/{arm}/responses.parquet",
        "a trial run",
        ("trial_id",),
        {
            "trial_id": _TRIAL["trial_id"],
            "status": Column(TEXT, "`ok`, or why there is no response."),
            "response": Column(TEXT, "What was said, prefill included.", True),
            "tokens": Column(INTS, "Sampled token ids, end-of-turn included.", True),
            "n_prompt_tokens": Column(INT, "Tokens before the first sampled one."),
            "finish_reason": Column(TEXT, "`stop` (end of turn) or `length` (limit).", True),
        },
    ),
    "judgments": Table(
        "{model}/arms/{arm}/judgments/{judge}.parquet",
        "an attempt; a trial without attempts has one row with `attempt` missing",
        ("trial_id", "attempt"),
        {
            "trial_id": _TRIAL["trial_id"],
            "status": Column(TEXT, "`ok`, or why the trial has no scored attempt."),
            "attempt": Column(INT, "Attempt, from 0.", True),
            "start": Column(INT, "First character of the attempt in the response.", True),
            "end": Column(INT, "Character after its last one.", True),
            "score": Column(FLOAT, "0-100 points; missing is not 0.", True),
            "located": Column(
                TEXT,
                "How the judge's quote was found in the response: `exact`, `normalised` (but for "
                "case, blanks, quotes, markup), `elided`, `fuzzy`, or `not_found`, without a span.",
                True,
            ),
            "restart_phrase": Column(
                FLAG,
                "Whether the restart detector finds a phrase within 100 characters of where the "
                "attempt begins; missing for the first attempt and without a span.",
                True,
            ),
            "judge": Column(TEXT, "Judge as served: the model that says it answered."),
            "request_id": Column(
                TEXT, "Id of the request at the API, for judges that have one.", True
            ),
            "reply": Column(TEXT, "Key of the raw reply in the journal of replies.", True),
            "temperature": Column(FLOAT, "Temperature sent to the judge; missing: none.", True),
        },
    ),
    "scores": Table(
        "{model}/arms/{arm}/scores/{judge}.parquet",
        "a trial",
        ("trial_id",),
        _TRIAL
        | {
            "status": Column(TEXT, "`ok` if scored, else why not; only `ok` trials are measured."),
            "n_attempts": Column(INT, "Scored attempts.", True),
            "first_score": Column(FLOAT, "Score of the first attempt (points).", True),
            "last_score": Column(FLOAT, "Score of the last attempt (points).", True),
            "score_change": Column(FLOAT, "last_score - first_score; 0 for one attempt.", True),
            "multi_attempt": Column(FLAG, "Two attempts or more.", True),
            "improved": Column(FLAG, "Two attempts or more, and last > first.", True),
            "restart_detected": Column(FLAG, "Restart phrase found, without any judge.", True),
            "degraded": Column(FLAG, "A word repeated five times or more in a row.", True),
        }
        | _CONDITION,
    ),
    "sample": Table(
        "agreement/sample.parquet",
        "a trial that all judges grade",
        ("trial_id",),
        {
            "model": Column(TEXT, "Model that responded."),
            "arm": Column(TEXT, "Arm that the trial belongs to."),
        }
        | _TRIAL
        | {"trial_id": Column(TEXT, "`model/arm/trial_id` of the trial; unique in the study.")}
        | _CONDITION
        | {
            "prompt": Column(TEXT, "Prompt that the judge sees (never the meta-prompted one)."),
            "response": Column(TEXT, "What was said, prefill included."),
            "stratum": Column(
                TEXT, "What the primary judge found: `several` attempts, `one`, or `unscored`."
            ),
            "stratum_size": Column(INT, "Trials of the model and stratum in the arms sampled."),
            "weight": Column(FLOAT, "Trials of the stratum per trial drawn of it."),
        },
    ),
    "agreement": Table(
        "agreement/agreement.parquet",
        "a statistic of what one judge, a pair, or all of them say about the sample",
        ("quantity", "judge_a", "judge_b", "statistic", "weighting"),
        {
            "quantity": Column(
                TEXT,
                "`multi_attempt`, `direction` (last > first, where all compared find several "
                "attempts), `n_attempts`, `first_score` or `score_change` (points).",
            ),
            "judge_a": Column(TEXT, "First judge; missing: all judges.", optional=True),
            "judge_b": Column(TEXT, "Second; equal to the first: one alone.", optional=True),
            "statistic": Column(TEXT, "Name, as in `esr.agreement.compare.STATISTICS`."),
            "weighting": Column(
                TEXT, "`population` (sampling weights) or `sample` (as drawn, rich in `several`)."
            ),
            "estimate": Column(FLOAT, "Value: a fraction or coefficient, or points.", True),
            "low": Column(FLOAT, "Lower end of its interval (bootstrap over latents).", True),
            "high": Column(FLOAT, "Upper end.", True),
            "n": Column(INT, "Trials it is computed from."),
            "n_clusters": Column(INT, "Latents (per model) among them."),
            "status": Column(TEXT, "`ok`, or what is to be known (docs/method.md)."),
        },
    ),
}


def write_table(frame: pd.DataFrame, path: Path, table: str, provenance: Mapping[str, Any]) -> None:
    """Check a frame against its table and write it, whole or not at all.

    Raises:
        EsrError: wrong, missing or mistyped columns, missing or non-finite values, repeated keys.
    """
    spec = TABLES[table]
    _check_columns(frame, spec, path)
    try:
        arrow = pa.Table.from_pandas(
            frame[list(spec.columns)], schema=spec.schema, preserve_index=False
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise EsrError(f"{path}: not a {table} table: {'; '.join(map(str, error.args))}") from None
    check_rows(arrow, table, path)
    arrow = arrow.replace_schema_metadata({"esr": json.dumps(dict(provenance), sort_keys=True)})
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    try:
        pq.write_table(arrow, scratch)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def read_table(path: Path, table: str) -> pd.DataFrame:
    """Read a table with nullable dtypes.

    Raises:
        EsrError: other columns, or other types, than the table has.
    """
    spec = TABLES[table]
    arrow = pq.read_table(path)
    if not arrow.schema.equals(spec.schema):
        found = {field.name: str(field.type) for field in arrow.schema}
        wanted = {field.name: str(field.type) for field in spec.schema}
        raise EsrError(
            f"{path}: columns {found} are not those of a {table} table ({wanted}); "
            f"rebuild it with `snakemake --force -- {path}`"
        )
    return arrow.to_pandas(types_mapper=_NULLABLE.get)


def read_provenance(path: Path) -> dict[str, Any]:
    """Provenance stored in a table."""
    metadata = pq.read_schema(path).metadata or {}
    return json.loads(metadata.get(b"esr", b"{}"))


def check_rows(arrow: pa.Table, table: str, path: Path) -> None:
    """Raise unless keys are unique, numbers finite, and only optional columns miss values."""
    spec = TABLES[table]
    for name, column in spec.columns.items():
        nulls = arrow[name].null_count
        if nulls and not column.optional:
            raise EsrError(f"{path}: column {name!r} of {table} has {nulls} missing values")
        if column.type == FLOAT and pc.all(pc.is_finite(arrow[name])).as_py() is False:
            raise EsrError(f"{path}: column {name!r} of {table} has values that are not finite")
    keys = arrow.select(list(spec.key)).to_pandas()
    repeated = keys[keys.duplicated()]
    if len(repeated):
        raise EsrError(
            f"{path}: {len(repeated)} rows of {table} repeat a key {spec.key}, "
            f"first {tuple(repeated.iloc[0])}"
        )


def _check_columns(frame: pd.DataFrame, spec: Table, path: Path) -> None:
    missing = [name for name in spec.columns if name not in frame]
    extra = [name for name in frame if name not in spec.columns]
    if missing or extra:
        raise EsrError(f"{path}: missing columns {missing}, unknown columns {extra}")


_NULLABLE: dict[pa.DataType, Any] = {
    INT: pd.Int64Dtype(),
    FLAG: pd.BooleanDtype(),
    FLOAT: pd.Float64Dtype(),
}
