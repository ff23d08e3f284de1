# Tables, numbers and verdicts from the scores of all arms.

TABLES = """
    summary comparisons models contrasts exclusions thresholds robustness variance_components
    recovery corrected agreement tableA1 controls
    activation_regions activation_contrasts activation_latents activation_lead
    activation_hazards
""".split() + (
    [] if CONFIG.introspection is None else ["introspection", "self_report_thresholds"]
)
POWER = "<results>/tables/power.csv"
STEERED = cells("steered", *CONFIG.other_targets)


def second_phase():
    """The second-phase sample and its scores by the second judge; nothing without one."""
    judge = CONFIG.judging.second
    if judge is None:
        return []
    return [
        "<results>/agreement/sample.parquet",
        f"<results>/agreement/scores/{judge}.parquet",
    ]


def random_arms():
    """Arms that ablate random sets on the trials of the steered arm."""
    return [
        name
        for name, arm in CONFIG.arms.items()
        if str(arm.ablate).startswith("random-") and arm.replay == "steered"
    ]


def compared_apart():
    """Arms that ablate random sets, what they are compared with, and arms matched by impact."""
    found = random_sets(CONFIG.arms).values()
    of_sets = [name for sets in found for name in (*sets.arms, *sets.against)]
    return of_sets + matched_arms(CONFIG.arms)


def replayed_again():
    """Arms that differ from another one in seeds, or in the prompt's steering, alone; and those."""
    again = [name for name, arm in CONFIG.arms.items() if arm.seeds == "other"]
    again += CONFIG.response_arms
    arms = {*again, *(CONFIG.arms[name].replay for name in again)}
    return cells(*arms) if again else []


def scorer_files():
    """Files of the primary judge, which scores windows of text if it needs no language model."""
    return list(CONFIG.judging.judges[CONFIG.judging.primary].files.values())


rule tabulate_summary:
    """Tabulate every measure of every model and arm."""
    input:
        scores=scores_of(cells()),
        second=second_phase(),
        recovery="<results>/tables/recovery.csv",
    output:
        csv="<results>/tables/summary.csv",
        tex="<results>/tables/summary.tex",
    params:
        settings=settings("statistics"),
    log:
        "<logs>/tabulate_summary.log",
    benchmark:
        "<benchmarks>/tabulate_summary.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/analysis/tabulate_summary.py"


rule tabulate_comparisons:
    """Compare every replaying arm with the arm that it replays, trial by trial."""
    input:
        scores=scores_of(cells()),
        second=second_phase(),
        claims=[path.as_posix() for path in CONFIG.claims],
        models="<results>/tables/models.csv",
        contrasts="<results>/tables/contrasts.csv",
    output:
        csv="<results>/tables/comparisons.csv",
        tex="<results>/tables/comparisons.tex",
    params:
        settings=settings("statistics"),
    log:
        "<logs>/tabulate_comparisons.log",
    benchmark:
        "<benchmarks>/tabulate_comparisons.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/analysis/tabulate_comparisons.py"


rule tabulate_models:
    """Compare models with each other, and tabulate slopes over size and over boost."""
    input:
        scores=scores_of(
            cells(
                "steered", "boost-sweep", *CONFIG.meta_arms, models=CONFIG.base_models
            )
        ),
        second=second_phase(),
    output:
        csv="<results>/tables/models.csv",
        tex="<results>/tables/models.tex",
    params:
        settings=settings("statistics"),
        models=figure_models(),
    log:
        "<logs>/tabulate_models.log",
    benchmark:
        "<benchmarks>/tabulate_models.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/analysis/tabulate_models.py"


rule tabulate_contrasts:
    """Tabulate sweeps, random sets, matched arms, shares, unsteered arms, as claims read them."""
    input:
        scores=scores_of(
            cells(
                "steered", "unsteered", "boost-sweep", "ablate-otd", *compared_apart()
            )
        ),
        second=second_phase(),
        detectors=detector_files("detectors"),
    output:
        csv="<results>/tables/contrasts.csv",
        tex="<results>/tables/contrasts.tex",
    params:
        settings=settings(
            "statistics", "finetune.shares", "finetune.seeds", "finetune.models"
        ),
        models=figure_models(),
    log:
        "<logs>/tabulate_contrasts.log",
    benchmark:
        "<benchmarks>/tabulate_contrasts.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/analysis/tabulate_contrasts.py"


