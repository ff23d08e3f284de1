# Models fine-tuned on masked self-corrections: examples, mixtures, axolotl, adapters, Figure 6.

WRITER = CONFIG.finetune.data.writer
BASES_AND_MADE = [*CONFIG.finetune.models, *CONFIG.finetuned]
FIG6_ARMS = [a for a in ("steered", "unsteered") if a in CONFIG.finetune.arms]
MERGED = "results/{study}/{model}/finetuning/merged"


rule write_examples:
    """Write answers and self-corrections to fine-tune on; check each of them."""
    input:
        prompts=CONFIG.finetune.data.prompts,
        files=ancient(example_files()),
        judge=ancient(judge_files),
        phrases=ancient(PHRASES),
    output:
        "results/{study}/finetuning/examples.parquet",
    log:
        "logs/{study}/write_examples.log",
    benchmark:
        "benchmarks/jobs/{study}/write_examples.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        replies=f"results/{{study}}/replies/write_examples/{WRITER}.jsonl",
        judged=f"results/{{study}}/replies/judge_examples/{CONFIG.judging.primary}.jsonl",
        contents=contents(example_files(), judge_files, PHRASES),
        settings=settings(
            "finetune.data",
            "judging.primary",
            f"judging.judges.{CONFIG.judging.primary}",
        ),
    script:
        "../scripts/finetuning/write_examples.py"


rule mix_examples:
    """Draw the mixture of a fine-tuned model: so many self-corrections, so many answers."""
    input:
        examples="results/{study}/finetuning/examples.parquet",
    output:
        "results/{study}/{model}/finetuning/dataset.jsonl",
    log:
        "logs/{study}/{model}/mix_examples.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/mix_examples.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("finetune.data.size", "finetune.data.seed"),
    script:
        "../scripts/finetuning/mix_examples.py"


rule configure_training:
    """Write axolotl's configuration for one mixture."""
    input:
        base=of_base("assets/model.json"),
        dataset="results/{study}/{model}/finetuning/dataset.jsonl",
    output:
        "results/{study}/{model}/finetuning/axolotl.yaml",
    log:
        "logs/{study}/{model}/configure_training.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/configure_training.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=2000,
    params:
        settings=settings("finetune.training"),
    script:
        "../scripts/finetuning/configure_training.py"


rule prepare_rows:
    """Tokenize and mask a mixture, with axolotl, into a folder that holds nothing older."""
    input:
        environment="results/environments/finetune.txt",
        config="results/{study}/{model}/finetuning/axolotl.yaml",
        dataset="results/{study}/{model}/finetuning/dataset.jsonl",
        script=ancient("scripts/finetuning/prepare_rows.py"),
    output:
        folder=directory("results/{study}/{model}/finetuning/prepared"),
        rows="results/{study}/{model}/finetuning/prepared.parquet",
    log:
        "logs/{study}/{model}/prepare_rows.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/prepare_rows.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=4000,
    shell:
        "OMP_NUM_THREADS={threads} uv run --no-sync --project envs/finetune "
        "python {input.script} {input.config} {output.rows} > {log} 2>&1"


rule check_masks:
    """Check, token by token, that the loss is on corrections and answers and nothing else."""
    input:
        base=of_base("assets/model.json"),
        dataset="results/{study}/{model}/finetuning/dataset.jsonl",
        rows="results/{study}/{model}/finetuning/prepared.parquet",
    output:
        "results/{study}/{model}/finetuning/masks.json",
    log:
        "logs/{study}/{model}/check_masks.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/check_masks.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=2000,
    script:
        "../scripts/finetuning/check_masks.py"


