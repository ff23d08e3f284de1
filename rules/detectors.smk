# Off-topic detectors, and random sets of latents to compare them with.


def detector_prompts():
    """Prompts of the arm on which detectors are searched."""
    arm = CONFIG.arms.get(CONFIG.detectors.arm)
    return (arm and arm.prompts) or CONFIG.prompts


def of_arm(arm, table):
    """A table of an arm; nothing if the study lacks the arm."""
    return (
        f"<results>/{{model}}/arms/{arm}/{table}.parquet" if arm in CONFIG.arms else []
    )


def detector_files(name):
    """A table of the detectors, one file a model."""
    return [
        f"<results>/{model}/detectors/{name}.parquet" for model in CONFIG.engine_models
    ]


rule find_detectors:
    """Find the latents that separate mismatched pairs of prompt and response from matched ones."""
    input:
        prompts=detector_prompts(),
        labels="<results>/{model}/labels.parquet",
        model="<results>/{model}/assets/model.json",
        sae="<results>/{model}/assets/sae.safetensors",
        environment=engine_environment,
        plan=of_arm(CONFIG.detectors.arm, "plan"),
        responses=of_arm(CONFIG.detectors.arm, "responses"),
    output:
        detectors="<results>/{model}/detectors/detectors.parquet",
        pairs="<results>/{model}/detectors/detector_pairs.parquet",
    params:
        settings=computed_as(
            "detectors",
            "generation.doubled_header",
            "models.{model}.template",
            "engine.name",
            "engine.batch_size",
            "models.{model}.detectors",
            "models.{model}.dtype",
            "models.{model}.quantization",
            "models.{model}.read_layer",
        ),
    log:
        "<logs>/{model}/find_detectors.log",
    benchmark:
        "<benchmarks>/{model}/find_detectors.tsv"
    threads: CONFIG.engine.threads
    resources:
        **engine_job("find_detectors"),
        **shared_engine("find_detectors"),
    group:
        allocation_of("find_detectors")
    script:
        "../scripts/detectors/find_detectors.py"


rule measure_means:
    """Measure the mean activation of every latent on unsteered answers, where latents are ablated."""
    input:
        prompts=CONFIG.prompts,
        model="<results>/{model}/assets/model.json",
        sae="<results>/{model}/assets/sae.safetensors",
        environment=engine_environment,
        answers=unsteered_answers(),
    output:
        "<results>/{model}/detectors/means.parquet",
    params:
        settings=computed_as(
            "generation.doubled_header",
            "models.{model}.template",
            "engine.name",
            "engine.batch_size",
            "models.{model}.dtype",
            "models.{model}.quantization",
            "models.{model}.steer_layer",
            "models.{model}.ablate_layer",
        ),
    log:
        "<logs>/{model}/measure_means.log",
    benchmark:
        "<benchmarks>/{model}/measure_means.tsv"
    threads: CONFIG.engine.threads
    resources:
        **engine_job("measure_means"),
        **shared_engine("measure_means"),
    wildcard_constraints:
        model=one_of(CONFIG.base_models),
    group:
        allocation_of("measure_means")
    script:
        "../scripts/detectors/measure_means.py"


rule match_controls:
    """Draw random sets of latents that are as active on steered text as the detectors."""
    input:
        detectors="<results>/{model}/detectors/detectors.parquet",
        model="<results>/{model}/assets/model.json",
        sae="<results>/{model}/assets/sae.safetensors",
        environment=engine_environment,
        plan=of_arm("steered", "plan"),
        responses=of_arm("steered", "responses"),
    output:
        "<results>/{model}/detectors/controls.parquet",
    params:
        settings=computed_as(
            "detectors.random_sets",
            "detectors.matching",
            "detectors.matched_pool",
            "detectors.seed",
            "generation.doubled_header",
            "models.{model}.template",
            "engine.name",
            "engine.batch_size",
            "models.{model}.dtype",
            "models.{model}.quantization",
            "models.{model}.steer_layer",
            "models.{model}.read_layer",
        ),
    log:
        "<logs>/{model}/match_controls.log",
    benchmark:
        "<benchmarks>/{model}/match_controls.tsv"
    threads: CONFIG.engine.threads
    resources:
        **engine_job("match_controls"),
        **shared_engine("match_controls"),
    group:
        allocation_of("match_controls")
    script:
        "../scripts/detectors/match_controls.py"
