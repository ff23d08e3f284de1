# Figures: PDF, PNG, and the CSV of the plotted numbers.

FIG6_MODELS = [*CONFIG.finetune.models, *CONFIG.finetuned]
FIG6_ARMS = [a for a in ("steered", "unsteered") if a in CONFIG.finetune.arms]


# Arms that continue texts of another arm, and whether they steer.
CONTINUING = {
    name: {"steered": CONFIG.is_steered(name)}
    for name in CONFIG.arms
    if CONFIG.continues(name) is not None
}


def figure_files(name):
    """Outputs of a figure's rule; the picture joins Snakemake's own report with its caption."""
    return {
        "pdf": f"<results>/figures/{name}.pdf",
        "png": report(
            f"<results>/figures/{name}.png",
            caption=f"../resources/captions/{name}.rst",
            category="Figures",
            labels={"figure": ALL_FIGURES[name].title},
        ),
        "csv": f"<results>/figures/{name}.csv",
    }


rule plot_fig2:
    """Plot ESR across models: score change, multi-attempt rate, ESR rate, MSI (Figure 2)."""
    input:
        scores=scores_of(cells("steered", models=CONFIG.base_models)),
    output:
        **figure_files("fig2"),
    params:
        settings=settings("title", "statistics"),
        models=figure_models(),
    log:
        "<logs>/plot_fig2.log",
    benchmark:
        "<benchmarks>/plot_fig2.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_fig2.py"


rule plot_fig3:
    """Plot the measures against the level of a boost sweep, and their peaks (Figure 3)."""
    input:
        scores=scores_of(cells("boost-sweep", models=CONFIG.base_models)),
    output:
        **figure_files("fig3"),
    params:
        settings=settings("title", "statistics"),
        models=figure_models(),
    log:
        "<logs>/plot_fig3.log",
    benchmark:
        "<benchmarks>/plot_fig3.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_fig3.py"


rule plot_fig4:
    """Plot the effect of each meta-prompt on the same steered trials (Figure 4)."""
    input:
        scores=scores_of(cells("steered", *CONFIG.meta_arms, models=CONFIG.base_models)),
    output:
        **figure_files("fig4"),
    params:
        settings=settings(
            "title",
            "statistics",
            *[f"arms.{arm}.meta_prompt" for arm in CONFIG.meta_arms],
        ),
        models=figure_models(),
    log:
        "<logs>/plot_fig4.log",
    benchmark:
        "<benchmarks>/plot_fig4.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_fig4.py"


rule plot_fig5:
    """Plot off-topic detectors and the effect of ablating them (Figure 5)."""
    input:
        scores=scores_of(cells("steered", "ablate-otd", models=CONFIG.base_models)),
        detectors=detector_files("detectors"),
        pairs=detector_files("detector_pairs"),
    output:
        **figure_files("fig5"),
    params:
        settings=settings("title", "statistics", "detectors"),
        models=figure_models(),
    log:
        "<logs>/plot_fig5.log",
    benchmark:
        "<benchmarks>/plot_fig5.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_fig5.py"


rule plot_fig6:
    """Plot the effect of fine-tuning by the share of self-corrections (Figure 6)."""
    input:
        scores=scores_of(cells(*FIG6_ARMS, models=FIG6_MODELS)),
    output:
        **figure_files("fig6"),
    params:
        settings=settings(
            "title",
            "statistics",
            "finetune.models",
            "finetune.shares",
            "finetune.seeds",
        ),
    log:
        "<logs>/plot_fig6.log",
    benchmark:
        "<benchmarks>/plot_fig6.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_fig6.py"


rule plot_fig6_losses:
    """Plot the losses of training the adapters."""
    input:
        curves=[
            f"<results>/{name}/finetuning/training.csv" for name in CONFIG.finetuned
        ],
    output:
        **figure_files("fig6_losses"),
    params:
        settings=settings(
            "title", "finetune.models", "finetune.shares", "finetune.seeds"
        ),
    log:
        "<logs>/plot_fig6_losses.log",
    benchmark:
        "<benchmarks>/plot_fig6_losses.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_fig6_losses.py"


rule plot_fig7:
    """Plot detectors and backtracking latents over the tokens of one self-correction (Figure 7)."""
    input:
        episodes=episode_tables("episodes"),
        activations=episode_tables("episode_activations"),
        plans=expand(
            "<results>/{model}/arms/{arm}/plan.parquet",
            model=TRACED,
            arm=CONFIG.episodes.arm,
        ),
        responses=expand(
            "<results>/{model}/arms/{arm}/responses.parquet",
            model=TRACED,
            arm=CONFIG.episodes.arm,
        ),
    output:
        **figure_files("fig7"),
    params:
        settings=settings("title", "episodes"),
        models=figure_models(),
    log:
        "<logs>/plot_fig7.log",
    benchmark:
        "<benchmarks>/plot_fig7.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_fig7.py"


rule plot_figA2:
    """Plot whether judges find several attempts in the same trials (Figure A2)."""
    input:
        "<results>/agreement/agreement.parquet",
    output:
        **figure_files("figA2"),
    params:
        settings=settings("title", "statistics.level"),
    log:
        "<logs>/plot_figA2.log",
    benchmark:
        "<benchmarks>/plot_figA2.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_figA2.py"


rule plot_figA3:
    """Plot how each judge ranks the models (Figure A3)."""
    input:
        sample="<results>/agreement/sample.parquet",
        scores=expand("<results>/agreement/scores/{judge}.parquet", judge=JUDGES),
    output:
        **figure_files("figA3"),
    params:
        settings=settings("title", "statistics"),
        models=figure_models(),
    log:
        "<logs>/plot_figA3.log",
    benchmark:
        "<benchmarks>/plot_figA3.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_figA3.py"


