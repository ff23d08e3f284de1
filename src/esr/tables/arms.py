"""Tables of an arm of trials: plan, responses, judgments, scores."""

from esr.tables.spec import CONDITION, FLAG, FLOAT, INT, INTS, OWNER, TEXT, TRIAL, Column, Table

READOUT = {
    "trial_id": TRIAL["trial_id"],
    "name": Column(TEXT, "Name of the tokens."),
    "status": Column(TEXT, "`ok`, or why there is no log-probability."),
    "log_prob": Column(
        FLOAT,
        "Log of the summed probability of its tokens, as the first generated one (nats).",
        optional=True,
    ),
}
TABLES: dict[str, Table] = {
    "plan": Table(
        "{model}/arms/{arm}/plan.parquet",
        "a trial to run",
        ("model", "arm", "trial_id"),
        OWNER
        | TRIAL
        | CONDITION
        | {
            "prompt": Column(TEXT, "Prompt that the judge sees (never the meta-prompted one)."),
            "prefix": Column(
                INTS, "Token ids that the response begins with, after the prefill.", True
            ),
        },
    ),
    "responses": Table(
        "{model}/arms/{arm}/responses.parquet",
        "a trial run",
        ("trial_id",),
        {
            "trial_id": TRIAL["trial_id"],
            "status": Column(TEXT, "`ok`, or why there is no response."),
            "response": Column(TEXT, "Text of the response, prefill and prefix included.", True),
            "tokens": Column(
                INTS, "Token ids of the prefix and sampled ones, end-of-turn included.", True
            ),
            "n_prompt_tokens": Column(
                INT, "Tokens before the first of `tokens`; missing if nothing was generated.", True
            ),
            "finish_reason": Column(TEXT, "`stop` (end of turn) or `length` (limit).", True),
            "n_prefix_tokens": Column(
                INT, "Leading ones of `tokens` that are a prefix; missing: none.", True
            ),
            "prefix_end": Column(
                INT,
                "First character of the continuation, prefill and prefix before it; missing: the "
                "response continues no prefix.",
                True,
            ),
        },
    ),
    "readouts": Table(
        "{model}/arms/{arm}/readouts.parquet",
        "a trial and a name of `readouts.<arm>.tokens`",
        ("trial_id", "name"),
        READOUT,
    ),
    "judgments": Table(
        "{model}/arms/{arm}/judgments/{judge}.parquet",
        "an attempt; a trial without attempts has one row with `attempt` missing",
        ("trial_id", "attempt"),
        {
            "trial_id": TRIAL["trial_id"],
            "status": Column(TEXT, "`ok`, or why the trial has no scored attempt."),
            "attempt": Column(
                INT, "Attempt, from 0, in the order of the response; those not in it last.", True
            ),
            "start": Column(INT, "First character of the attempt in the response.", True),
            "end": Column(INT, "Character after its last one.", True),
            "score": Column(FLOAT, "0-100 points; missing is not 0.", True),
            "located": Column(
                TEXT,
                "How the judge's quote was found in the response: `exact`, `normalised` (but for "
                "case, blanks, quotes, markup), `elided`, `fuzzy`; `not_found` or `doubled` "
                "(quoted more often than it is there): these have no span and are not counted.",
                True,
            ),
            "restart_phrase": Column(
                FLAG,
                "Whether the restart detector finds a phrase within 100 characters of where the "
                "attempt begins; missing for the first attempt and without a span.",
                True,
            ),
            "judge": Column(TEXT, "Judge as served: the model named in the reply."),
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
        ("model", "arm", "trial_id"),
        OWNER
        | {"judge": Column(TEXT, "Judge, as named in `judging.judges`.")}
        | TRIAL
        | {
            "status": Column(TEXT, "`ok` if scored, else why not; only `ok` trials are measured."),
            "n_attempts": Column(
                INT,
                "Attempts that are located in the response; after a prefix: the last one that "
                "begins in it, and those that begin in the continuation.",
                True,
            ),
            "first_score": Column(FLOAT, "Score of the first attempt (points).", True),
            "last_score": Column(FLOAT, "Score of the last attempt (points).", True),
            "score_change": Column(FLOAT, "last_score - first_score; 0 for one attempt.", True),
            "multi_attempt": Column(FLAG, "Two attempts or more.", True),
            "improved": Column(FLAG, "Two attempts or more, and last > first.", True),
            "gated_multi_attempt": Column(
                FLAG, "Two or more, attempts that no restart phrase opens left out.", True
            ),
            "gated_improved": Column(FLAG, "So gated, two or more, and last > first.", True),
            "gated_attempts": Column(INT, "Number of attempts, so gated.", True),
            "gated_last_score": Column(FLOAT, "Score of the last of them (points).", True),
            "restart_detected": Column(
                FLAG, "Restart phrase found, without any judge; after a prefix: in the rest.", True
            ),
            "degraded": Column(
                FLAG,
                "A word repeated five times or more in a row; after a prefix: in the rest.",
                True,
            ),
            "prefix_end": Column(
                INT, "First character of the continuation; missing: there is no prefix.", True
            ),
        }
        | CONDITION,
    ),
}
