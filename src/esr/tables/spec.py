"""What a table is: columns with Arrow types and meanings, a key, and a path below the study."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

TEXT, INT, FLOAT, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
INTS, TEXTS = pa.list_(pa.int64()), pa.list_(pa.string())
FLOATS = pa.list_(pa.float64())


@dataclass(frozen=True)
class Column:
    """A column: Arrow type, meaning, and whether a value may be missing.

    A `later` column is missing as a whole from files that were written before it existed.
    """

    type: pa.DataType
    meaning: str
    optional: bool = False
    later: bool = False


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


OWNER = {
    "model": Column(TEXT, "Model, as named in `models`."),
    "arm": Column(TEXT, "Arm, as named in `arms`."),
}
TRIAL = {
    "trial_id": Column(TEXT, "Hash of what determines the trial; unique within a model's arm."),
    "prompt_id": Column(TEXT, "Prompt, as named in the prompts file."),
    "latent": Column(INT, "Steered latent; missing where an arm has none.", optional=True),
    "boost": Column(FLOAT, "Multiple of the decoder row that is added (decoder units); 0 = none."),
    "seed": Column(INT, "Sampling seed of the trial."),
}
CONDITION = {
    "directions": Column(
        TEXT,
        "Set of directions whose row `latent` is added; missing: the decoder's row.",
        optional=True,
    ),
    "label": Column(TEXT, "Label of the latent.", optional=True),
    "sweep_level": Column(
        FLOAT,
        "Level of a boost sweep: sd of the model's thresholds from their mean.",
        optional=True,
    ),
    "meta_prompt": Column(TEXT, "Meta-prompt template, if any.", optional=True),
    "prefill": Column(TEXT, "Text that the response begins with; may be empty."),
    "ablated": Column(INTS, "Latents whose contribution is removed."),
    "strength": Column(
        FLOAT, "Share of their contribution that is removed; missing: all of it.", optional=True
    ),
    "ablated_to": Column(
        FLOATS,
        "Activation that each of them is clamped to instead; missing: none is.",
        optional=True,
        later=True,
    ),
    "layers": Column(
        INTS,
        "Layers at which the boost is added; missing: the model's `steer_layer`.",
        optional=True,
        later=True,
    ),
    "window_start": Column(
        INT,
        "First token at which the boost is added, counted from the first token of the response, "
        "its prefix included (negative ones are those of the prompt); missing: the first of the "
        "prompt.",
        optional=True,
    ),
    "window_stop": Column(
        INT, "Token, so counted, from which the boost is off; missing: never.", optional=True
    ),
    "prefix_where": Column(
        TEXT,
        "What text the trial continues: `off_topic`, `restart` (up to where it restarts), "
        "`correction` (through a restart phrase) or `on_topic`; missing: it continues none.",
        optional=True,
    ),
    "prefix_cut": Column(
        INT,
        "Length at which that text was to be cut (characters); missing: by `prefix_where`.",
        True,
    ),
    "prefix_seed": Column(
        INT,
        "Seed of the continued trial, which with latent and prompt names it, and with `prefix_cut` "
        "the prefix; an `on_topic` prefix has that of the prefix that it replaces.",
        optional=True,
    ),
}
