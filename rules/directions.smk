# Steering directions that are no decoder rows: random ones, vectors of a file, contrasts of texts.


def sets_of(*kinds):
    """Pattern of the sets of directions of some kinds."""
    names = [name for name, found in CONFIG.directions.items() if found.kind in kinds]
    return one_of(names)


def files_of_set(wildcards):
    """The file with the vectors of a set, if it comes from one."""
    found = CONFIG.directions[wildcards.directions]
    return [found.file_of(wildcards.model)] if found.kind == "file" else []


rule prepare_directions:
    """Draw random directions that stand in for the latents, or read the vectors of a file."""
    input:
        latents="<results>/{model}/latents/latents.parquet",
        sae="<results>/{model}/assets/sae.safetensors",
        prompts=CONFIG.prompts,
        vectors=files_of_set,
    output:
        vectors="<results>/{model}/directions/{directions}/vectors.safetensors",
        table="<results>/{model}/directions/{directions}/directions.parquet",
    params:
        settings=settings("directions.{directions}", "models.{model}.steer_layer"),
    log:
        "<logs>/{model}/prepare_directions_{directions}.log",
    benchmark:
        "<benchmarks>/{model}/prepare_directions_{directions}.tsv"
    resources:
        mem_mb=2000,
    wildcard_constraints:
        directions=sets_of("random", "file"),
    script:
        "../scripts/directions/prepare_directions.py"


rule read_contrasts:
    """Read directions from the model's residual stream: pairs of texts, positive minus negative."""
    input:
        pairs=lambda wildcards: CONFIG.directions[wildcards.directions].pairs,
        latents="<results>/{model}/latents/latents.parquet",
        sae="<results>/{model}/assets/sae.safetensors",
        model="<results>/{model}/assets/model.json",
        prompts=CONFIG.prompts,
    output:
        vectors="<results>/{model}/directions/{directions}/vectors.safetensors",
        table="<results>/{model}/directions/{directions}/directions.parquet",
    params:
        settings=settings(
            "directions.{directions}",
            "generation.doubled_header",
            "models.{model}.template",
            "models.{model}.dtype",
            "models.{model}.steer_layer",
        ),
    log:
        "<logs>/{model}/read_contrasts_{directions}.log",
    benchmark:
        "<benchmarks>/{model}/read_contrasts_{directions}.tsv"
    threads: CONFIG.engine.threads
    resources:
        **engine_job("read_contrasts"),
    wildcard_constraints:
        model=one_of(CONFIG.base_models),
        directions=sets_of("contrast"),
    script:
        "../scripts/directions/read_contrasts.py"
