"""The workflow as a graph: every public target can be planned, and what is wrong is named first."""

import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from esr.config import ENGINE_HOURS, Config
from esr.figures.catalogue import ALL_FIGURES
from esr.planning.work import planned_work
from helpers.checkout import REPO, link_checkout, run_snakemake, snakemake_command
from helpers.studies import load_study
from helpers.workflow import TARGETS, ParsedRule, made_by, parsed_rules

TABLES = [
    "tableA1",
    "tables",
    "activation_tables",
    "numbers",
    "exclusions",
    "robustness",
    "corrected",
]
TABLES += ["ledger"]
TABLES += ["recovery"]
TABLES += ["controls"]
TABLES += ["introspection"]
REPORT = ["scorecard", "dag", "report"]
SLOTS = "input output params log benchmark threads resources shellcmd script".split()  # noqa: SIM905


ALWAYS = ["cancel_batches", "check", "estimate", "power", "rejudge", "verify"]
PAID = ["label_sheet"]


STUDY = ["all", "bundle", "deposit", "downloads", "rebuild_organisms", *REPORT, *PAID]


@pytest.mark.parametrize("targets", [[*STUDY, *ALL_FIGURES, *TABLES], ALWAYS])
def test_every_public_target_can_be_planned(checkout: Path, targets: list[str]) -> None:
    done = run_snakemake(checkout, "--dry-run", *targets)  # all in one run: most of it is start-up
    assert done.returncode == 0, done.stdout
    for target in targets:
        assert f"rule {target}:" in done.stdout, "a target that is not a rule of its own"


def test_a_figure_is_a_target_by_its_file(checkout: Path) -> None:
    done = run_snakemake(checkout, "--dry-run", "results/organism/figures/fig2.png")
    assert done.returncode == 0, done.stdout
    assert "plot_fig2" in done.stdout


def test_the_graph_is_known_before_the_first_job(checkout: Path) -> None:
    done = run_snakemake(checkout, "--rulegraph", "dot", "--", "all")
    assert done.returncode == 0, done.stdout
    for rule in ("prepare_model", "find_thresholds", "generate_responses", "score_trials"):
        assert rule in done.stdout


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("thresholds={targt: 30}", ["thresholds.targt", "unknown key"]),
        ("models={planted: {steer_layer: 7}}", ["models.planted.steer_layer", "layers 0 to 4"]),
        ("models={twin: {labels: missing.csv}}", ["models.twin.labels", "missing.csv"]),
        ("arms={steered: {ablate: [512]}}", ["arms.steered.ablate", "512", "0 to 511"]),
        ("arms={unsteered: {replay: steerd}}", ["arms.unsteered", "steerd"]),
        ("claims=[claims/mine.csv]", ["claims: claims/mine.csv does not exist"]),
        ("study=organsim", ["organsim", "choose one of", "organism"]),
    ],
)
def test_a_mistake_is_named_before_any_job(checkout: Path, setting: str, named: list[str]) -> None:
    done = run_snakemake(checkout, "--dry-run", "all", "--config", setting)
    assert done.returncode != 0
    for text in named:
        assert text in done.stdout, done.stdout
    assert "Traceback" not in done.stdout


def test_an_sae_that_does_not_fit_the_model_is_named_before_any_job(checkout: Path) -> None:
    shipped = REPO / "resources/organisms/planted/sae"
    wide = checkout / "wide"
    wide.mkdir()
    facts = json.loads((shipped / "cfg.json").read_text()) | {"d_in": 256}
    (wide / "cfg.json").write_text(json.dumps(facts))
    setting = "models={planted: {sae: {path: wide}}}"
    done = run_snakemake(checkout, "--dry-run", "all", "--config", setting)
    assert done.returncode != 0
    assert "models.planted.sae.path: the SAE has input width 256" in done.stdout


def test_configuration_on_the_command_line_wins_over_the_study(checkout: Path) -> None:
    setting = "models={twin: null}"
    done = run_snakemake(checkout, "--dry-run", "all", "--config", setting)
    assert done.returncode == 0, done.stdout
    assert "results/organism/planted/" in done.stdout
    assert "results/organism/twin/" not in done.stdout


