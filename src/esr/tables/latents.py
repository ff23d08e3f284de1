"""Tables about latents: labels, draw, ratings, relevance, selection."""

from esr.tables.spec import FLAG, FLOAT, INT, OWNER, TEXT, TEXTS, Column, Table

TABLES: dict[str, Table] = {
    "labels": Table(
        "{model}/labels.parquet",
        "a latent of the SAE",
        ("model", "latent"),
        {
            "model": OWNER["model"],
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
            "activation": Column(FLOAT, "Maximum activation over the encoded tokens."),
            "rank": Column(INT, "Rank of that among all latents of the SAE, 1 = most active."),
            "relevant": Column(FLAG, "Whether the latent meets the criterion."),
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
}