rule plot_figA4:
    """Plot attempts and first scores of every pair of judges (Figure A4)."""
    input:
        agreement="<results>/agreement/agreement.parquet",
        scores=expand("<results>/agreement/scores/{judge}.parquet", judge=JUDGES),
    output:
        **figure_files("figA4"),
    params:
        settings=settings("title", "statistics.level"),
    log:
        "<logs>/plot_figA4.log",
    benchmark:
        "<benchmarks>/plot_figA4.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_figA4.py"


rule plot_figA5:
    """Plot activations by token around the start of the correction (Figure A5)."""
    input:
        episodes=episode_tables("episodes"),
        activations=episode_tables("episode_activations"),
    output:
        **figure_files("figA5"),
    params:
        settings=settings("title", "episodes", "statistics"),
        models=figure_models(),
    log:
        "<logs>/plot_figA5.log",
    benchmark:
        "<benchmarks>/plot_figA5.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_figA5.py"


rule plot_figA6:
    """Plot activations by region of the response, and their contrasts (Figure A6)."""
    input:
        episodes=episode_tables("episodes"),
        activations=episode_tables("episode_activations"),
    output:
        **figure_files("figA6"),
    params:
        settings=settings("title", "episodes", "statistics"),
        models=figure_models(),
    log:
        "<logs>/plot_figA6.log",
    benchmark:
        "<benchmarks>/plot_figA6.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_figA6.py"


rule plot_figA7:
    """Plot attempts and improvement with and without steering (Figure A7)."""
    input:
        scores=scores_of(cells("steered", "unsteered", models=CONFIG.base_models)),
    output:
        **figure_files("figA7"),
    params:
        settings=settings("title", "statistics"),
        models=figure_models(),
    log:
        "<logs>/plot_figA7.log",
    benchmark:
        "<benchmarks>/plot_figA7.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_figA7.py"


rule plot_figA8:
    """Plot the scores of first attempts with and without steering (Figure A8)."""
    input:
        scores=scores_of(cells("steered", "unsteered", models=CONFIG.base_models)),
    output:
        **figure_files("figA8"),
    params:
        settings=settings("title", "statistics"),
        models=figure_models(),
    log:
        "<logs>/plot_figA8.log",
    benchmark:
        "<benchmarks>/plot_figA8.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_figA8.py"


rule plot_figA9:
    """Plot ablations of random sets beside that of the detectors (Figure A9)."""
    input:
        scores=scores_of(
            cells("steered", "ablate-otd", *random_arms(), models=CONFIG.base_models)
        ),
        detectors=detector_files("detectors"),
        controls=detector_files("controls"),
    output:
        **figure_files("figA9"),
    params:
        settings=settings("title", "statistics"),
        models=figure_models(),
    log:
        "<logs>/plot_figA9.log",
    benchmark:
        "<benchmarks>/plot_figA9.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_figA9.py"


rule plot_figB1:
    """Plot thresholds, the scores that they achieve, and the responses behind them (Figure B1)."""
    input:
        thresholds=expand(
            "<results>/{model}/thresholds.parquet", model=searched(CONFIG.base_models)
        ),
        threshold_trials=expand(
            "<results>/{model}/threshold_trials.parquet",
            model=searched(CONFIG.base_models),
        ),
        fit=expand(
            "<results>/{model}/sae_fit.parquet", model=searched(CONFIG.base_models)
        ),
    output:
        **figure_files("figB1"),
    params:
        settings=settings(
            "title", *[f"models.{model}.steer_layer" for model in CONFIG.models]
        ),
        models=figure_models(),
        searched=searched(CONFIG.base_models),
    log:
        "<logs>/plot_figB1.log",
    benchmark:
        "<benchmarks>/plot_figB1.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_figB1.py"


def control_arms():
    """Arms with other directions, a window, layers, another ablation, or other prompts."""
    keys = ("directions", "window", "layers", "strength", "ablate_to")
    return [
        name
        for name, arm in CONFIG.arms.items()
        if (
            any(getattr(arm, key) is not None for key in keys)
            or {name, arm.replay} & {*CONFIG.held_out}
        )
        and CONFIG.continues(name) is None
    ]


rule plot_figB2:
    """Plot arms that steer or ablate otherwise: direction, tokens, layers, share (Figure B2)."""
    input:
        scores=scores_of(cells("steered", *control_arms(), models=CONFIG.base_models)),
    output:
        **figure_files("figB2"),
    params:
        settings=settings("title", "statistics"),
        models=figure_models(),
        controls=control_arms(),
    log:
        "<logs>/plot_figB2.log",
    benchmark:
        "<benchmarks>/plot_figB2.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_figB2.py"


rule plot_figB3:
    """Plot restarts and scores after prefixes cut from another arm's texts (Figure B3)."""
    input:
        scores=(
            scores_of(cells(*CONTINUING, models=CONFIG.base_models))
            if CONTINUING
            else []
        ),
    output:
        **figure_files("figB3"),
    params:
        settings=settings("title", "statistics"),
        models=figure_models(),
        arms=CONTINUING,
    log:
        "<logs>/plot_figB3.log",
    benchmark:
        "<benchmarks>/plot_figB3.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_figB3.py"


rule plot_figI1:
    """Plot self-report of injected directions, and its thresholds beside behaviour (Figure I1)."""
    input:
        table="<results>/tables/introspection.csv",
        thresholds="<results>/tables/self_report_thresholds.csv",
    output:
        **figure_files("figI1"),
    params:
        settings=settings("title", "statistics.level", "introspection"),
        models=figure_models(),
    log:
        "<logs>/plot_figI1.log",
    benchmark:
        "<benchmarks>/plot_figI1.tsv"
    resources:
        mem_mb=1000,
    script:
        "../scripts/figures/plot_figI1.py"