def test_two_trainings_of_a_share_are_two_models_down_to_figure_6(checkout: Path) -> None:
    setting = "finetune={shares: [90], seeds: 2}"
    done = run_snakemake(checkout, "--dry-run", "fig6", "--config", setting)
    assert done.returncode == 0, done.stdout
    steps = ["finetuning/dataset.jsonl", "finetuning/axolotl.yaml", "finetuning/adapter/"]
    steps += ["thresholds.parquet", "arms/steered/plan.parquet", "arms/steered/scores/lexical"]
    for name in ("twin+sc90", "twin+sc90-2"):
        for step in steps:
            assert f"results/organism/{name}/{step}" in done.stdout, (name, step)
    assert "twin+sc90-3" not in done.stdout


EXCUSED = {
    # uv makes every environment (docs/environments.md), so rules name neither.
    "Specify a conda environment or container for each rule.",
    # What one stage alone uses lies in that stage's file; common.smk keeps what several share.
    "Mixed rules and functions in same snakefile.",
    # The folder of the library is no parameter: a checkout that moved would train models anew.
    "Shell command directly uses variable ESR_SOURCE from outside of the rule",
}


def test_snakemake_finds_nothing_to_lint_but_what_is_excused(checkout: Path) -> None:
    done = run_snakemake(checkout, "--lint")
    assert set(re.findall(r"^    \* (.*):$", done.stdout, re.MULTILINE)) == EXCUSED, done.stdout


OTHER = ["results/paper/figures/fig2.pdf", "./results/paper/scorecard.csv"]


@pytest.mark.parametrize("target", OTHER)
def test_a_file_of_another_study_is_refused_with_the_remedy(checkout: Path, target: str) -> None:
    done = run_snakemake(checkout, "--dry-run", target)
    assert done.returncode != 0
    assert "belongs to study 'paper'" in done.stdout
    assert "add --config study=paper" in done.stdout


def test_with_the_remedy_files_of_another_study_are_planned(checkout: Path) -> None:
    targets = [target.removeprefix("./") for target in OTHER]
    done = run_snakemake(checkout, "--dry-run", "--config", "study=paper", "--", *targets)
    assert done.returncode == 0, done.stdout


def total(output: str) -> int:
    """Number of jobs that a dry run would run."""
    return next(int(line.split()[1]) for line in output.splitlines() if line.startswith("total"))


COUNTING = """\
import atexit, collections, json, os

looks, stat = collections.Counter(), os.stat


def counted(path, *rest, **named):
    if isinstance(path, str | os.PathLike):
        looks[os.fspath(path)] += 1
    return stat(path, *rest, **named)


os.stat = counted
atexit.register(lambda: open("looks.json", "w").write(json.dumps(looks)))
"""
MOST = 10
"""Looks at one file of `resources/`; 5 when this was written, and 201 when each job had its own."""


class Planned(NamedTuple):
    """A dry run: what it writes, its CPU seconds, and how often it looks at every file."""

    output: str
    seconds: float
    looks: dict[str, int]


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    """The plan of the paper study on Slurm."""
    folder = tmp_path_factory.mktemp("paper")
    checkout = link_checkout(folder / "checkout")
    (folder / "sitecustomize.py").write_text(COUNTING)
    variables = os.environ | {"PYTHONPATH": str(folder)}
    # Of this process alone: other runs, which are beside the tests, may end at the same time.
    command = snakemake_command("--dry-run", "--quiet", "host", "--profile", "slurm", "all")
    with (folder / "output").open("w") as written:
        run = subprocess.Popen(command, cwd=checkout, env=variables, stdout=written, stderr=written)
        _, status, usage = os.wait4(run.pid, 0)
    output = (folder / "output").read_text()
    assert os.waitstatus_to_exitcode(status) == 0, output
    return Planned(output, usage.ru_utime, json.loads((checkout / "looks.json").read_text()))


def test_a_plan_does_not_look_at_a_file_once_a_job(paper: Planned) -> None:
    shared = {path: n for path, n in paper.looks.items() if path.startswith("resources/")}
    assert len(shared) > 10, "files that the study reads"
    assert {path: n for path, n in shared.items() if n > MOST} == {}


