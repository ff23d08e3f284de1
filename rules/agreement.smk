# How far judges agree: a stratified sample of trials that all of them grade.

SAMPLED = cells(*CONFIG.agreement.arms, models=CONFIG.originals)
JUDGES = list(CONFIG.judging.judges)


rule sample_responses:
    """Draw the trials that all judges grade, by model and by what the primary judge found."""
    input:
        plans=[f"results/{{study}}/{m}/arms/{a}/plan.parquet" for m, a in SAMPLED],
        responses=[
            f"results/{{study}}/{m}/arms/{a}/responses.parquet" for m, a in SAMPLED
        ],
        scores=scores_of(SAMPLED),
    output:
        "results/{study}/agreement/sample.parquet",
    log:
        "logs/{study}/agreement/sample_responses.log",
    benchmark:
        "benchmarks/jobs/{study}/agreement/sample_responses.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=2000,
    params:
        cells=SAMPLED,
        settings=settings("agreement"),
    script:
        "../scripts/agreement/sample_responses.py"


rule judge_sample:
    """Let a judge grade the sample; one row a trial, like the scores of an arm."""
    input:
        sample="results/{study}/agreement/sample.parquet",
        judge=ancient(judge_files),
        phrases=ancient(PHRASES),
    output:
        judgments="results/{study}/agreement/judgments/{judge}.parquet",
        scores="results/{study}/agreement/scores/{judge}.parquet",
    log:
        "logs/{study}/agreement/judge_sample_{judge}.log",
    benchmark:
        "benchmarks/jobs/{study}/agreement/judge_sample_{judge}.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        replies="results/{study}/replies/judge_sample/{judge}.jsonl",
        others=[
            f"results/{{study}}/replies/judge_responses/{m}/{a}/{{judge}}.jsonl"
            for m, a in SAMPLED
        ],
        contents=contents(judge_files, PHRASES),
        settings=settings("judging.judges.{judge}"),
    script:
        "../scripts/agreement/judge_sample.py"


rule write_label_sheet:
    """Write responses down for people to judge: all that anyone flags, and as many others."""
    input:
        sample="results/{study}/agreement/sample.parquet",
        scores=expand(
            "results/{{study}}/agreement/scores/{judge}.parquet",
            judge=[
                name
                for name, judge in CONFIG.judging.judges.items()
                if judge.kind != "human"
            ],
        ),
    output:
        "results/{study}/agreement/label_sheet.csv",
    log:
        "logs/{study}/agreement/write_label_sheet.log",
    benchmark:
        "benchmarks/jobs/{study}/agreement/write_label_sheet.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("agreement.seed"),
    script:
        "../scripts/agreement/write_label_sheet.py"


rule measure_agreement:
    """Measure how far every pair of judges agrees, and the restart detector with them."""
    input:
        sample="results/{study}/agreement/sample.parquet",
        scores=expand(
            "results/{{study}}/agreement/scores/{judge}.parquet", judge=JUDGES
        ),
    output:
        "results/{study}/agreement/agreement.parquet",
    log:
        "logs/{study}/agreement/measure_agreement.log",
    benchmark:
        "benchmarks/jobs/{study}/agreement/measure_agreement.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=2000,
    params:
        settings=settings("statistics"),
    script:
        "../scripts/agreement/measure_agreement.py"


rule plot_figA2:
    """Plot on which trials judges find several attempts, and improvement (Figure A2)."""
    input:
        "results/{study}/agreement/agreement.parquet",
    output:
        pdf="results/{study}/figures/figA2.pdf",
        png=report(
            "results/{study}/figures/figA2.png",
            caption="../resources/captions/figA2.rst",
            category="Figures",
            labels={"figure": TITLES["figA2"]},
        ),
        csv="results/{study}/figures/figA2.csv",
    log:
        "logs/{study}/plot_figA2.log",
    benchmark:
        "benchmarks/jobs/{study}/plot_figA2.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("title", "statistics.level"),
    script:
        "../scripts/figures/plot_figA2.py"


rule plot_figA3:
    """Plot how each judge ranks the models (Figure A3)."""
    input:
        sample="results/{study}/agreement/sample.parquet",
        scores=expand(
            "results/{{study}}/agreement/scores/{judge}.parquet", judge=JUDGES
        ),
    output:
        pdf="results/{study}/figures/figA3.pdf",
        png=report(
            "results/{study}/figures/figA3.png",
            caption="../resources/captions/figA3.rst",
            category="Figures",
            labels={"figure": TITLES["figA3"]},
        ),
        csv="results/{study}/figures/figA3.csv",
    log:
        "logs/{study}/plot_figA3.log",
    benchmark:
        "benchmarks/jobs/{study}/plot_figA3.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("title", "statistics"),
        models=figure_models(),
    script:
        "../scripts/figures/plot_figA3.py"


rule plot_figA4:
    """Plot attempts and first scores of every pair of judges (Figure A4)."""
    input:
        agreement="results/{study}/agreement/agreement.parquet",
        scores=expand(
            "results/{{study}}/agreement/scores/{judge}.parquet", judge=JUDGES
        ),
    output:
        pdf="results/{study}/figures/figA4.pdf",
        png=report(
            "results/{study}/figures/figA4.png",
            caption="../resources/captions/figA4.rst",
            category="Figures",
            labels={"figure": TITLES["figA4"]},
        ),
        csv="results/{study}/figures/figA4.csv",
    log:
        "logs/{study}/plot_figA4.log",
    benchmark:
        "benchmarks/jobs/{study}/plot_figA4.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    params:
        settings=settings("title", "statistics.level"),
    script:
        "../scripts/figures/plot_figA4.py"
