"""Jobs of a judge that one allocation of a cluster runs, one after the other, with one start.

Those are the jobs of the models that were fine-tuned from one base, which run few arms each, and
the jobs that rate labels and write examples. Their judge would take longer to start than to work.
"""

from esr.config import Config

GROUP = "judged"
"""Name of the groups that judge arms begins so."""
RATED = "rated"
"""Name of the group that rates labels and writes examples begins so."""


def sharing(config: Config, judge: str, model: str, number: int) -> list[str]:
    """Models whose job of a round shares the allocation, and the judge, of a model's job.

    Args:
        config: The study.
        judge: A judge that the workflow runs, and that judges all arms of a model in one job.
        model: The model.
        number: The round, as in `Config.judging_rounds`.

    Returns:
        The model alone if its job has an allocation of its own: models that are not fine-tuned are
        done at different times, and some judges end with their job.
    """
    on_cpu = not config.judge_gpus(config.judging.local[judge])
    if model not in config.finetuned or config.linger(on_cpu=on_cpu) <= 0:
        return [model]
    base = config.base_of(model)
    return [
        name
        for name, tuned in config.finetuned.items()
        if tuned.base == base and number in config.judging_rounds(name)
    ]


def judging_group(
    config: Config, judge: str, model: str, number: int, together: int
) -> tuple[str, int] | None:
    """Group of the job that judges a round of a model, and its number of jobs; None if alone.

    Args:
        config: The study.
        judge: As in `sharing`.
        model: The model.
        number: The round.
        together: Most arms that share an allocation by the profile; 1 = no job shares one.
    """
    models = sharing(config, judge, model, number)
    if together < 2 or len(models) < 2:
        return None
    return f"{GROUP}_{judge}_{config.base_of(model)}_{number}", len(models)


def judging_starts(config: Config, judge: str, together: int) -> int:
    """Allocations in which a judge starts to judge all arms of all models."""
    jobs = [(model, number) for model in config.models for number in config.judging_rounds(model)]
    groups = [judging_group(config, judge, *job, together) for job in jobs]
    return groups.count(None) + len(set(groups) - {None})


def rating_group(config: Config, rule: str, together: int) -> tuple[str, int] | None:
    """Group of a job that rates labels or writes examples, and its number of jobs; None if alone.

    Args:
        config: The study.
        rule: `rate_concreteness` or `write_examples`, which calls no other judge than the rater.
        together: As in `judging_group`.
    """
    rater = config.latents.concreteness.rater
    judge = config.judging.local.get(rater)
    if judge is None or together < 2:
        return None
    called = {config.finetune.data.writer, config.judging.primary} & set(config.judging.llms)
    writes = bool(config.finetuned) and called == {rater}
    jobs = len(config.base_models) + writes
    stays = config.linger(on_cpu=not config.judge_gpus(judge)) > 0
    if jobs < 2 or not stays or (rule == "write_examples" and not writes):
        return None
    return f"{RATED}_{rater}", jobs
