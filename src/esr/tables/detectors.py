"""Tables about off-topic detectors and the random latents matched to them."""

from esr.tables.spec import FLAG, FLOAT, INT, OWNER, TEXT, Column, Table

TABLES: dict[str, Table] = {
    "detectors": Table(
        "{model}/detectors/detectors.parquet",
        "a latent that is ever active on the pairs, or is listed as a detector",
        ("model", "latent"),
        {
            "model": OWNER["model"],
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
        ("model", "latent", "pair", "matched"),
        {
            "model": OWNER["model"],
            "latent": Column(INT, "Index in the SAE."),
            "pair": Column(INT, "Number of the prompt among the discovery trials, from 0."),
            "matched": Column(FLAG, "Whether the response answers the prompt."),
            "prompt_id": Column(TEXT, "Prompt of the pair."),
            "response_of": Column(TEXT, "Prompt that the response answers."),
            "held_out": Column(FLAG, "Whether the pair was kept out of the search."),
            "activation": Column(FLOAT, "Pooled over the encoded tokens."),
        },
    ),
    "controls": Table(
        "{model}/detectors/controls.parquet",
        "a latent of a random set",
        ("model", "set", "latent"),
        {
            "model": OWNER["model"],
            "set": Column(INT, "Set, from 0."),
            "latent": Column(INT, "Index in the SAE."),
            "detector": Column(INT, "Detector that it stands for, alone or with others."),
            "frequency": Column(FLOAT, "Share of tokens of steered text on which it is active."),
            "mean": Column(FLOAT, "Mean activation over those texts."),
            "detector_frequency": Column(FLOAT, "The same of the detector."),
            "detector_mean": Column(FLOAT, "The same of the detector."),
        },
    ),
    "means": Table(
        "{model}/detectors/means.parquet",
        "a latent of the SAE",
        ("model", "latent"),
        {
            "model": OWNER["model"],
            "latent": Column(INT, "Index in the SAE."),
            "mean": Column(
                FLOAT,
                "Mean activation over the tokens of unsteered answers, at the layer of ablation.",
            ),
            "frequency": Column(FLOAT, "Share of these tokens on which it is active."),
            "tokens": Column(INT, "Number of these tokens."),
        },
    ),
}
