# Engine jobs of a model that share an allocation of a cluster, as groups of Snakemake.
from collections import Counter
from functools import cache

from esr.planning.allocations import Job, group_names
from esr.planning.waves import GROUP

TOGETHER = "allocations"
"""Name in `group-components` of the number of jobs of an allocation."""


@cache
def allocations():
    """Groups of jobs that share an allocation, by model and job, for this run.

    By `group-components: [arms=N]` of the profile, which is known only after the rules are read.
    """
    components = workflow.group_settings.group_components
    found = group_names(CONFIG, components.get(GROUP, 1))
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

    def group(wildcards):
        if in_allocation():
            workflow.execution_settings.keep_going = True  # others, when one has failed
        return group_of(rule, wildcards)

    return group


def shared_engine(rule):
    """Resources of jobs that share an engine: one runs at a time, without a job step of its own.

    When a job step ends, Slurm ends all of its processes, an engine that should stay among them. Its
    executor starts no step for a job with the resource `mpi`. If `mpi` is empty, it requests nothing.
    """

    def in_group(value):
        def resource(wildcards):
            name = group_of(rule, wildcards)
            return None if name is None and not in_allocation() else value

        return resource

    return {"engine": in_group(1), "mpi": in_group("")}
