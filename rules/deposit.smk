# What leaves the project, if somebody uploads it: `snakemake deposit`, then `esr upload`.


def study_inputs():
    """Files that a person wrote and the study reads: configuration, prompts, claims."""
    files = ["config.yaml", f"studies/{CONFIG.study}.yaml", CONFIG.prompts.as_posix()]
    files += [
        arm.prompts.as_posix()
        for arm in CONFIG.arms.values()
        if arm.prompts and not arm.prompts.is_relative_to(DOWNLOADS)
    ]
    files += [path.as_posix() for path in CONFIG.claims]
    return sorted(set(files))


rule write_deposit:
    """Write the deposit: RO-Crate, dataset folder, cards of adapters, a logbook page a claim."""
    input:
        bundle="<results>/bundle.tar.gz",
        scorecard="<results>/scorecard.csv",
        results=[
            *[path for name in FIGURES for path in figure(name)],
            *[f"<results>/tables/{name}.csv" for name in TABLES],
            "<results>/numbers.json",
        ],
        inputs=study_inputs(),
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
