# Model, SAE and labels of a study's models, each as one local file with its origin.


rule prepare_model:
    """Fetch or find a checkpoint; write what it is: shape, revision, checksums."""
    input:
        model_files,
    output:
        "results/{study}/{model}/assets/model.json",
    log:
        "logs/{study}/{model}/prepare_model.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/prepare_model.tsv"
    wildcard_constraints:
        model=one_of(CONFIG.originals),
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=2000,
    params:
        settings=settings("models.{model}.source", "models.{model}.revision"),
    script:
        "../scripts/assets/prepare_model.py"


rule prepare_sae:
    """Load an SAE with SAELens; write it as one plain file in raw decoder units."""
    input:
        files=sae_files,
        model="results/{study}/{model}/assets/model.json",
    output:
        "results/{study}/{model}/assets/sae.safetensors",
    log:
        "logs/{study}/{model}/prepare_sae.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/prepare_sae.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=4000,
    params:
        settings=settings("models.{model}.sae"),
    script:
        "../scripts/assets/prepare_sae.py"


rule prepare_labels:
    """Lay the labels of an SAE's latents out, one row a latent."""
    input:
        sae="results/{study}/{model}/assets/sae.safetensors",
        labels=lambda wildcards: CONFIG.models[wildcards.model].labels_file or [],
    output:
        "results/{study}/{model}/labels.parquet",
    log:
        "logs/{study}/{model}/prepare_labels.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/prepare_labels.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("models.{model}.labels"),
    script:
        "../scripts/assets/prepare_labels.py"
