# Models fine-tuned on masked self-corrections: examples, mixtures, axolotl, adapters, Figure 6.

import esr

WRITER = CONFIG.finetune.data.writer
ADAPTER = [f"<results>/{{model}}/finetuning/adapter/{name}" for name in ADAPTER_FILES]
MERGED = "<results>/{model}/finetuning/merged"
# Axolotl's environment does not have esr installed and finds it here. Snakemake compares the shell
# commands before it fills this in, so moving the project reruns nothing.
ESR_SOURCE = Path(esr.__file__).parents[1].as_posix()


def example_files():
    """Files to write examples with: subjects and rubrics, or lexicon and phrases."""
    data = CONFIG.finetune.data
    if data.writer == "corpus":
        return [data.lexicon, data.phrases]
    return [data.subjects, data.rubric, data.answer_rubric]


rule write_examples:
    """Write answers and self-corrections to fine-tune on; check each of them."""
    input:
        prompts=CONFIG.finetune.data.prompts,
        files=ancient(example_files()),
        local=run_here(WRITER, CONFIG.judging.primary),
        judge=ancient(judge_files),
        phrases=ancient(PHRASES),
    output:
        "<results>/finetuning/examples.parquet",
    params:
        replies=f"{RESULTS}/replies/write_examples/{WRITER}.jsonl",
        judged=f"{RESULTS}/replies/judge_examples/{CONFIG.judging.primary}.jsonl",
        contents=contents(example_files(), judge_files, PHRASES),
        settings=settings(
            "finetune.data",
            "judging.primary",
            f"judging.judges.{CONFIG.judging.primary}",
        ),
    log:
        "<logs>/write_examples.log",
    benchmark:
        "<benchmarks>/write_examples.tsv"
    resources:
        **(
            judge_job(WRITER, CONFIG.judging.primary)
            | shared_rater("write_examples", WRITER, CONFIG.judging.primary)
        ),
    group:
        allocation_by(lambda wildcards: rated_in("write_examples"))
    script:
        "../scripts/finetuning/write_examples.py"


rule mix_examples:
    """Draw the mixture of a fine-tuned model: self-corrections and answers at its share."""
    input:
        examples="<results>/finetuning/examples.parquet",
    output:
        "<results>/{model}/finetuning/dataset.jsonl",
    params:
        settings=settings("finetune.data.size", "finetune.data.seed"),
    log:
        "<logs>/{model}/mix_examples.log",
    benchmark:
        "<benchmarks>/{model}/mix_examples.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/finetuning/mix_examples.py"


rule configure_training:
    """Write axolotl's configuration for one mixture."""
    input:
        base=of_base("assets/model.json"),
        dataset="<results>/{model}/finetuning/dataset.jsonl",
    output:
        "<results>/{model}/finetuning/axolotl.yaml",
    params:
        settings=settings("finetune.training"),
    log:
        "<logs>/{model}/configure_training.log",
    benchmark:
        "<benchmarks>/{model}/configure_training.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/finetuning/configure_training.py"


rule train_adapter:
    """Tokenize and mask a mixture with axolotl, check the masks, train an adapter."""
    input:
        environment="results/environments/finetune.txt",
        config="<results>/{model}/finetuning/axolotl.yaml",
        dataset="<results>/{model}/finetuning/dataset.jsonl",
        base=of_base("assets/model.json"),
        script=ancient("scripts/finetuning/train_adapter.py"),
    output:
        adapter=ADAPTER,
        rows="<results>/{model}/finetuning/prepared.parquet",
        curves="<results>/{model}/finetuning/training.csv",
    log:
        "<logs>/{model}/train_adapter.log",
    benchmark:
        "<benchmarks>/{model}/train_adapter.tsv"
    threads: CONFIG.finetune.training.threads
    resources:
        **engine_job("train_adapter"),
    shell:
        "PYTHONPATH={ESR_SOURCE:q} OMP_NUM_THREADS={threads} "
        "uv run --no-sync --project envs/finetune "
        "python {input.script} {input.config} {output.rows} {output.curves} > {log} 2>&1"


rule check_masks:
    """Check, token by token, with our tokenizer, that the loss was on corrections and answers alone."""
    input:
        base=of_base("assets/model.json"),
        dataset="<results>/{model}/finetuning/dataset.jsonl",
        rows="<results>/{model}/finetuning/prepared.parquet",
    output:
        "<results>/{model}/finetuning/masks.json",
    log:
        "<logs>/{model}/check_masks.log",
    benchmark:
        "<benchmarks>/{model}/check_masks.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/finetuning/check_masks.py"


rule merge_adapter:
    """Add an adapter to its base: the checkpoint that engines load with `serve: merged`."""
    input:
        environment="results/environments/finetune.txt",
        base=of_base("assets/model.json"),
        adapter=ADAPTER,
    output:
        directory(MERGED),
    log:
        "<logs>/{model}/merge_adapter.log",
    benchmark:
        "<benchmarks>/{model}/merge_adapter.tsv"
    resources:
        mem_mb=engine_job("train_adapter")["mem_mb"],
        runtime=120,
    script:
        "../scripts/finetuning/merge_adapter.py"


rule prepare_finetuned:
    """Write the manifest of a fine-tuned model and of its origin, with checksums."""
    input:
        base=of_base("assets/model.json"),
        config="<results>/{model}/finetuning/axolotl.yaml",
        dataset="<results>/{model}/finetuning/dataset.jsonl",
        masks="<results>/{model}/finetuning/masks.json",
        adapter=ADAPTER,
        merged=MERGED if CONFIG.finetune.serve == "merged" else [],
    output:
        "<results>/{model}/assets/model.json",
    log:
        "<logs>/{model}/prepare_finetuned.log",
    benchmark:
        "<benchmarks>/{model}/prepare_finetuned.tsv"
    resources:
        mem_mb=2000,
    wildcard_constraints:
        model=one_of(CONFIG.finetuned),
    script:
        "../scripts/finetuning/prepare_finetuned.py"
