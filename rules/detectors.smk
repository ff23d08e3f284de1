# Off-topic detectors, and random sets of latents to compare them with.


rule find_detectors:
    """Find the latents that tell mismatched pairs of prompt and response from matched ones."""
    input:
        prompts=detector_prompts(),
        labels="results/{study}/{model}/labels.parquet",
        model="results/{study}/{model}/assets/model.json",
        sae="results/{study}/{model}/assets/sae.safetensors",
        plan=f"results/{{study}}/{{model}}/arms/{CONFIG.detectors.arm}/plan.parquet",
        responses=f"results/{{study}}/{{model}}/arms/{CONFIG.detectors.arm}/responses.parquet",
    output:
        detectors="results/{study}/{model}/detectors/detectors.parquet",
        pairs="results/{study}/{model}/detectors/detector_pairs.parquet",
    log:
        "logs/{study}/{model}/find_detectors.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/find_detectors.tsv"
    conda:
        "../envs/main.yaml"
    threads: CONFIG.engine.threads
    resources:
        mem_mb=2000,
    params:
        settings=settings(
            "detectors",
            "generation.doubled_header",
            "engine.batch_size",
            "models.{model}.detectors",
            "models.{model}.dtype",
            "models.{model}.read_layer",
        ),
    script:
        "../scripts/find_detectors.py"


rule match_controls:
    """Draw random sets of latents that are as active on steered text as the detectors."""
    input:
        detectors="results/{study}/{model}/detectors/detectors.parquet",
        model="results/{study}/{model}/assets/model.json",
        sae="results/{study}/{model}/assets/sae.safetensors",
        plan="results/{study}/{model}/arms/steered/plan.parquet",
        responses="results/{study}/{model}/arms/steered/responses.parquet",
    output:
        "results/{study}/{model}/detectors/controls.parquet",
    log:
        "logs/{study}/{model}/match_controls.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/match_controls.tsv"
    conda:
        "../envs/main.yaml"
    threads: CONFIG.engine.threads
    resources:
        mem_mb=2000,
    params:
        settings=settings(
            "detectors.random_sets",
            "detectors.nearest",
            "detectors.seed",
            "generation.doubled_header",
            "engine.batch_size",
            "models.{model}.dtype",
            "models.{model}.steer_layer",
            "models.{model}.read_layer",
        ),
    script:
        "../scripts/match_controls.py"
