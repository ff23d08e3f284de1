# Models, SAEs, labels, prompts and environments: one local file each, with its origin.


# Rules that need a network run where Snakemake runs; on a cluster that is the login node.


def model_files(wildcards):
    """Files of a local checkpoint; a hub model is named by its revision instead."""
    model = CONFIG.models[wildcards.model]
    return checkpoint_files(model.folder) if model.is_local else []


def sae_files(wildcards):
    """Files of a local SAE in SAELens' format; a release is named by its id instead."""
    folder = CONFIG.models[wildcards.model].sae.path
    return [folder / "cfg.json", folder / "sae_weights.safetensors"] if folder else []


def downloads():
    """Environments, assets of every model, and labels and prompts that are downloaded."""
    assets = [
        f"<results>/{model}/assets/{name}"
        for model in CONFIG.base_models
        for name in ("model.json", "sae.safetensors")
    ]
    files = [model.labels_file for model in CONFIG.base_models.values()]
    files += [CONFIG.prompts, *(arm.prompts for arm in CONFIG.arms.values())]
    files += [CONFIG.finetune.data.prompts] if CONFIG.finetuned else []
    fetched = [path for path in files if path and path.is_relative_to(DOWNLOADS)]
    used = {CONFIG.environment(model) for model in CONFIG.models} - {None}
    local = CONFIG.judging.local
    used |= {CONFIG.judge_environment(judge) for judge in local.values()}
    assets += [f"<results>/judges/{judge}/model.json" for judge in local]
    used |= {"finetune"} if CONFIG.finetuned else set()
    installed = [f"results/environments/{name}.txt" for name in sorted(used)]
    return [*installed, *assets, *map(str, dict.fromkeys(fetched))]


localrules:
    fetch_labels,
    fetch_prompts,
    prepare_model,
    prepare_sae,
    sync_environment,


rule sync_environment:
    """Install an environment; the output lists the installed packages."""
    output:
        "results/environments/{environment}.txt",
    log:
        "logs/environments/sync_environment_{environment}.log",
    benchmark:
        "benchmarks/jobs/environments/sync_environment_{environment}.tsv"
    resources:
        mem_mb=1000,
    # No change reruns it, because every job of the environment would rerun, too.
    # `esr.assets.environments.check_environments` checks that the pinned versions are installed.
    shell:
        "(uv sync --project envs/{wildcards.environment} && "
        "uv pip freeze --python envs/{wildcards.environment}/.venv > {output}) 2> {log}"


rule fetch_labels:
    """Download the labels of an SAE from Neuronpedia's exports."""
    output:
        csv=protected("results/downloads/neuronpedia/{export}/{sae}.csv"),
        json=protected("results/downloads/neuronpedia/{export}/{sae}.json"),
    log:
        "logs/downloads/fetch_labels_{export}_{sae}.log",
    benchmark:
        "benchmarks/jobs/downloads/fetch_labels_{export}_{sae}.tsv"
    resources:
        mem_mb=1000,
    retries: 3
    script:
        "../scripts/assets/fetch_labels.py"


rule fetch_prompts:
    """Download a list of the paper's own prompts from its public repository."""
    output:
        csv=protected("results/downloads/prompts/{list}.csv"),
        json=protected("results/downloads/prompts/{list}.json"),
    log:
        "logs/downloads/fetch_prompts_{list}.log",
    benchmark:
        "benchmarks/jobs/downloads/fetch_prompts_{list}.tsv"
    resources:
        mem_mb=1000,
    retries: 3
    script:
        "../scripts/assets/fetch_prompts.py"


rule prepare_model:
    """Fetch or find a checkpoint; write its manifest: shape, revision, checksums."""
    input:
        model_files,
    output:
        "<results>/{model}/assets/model.json",
    params:
        settings=settings("models.{model}.source", "models.{model}.revision"),
    log:
        "<logs>/{model}/prepare_model.log",
    benchmark:
        "<benchmarks>/{model}/prepare_model.tsv"
    resources:
        mem_mb=2000,
    wildcard_constraints:
        model=one_of(CONFIG.base_models),
    script:
        "../scripts/assets/prepare_model.py"


rule prepare_sae:
    """Load an SAE with SAELens; write it as one plain file in raw decoder units."""
    input:
        files=sae_files,
        model="<results>/{model}/assets/model.json",
    output:
        "<results>/{model}/assets/sae.safetensors",
    params:
        settings=settings("models.{model}.sae"),
    log:
        "<logs>/{model}/prepare_sae.log",
    benchmark:
        "<benchmarks>/{model}/prepare_sae.tsv"
    resources:
        mem_mb=4000,
    script:
        "../scripts/assets/prepare_sae.py"


rule measure_sae_fit:
    """Compare an SAE with its model on unsteered answers; a misfit stops the study here."""
    input:
        prompts=CONFIG.prompts,
        model="<results>/{model}/assets/model.json",
        sae="<results>/{model}/assets/sae.safetensors",
        answers=unsteered_answers(),
    output:
        "<results>/{model}/sae_fit.parquet",
    params:
        settings=settings(
            "sae_fit",
            "generation.doubled_header",
            "models.{model}.template",
            "models.{model}.accept_sae",
            "models.{model}.dtype",
            "models.{model}.read_layer",
            "models.{model}.steer_layer",
        ),
    log:
        "<logs>/{model}/measure_sae_fit.log",
    benchmark:
        "<benchmarks>/{model}/measure_sae_fit.tsv"
    threads: CONFIG.engine.threads
    resources:
        **engine_job("measure_sae_fit"),
    wildcard_constraints:
        model=one_of(CONFIG.base_models),
    script:
        "../scripts/assets/measure_sae_fit.py"


rule prepare_labels:
    """Tabulate the labels of an SAE, one row a latent."""
    input:
        sae="<results>/{model}/assets/sae.safetensors",
        labels=lambda wildcards: CONFIG.models[wildcards.model].labels_file or [],
    output:
        "<results>/{model}/labels.parquet",
    params:
        settings=settings("models.{model}.labels"),
    log:
        "<logs>/{model}/prepare_labels.log",
    benchmark:
        "<benchmarks>/{model}/prepare_labels.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/assets/prepare_labels.py"
