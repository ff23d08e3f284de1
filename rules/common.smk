# What all rules share: the validated configuration and the names made from it.
import re
from pathlib import Path

from snakemake.exceptions import WorkflowError

from esr.assets.checkpoints import ADAPTER_FILES, checkpoint_files
from esr.planning.files import check_files
from esr.provenance import content_digest
from esr.config import Config, DOWNLOADS, ENGINE_HOURS, NAME, load, plain_settings
from esr.assets.downloads import ORIGINAL_PROMPTS
from esr.errors import EsrError

STUDY_PATTERN = NAME.strip("^$")
ORGANISMS = ["planted", "twin"]
ENVIRONMENTS = ["serve", "serve-cpu", "finetune"]
ADAPTER = [f"finetuning/adapter/{name}" for name in ADAPTER_FILES]
TITLES = {
    "fig2": "Figure 2: ESR across models",
    "fig3": "Figure 3: dependence on the boost",
    "fig4": "Figure 4: meta-prompts",
    "fig5": "Figure 5: off-topic detectors",
    "fig6": "Figure 6: fine-tuning",
    "fig7": "Figure 7: one self-correction",
    "figA2": "Figure A2: judges on attempts",
    "figA3": "Figure A3: judges' rankings",
    "figA4": "Figure A4: judge against judge",
    "figA5": "Figure A5: around the correction",
    "figA6": "Figure A6: by stretch",
    "figA7": "Figure A7: without steering",
    "figA8": "Figure A8: first attempts",
    "figA9": "Figure A9: random ablation",
    "training": "Figure 6, training: losses",
}
FIGURES = list(TITLES)
TABLES = [
    "summary",
    "comparisons",
    "models",
    "exclusions",
    "robustness",
    "tableA1",
    "activation_regions",
    "activation_contrasts",
    "activation_latents",
    "activation_lead",
]
TEMPLATES = [
    "base.html",
    "macros.html",
    "index.html",
    "figures.html",
    "tables.html",
    "transcripts.html",
    "graph.html",
    "provenance.html",
    "style.css",
    "tables.js",
    "transcripts.js",
]


def study_file(study):
    """The file of a study; an unknown study is an error that lists those there are."""
    path = Path("studies") / f"{study}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in Path("studies").glob("*.yaml")))
        raise WorkflowError(f"study: there is no {path}; choose one of: {known}")
    return path.as_posix()


def load_config(raw):
    """The validated configuration; every problem is named before any job runs."""
    try:
        loaded = load(raw)
        problems = check_files(loaded)
    except EsrError as error:
        raise WorkflowError(str(error)) from None
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise WorkflowError(
            f"Files of study {loaded.study!r} are missing or do not fit:\n{lines}"
        )
    return loaded


def one_of(names):
    """Pattern that matches these names alone."""
    return "|".join(re.escape(name) for name in names)


def settings(*keys):
    """Configuration keys that a rule depends on; a change to one of them reruns it.

    Keys are dotted and may contain wildcards: settings("generation", "models.{model}.dtype").
    """
    return lambda wildcards: plain_settings(
        CONFIG, [key.format(**dict(wildcards)) for key in keys]
    )


def contents(*files):
    """What files say, comments aside; a job that takes them as `ancient` reruns by that alone.

    Files are paths, lists of paths, or functions of the wildcards that return such a list.
    """

    def of(wildcards):
        paths = []
        for each in files:
            found = each(wildcards) if callable(each) else each
            paths += found if isinstance(found, list) else [found]
        return {
            Path(path).as_posix(): content_digest(Path(path))
            for path in paths
            if Path(path).is_file()
        }

    return of


def figure(name):
    """The three files of a figure."""
    return [
        f"results/{CONFIG.study}/figures/{name}.{kind}"
        for kind in ("pdf", "png", "csv")
    ]


def plan_inputs(wildcards):
    """An arm is drawn from latents at their thresholds, from prompts, or from another arm's plan."""
    arm = CONFIG.arms[wildcards.arm]
    here = "results/{study}/{model}"
    inputs = {"prompts": arm.prompts or CONFIG.prompts}
    if arm.replay is not None:
        inputs["replayed"] = f"{here}/arms/{arm.replay}/plan.parquet"
    elif arm.over == "latents":
        inputs["latents"] = of_base("latents/latents.parquet")(wildcards)
        other = "" if arm.target is None else f"-{arm.target}"
        inputs["thresholds"] = f"{here}/thresholds{other}.parquet"
    if arm.ablate == "detectors":
        inputs["detectors"] = f"{here}/detectors/detectors.parquet"
    elif isinstance(arm.ablate, str):
        inputs["controls"] = f"{here}/detectors/controls.parquet"
    return inputs


def of_base(name):
    """A file of the model, or of the model that it was fine-tuned from."""
    return (
        lambda wildcards: f"results/{CONFIG.study}/{CONFIG.base_of(wildcards.model)}/{name}"
    )