rule tabulate_exclusions:
    """Count trials by status, so that no exclusion is hidden."""
    input:
        scores=scores_of(cells()),
    output:
        csv="<results>/tables/exclusions.csv",
        tex="<results>/tables/exclusions.tex",
    params:
        settings=settings("statistics"),
    log:
        "<logs>/tabulate_exclusions.log",
    benchmark:
        "<benchmarks>/tabulate_exclusions.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/analysis/tabulate_exclusions.py"


rule tabulate_ledger:
    """Tabulate the costs of judges and raters, from their replies."""
    input:
        scores=scores_of(cells()),
        agreement="<results>/agreement/agreement.parquet",
        prices=CONFIG.judging.prices,
    output:
        csv=report(
            "<results>/tables/ledger.csv",
            caption="../resources/captions/ledger.rst",
            category="Tables",
        ),
        tex="<results>/tables/ledger.tex",
    params:
        settings=settings("judging"),
    log:
        "<logs>/tabulate_ledger.log",
    benchmark:
        "<benchmarks>/tabulate_ledger.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/analysis/tabulate_ledger.py"


rule tabulate_recovery:
    """Compare recovery with its redraw null, so that it is distinguished from regression to the mean."""
    input:
        scores=scores_of(STEERED),
        second=second_phase(),
    output:
        csv="<results>/tables/recovery.csv",
        tex="<results>/tables/recovery.tex",
    params:
        settings=settings("statistics"),
    log:
        "<logs>/tabulate_recovery.log",
    benchmark:
        "<benchmarks>/tabulate_recovery.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/analysis/tabulate_recovery.py"


rule tabulate_robustness:
    """Repeat the main result under other choices, and without attempts."""
    input:
        scores=scores_of(STEERED),
        again=scores_of(replayed_again()),
        plans=[f"<results>/{m}/arms/{a}/plan.parquet" for m, a in cells("steered")],
        responses=[
            f"<results>/{m}/arms/{a}/responses.parquet" for m, a in cells("steered")
        ],
        judge=ancient(scorer_files()),
    output:
        csv="<results>/tables/robustness.csv",
        tex="<results>/tables/robustness.tex",
    params:
        contents=contents(scorer_files()),
        settings=settings("statistics", "thresholds.target", "judging.primary", "arms"),
    log:
        "<logs>/tabulate_robustness.log",
    benchmark:
        "<benchmarks>/tabulate_robustness.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/analysis/tabulate_robustness.py"


rule tabulate_components:
    """Split the variance of restarts into latents and prompts, and count who carries the events."""
    input:
        scores=scores_of(STEERED),
    output:
        csv="<results>/tables/variance_components.csv",
        tex="<results>/tables/variance_components.tex",
    params:
        settings=settings("statistics"),
    log:
        "<logs>/tabulate_components.log",
    benchmark:
        "<benchmarks>/tabulate_components.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/analysis/tabulate_components.py"


rule tabulate_agreement:
    """Tabulate how far judges agree, on all arms together and arm by arm."""
    input:
        "<results>/agreement/agreement.parquet",
    output:
        csv="<results>/tables/agreement.csv",
        tex="<results>/tables/agreement.tex",
    log:
        "<logs>/tabulate_agreement.log",
    benchmark:
        "<benchmarks>/tabulate_agreement.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/analysis/tabulate_agreement.py"


rule tabulate_corrected:
    """Correct the rates of every sampled arm for the primary judge's errors."""
    input:
        scores=scores_of(SAMPLED),
        sample="<results>/agreement/sample.parquet",
        judged=expand("<results>/agreement/scores/{judge}.parquet", judge=JUDGES),
    output:
        csv="<results>/tables/corrected.csv",
        tex="<results>/tables/corrected.tex",
    params:
        settings=settings("statistics.level"),
    log:
        "<logs>/tabulate_corrected.log",
    benchmark:
        "<benchmarks>/tabulate_corrected.tsv"
    resources:
        mem_mb=2000,
    script:
        "../scripts/analysis/tabulate_corrected.py"


rule collect_numbers:
    """Name every number that a text can cite, as JSON and as LaTeX macros."""
    input:
        summary="<results>/tables/summary.csv",
        comparisons="<results>/tables/comparisons.csv",
        recovery="<results>/tables/recovery.csv",
        fig3="<results>/figures/fig3.csv",
        fig5="<results>/figures/fig5.csv",
        fig6="<results>/figures/fig6.csv",
        contrasts="<results>/tables/activation_contrasts.csv",
        lead="<results>/tables/activation_lead.csv",
        hazards="<results>/tables/activation_hazards.csv",
        components="<results>/tables/variance_components.csv",
        robustness="<results>/tables/robustness.csv",
        agreement="<results>/agreement/agreement.parquet",
    output:
        json="<results>/numbers.json",
        tex="<results>/numbers.tex",
    log:
        "<logs>/collect_numbers.log",
    benchmark:
        "<benchmarks>/collect_numbers.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/analysis/collect_numbers.py"


