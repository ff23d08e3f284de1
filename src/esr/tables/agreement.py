"""Tables about the agreement of judges."""

from esr.tables.spec import CONDITION, FLOAT, INT, OWNER, TEXT, TRIAL, Column, Table

TABLES: dict[str, Table] = {
    "sample": Table(
        "agreement/sample.parquet",
        "a trial that all judges grade",
        ("trial_id",),
        OWNER
        | TRIAL
        | {
            "trial_id": Column(
                TEXT,
                "`model/arm/trial_id` of the trial, since models share trials and judges take one "
                "id.",
            )
        }
        | CONDITION
        | {
            "prompt": Column(TEXT, "Prompt that the judge sees (never the meta-prompted one)."),
            "response": Column(TEXT, "Text of the response, prefill and prefix included."),
            "prefix_end": Column(
                INT, "First character of the continuation; missing: there is no prefix.", True
            ),
            "stratum": Column(
                TEXT,
                "What was found: `several` attempts by the primary judge; `restart`, one attempt "
                "and a restart phrase; `rest`, neither; `unscored` by the primary judge.",
            ),
            "stratum_size": Column(INT, "Trials of the model, arm and stratum."),
            "weight": Column(FLOAT, "Trials of the stratum per trial drawn of it."),
        },
    ),
    "agreement": Table(
        "agreement/agreement.parquet",
        "a statistic of one judge, of a pair, or of all judges on the sample",
        ("arm", "quantity", "judge_a", "judge_b", "statistic", "weighting"),
        {
            "arm": Column(
                TEXT,
                "Arm, over all models; `all`: all sampled arms together. Single arms have the "
                "statistics of `multi_attempt` in the population.",
            ),
            "quantity": Column(
                TEXT,
                "`multi_attempt`, `direction` (last > first, where all compared find several "
                "attempts), `n_attempts`, `first_score` or `score_change` (points).",
            ),
            "judge_a": Column(TEXT, "First judge; missing: all judges.", optional=True),
            "judge_b": Column(
                TEXT,
                "Second; equal to the first: one alone; `<first> again`: graded again.",
                optional=True,
            ),
            "statistic": Column(TEXT, "Name, as in `esr.agreement.compare.STATISTICS`."),
            "weighting": Column(
                TEXT, "`population` (sampling weights) or `sample` (as drawn, rich in `several`)."
            ),
            "estimate": Column(FLOAT, "Value: a fraction or coefficient, or points.", True),
            "low": Column(FLOAT, "Lower end of its interval (bootstrap over latents).", True),
            "high": Column(FLOAT, "Upper end.", True),
            "n": Column(INT, "Trials it is computed from."),
            "n_clusters": Column(INT, "Latents (per model) among them."),
            "status": Column(TEXT, "`ok`, or a warning (docs/method.md)."),
        },
    ),
}
