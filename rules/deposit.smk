# What leaves the project, if somebody uploads it: `snakemake deposit`, then `esr upload`.
from esr.deposit.inputs import study_inputs


rule write_deposit:
    """Write the deposit: RO-Crate, dataset folder, cards of adapters, a logbook page a claim."""
    input:
        bundle="<results>/bundle.tar.gz",
        scorecard="<results>/scorecard.csv",
        results=[
            *[path for name in DRAWN for path in figure(name)],
            *[f"<results>/tables/{name}.csv" for name in TABLES],
            "<results>/numbers.json",
        ],
        inputs=study_inputs(CONFIG),
        workflow=[
            "Snakefile",
            *expand("rules/{name}.smk", name=["common", *STAGES]),
            "pyproject.toml",
            "requirements.lock",
            "CITATION.cff",
            "LICENSE",
        ],
        citation="CITATION.cff",
        licences="resources/licences.csv",
    output:
        directory("<results>/deposit"),
    params:
        settings=settings("title", "finetune", "models"),
    log:
        "<logs>/write_deposit.log",
    benchmark:
        "<benchmarks>/write_deposit.tsv"
    resources:
        mem_mb=2000,
        runtime=240,
    script:
        "../scripts/deposit/write_deposit.py"
