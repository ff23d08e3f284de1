# An arm of trials: plan -> responses -> judgments -> scores.


def plan_inputs(wildcards):
    """Inputs of a plan: latents and thresholds, prompts, or the plan of a replayed or continued arm."""
    arm = CONFIG.arms[wildcards.arm]
    here = "<results>/{model}"
    inputs = {"prompts": arm.prompts or CONFIG.prompts}
    if arm.continued is not None:
        inputs |= continued_texts(arm.continued, here)
    if arm.source is not None:
        inputs["replayed"] = f"{here}/arms/{arm.source}/plan.parquet"
    elif arm.over == "latents":
        name = arm.directions
        source = (
            "latents/latents.parquet"
            if name is None
            else f"{along(name)}directions.parquet"
        )
        inputs["latents"] = of_base(source)(wildcards)
        other = "" if arm.target is None else f"-{arm.target}"
        inputs["thresholds"] = f"{here}/{along(name)}thresholds{other}.parquet"
    if wildcards.arm in CONFIG.held_out:
        inputs["relevance"] = f"{here}/arms/{wildcards.arm}/relevance.parquet"
    if arm.ablate == "detectors":
        inputs["detectors"] = f"{here}/detectors/detectors.parquet"
    elif isinstance(arm.ablate, str):
        inputs["controls"] = f"{here}/detectors/controls.parquet"
    if arm.ablate_to == "mean":
        inputs["means"] = f"{here}/detectors/means.parquet"
    return inputs


def continued_texts(continued, here):
    """Texts of the arm that a plan cuts prefixes from, and how they were graded."""
    texts = f"{here}/arms/{continued.arm}"
    inputs = {
        "model": f"{here}/assets/model.json",
        "texts": f"{texts}/plan.parquet",
        "responses": f"{texts}/responses.parquet",
    }
    if continued.where != "on_topic":
        judged = f"{CONFIG.judging.primary}.parquet"
        inputs["judgments"] = f"{texts}/judgments/{judged}"
        inputs["scores"] = f"{texts}/scores/{judged}"
        inputs["phrases"] = ancient(PHRASES)
    return inputs


def phrases_of_texts(wildcards):
    """The restart phrases, if the plan of an arm looks for them."""
    continued = CONFIG.arms[wildcards.arm].continued
    return [] if continued is None or continued.where == "on_topic" else [PHRASES]


SHARDED = [arm for arm in CONFIG.arms if CONFIG.shards(arm) > 1]
IMPORTED = [name for name, arm in CONFIG.arms.items() if arm.responses is not None]


def generation_journal(wildcards):
    """Journal of an arm's responses, or of a shard of them."""
    shard = wildcards.get("shard", 0)
    return f"{RESULTS}/{wildcards.model}/journals/{wildcards.arm}-{shard}.jsonl"


def shards(wildcards):
    """Shards of an arm's responses."""
    return expand(
        "<results>/{model}/arms/{arm}/shards/{shard}.parquet",
        shard=range(CONFIG.shards(wildcards.arm)),
        **wildcards,
    )


rule plan_arm:
    """List every trial of an arm: prompt, latent, boost, seed, condition, prefix."""
    input:
        unpack(plan_inputs),
    output:
        "<results>/{model}/arms/{arm}/plan.parquet",
    params:
        contents=contents(phrases_of_texts),
        settings=steered_as("arms.{arm}", "seeds.generation"),
    log:
        "<logs>/{model}/{arm}/plan_arm.log",
    benchmark:
        "<benchmarks>/{model}/{arm}/plan_arm.tsv"
    resources:
        **beside_engine("plan_arm"),
        mem_mb=1000,
    wildcard_constraints:
        arm=one_of(arm for arm in CONFIG.arms if arm not in IMPORTED),
    group:
        allocation_of("plan_arm")
    script:
        "../scripts/arms/plan_arm.py"


rule import_responses:
    """Take an arm's responses from a file; each row is checked, and none is dropped."""
    input:
        responses=lambda wildcards: CONFIG.arms[wildcards.arm].responses.as_posix(),
        prompts=CONFIG.prompts,
    output:
        plan="<results>/{model}/arms/{arm}/plan.parquet",
        responses="<results>/{model}/arms/{arm}/responses.parquet",
    params:
        settings=settings("arms.{arm}"),
    log:
        "<logs>/{model}/{arm}/import_responses.log",
    benchmark:
        "<benchmarks>/{model}/{arm}/import_responses.tsv"
    resources:
        mem_mb=2000,
    wildcard_constraints:
        arm=one_of(IMPORTED),
    script:
        "../scripts/arms/import_responses.py"