def shards(wildcards):
    """The parts that an arm's responses are generated in."""
    return expand(
        "results/{study}/{model}/arms/{arm}/shards/{shard}.parquet",
        shard=range(CONFIG.shards(wildcards.arm)),
        **wildcards,
    )


def detector_prompts():
    """Prompts of the arm in which detectors are looked for."""
    arm = CONFIG.arms.get(CONFIG.detectors.arm)
    return (arm and arm.prompts) or CONFIG.prompts


def cells(*arms, models=None):
    """Model and arm of every set of trials in the study: of these arms and models, or of all."""
    return [
        [model, arm]
        for model in (CONFIG.models if models is None else models)
        for arm in CONFIG.arms_of(model)
        if not arms or arm in arms
    ]


def scores_of(cells):
    """Scores by the primary judge, one file a cell."""
    judge = CONFIG.judging.primary
    return [
        f"results/{CONFIG.study}/{model}/arms/{arm}/scores/{judge}.parquet"
        for model, arm in cells
    ]


def table(name):
    """The two files of a table."""
    return [f"results/{CONFIG.study}/tables/{name}.{kind}" for kind in ("csv", "tex")]


def figure_models():
    """Label and size of every model that is not fine-tuned (plain data: a change is noticed)."""
    return {
        name: {"label": model.label, "parameters": model.parameters}
        for name, model in CONFIG.originals.items()
    }


def model_files(wildcards):
    """Files of a local checkpoint; a hub model is named by its revision instead."""
    model = CONFIG.models[wildcards.model]
    return checkpoint_files(model.folder) if model.is_local else []


def downloads():
    """Environments, assets of every model, and labels and prompts that are downloaded."""
    assets = [
        f"results/{CONFIG.study}/{model}/assets/{name}"
        for model in CONFIG.originals
        for name in ("model.json", "sae.safetensors")
    ]
    files = [model.labels_file for model in CONFIG.originals.values()]
    files += [CONFIG.prompts, *(arm.prompts for arm in CONFIG.arms.values())]
    files += [CONFIG.finetune.data.prompts] if CONFIG.finetuned else []
    fetched = [path for path in files if path and path.is_relative_to(DOWNLOADS)]
    used = {CONFIG.environment(model) for model in CONFIG.models} - {None}
    used |= {"finetune"} if CONFIG.finetuned else set()
    installed = [f"results/environments/{name}.txt" for name in sorted(used)]
    return [*installed, *assets, *map(str, dict.fromkeys(fetched))]


def engine_job(rule):
    """Resources of a rule's jobs for the model of the wildcards, from `jobs`.

    A retry gets half as much memory again and, where it begins anew, as much time again.
    """

    def of_size(value, otherwise):
        def resource(wildcards, attempt):
            size = CONFIG.job_size(wildcards.model)
            return otherwise if size is None else value(size, attempt)

        return resource

    def cores(wildcards, threads):
        size = CONFIG.job_size(wildcards.model)
        return threads if size is None else max(size.cpus, threads)

    return {
        "gpu": of_size(lambda size, attempt: size.gpus, 0),
        "mem_mb": of_size(
            lambda size, attempt: round(500 * size.memory * (attempt + 1)), 4000
        ),
        "runtime": of_size(
            lambda size, attempt: round(60 * size.hours(rule, attempt)), 60
        ),
        "cpus_per_task": cores,
    }


def engine_environment(wildcards):
    """The environment that the engine of a model runs in, if it is not the main one."""
    name = CONFIG.environment(wildcards.model)
    return [] if name is None else f"results/environments/{name}.txt"


def sae_files(wildcards):
    """Files of a local SAE in SAELens' format; a release is named by its id instead."""
    folder = CONFIG.models[wildcards.model].sae.path
    return [folder / "cfg.json", folder / "sae_weights.safetensors"] if folder else []


def judge_files(wildcards):
    """Files that a judge works with: the judge of the wildcard, or the primary one."""
    name = getattr(wildcards, "judge", CONFIG.judging.primary)
    return [path.as_posix() for path in CONFIG.judging.judges[name].files.values()]


def example_files():
    """Files that examples are written with: subjects and rubrics, or lexicon and phrases."""
    data = CONFIG.finetune.data
    if data.writer == "corpus":
        return [data.lexicon, data.phrases]
    return [data.subjects, data.rubric, data.answer_rubric]


def judges_asked(jobs):
    """Judges that jobs are sure to ask: those of which they have no replies yet.

    A job that has some may have them all, and need neither the key nor the model any more.
    """
    kept = [Path(job.params.replies) for job in jobs if job.params.get("replies")]
    return sorted({p.stem for p in kept if not (p.is_file() and p.stat().st_size)})


def models_loaded(jobs):
    """Models that jobs are going to load: those of the rules that run an engine."""
    engine = [job for job in jobs if job.rule.name in ENGINE_HOURS]
    return sorted({job.wildcards.model for job in engine})


