"""Tables of self-report: what to read, and what was read."""

from esr.tables.arms import READOUT
from esr.tables.spec import FLAG, FLOAT, INT, INTS, OWNER, TEXT, Column, Table

INJECTION = {
    "latent": Column(
        INT,
        "Latent, or row of the set `introspection.directions`; of a random direction, the one that "
        "it stands in for; missing: none.",
        True,
    ),
    "directions": Column(TEXT, "Set whose row is injected; missing: decoder row.", True),
    "is_random": Column(FLAG, "Whether a random direction is injected in place of the concept."),
    "window": Column(TEXT, "`question`, `whole` or `first_turn`: where it is injected."),
    "dose": Column(FLOAT, "Dose in `introspection.unit`; 0 = nothing is injected."),
}
TABLES: dict[str, Table] = {
    "introspection_plan": Table(
        "{model}/introspection/plan.parquet",
        "a question with an injection, or without one",
        ("trial_id",),
        {
            "trial_id": Column(TEXT, "Hash of what determines the trial."),
            "model": OWNER["model"],
            **INJECTION,
            "boost": Column(FLOAT, "What is added (decoder units)."),
            "label": Column(TEXT, "Label of the latent, or name of the vector.", optional=True),
            "kind": Column(TEXT, "`on_target`, `off_target` or `choice`."),
            "question_id": Column(TEXT, "Pair of questions; `choice` for a forced choice."),
            "rotation": Column(INT, "Which order of the options, from 0; missing: none.", True),
            "options": Column(
                INTS, "Latents, or rows, whose labels are the options, in order; or none."
            ),
            "prompt": Column(TEXT, "Text of the last user turn."),
        },
    ),
    "introspection_readouts": Table(
        "{model}/introspection/readouts.parquet",
        "a trial and a name: `affirmed` and `denied`, or the letters of the options",
        ("trial_id", "name"),
        READOUT,
    ),
    "self_reports": Table(
        "{model}/introspection/self_reports.parquet",
        "a direction, window, dose and pair of questions",
        ("latent", "directions", "window", "dose", "question_id"),
        {
            "model": OWNER["model"],
            **INJECTION,
            "boost": Column(FLOAT, "What is added (decoder units)."),
            "label": Column(TEXT, "Label of the latent, or name of the vector.", optional=True),
            "question_id": Column(TEXT, "Pair of questions."),
            "status": Column(TEXT, "`ok`, or why a value is missing."),
            "on_target": Column(
                FLOAT, "Log-odds of yes to the question about a concept, minus unsteered.", True
            ),
            "off_target": Column(FLOAT, "The same of the other question (nats).", True),
            "shift": Column(FLOAT, "on_target - off_target (nats).", True),
            "unsteered": Column(
                FLOAT,
                "Log-odds of yes without an injection, on-target minus off-target (nats).",
                True,
            ),
            "control": Column(
                FLOAT,
                "Mean shift of the random directions that stand in for it; of a random direction, "
                "of those that stand in for the next latent (nats).",
                True,
            ),
            "excess": Column(FLOAT, "shift - control (nats).", optional=True),
        },
    ),
    "choices": Table(
        "{model}/introspection/choices.parquet",
        "a direction, window, dose and order of the options",
        ("latent", "directions", "window", "dose", "rotation"),
        {
            "model": OWNER["model"],
            **INJECTION,
            "boost": Column(FLOAT, "What is added (decoder units)."),
            "label": Column(TEXT, "Label of the latent, or name of the vector.", optional=True),
            "rotation": Column(INT, "Which order of the options, from 0."),
            "status": Column(TEXT, "`ok`, or why a value is missing."),
            "right": Column(
                FLOAT, "1 if the letter of its label is the most likely one, else 0.", True
            ),
            "unsteered": Column(FLOAT, "The same without an injection.", optional=True),
            "probability": Column(FLOAT, "Probability of that letter among the letters.", True),
            "chance": Column(FLOAT, "1 / number of options."),
        },
    ),
}
