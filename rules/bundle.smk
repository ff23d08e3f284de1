# The costly files of a study, in one file: `snakemake bundle`, and `python -m esr.bundle import FILE`.


def steered_sets(model):
    """Sets of directions that the arms of a model steer along."""
    found = [CONFIG.directions_of(arm) for arm in CONFIG.arms_of(model)]
    return sorted({name for name in found if name is not None})


def paid_files():
    """Every table that took a GPU, a judge or a download to make, and the plans and scores between."""
    judge = CONFIG.judging.primary
    # Models of which every response is imported have neither checkpoint nor SAE.
    generating = [*CONFIG.engine_models, *CONFIG.finetuned]
    of_all = ["assets/model.json"]
    sets = ["directions.parquet", "vectors.safetensors"]
    tables = ["labels.parquet", "sae_fit.parquet"]
    latents = ["candidates", "concreteness", "relevance", "latents"]
    tables += [f"latents/{name}.parquet" for name in latents]
    detectors = ["detectors", "detector_pairs", "controls"]
    tables += [f"detectors/{name}.parquet" for name in detectors]
    episodes = ["episodes", "episode_activations"]
    if CONFIG.episodes.boundaries != "detector":
        episodes.append("boundaries")
    # Scores cost nothing to compute, but episodes and the cross-judge sample are drawn from them,
    # and would be rebuilt if scores were newer.
    of_arms = ["plan.parquet", "responses.parquet"]
    of_arms += [f"{kind}/{judge}.parquet" for kind in ("judgments", "scores")]
    agreement = [
        f"{kind}/{name}.parquet"
        for kind in ("judgments", "scores")
        for name in CONFIG.judging.judges
    ]
    if CONFIG.agreement.retest:
        agreement += [f"retest/{kind}.parquet" for kind in ("judgments", "scores")]
    # Axolotl's configuration is regenerated, never imported: it can name code to run.
    finetuning = [
        "finetuning/masks.json",
        "finetuning/training.csv",
        *(f"finetuning/adapter/{name}" for name in ADAPTER_FILES),
    ]
    return [
        *(f"<results>/{model}/{name}" for model in generating for name in of_all),
        *(
            f"<results>/{model}/{name}"
            for model in CONFIG.engine_models
            for name in tables
        ),
        *(
            f"<results>/{model}/episodes/{name}.parquet"
            for model in TRACED
            for name in episodes
        ),
        *(path for _, _, path in THRESHOLDS),
        *(
            f"<results>/{model}/{along(directions)}threshold_trials.parquet"
            for model in CONFIG.models
            for directions in CONFIG.searches(model)
        ),
        *(
            f"<results>/{model}/{along(directions)}{name}"
            for model in CONFIG.base_models
            for directions in steered_sets(model)
            for name in sets
        ),
        *([f"<results>/finetuning/examples.parquet"] if CONFIG.finetuned else []),
        *(
            f"<results>/{model}/{name}"
            for model in CONFIG.finetuned
            for name in finetuning
        ),
        *(f"<results>/{m}/arms/{a}/{name}" for m, a in cells() for name in of_arms),
        *(f"<results>/agreement/{name}" for name in ["sample.parquet", *agreement]),
    ]


def journals(wildcards):
    """Journals of generations and of replies that jobs of this study may have written."""
    # Imported here, since every job of a run parses this file.
    from esr.judges.replies import reply_journals

    names = [
        (m, f"{a}-{shard}") for m, a in cells() for shard in range(CONFIG.shards(a))
    ]
    searches = [
        f"<results>/{model}/{along(directions)}journals/thresholds.jsonl"
        for model in CONFIG.models
        for directions in CONFIG.searches(model)
    ]
    replies = [path.as_posix() for _, _, path in reply_journals(CONFIG)]
    return [
        *(f"<results>/{model}/journals/{name}.jsonl" for model, name in names),
        *searches,
        *replies,
    ]


rule write_bundle:
    """Pack every table that took a GPU, a judge or a download, with journals and checksums."""
    input:
        paid_files(),
    output:
        "<results>/bundle.tar.gz",
    params:
        journals=journals,
    log:
        "<logs>/write_bundle.log",
    benchmark:
        "<benchmarks>/write_bundle.tsv"
    resources:
        mem_mb=1000,
        runtime=240,
    script:
        "../scripts/bundle/write_bundle.py"