def test_the_paper_study_is_planned_without_gpu_or_hub(paper: Planned) -> None:
    output, seconds, _ = paper
    stated = re.search(r"about (\d+) jobs", (REPO / "docs/cluster.md").read_text())
    assert stated
    assert abs(total(output) - int(stated[1])) < 10
    groups = planned_groups(output)
    rules = {
        name: Counter(rule for rule, _ in jobs)
        for name, jobs in groups.items()
        if not name.startswith("arms_")
    }
    assert rules == {
        "judged_qwen3-32b_llama-3.1-8b_0": {"judge_arms": 9},
        "rated_qwen3-32b": {"rate_concreteness": 5, "write_examples": 1},
        **{f"searched_llama-3.1-8b_{n}": {"find_thresholds": 3} for n in range(3)},
    }
    assert len(re.findall("^rule judge_arms:", output, re.MULTILINE)) == 5
    check_groups(groups, hours=33)
    assert seconds < 30, "about 4 on an idle core (benchmarks/graph.csv)"
    assert planned_starts(output) == counted_starts(load_study(name="paper"))


INHERITED = {
    "generate_shard": "generate_responses",
    "measure_relevance_of_arm": "measure_relevance",
}


def planned_starts(output: str) -> dict[str, int]:
    """Jobs of Slurm that start an engine, by rule, in a dry run; for a group, that of its arms.

    Searches that share a judge start an engine each.
    """
    groups = planned_groups(output)
    alone = re.findall(r"^rule (\w+):", output, re.MULTILINE)
    alone += [
        rule for name, jobs in groups.items() if name.startswith("searched_") for rule, _ in jobs
    ]
    found = Counter(INHERITED.get(rule, rule) for rule in alone if rule in ENGINE_HOURS)
    arms = sum(name.startswith("arms_") for name in groups)
    return dict(found + Counter(generate_responses=arms))


def planned_groups(output: str) -> dict[str, list[tuple[str, str]]]:
    """Rule and resources of every job, by the group that Slurm runs as one job, in a dry run."""
    found = {}
    for text in re.split(r"^\[.*\] Group job ", output, flags=re.MULTILINE)[1:]:
        jobs = text[: end.start()] if (end := re.search(r"\n(?=\S)", text)) else text
        rules = re.findall(r"^ +rule (\w+):", jobs, re.MULTILINE)
        resources = re.findall(r"^ +resources: (.*)$", jobs, re.MULTILINE)
        found[text.split()[0]] = list(zip(rules, resources, strict=True))
    return found


def check_groups(groups: dict[str, list[tuple[str, str]]], hours: int) -> None:
    """Check that the jobs of a group go to one partition, run in turn, and request these hours.

    Plans run at the same time.
    """
    for name, jobs in groups.items():
        minutes, planning = 0, 0
        for rule, resources in jobs:
            assert "slurm_partition=gpu" in resources, (name, rule)
            assert re.search(r"\bmpi=(,|$)", resources), (name, rule)  # no job step of Slurm
            assert ("engine=1" in resources) == (rule != "plan_arm"), (name, rule)
            amount = re.search(r"\bruntime=(\d+)", resources)
            assert amount, (name, rule)
            if rule == "plan_arm":
                planning = max(planning, int(amount[1]))
            else:
                minutes += int(amount[1])
        assert minutes + planning <= hours * 60, name


def counted_starts(config: Config) -> dict[str, int]:
    """The same by the work that `estimate` counts."""
    found: Counter[str] = Counter()
    for work in planned_work(config):
        found[work.rule] += work.jobs if work.starts is None else work.starts
    return dict(+found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"), [("arxiv", []), ("organism", ["engine={linger: 300}"])]
)
def test_estimate_counts_the_engines_that_a_plan_starts(
    name: str, changes: list[str], checkout: Path
) -> None:
    slurm = ["--dry-run", "--quiet", "host", "--profile", "slurm", "--config", f"study={name}"]
    done = run_snakemake(checkout, *slurm, *changes, "--", "all")
    assert done.returncode == 0, done.stdout[-4000:]
    config = load_study({"engine": {"linger": 300}}, name=name)
    assert planned_starts(done.stdout) == counted_starts(config)
    if name == "arxiv":
        groups = planned_groups(done.stdout)
        check_groups(groups, hours=36)
        assert sum(name.startswith("searched_") for name in groups) == 3
        plans = {name for name, jobs in groups.items() if "plan_arm" in dict(jobs)}
        assert plans == {f"arms_{model}_1" for model in config.base_models} - {
            "arms_llama-3.3-70b_1"  # 19 arms
        }