rule generate_responses:
    """Run the trials of an arm; the journal keeps every finished response."""
    input:
        plan="<results>/{model}/arms/{arm}/plan.parquet",
        model="<results>/{model}/assets/model.json",
        sae=of_base("assets/sae.safetensors"),
        directions=vectors_of,
        environment=engine_environment,
    output:
        "<results>/{model}/arms/{arm}/responses.parquet",
    params:
        journal=generation_journal,
        settings=computed_as(
            "generation",
            "engine.name",
            "engine.batch_size",
            "engine.shards",
            "arms.{arm}.shards",
            "arms.{arm}.continued",
            "models.{model}.dtype",
            "models.{model}.template",
            "models.{model}.quantization",
            "models.{model}.steer_layer",
            "models.{model}.ablate_layer",
            "models.{model}.repetition_penalty",
        ),
    log:
        "<logs>/{model}/{arm}/generate_responses.log",
    benchmark:
        "<benchmarks>/{model}/{arm}/generate_responses.tsv"
    threads: CONFIG.engine.threads
    resources:
        **engine_job("generate_responses"),
        **shared_engine("generate_responses"),
    wildcard_constraints:
        arm=one_of(arm for arm in CONFIG.arms if arm not in [*SHARDED, *IMPORTED]),
    group:
        allocation_of("generate_responses")
    script:
        "../scripts/arms/generate_responses.py"


use rule generate_responses as generate_shard with:
    output:
        "<results>/{model}/arms/{arm}/shards/{shard}.parquet",
    log:
        "<logs>/{model}/{arm}/generate_shard_{shard}.log",
    benchmark:
        "<benchmarks>/{model}/{arm}/generate_shard_{shard}.tsv"
    wildcard_constraints:
        arm=one_of(SHARDED),


rule merge_responses:
    """Concatenate the shards of an arm's responses, in the order of the plan."""
    input:
        plan="<results>/{model}/arms/{arm}/plan.parquet",
        shards=shards,
    output:
        "<results>/{model}/arms/{arm}/responses.parquet",
    log:
        "<logs>/{model}/{arm}/merge_responses.log",
    benchmark:
        "<benchmarks>/{model}/{arm}/merge_responses.tsv"
    resources:
        mem_mb=1000,
    wildcard_constraints:
        arm=one_of(SHARDED),
    script:
        "../scripts/arms/merge_responses.py"


rule score_trials:
    """Reduce judgments to one row a trial; a failure is a status, and no trial is dropped."""
    input:
        plan="<results>/{model}/arms/{arm}/plan.parquet",
        responses="<results>/{model}/arms/{arm}/responses.parquet",
        judgments="<results>/{model}/arms/{arm}/judgments/{judge}.parquet",
        phrases=ancient(PHRASES),
    output:
        "<results>/{model}/arms/{arm}/scores/{judge}.parquet",
    params:
        contents=contents(PHRASES),
        settings=settings("judging.degraded"),
    log:
        "<logs>/{model}/{arm}/score_trials_{judge}.log",
    benchmark:
        "<benchmarks>/{model}/{arm}/score_trials_{judge}.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/arms/score_trials.py"


rule read_tokens:
    """Read log-probabilities of named tokens before the first generated one of each trial."""
    input:
        plan="<results>/{model}/arms/{arm}/plan.parquet",
        model="<results>/{model}/assets/model.json",
        sae=of_base("assets/sae.safetensors"),
        directions=vectors_of,
        environment=engine_environment,
    output:
        "<results>/{model}/arms/{arm}/readouts.parquet",
    params:
        journal=f"{RESULTS}/{{model}}/journals/{{arm}}-readouts.jsonl",
        settings=computed_as(
            "readouts.{arm}",
            "generation.doubled_header",
            "engine.name",
            "engine.batch_size",
            "models.{model}.dtype",
            "models.{model}.template",
            "models.{model}.quantization",
            "models.{model}.steer_layer",
            "models.{model}.ablate_layer",
        ),
    log:
        "<logs>/{model}/{arm}/read_tokens.log",
    benchmark:
        "<benchmarks>/{model}/{arm}/read_tokens.tsv"
    threads: CONFIG.engine.threads
    resources:
        **engine_job("read_tokens"),
        **shared_engine("read_tokens"),
    wildcard_constraints:
        arm=one_of(CONFIG.readouts),
    group:
        allocation_of("read_tokens")
    script:
        "../scripts/arms/read_tokens.py"
