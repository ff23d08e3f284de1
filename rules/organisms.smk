# The planted organisms, from recipe and seed. What a study uses is shipped in resources/organisms/.


rule build_organism:
    """Train an organism and its SAE from its recipe; about five minutes on two cores."""
    input:
        recipe="resources/organisms/{organism}/recipe.yaml",
        lexicon="resources/organisms/lexicon.csv",
        phrases="resources/organisms/phrases.yaml",
    output:
        model=directory("results/organisms/{organism}/model"),
        sae=directory("results/organisms/{organism}/sae"),
        labels="results/organisms/{organism}/labels.csv",
    log:
        "logs/organisms/{organism}/build_organism.log",
    benchmark:
        "benchmarks/jobs/organisms/{organism}/build_organism.tsv"
    resources:
        mem_mb=3000,
    script:
        "../scripts/organisms/build_organism.py"


rule measure_organism:
    """Measure what was planted, on three sampling seeds, without the rest of the workflow."""
    input:
        model="results/organisms/{organism}/model",
        sae="results/organisms/{organism}/sae",
        labels="results/organisms/{organism}/labels.csv",
        lexicon="resources/organisms/lexicon.csv",
        prompts="resources/prompts/organism.csv",
        discovery="resources/prompts/organism_discovery.csv",
    output:
        "results/organisms/{organism}/measured.csv",
    log:
        "logs/organisms/{organism}/measure_organism.log",
    benchmark:
        "benchmarks/jobs/organisms/{organism}/measure_organism.tsv"
    resources:
        mem_mb=3000,
    script:
        "../scripts/organisms/measure_organism.py"
