"""Tables about thresholds: the search's responses, and its result."""

from esr.tables.spec import FLOAT, INT, TEXT, Column, Table

TABLES: dict[str, Table] = {
    "threshold_trials": Table(
        "{model}/{along}threshold_trials.parquet",
        "a response judged while thresholds were found, of a latent or a direction as below",
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
    "boost_probes": Table(
        "{model}/boost_probes.parquet",
        "a latent and a boost: how far it moves the model's predictions, without a judge",
        ("latent", "boost"),
        {
            "latent": Column(INT, "Steered latent."),
            "boost": Column(FLOAT, "Boost (decoder units)."),
            "divergence": Column(
                FLOAT, "Mean KL of steered from unsteered predictions (nats per token)."
            ),
            "tokens": Column(INT, "Tokens of unsteered answers behind it."),
        },
    ),
    "thresholds": Table(
        "{model}/{along}thresholds.parquet",
        "a selected latent (`{along}` is empty), or a direction of a set (`directions/<set>/`)",
        ("latent",),
        {
            "latent": Column(INT, "Index in the SAE, or row of the set."),
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
            "status": Column(
                TEXT, "`converged`, `not_converged`, `out_of_bounds`, `no_data`, `inert`."
            ),
            "norm": Column(FLOAT, "Norm of the direction, that is of what boost 1 adds."),
            "kl": Column(
                FLOAT,
                "Divergence of the first generated token from unsteered, at the threshold or else "
                "at the highest boost tried (nats); missing: not measured for this target.",
                optional=True,
                later=True,
            ),
        },
    ),
}
