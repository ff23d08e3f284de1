# Retraining the planted organisms. The organism study uses the weights in resources/organisms/; the
# study `rebuilt` uses those that are trained here.


rule build_organism:
    """Train an organism and its SAE from its recipe: about five minutes on two cores."""
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