def test_jobs_of_an_allocation_have_its_account_and_constraint(checkout: Path) -> None:
    """Snakemake refuses a group whose jobs differ in them; plans need no GPU of their own."""
    profile = checkout / "slurm/config.yaml"
    text = profile.read_text().replace("slurm-no-account: true\n", "")
    text = text.replace("  # - slurm_account=my-account", "  - slurm_account=of_cpus #")
    on_gpus = "    slurm_partition: gpu\n"
    profile.write_text(
        text.replace(on_gpus, f"{on_gpus}    slurm_account: of_gpus\n    constraint: h100\n")
    )
    slurm = ["--dry-run", "--quiet", "host", "--profile", "slurm", "--config", "study=paper"]
    done = run_snakemake(checkout, *slurm, "--", "all")
    assert done.returncode == 0, done.stdout[-4000:]
    groups = planned_groups(done.stdout)
    jobs = [job for name, group in groups.items() if name.startswith("arms_") for job in group]
    assert {rule for rule, _ in jobs} >= {"plan_arm", "match_controls", "generate_responses"}
    for rule, resources in jobs:
        assert "slurm_account=of_gpus" in resources, rule
        assert "constraint=h100" in resources, rule


def test_every_rule_that_calls_a_judge_is_documented_as_needing_a_network() -> None:
    guide = (REPO / "docs/cluster.md").read_text()
    table = guide.split("| needs a network |")[1].split("| everything else |")[0]
    asking = {rule.name for rule in parsed_rules() if "replies" in rule.keywords("params")}
    assert len(asking) == 7
    assert {rule for rule in asking if f"`{rule}`" not in table} == set()


@pytest.mark.slow
def test_jobs_grow_with_models_times_arms_alone(checkout: Path) -> None:
    models = ["llama-3.3-70b", "llama-3.1-8b", "gemma-2-27b", "gemma-2-9b", "gemma-2-2b"]
    labelled = [models[i] for i in (0, 1, 3)]
    totals = []
    for number in (1, 2, 3):
        off = ", ".join(f"{name}: null" for name in models if name not in labelled[:number])
        plain = "finetune={models: []}"  # the graph grows by what is fine-tuned as well
        options = ["--config", "study=paper", f"models={{{off}}}", plain, "--", "all"]
        done = run_snakemake(checkout, "--dry-run", "--quiet", "rules", *options)
        totals.append(total(done.stdout))
    assert totals[2] - totals[1] == totals[1] - totals[0] > 60


ASKED = {
    "llama-3.3-70b": {"gpu": 2, "cpus_per_task": 8, "mem_mb": 240000},
    "gemma-2-27b": {"gpu": 2, "cpus_per_task": 8, "mem_mb": 96000},
    "gemma-2-2b": {"gpu": 1, "cpus_per_task": 4, "mem_mb": 24000},
    "llama-3.1-8b+sc90": {"gpu": 1, "cpus_per_task": 4, "mem_mb": 48000},
}
"""Resources that engine jobs request from Slurm, by model."""
JUDGE = {"gpu": 2, "cpus_per_task": 8, "mem_mb": 240000}
"""Resources of the judge of the paper study, which the workflow runs."""
OF_A_MODEL = [
    "thresholds.parquet",
    "arms/answers/responses.parquet",
    "arms/steered/shards/0.parquet",
]
OF_AN_ORIGINAL = ["latents/relevance.parquet", "episodes/episode_activations.parquet"]
OF_AN_ORIGINAL += [f"detectors/{name}.parquet" for name in ("detectors", "controls", "means")]
OF_AN_ORIGINAL += ["directions/topics/directions.parquet", "boost_probes.parquet"]
OF_AN_ORIGINAL += ["arms/along/readouts.parquet", "introspection/readouts.parquet"]
OF_AN_ORIGINAL += ["arms/own/relevance.parquet"]
OWN = "prompts: resources/prompts/paper_finetune.csv"
CONTRASTS = [
    "engine={shards: 4}",
    "directions={topics: {kind: contrast, pairs: resources/directions/topics.csv}, "
    "random: {kind: random}}",
    "arms={along: {over: latents, trials: 1, directions: topics}, "
    f"own-answers: {{over: prompts, boost: none, trials: 1, {OWN}}}, "
    f"own: {{over: latents, trials: 1, {OWN}}}}}",
    "readouts={along: {tokens: {affirmed: [Yes]}}}",
    "introspection={directions: topics, controls: [random]}",
]


