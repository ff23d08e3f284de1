# Judges: from responses to attempts with spans and scores.
from functools import cache

from esr.planning.judged import judging_group


def judged_together(wildcards):
    """The job that wrote the replies of a judge to all arms of a model, if there is one."""
    judge = CONFIG.judging.local.get(wildcards.judge)
    together = judge is not None and judge.together
    if not together:
        return []
    return f"<results>/{{model}}/judged/{{judge}}{round_name(wildcards.arm)}.json"


def round_name(arm):
    """Suffix of the job that judges an arm: arms whose plans read judgments have a later one."""
    number = CONFIG.judged_after(arm)
    return f"-{number}" if number else ""


def round_number(wildcards):
    """The round of a job that judges all arms of a model."""
    return int(wildcards.round.strip("-") or 0)


def round_arms(wildcards):
    """Arms of a model that one job judges together."""
    return CONFIG.judging_round(wildcards.model, round_number(wildcards))


def of_arms(pattern):
    """A file of every arm of a model in a round of judging."""
    return lambda wildcards: expand(
        pattern, model=wildcards.model, arm=round_arms(wildcards)
    )


def journals_of_arms(wildcards):
    """Journals of a judge's replies to the arms of a model, by arm."""
    folder = f"{RESULTS}/replies/judge_responses/{wildcards.model}"
    return {
        arm: f"{folder}/{arm}/{wildcards.judge}.jsonl" for arm in round_arms(wildcards)
    }


def judged_how(*keys, arms=lambda wildcards: [wildcards.arm]):
    """Settings of a judge, and which of the arms it judges without their prefixes, if any."""

    def how(wildcards):
        alone = [arm for arm in arms(wildcards) if arm in CONFIG.judged_alone]
        found = settings(*keys)(wildcards)
        return found | ({"judged_alone": alone} if alone else {})

    return how


@cache
def judged_in(judge, model, number):
    """Group of the job that judges a round of a model, and its number of jobs, if it is in one."""
    return submitted_together(
        judging_group(CONFIG, judge, model, number, arms_together())
    )


def judged_with(wildcards):
    """Group of a job that judges all arms of a model, and its number of jobs, if it is in one."""
    return judged_in(wildcards.judge, wildcards.model, round_number(wildcards))


def shared_judge():
    """Resources of jobs that share a judge: those of engines, and the hours of one job for all."""

    def runtime(wildcards, attempt):
        found = judged_with(wildcards)
        size = CONFIG.size_for(CONFIG.judging.local[wildcards.judge].parameters)
        hours = 1 if size is None else size.judge
        return round(60 * hours / (1 if found is None else found[1]))

    return shared_by(judged_with) | {"runtime": runtime}


localrules:
    prepare_judge,


rule prepare_judge:
    """Fetch or find the weights of a judge that the workflow runs; write their manifest."""
    output:
        "<results>/judges/{judge}/model.json",
    params:
        settings=settings(
            "judging.judges.{judge}.source", "judging.judges.{judge}.revision"
        ),
    log:
        "<logs>/prepare_judge_{judge}.log",
    benchmark:
        "<benchmarks>/prepare_judge_{judge}.tsv"
    resources:
        mem_mb=2000,
    wildcard_constraints:
        judge=one_of(CONFIG.judging.local),
    script:
        "../scripts/judges/prepare_judge.py"


rule judge_arms:
    """Write a judge's replies to all arms of a model in one job, so that the judge starts once."""
    input:
        plans=of_arms("<results>/{model}/arms/{arm}/plan.parquet"),
        responses=of_arms("<results>/{model}/arms/{arm}/responses.parquet"),
        local=run_here(),
        judge=ancient(judge_files),
        phrases=ancient(PHRASES),
    output:
        "<results>/{model}/judged/{judge}{round}.json",
    params:
        replies_of_arms=journals_of_arms,
        anchors=f"{RESULTS}/replies/judge_arms/{{model}}/{{judge}}{{round}}.jsonl",
        contents=contents(judge_files),
        settings=judged_how("judging.judges.{judge}", arms=round_arms),
    log:
        "<logs>/{model}/judge_arms_{judge}{round}.log",
    benchmark:
        "<benchmarks>/{model}/judge_arms_{judge}{round}.tsv"
    resources:
        **(judge_job() | shared_judge()),
    wildcard_constraints:
        judge=one_of(CONFIG.judging.local),
        round=r"|-\d+",
    group:
        allocation_by(judged_with)
    script:
        "../scripts/judges/judge_arms.py"


rule judge_responses:
    """Find and score the attempts in every response with a judge."""
    input:
        plan="<results>/{model}/arms/{arm}/plan.parquet",
        responses="<results>/{model}/arms/{arm}/responses.parquet",
        local=run_here(),
        replied=ancient(judged_together),
        judge=ancient(judge_files),
        phrases=ancient(PHRASES),
    output:
        "<results>/{model}/arms/{arm}/judgments/{judge}.parquet",
    params:
        replies=f"{RESULTS}/replies/judge_responses/{{model}}/{{arm}}/{{judge}}.jsonl",
        contents=contents(judge_files, PHRASES),
        settings=judged_how("judging.judges.{judge}"),
    log:
        "<logs>/{model}/{arm}/judge_responses_{judge}.log",
    benchmark:
        "<benchmarks>/{model}/{arm}/judge_responses_{judge}.tsv"
    resources:
        **judge_job(unless=lambda judge: judge.together),
    script:
        "../scripts/judges/judge_responses.py"
