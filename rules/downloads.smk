# What comes from public addresses, besides models and SAEs. Runs where Snakemake itself runs, which
# on a cluster is the node that has a network; the files serve all studies and are kept.


localrules:
    fetch_labels,
    fetch_prompts,
    prepare_model,
    prepare_sae,


rule fetch_labels:
    """Download the labels of an SAE from Neuronpedia's exports."""
    output:
        csv=protected("results/downloads/neuronpedia/{export}/{sae}.csv"),
        json=protected("results/downloads/neuronpedia/{export}/{sae}.json"),
    log:
        "logs/downloads/fetch_labels_{export}_{sae}.log",
    benchmark:
        "benchmarks/jobs/downloads/fetch_labels_{export}_{sae}.tsv"
    retries: 3
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
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
    retries: 3
    conda:
        "../envs/main.yaml"
    resources:
        mem_mb=1000,
    script:
        "../scripts/assets/fetch_prompts.py"
