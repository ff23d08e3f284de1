"""Tables about the data of fine-tuning."""

from esr.tables.spec import FLOAT, INT, TEXT, Column, Table

TABLES: dict[str, Table] = {
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
}
