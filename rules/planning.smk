# Checks and estimates before a run. They need the terminal, the hub and the judges, so they run
# where Snakemake runs.


localrules:
    boosts,
    cancel_batches,
    check,
    estimate,
    power,
    rejudge,
    verify,


rule check:
    """Validate configuration and assets without a GPU; runs every time."""
    log:
        "<logs>/check.log",
    script:
        "../scripts/planning/check.py"


rule verify:
    """Verify this machine in three minutes: engines, steering, SAE gate, judges, disk, environments."""
    params:
        # No outputs, which Snakemake would delete when a check fails.
        record=f"{RESULTS}/verify.json",
        block=f"{RESULTS}/verify.md",
        environments=ENVIRONMENTS,
    log:
        "<logs>/verify.log",
    script:
        "../scripts/planning/verify.py"


rule estimate:
    """Print GPU hours, disk, calls and dollars of every rule, and power; sends no call."""
    input:
        power=POWER,
    log:
        "<logs>/estimate.log",
    script:
        "../scripts/planning/estimate.py"


rule power:
    """Print the power of every claim at the study's size, and the latents for 80 %."""
    input:
        power=POWER,
    log:
        "<logs>/power.log",
    script:
        "../scripts/planning/power.py"


rule boosts:
    """Print the scale of every model's boosts and the prior of its thresholds, after measuring it."""
    input:
        fits=[f"<results>/{model}/sae_fit.parquet" for model in CONFIG.engine_models],
        probes=[
            f"<results>/{model}/boost_probes.parquet" for model in CONFIG.engine_models
        ],
    log:
        "<logs>/boosts.log",
    script:
        "../scripts/planning/boosts.py"


rule rejudge:
    """Request the missing replies of judges again, and no others."""
    params:
        cells=cells(),
    log:
        "<logs>/rejudge.log",
    script:
        "../scripts/judges/rejudge.py"


rule cancel_batches:
    """Cancel batches that a stopped run left open at an API; keep the replies that they have."""
    log:
        "<logs>/cancel_batches.log",
    script:
        "../scripts/judges/cancel_batches.py"
