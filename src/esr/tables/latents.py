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
    "sae_fit": Table(
        "{model}/sae_fit.parquet",
        "a layer at whose output the SAE was compared with the model's unsteered answers",
        ("model", "layer"),
        {
            "model": OWNER["model"],
            "layer": Column(INT, "Decoder layer (0-based)."),
            "is_read_layer": Column(FLAG, "Whether it is the layer that the SAE encodes."),
            "is_steer_layer": Column(FLAG, "Whether it is the layer that is steered."),
            "text": Column(TEXT, "Arm whose answers were encoded; `prompts` without one."),
            "tokens": Column(INT, "Encoded tokens, without BOS and sinks."),
            "sink_tokens": Column(INT, "Tokens left out: norm above 10 times the median."),
            "fvu": Column(FLOAT, "Fraction of variance unexplained (0 = perfect).", True),
            "l0": Column(FLOAT, "Mean number of active latents per token."),
            "published_l0": Column(FLOAT, "L0 by the SAE's metadata or SAELens' list.", True),
            "dead_share": Column(FLOAT, "Share of latents that no token activated."),
            "norm": Column(FLOAT, "Median norm of the residual stream.", True),
            "usual_norm": Column(FLOAT, "The same without massive dimensions.", True),
            "massive_dimensions": Column(
                INT, "Dimensions with a mean square above 100 times the median.", True
            ),
            "boost_scale": Column(
                FLOAT, "Boost whose direction is as long as `usual_norm` (decoder units).", True
            ),
            "findings": Column(TEXT, "What does not fit but was accepted (`accept_sae`).", True),
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
    "directions": Table(
        "{model}/directions/{directions}/directions.parquet",
        "a direction of a set",
        ("latent",),
        {
            "latent": Column(INT, "Row of the set; in a random set, the latent it stands in for."),
            "order": Column(INT, "Position in the set."),
            "label": Column(TEXT, "Name of the direction; missing for random ones.", True),
            "prompts": Column(TEXTS, "Prompts it may be steered on."),
            "selected": Column(FLAG, "Whether it is steered: all are."),
            "norm": Column(FLOAT, "Norm of what boost 1 adds."),
            "own_norm": Column(FLOAT, "Norm before scaling; missing for random ones.", True),
            "largest_cosine": Column(
                FLOAT, "Largest absolute cosine with a decoder row of a selected latent."
            ),
            "origin": Column(TEXT, "What it was made from."),
        },
    ),
}