def requested(output: str, name: str) -> dict[tuple[str, str], int]:
    """A resource of every engine job of a dry run, by rule and model."""
    found = {}
    for job in re.split(r"\n *rule ", output):
        rule = job.split(":")[0]
        if rule in ENGINE_HOURS:
            model = re.search(r"\bmodel=([^,\s]+)", job)
            amount = re.search(rf"\b{name}=(\d+)", job)
            assert model, job
            assert amount, job
            assert "slurm_partition=gpu" in job
            found[rule, model[1]] = int(amount[1])
    return found


def test_what_jobs_ask_of_slurm_follows_the_size_of_the_model(checkout: Path) -> None:
    targets = [
        f"results/paper/{model}/{name}"
        for model in ASKED
        for name in (OF_A_MODEL if "+" in model else OF_A_MODEL + OF_AN_ORIGINAL)
    ]
    slurm = ["--dry-run", "--profile", "slurm", "--config", "study=paper", *CONTRASTS]
    first = run_snakemake(checkout, *slurm, "--", *targets)
    assert first.returncode == 0, first.stdout
    for name in ("gpu", "cpus_per_task", "mem_mb"):
        found = requested(first.stdout, name)
        assert {rule for rule, _ in found} == set(ENGINE_HOURS)
        of_these = {cell: amount for cell, amount in found.items() if cell[1] in ASKED}
        # A threshold search also runs the judge.
        expected = {
            (rule, model): ASKED[model][name] + (rule == "find_thresholds") * JUDGE[name]
            for rule, model in of_these
        }
        assert of_these == expected
    # A retry with a journal resumes; one without gets more time.
    again = run_snakemake(checkout, *slurm, "--attempt", "2", "--", *targets)
    before, after = requested(first.stdout, "runtime"), requested(again.stdout, "runtime")
    assert before["generate_responses", "llama-3.3-70b"] == 2 * 60
    assert before["read_episodes", "llama-3.3-70b"] == 4 * 60
    assert {rule for rule, model in before if after[rule, model] == before[rule, model]} == {
        "find_thresholds",
        "generate_responses",
        "generate_shard",
        "read_tokens",
        "read_self_reports",
    }
    assert after["train_adapter", "llama-3.1-8b+sc90"] == 2 * 4 * 60
    assert requested(again.stdout, "mem_mb")["train_adapter", "llama-3.1-8b+sc90"] == 72000


def test_a_job_without_a_gpu_requests_one_core_a_thread(checkout: Path) -> None:
    target = "results/organism/twin/arms/steered/responses.parquet"
    options = ["--dry-run", "--profile", "slurm", "--config", "study=organism"]
    done = run_snakemake(checkout, *options, "--", target)
    assert set(requested(done.stdout, "cpus_per_task").values()) == {1}
    done = run_snakemake(checkout, *options, "engine={threads: 2}", "--", target)
    assert requested(done.stdout, "cpus_per_task")["generate_responses", "twin"] == 2


def test_only_arms_of_several_shards_are_merged_by_a_job(checkout: Path) -> None:
    arms = [f"results/organism/planted/arms/{arm}/responses.parquet" for arm in ("answers", "bare")]
    sharded = "arms={answers: {shards: 3}, bare: {over: prompts, boost: none, trials: 2}}"
    done = run_snakemake(checkout, "--dry-run", "--config", sharded, "--", *arms)
    counts = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE))
    found = {name: int(n) for name, n in counts.items() if "gener" in name or "merge" in name}
    assert found == {"generate_responses": 1, "generate_shard": 3, "merge_responses": 1}


