# Environments of their own kind, for tools that cannot share the main one (docs/environments.md).
# Installed once, where Snakemake itself runs; jobs only use them.


localrules:
    sync_environment,


rule sync_environment:
    """Install an environment; what is in it now, package by package, is the output."""
    output:
        "results/environments/{environment}.txt",
    log:
        "logs/environments/sync_environment_{environment}.log",
    benchmark:
        "benchmarks/jobs/environments/sync_environment_{environment}.tsv"
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    # Nothing makes it run again, or every job that uses one would: an upgrade is no reason to
    # compute anything anew. `esr.assets.environments.check_environments` sees that jobs find what is pinned.
    shell:
        "(uv sync --project envs/{wildcards.environment} && "
        "uv pip freeze --python envs/{wildcards.environment}/.venv > {output}) 2> {log}"
