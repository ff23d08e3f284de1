# Agreement of judges on a stratified sample of trials that all of them grade.

from esr.agreement.arms import sampled_cells

SAMPLED = sampled_cells(CONFIG)
JUDGES = list(CONFIG.judging.judges)
ANCHORS = "resources/anchors.csv"
DRIFT = (
    ["<results>/tables/drift.csv"]
    if CONFIG.judging.llms and CONFIG.judging.anchors
    else []
)
FAILURES = ["<results>/tables/judge_failures.csv"] if CONFIG.judging.llms else []
OTHER_LLMS = [name for name in CONFIG.judging.llms if name != CONFIG.judging.primary]


def sampled_arms(wildcards):
    """Arms of which the sample holds trials."""
    return list(dict.fromkeys(arm for _, arm in SAMPLED))


rule sample_responses:
    """Draw the trials that all judges grade, by model, arm and what was found in them."""
    input:
        plans=[f"<results>/{m}/arms/{a}/plan.parquet" for m, a in SAMPLED],
        responses=[f"<results>/{m}/arms/{a}/responses.parquet" for m, a in SAMPLED],
        scores=scores_of(SAMPLED),
    output:
        "<results>/agreement/sample.parquet",
    params:
        settings=settings("agreement.size", "agreement.per_stratum", "agreement.seed"),
    log:
        "<logs>/agreement/sample_responses.log",
    benchmark:
        "<benchmarks>/agreement/sample_responses.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/agreement/sample_responses.py"


rule judge_sample:
    """Grade the sample by one judge; one row a trial, like the scores of an arm."""
    input:
        sample="<results>/agreement/sample.parquet",
        local=run_here(),
        judge=ancient(judge_files),
        phrases=ancient(PHRASES),
    output:
        judgments="<results>/agreement/judgments/{judge}.parquet",
        scores="<results>/agreement/scores/{judge}.parquet",
    params:
        replies=f"{RESULTS}/replies/judge_sample/{{judge}}.jsonl",
        others=[
            f"{RESULTS}/replies/judge_responses/{m}/{a}/{{judge}}.jsonl"
            for m, a in SAMPLED
        ],
        contents=contents(judge_files, PHRASES),
        settings=judged_how("judging.judges.{judge}", arms=sampled_arms),
    log:
        "<logs>/agreement/judge_sample_{judge}.log",
    benchmark:
        "<benchmarks>/agreement/judge_sample_{judge}.tsv"
    resources:
        **judge_job(),
    script:
        "../scripts/agreement/judge_sample.py"


rule write_label_sheet:
    """Write a sheet for people to grade: responses that a judge flags, and as many others."""
    input:
        sample="<results>/agreement/sample.parquet",
        scores=expand(
            "<results>/agreement/scores/{judge}.parquet",
            judge=[
                name
                for name, judge in CONFIG.judging.judges.items()
                if judge.kind != "human"
            ],
        ),
        page=[
            "resources/labels/sheet.html",
            "resources/labels/sheet.js",
            "resources/report/style.css",
            "resources/labels/sheet.css",
        ],
    output:
        sheet="<results>/agreement/label_sheet.csv",
        page="<results>/agreement/label_sheet.html",
    params:
        settings=judged_how("agreement.seed", "agreement.sheet", arms=sampled_arms),
    log:
        "<logs>/agreement/write_label_sheet.log",
    benchmark:
        "<benchmarks>/agreement/write_label_sheet.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/agreement/write_label_sheet.py"


rule retest_sample:
    """Grade a part of the sample again by the primary judge, to compare it with itself."""
    input:
        sample="<results>/agreement/sample.parquet",
        local=run_here(),
        judge=ancient(judge_files),
        phrases=ancient(PHRASES),
    output:
        judgments="<results>/agreement/retest/judgments.parquet",
        scores="<results>/agreement/retest/scores.parquet",
    params:
        replies=f"{RESULTS}/replies/retest_sample/{CONFIG.judging.primary}.jsonl",
        contents=contents(judge_files, PHRASES),
        settings=judged_how(
            "agreement.retest",
            "agreement.seed",
            f"judging.judges.{CONFIG.judging.primary}",
            arms=sampled_arms,
        ),
    log:
        "<logs>/agreement/retest_sample.log",
    benchmark:
        "<benchmarks>/agreement/retest_sample.tsv"
    resources:
        **judge_job(CONFIG.judging.primary),
    script:
        "../scripts/agreement/retest_sample.py"


rule measure_agreement:
    """Measure the agreement of every pair of judges, and with the restart detector."""
    input:
        sample="<results>/agreement/sample.parquet",
        scores=expand("<results>/agreement/scores/{judge}.parquet", judge=JUDGES),
        retest=(
            ["<results>/agreement/retest/scores.parquet"]
            if CONFIG.agreement.retest
            else []
        ),
    output:
        "<results>/agreement/agreement.parquet",
    params:
        settings=settings("statistics"),
    log:
        "<logs>/agreement/measure_agreement.log",
    benchmark:
        "<benchmarks>/agreement/measure_agreement.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/agreement/measure_agreement.py"


rule tabulate_drift:
    """Compare a judge's scores of the anchors at both ends of a job, and between jobs."""
    input:
        scores=scores_of(cells()),
        graded=expand(
            "<results>/agreement/scores/{judge}.parquet", judge=CONFIG.judging.llms
        ),
        retest=(
            ["<results>/agreement/retest/scores.parquet"]
            if CONFIG.agreement.retest
            else []
        ),
        anchors=ancient(ANCHORS),
    output:
        "<results>/tables/drift.csv",
    params:
        contents=contents(ANCHORS),
        settings=settings("statistics", "judging.anchors"),
    log:
        "<logs>/agreement/tabulate_drift.log",
    benchmark:
        "<benchmarks>/agreement/tabulate_drift.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/agreement/tabulate_drift.py"


rule tabulate_failures:
    """Tabulate how often each language model failed to judge a response, by reason."""
    input:
        scores=(
            scores_of(cells()) if CONFIG.judging.primary in CONFIG.judging.llms else []
        ),
        sample="<results>/agreement/sample.parquet",
        graded=expand("<results>/agreement/scores/{judge}.parquet", judge=OTHER_LLMS),
    output:
        "<results>/tables/judge_failures.csv",
    params:
        judges=OTHER_LLMS,
        settings=settings("statistics"),
    log:
        "<logs>/agreement/tabulate_failures.log",
    benchmark:
        "<benchmarks>/agreement/tabulate_failures.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/agreement/tabulate_failures.py"


rule compare_bridge:
    """Compare an old judge with the new one that replaces it, on the sample that both grade."""
    input:
        sample="<results>/agreement/sample.parquet",
        graded=expand(
            "<results>/agreement/scores/{judge}.parquet", judge=CONFIG.bridge or []
        ),
        scores=scores_of(SAMPLED),
    output:
        "<results>/tables/bridge.csv",
    params:
        judges=list(CONFIG.bridge or []),
        settings=settings("statistics"),
    log:
        "<logs>/agreement/compare_bridge.log",
    benchmark:
        "<benchmarks>/agreement/compare_bridge.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/agreement/compare_bridge.py"