def test_an_environment_is_installed_once_for_those_that_want_it(checkout: Path) -> None:
    whole = run_snakemake(checkout, "--dry-run", "--config", "study=paper", "--", "downloads")
    named = re.findall(r"output: results/environments/([\w-]+)\.txt", whole.stdout)
    assert sorted(set(named)) == ["finetune", "serve"], whole.stdout
    options = ["--config", "engine={name: vllm}", "--", "fig2"]
    by_vllm = run_snakemake(checkout, "--dry-run", *options)
    assert set(re.findall(r"environments/([\w-]+)\.txt", by_vllm.stdout)) == {"serve-cpu"}
    plain = run_snakemake(checkout, "--dry-run", "--", "fig2")
    assert "environments/" not in plain.stdout
    # Installed, then reinstalled with other versions: jobs that use it run all the same.
    installed = checkout / "results/environments/serve-cpu.txt"
    installed.parent.mkdir(parents=True)
    installed.touch()
    lock = checkout / "envs/serve-cpu/requirements.lock"
    lock.write_text(lock.read_text() + "\n")
    again = run_snakemake(checkout, "--dry-run", "--quiet", "rules", *options)
    assert total(again.stdout) >= total(by_vllm.stdout) - 1


def test_the_original_prompts_are_downloaded_on_request_alone(checkout: Path) -> None:
    plain = run_snakemake(checkout, "--dry-run", "--config", "study=laptop", "--", "downloads")
    assert plain.returncode == 0, plain.stdout
    assert "fetch_labels" in plain.stdout
    assert "fetch_prompts" not in plain.stdout
    theirs = "prompts=results/downloads/prompts/original.csv"
    done = run_snakemake(
        checkout, "--dry-run", "--config", "study=laptop", theirs, "--", "downloads"
    )
    assert "fetch_prompts" in done.stdout, done.stdout


STAGE_RULES = [rule for rule in parsed_rules() if rule.stage not in TARGETS]


@pytest.mark.parametrize("rule", STAGE_RULES, ids=lambda rule: rule.name)
def test_rule_script_log_and_benchmark_share_a_stem(rule: ParsedRule) -> None:
    assert rule.docstring, "a rule begins with its docstring"
    slots = [slot.name for slot in rule.slots if slot.name in SLOTS]
    assert slots == sorted(slots, key=SLOTS.index)
    assert {"output", "log", "benchmark", "resources"} <= set(slots)
    stem = rf"(logs|benchmarks/jobs|<logs>|<benchmarks>)/(.*[/}}])?{rule.name}(_[^/]*)?\.(log|tsv)"
    for slot in ("log", "benchmark"):
        assert all(re.fullmatch(stem, path) for path in rule.strings(slot)), rule.strings(slot)
    script = f"{rule.stage}/{rule.name}.py"
    assert rule.strings("script") == (f"../scripts/{script}",) or (
        slots[-1] == "shellcmd"
        and (
            not (REPO / "scripts" / script).exists() or f"scripts/{script}" in rule.strings("input")
        )
    )


def test_every_script_belongs_to_a_rule_of_its_stage() -> None:
    scripts = {f"{path.parent.name}/{path.stem}" for path in (REPO / "scripts").glob("*/*.py")}
    made = {f"{rule.stage}/{rule.name}" for rule in parsed_rules()}
    # Replies and batches are those of judges, so these two lie with them.
    assert scripts - made == {"judges/cancel_batches", "judges/rejudge"}


def test_a_stage_has_the_same_name_everywhere() -> None:
    """Listing rules/, scripts/, src/esr/ and tests/ reads as the pipeline, each in its words."""
    shared = {"common", "allocations"}  # functions alone
    rules = {rule.stage for rule in parsed_rules()} | shared
    assert {path.stem for path in (REPO / "rules").glob("*.smk")} == rules
    stages = rules - {*shared, "targets"}
    for folder in ("scripts", "src/esr", "tests"):
        there = {path.name for path in (REPO / folder).iterdir() if path.is_dir()}
        assert stages <= there, f"{folder}/ lacks {sorted(stages - there)}"


@pytest.mark.parametrize("name", ALL_FIGURES)
def test_every_figure_of_the_catalogue_has_its_rule_and_caption(name: str) -> None:
    rule = made_by(f"plot_{name}")
    assert rule.stage == "figures"
    assert rule.strings("output") == (name,), "`**figure_files(name)` and nothing else"
    assert (REPO / f"resources/captions/{name}.rst").read_text().startswith("**Figure ")


def test_every_rule_of_a_figure_is_in_the_catalogue() -> None:
    plotted = {
        rule.name.removeprefix("plot_") for rule in parsed_rules() if rule.stage == "figures"
    }
    assert plotted == set(ALL_FIGURES)
