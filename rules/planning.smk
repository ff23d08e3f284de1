# Checks and estimates before a run. They talk to the terminal, the hub and the judges, so they run
# where Snakemake itself runs.


localrules:
    check,
    estimate,
    power,
    rejudge,


rule check:
    """Validate configuration and assets as far as that goes without a GPU; runs every time."""
    log:
        "<logs>/check.log",
    script:
        "../scripts/planning/check.py"


rule estimate:
    """Print GPU hours, disk, and calls and dollars of every rule; starts and sends nothing."""
    log:
        "<logs>/estimate.log",
    script:
        "../scripts/planning/estimate.py"


rule power:
    """Print the power of every claim at the study's size, and the latents for 80 %; runs nothing."""
    log:
        "<logs>/power.log",
    script:
        "../scripts/planning/power.py"


rule rejudge:
    """Call judges again for the replies that are missing, and for no other."""
    params:
        cells=cells(),
    log:
        "<logs>/rejudge.log",
    script:
        "../scripts/judges/rejudge.py"