def environments_used(jobs):
    """Environments that jobs are going to use, but for those that are installed in this run."""
    used = {Path(path) for job in jobs for path in job.input}
    made = {Path(path) for job in jobs for path in job.output}
    return [
        n for n in ENVIRONMENTS if Path(f"results/environments/{n}.txt") in used - made
    ]


def partitions_asked(jobs):
    """Partitions that jobs are going to, and the most hours that one asks for there."""
    asked = {}
    for job in jobs:
        partition = job.resources.get("slurm_partition")
        if partition and not job.is_local:
            hours = job.resources.get("runtime", 0) / 60
            asked[partition] = max(asked.get(partition, 0), hours)
    return asked


def random_arms():
    """Arms that ablate random sets on the trials of the steered arm."""
    return [
        name
        for name, arm in CONFIG.arms.items()
        if str(arm.ablate).startswith("random-") and arm.replay == "steered"
    ]


def detector_files(name):
    """A table of the detectors, one file a model."""
    return [
        f"results/{CONFIG.study}/{model}/detectors/{name}.parquet"
        for model in CONFIG.originals
    ]


def episode_tables(table):
    """A table of the episodes, one file a model."""
    return expand(
        "results/{study}/{model}/episodes/{table}.parquet",
        study=CONFIG.study,
        model=CONFIG.originals,
        table=table,
    )


def job_records():
    """Benchmark files of all jobs, by rule; what is not there is not counted."""
    values = {
        "study": CONFIG.study,
        "model": CONFIG.models,
        "arm": CONFIG.arms,
        "judge": CONFIG.judging.judges,
        "shard": range(max(CONFIG.shards(arm) for arm in CONFIG.arms)),
        "target": {arm.target for arm in CONFIG.arms.values() if arm.target},
    }
    # Snakemake writes the constraints of a wildcard into the pattern: {shard,\d+}.
    patterns = {
        each.name: re.sub(r"{(\w+),[^{}]*}", r"{\1}", each.benchmark or "")
        for each in workflow.rules
    }
    return {
        name: sorted(expand(pattern, **values))
        for name, pattern in patterns.items()
        if "{study}" in pattern
    }


def paid_files():
    """Every table that took a GPU, a judge or a download to make, and what leads up to them."""
    here = f"results/{CONFIG.study}"
    judge = CONFIG.judging.primary
    targets = {
        arm: CONFIG.arms[arm].target for arm in CONFIG.arms if CONFIG.arms[arm].target
    }
    of_all = ["assets/model.json", "thresholds.parquet", "threshold_trials.parquet"]
    tables = ["labels.parquet"]
    latents = ["candidates", "concreteness", "relevance", "latents"]
    tables += [f"latents/{name}.parquet" for name in latents]
    detectors = ["detectors", "detector_pairs", "controls"]
    tables += [f"detectors/{name}.parquet" for name in detectors]
    episodes = ["episodes", "episode_activations"]
    if CONFIG.episodes.boundaries != "detector":
        episodes.append("boundaries")
    tables += [f"episodes/{name}.parquet" for name in episodes]
    # Scores, which cost nothing, come along: episodes and the cross-judge sample are drawn from
    # them, and would be made anew with them.
    of_arms = ["plan.parquet", "responses.parquet"]
    of_arms += [f"{kind}/{judge}.parquet" for kind in ("judgments", "scores")]
    agreement = [
        f"{kind}/{name}.parquet"
        for kind in ("judgments", "scores")
        for name in CONFIG.judging.judges
    ]
    finetuning = ["finetuning/axolotl.yaml", "finetuning/masks.json"]
    finetuning += ["finetuning/training.csv", *ADAPTER]
    return [
        *(f"{here}/{model}/{name}" for model in CONFIG.models for name in of_all),
        *(f"{here}/{model}/{name}" for model in CONFIG.originals for name in tables),
        *(
            f"{here}/{model}/thresholds-{targets[arm]}.parquet"
            for model, arm in cells()
            if arm in targets
        ),
        *([f"{here}/finetuning/examples.parquet"] if CONFIG.finetuned else []),
        *(
            f"{here}/{model}/{name}"
            for model in CONFIG.finetuned
            for name in finetuning
        ),
        *(f"{here}/{m}/arms/{a}/{name}" for m, a in cells() for name in of_arms),
        *(f"{here}/agreement/{name}" for name in ["sample.parquet", *agreement]),
    ]


def journals(wildcards):
    """Journals of generations and of replies that jobs of this study may have written."""
    from esr.judges.replies import reply_journals  # not where every job would wait for it

    here = f"results/{CONFIG.study}"
    names = [
        (m, f"{a}-{shard}") for m, a in cells() for shard in range(CONFIG.shards(a))
    ]
    names += [(model, "thresholds") for model in CONFIG.models]
    replies = [path.as_posix() for _, _, path in reply_journals(CONFIG)]
    return [f"{here}/{model}/journals/{name}.jsonl" for model, name in names] + replies
