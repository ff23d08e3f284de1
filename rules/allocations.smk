# Jobs that share an allocation of a cluster, and an engine or a judge, as groups of Snakemake.
from collections import Counter
from functools import cache

from esr.planning.allocations import Job, group_names
from esr.planning.judged import rating_group
from esr.planning.waves import GROUP

TOGETHER = "allocations"
"""Name in `group-components` of the number of jobs of an allocation."""


@cache
def allocations():
    """Groups of jobs that share an allocation, by model and job, for this run.

    By `group-components: [arms=N]` of the profile, which is known only after the rules are read.
    """
    components = workflow.group_settings.group_components
    found = group_names(CONFIG, arms_together())
    if found:
        # Snakemake would submit jobs of a group that do not read each other's files apart.
        workflow.parent_groupids.update(dict.fromkeys(found.values(), TOGETHER))
        components[TOGETHER] = max(Counter(found.values()).values())
        workflow.register_resource("engine", 1)  # at a time in an allocation
    return found


def in_allocation():
    """Whether this Snakemake runs the jobs of a group in an allocation."""
    return workflow.group_settings.local_groupid != "local"


def group_of(rule, wildcards):
    """Name of the group of a rule's job with an engine; None if it shares no allocation."""
    job = Job(rule, wildcards.get("arm"))
    return allocations().get((wildcards.model, job))


def allocation_of(rule):
    """Group of a rule's jobs, which share an engine; rules that inherit from it have its name."""
    return allocation_by(lambda wildcards: group_of(rule, wildcards))


def beside_engine(rule):
    """Resources of jobs without an engine that run in the allocation of one, or on their own.

    Partition, account and the like are those of the engine there. Slurm makes no job step of them
    (`shared_by`).
    """

    def is_beside(wildcards):
        return group_of(rule, wildcards) is not None or in_allocation()

    def that_of_the_engine(name):
        there, elsewhere = (
            given_by_profile(one, name) for one in ("generate_responses", rule)
        )
        return lambda wildcards: there if is_beside(wildcards) else elsewhere

    given = [
        name
        for name in SLURM_TEXTS
        if given_by_profile("generate_responses", name) is not None
    ]
    mpi = {"mpi": lambda wildcards: "" if is_beside(wildcards) else None}
    return mpi | {name: that_of_the_engine(name) for name in given}


def shared_engine(rule):
    """Resources of a rule's jobs that share an engine, as in `shared_by`."""
    return shared_by(lambda wildcards: group_of(rule, wildcards))


def submitted_together(found):
    """A group by its name and number of jobs, or None; its jobs are one job of the cluster.

    Without that, Snakemake would submit jobs of a group that do not read each other's files apart.
    """
    if found is not None:
        workflow.group_settings.group_components[found[0]] = found[1]
        workflow.register_resource("engine", 1)  # at a time in an allocation
    return found


def arms_together():
    """Most arms of an allocation, by the profile; 1 = no job shares one."""
    return workflow.group_settings.group_components.get(GROUP, 1)


def allocation_by(find):
    """Group of a job; `find` returns its name, or that and its number of jobs, or None."""

    def group(wildcards):
        if in_allocation():
            workflow.execution_settings.keep_going = True  # others, when one has failed
        found = find(wildcards)
        return found[0] if isinstance(found, tuple) else found

    return group


def shared_by(find):
    """Resources of jobs that share an engine or a judge; `find` is that of `allocation_by`.

    One runs at a time, without a job step of its own. When a job step ends, Slurm ends all of its
    processes, an engine that should stay among them. Its executor starts no step for a job with the
    resource `mpi`. If `mpi` is empty, it requests nothing.
    """

    def in_group(value):
        def resource(wildcards):
            return None if find(wildcards) is None and not in_allocation() else value

        return resource

    return {"engine": in_group(1), "mpi": in_group("")}


@cache
def rated_in(rule):
    """Group of the jobs that rate labels and write examples, and its number of jobs, if any."""
    return submitted_together(rating_group(CONFIG, rule, arms_together()))


def shared_rater(rule, *names):
    """Resources of a rule that calls these judges: its time, and those of jobs that share a judge.

    Not in a profile, since jobs of an allocation divide the hours of one. Batches of an API take up
    to a day.
    """
    judges = [
        CONFIG.judging.llms[name] for name in names if name in CONFIG.judging.llms
    ]
    local = [judge for judge in judges if judge.kind == "vllm"]
    sizes = [CONFIG.size_for(judge.parameters) for judge in local]
    hours = max(
        1 if judges else 0,
        24 if len(local) < len(judges) else 0,
        *(size.judge for size in sizes if size is not None),
    )
    if not local:
        return {"runtime": 60 * hours} if judges else {}

    def runtime(wildcards):
        found = rated_in(rule)
        return round(60 * hours / (1 if found is None else found[1]))

    return shared_by(lambda wildcards: rated_in(rule)) | {"runtime": runtime}