localrules:
    tabulate_power,


rule tabulate_power:
    """Simulate what the study can decide at its size; needs its claims only, and no GPU."""
    input:
        claims=[path.as_posix() for path in CONFIG.claims],
        prompts=CONFIG.prompts.as_posix(),
    output:
        POWER,
    params:
        settings=settings(
            "latents.count",
            "arms",
            "directions",
            "agreement",
            "claims",
            "judging.judges",
            "finetune.seeds",
        ),
    log:
        "<logs>/tabulate_power.log",
    benchmark:
        "<benchmarks>/tabulate_power.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/analysis/tabulate_power.py"


rule score_claims:
    """Judge every claim by the measurements: confirmed, refuted, undecided, or not run."""
    input:
        claims=[path.as_posix() for path in CONFIG.claims],
        tables=[f"<results>/tables/{name}.csv" for name in TABLES],
        figures=[f"<results>/figures/{name}.csv" for name in DRAWN],
        power=POWER,
    output:
        report(
            "<results>/scorecard.csv",
            caption="../resources/captions/scorecard.rst",
            category="Scorecard",
            labels={"table": "Scorecard"},
        ),
    params:
        settings=settings("statistics.level"),
    log:
        "<logs>/score_claims.log",
    benchmark:
        "<benchmarks>/score_claims.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/analysis/score_claims.py"


rule tabulate_activation:
    """Tabulate activations in episodes: regions, contrasts, single latents, lead time."""
    input:
        episodes=episode_tables("episodes"),
        activations=episode_tables("episode_activations"),
        labels=expand("<results>/{model}/labels.parquet", model=TRACED),
    output:
        regions_csv="<results>/tables/activation_regions.csv",
        regions_tex="<results>/tables/activation_regions.tex",
        contrasts_csv="<results>/tables/activation_contrasts.csv",
        contrasts_tex="<results>/tables/activation_contrasts.tex",
        latents_csv="<results>/tables/activation_latents.csv",
        latents_tex="<results>/tables/activation_latents.tex",
        lead_csv="<results>/tables/activation_lead.csv",
        lead_tex="<results>/tables/activation_lead.tex",
    params:
        settings=settings("episodes", "statistics"),
        models=figure_models(),
    log:
        "<logs>/tabulate_activation.log",
    benchmark:
        "<benchmarks>/tabulate_activation.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/analysis/tabulate_activation.py"


rule tabulate_hazards:
    """Tabulate the hazard of a restart given the detectors so far, at equal off-topicness."""
    input:
        episodes=episode_tables("episodes"),
        activations=episode_tables("episode_activations"),
    output:
        csv="<results>/tables/activation_hazards.csv",
        tex="<results>/tables/activation_hazards.tex",
    params:
        settings=settings("episodes.off_topic_score", "statistics.level"),
        models=figure_models(),
    log:
        "<logs>/tabulate_hazards.log",
    benchmark:
        "<benchmarks>/tabulate_hazards.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/analysis/tabulate_hazards.py"


rule tabulate_tableA1:
    """Tabulate the statistics of every off-topic detector (Table A1)."""
    input:
        detectors=detector_files("detectors"),
        pairs=detector_files("detector_pairs"),
    output:
        csv="<results>/tables/tableA1.csv",
        tex="<results>/tables/tableA1.tex",
    params:
        settings=settings("statistics"),
        models=figure_models(),
    log:
        "<logs>/tabulate_tableA1.log",
    benchmark:
        "<benchmarks>/tabulate_tableA1.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/analysis/tabulate_tableA1.py"


rule tabulate_controls:
    """Tabulate how far the random sets are as active as the detectors."""
    input:
        controls=detector_files("controls"),
    output:
        csv="<results>/tables/controls.csv",
        tex="<results>/tables/controls.tex",
    params:
        settings=settings("detectors.matching"),
        models=figure_models(),
    log:
        "<logs>/tabulate_controls.log",
    benchmark:
        "<benchmarks>/tabulate_controls.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/analysis/tabulate_controls.py"
