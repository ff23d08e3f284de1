# An arm of trials: plan -> responses -> judgments -> scores.


rule plan_arm:
    """Write down every trial of an arm: prompt, latent, boost, seed, condition."""
    input:
        unpack(plan_inputs),
    output:
        "results/{study}/{model}/arms/{arm}/plan.parquet",
    log:
        "logs/{study}/{model}/{arm}/plan_arm.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/{arm}/plan_arm.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("arms.{arm}", "seeds.generation"),
    script:
        "../scripts/arms/plan_arm.py"


rule generate_responses:
    """Run a shard of an arm's trials; what is generated is in the journal at once."""
    input:
        plan="results/{study}/{model}/arms/{arm}/plan.parquet",
        model="results/{study}/{model}/assets/model.json",
        sae=of_base("assets/sae.safetensors"),
        environment=engine_environment,
    output:
        "results/{study}/{model}/arms/{arm}/shards/{shard}.parquet",
    log:
        "logs/{study}/{model}/{arm}/generate_responses_{shard}.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/{arm}/generate_responses_{shard}.tsv"
    conda:
        "../envs/main.yaml"
    threads: CONFIG.engine.threads
    resources:
        **engine_job("generate_responses"),
    params:
        journal="results/{study}/{model}/journals/{arm}-{shard}.jsonl",
        settings=settings(
            "generation",
            "engine.name",
            "engine.batch_size",
            "engine.shards",
            "arms.{arm}.shards",
            "models.{model}.dtype",
            "models.{model}.quantization",
            "models.{model}.steer_layer",
            "models.{model}.ablate_layer",
            "models.{model}.repetition_penalty",
        ),
    script:
        "../scripts/arms/generate_responses.py"


rule merge_responses:
    """Put the shards of an arm's responses together, in the order of the plan."""
    input:
        plan="results/{study}/{model}/arms/{arm}/plan.parquet",
        shards=shards,
    output:
        "results/{study}/{model}/arms/{arm}/responses.parquet",
    log:
        "logs/{study}/{model}/{arm}/merge_responses.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/{arm}/merge_responses.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    script:
        "../scripts/arms/merge_responses.py"


rule judge_responses:
    """Let a judge find and score the attempts in every response."""
    input:
        plan="results/{study}/{model}/arms/{arm}/plan.parquet",
        responses="results/{study}/{model}/arms/{arm}/responses.parquet",
        judge=ancient(judge_files),
        phrases=ancient(PHRASES),
    output:
        "results/{study}/{model}/arms/{arm}/judgments/{judge}.parquet",
    log:
        "logs/{study}/{model}/{arm}/judge_responses_{judge}.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/{arm}/judge_responses_{judge}.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        replies="results/{study}/replies/judge_responses/{model}/{arm}/{judge}.jsonl",
        contents=contents(judge_files, PHRASES),
        settings=settings("judging.judges.{judge}"),
    script:
        "../scripts/judges/judge_responses.py"


rule score_trials:
    """Reduce judgments to one row a trial; nothing is dropped, failures are statuses."""
    input:
        plan="results/{study}/{model}/arms/{arm}/plan.parquet",
        responses="results/{study}/{model}/arms/{arm}/responses.parquet",
        judgments="results/{study}/{model}/arms/{arm}/judgments/{judge}.parquet",
        phrases=ancient(PHRASES),
    output:
        "results/{study}/{model}/arms/{arm}/scores/{judge}.parquet",
    log:
        "logs/{study}/{model}/{arm}/score_trials_{judge}.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/{arm}/score_trials_{judge}.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        contents=contents(PHRASES),
        settings=settings("judging.degraded"),
    script:
        "../scripts/arms/score_trials.py"
