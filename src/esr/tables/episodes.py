"""Tables about self-corrections: their regions, and activations in them."""

from esr.tables.spec import FLAG, FLOAT, INT, OWNER, TEXT, TRIAL, Column, Table

TABLES: dict[str, Table] = {
    "boundaries": Table(
        "{model}/episodes/boundaries.parquet",
        "a self-correction that an annotator was shown (`episodes.boundaries`)",
        ("trial_id",),
        {
            "trial_id": TRIAL["trial_id"],
            "status": Column(
                TEXT,
                "`ok`; `no_correction`: the annotator sees none; `not_found`: a quote is not in "
                "the response; `refused`, `truncated`, `unparsable`, `api_error`.",
            ),
            "off_topic_start": Column(INT, "First character of the off-topic region.", True),
            "correction_start": Column(INT, "First character of the correction.", True),
            "on_topic_start": Column(INT, "First character of the on-topic region.", True),
        },
    ),
    "episodes": Table(
        "{model}/episodes/episodes.parquet",
        "a self-correction, or a response to compare it with",
        ("model", "trial_id"),
        {
            "model": OWNER["model"],
            **TRIAL,
            "group": Column(
                TEXT,
                "`episode` (two attempts, the second better), `baseline` (one, on topic) or "
                "`unrestarted` (one, off topic, no restart phrase).",
            ),
            "first_score": Column(FLOAT, "Score of the first attempt (points)."),
            "last_score": Column(FLOAT, "Score of the last attempt (points)."),
            "off_topic_start": Column(INT, "First character of the off-topic region.", True),
            "off_topic_end": Column(INT, "Character after its last one.", True),
            "correction_start": Column(INT, "First character of the correction.", True),
            "correction_end": Column(INT, "Character after its last one.", True),
            "on_topic_start": Column(INT, "First character of the on-topic region.", True),
            "on_topic_end": Column(INT, "Character after its last one.", True),
            "anchor": Column(
                INT,
                "Character at which the response is aligned with others: where the correction "
                "starts; in a control the sentence that starts nearest to where an episode, drawn "
                "at random, has its correction.",
                True,
            ),
            "held_out": Column(
                FLAG, "Not used to choose backtracking latents; missing without status `ok`.", True
            ),
            "status": Column(
                TEXT,
                "`ok` if encoded; `not_drawn`: enough others were; `no_spans`: the judge's "
                "attempts are not located; `no_correction`: no restart phrase near where the "
                "second begins; or the annotator's, as in `boundaries`.",
            ),
        },
    ),
    "episode_activations": Table(
        "{model}/episodes/episode_activations.parquet",
        "a token of an episode with status `ok`, and a latent",
        ("model", "trial_id", "position", "latent", "kind"),
        {
            "model": OWNER["model"],
            "trial_id": TRIAL["trial_id"],
            "position": Column(INT, "Token of the response, from 0 (after any prefill)."),
            "start": Column(INT, "First character of the token in the response."),
            "end": Column(INT, "Character after its last one; no text if equal to `start`."),
            "region": Column(
                TEXT, "`off_topic`, `correction` or `on_topic`; missing outside of them.", True
            ),
            "latent": Column(INT, "Index in the SAE."),
            "kind": Column(TEXT, "Kind of latent: `detector` or `backtracking`."),
            "activation": Column(FLOAT, "Activation at the token (SAE units)."),
        },
    ),
}
