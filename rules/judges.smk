# Judges: from responses to attempts with spans and scores.


rule judge_responses:
    """Find and score the attempts in every response with a judge."""
    input:
        plan="<results>/{model}/arms/{arm}/plan.parquet",
        responses="<results>/{model}/arms/{arm}/responses.parquet",
        judge=ancient(judge_files),
        phrases=ancient(PHRASES),
    output:
        "<results>/{model}/arms/{arm}/judgments/{judge}.parquet",
    params:
        replies=f"{RESULTS}/replies/judge_responses/{{model}}/{{arm}}/{{judge}}.jsonl",
        contents=contents(judge_files, PHRASES),
        settings=settings("judging.judges.{judge}"),
    log:
        "<logs>/{model}/{arm}/judge_responses_{judge}.log",
    benchmark:
        "<benchmarks>/{model}/{arm}/judge_responses_{judge}.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/judges/judge_responses.py"