rule train_adapter:
    """Train an adapter with axolotl on rows whose masks were checked."""
    input:
        environment="results/environments/finetune.txt",
        masks="results/{study}/{model}/finetuning/masks.json",
        config="results/{study}/{model}/finetuning/axolotl.yaml",
        prepared="results/{study}/{model}/finetuning/prepared",
        base=of_base("assets/model.json"),
        script=ancient("scripts/finetuning/train_adapter.py"),
    output:
        adapter=[f"results/{{study}}/{{model}}/{name}" for name in ADAPTER],
        curves="results/{study}/{model}/finetuning/training.csv",
    log:
        "logs/{study}/{model}/train_adapter.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/train_adapter.tsv"
    conda:
        "../envs/main.yaml"
    threads: CONFIG.finetune.training.threads
    resources:
        **engine_job("train_adapter"),
    shell:
        "OMP_NUM_THREADS={threads} uv run --no-sync --project envs/finetune "
        "python {input.script} {input.config} {output.curves} > {log} 2>&1"


rule merge_adapter:
    """Add an adapter to its base: the checkpoint that engines load with `serve: merged`."""
    input:
        environment="results/environments/finetune.txt",
        base=of_base("assets/model.json"),
        adapter=[f"results/{{study}}/{{model}}/{name}" for name in ADAPTER],
        script=ancient("scripts/finetuning/merge_adapter.py"),
    output:
        directory(MERGED),
    log:
        "logs/{study}/{model}/merge_adapter.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/merge_adapter.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=engine_job("train_adapter")["mem_mb"],
        runtime=120,
    params:
        adapter=lambda wildcards, input: Path(input.adapter[0]).parent.as_posix(),
    shell:
        "uv run --no-sync --project envs/finetune "
        "python {input.script} {input.base} {params.adapter} {output} > {log} 2>&1"


rule prepare_finetuned:
    """Write what a fine-tuned model is and what it was made from, with checksums."""
    input:
        base=of_base("assets/model.json"),
        config="results/{study}/{model}/finetuning/axolotl.yaml",
        dataset="results/{study}/{model}/finetuning/dataset.jsonl",
        adapter=[f"results/{{study}}/{{model}}/{name}" for name in ADAPTER],
        merged=MERGED if CONFIG.finetune.serve == "merged" else [],
    output:
        "results/{study}/{model}/assets/model.json",
    log:
        "logs/{study}/{model}/prepare_finetuned.log",
    benchmark:
        "benchmarks/jobs/{study}/{model}/prepare_finetuned.tsv"
    wildcard_constraints:
        model=one_of(CONFIG.finetuned),
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=2000,
    script:
        "../scripts/finetuning/prepare_finetuned.py"


rule plot_fig6:
    """Plot what fine-tuning does by the share of self-corrections, and its trends (Figure 6)."""
    input:
        scores=scores_of(cells(*FIG6_ARMS, models=BASES_AND_MADE)),
    output:
        pdf="results/{study}/figures/fig6.pdf",
        png=report(
            "results/{study}/figures/fig6.png",
            caption="../resources/captions/fig6.rst",
            category="Figures",
            labels={"figure": TITLES["fig6"]},
        ),
        csv="results/{study}/figures/fig6.csv",
    log:
        "logs/{study}/plot_fig6.log",
    benchmark:
        "benchmarks/jobs/{study}/plot_fig6.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("title", "statistics", "finetune.models", "finetune.ratios"),
    script:
        "../scripts/figures/plot_fig6.py"


rule plot_training:
    """Plot losses while adapters were trained."""
    input:
        curves=[
            f"results/{{study}}/{name}/finetuning/training.csv"
            for name in CONFIG.finetuned
        ],
    output:
        pdf="results/{study}/figures/training.pdf",
        png=report(
            "results/{study}/figures/training.png",
            caption="../resources/captions/training.rst",
            category="Figures",
            labels={"figure": TITLES["training"]},
        ),
        csv="results/{study}/figures/training.csv",
    log:
        "logs/{study}/plot_training.log",
    benchmark:
        "benchmarks/jobs/{study}/plot_training.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("title", "finetune.models", "finetune.ratios"),
    script:
        "../scripts/figures/plot_training.py"
