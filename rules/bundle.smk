# What was paid for, in one file: `snakemake bundle`, and `python -m esr.bundle import FILE`.


rule write_bundle:
    """Pack every table that took a GPU, a judge or a download, with journals and checksums."""
    input:
        paid_files(),
    output:
        "results/{study}/bundle.tar.gz",
    log:
        "logs/{study}/write_bundle.log",
    benchmark:
        "benchmarks/jobs/{study}/write_bundle.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        journals=journals,
    script:
        "../scripts/bundle/write_bundle.py"
