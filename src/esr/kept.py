"""A failed group of jobs keeps the files of those of its jobs that have finished.

Snakemake treats a group as one job. If one of its jobs fails, all count as failed, and the files of
all are removed. So the next run would repeat the others, and lose them again with the failed one.
`keep_finished` replaces the one method of Snakemake that removes the files, in the version that the
project pins.
"""

from typing import Any


def keep_finished() -> None:
    """Have failed groups keep what their finished jobs have made."""
    from snakemake.jobs import GroupJob

    together = GroupJob.postprocess

    async def postprocess(self: Any, error: bool = False, **kwargs: Any) -> None:
        if not error:
            await together(self, error=error, **kwargs)
            return
        for job in self.jobs:
            if await _has_finished(job):
                await job.postprocess(check_output_mtime=False, **kwargs)
            else:
                await job.postprocess(error=True, **kwargs)

    GroupJob.postprocess = postprocess


async def _has_finished(job: Any) -> bool:
    """Whether a job has made its files: each is there, without the mark of a job that has begun.

    The Snakemake in the allocation, another process, removes the mark of a job that succeeds.
    """
    marks = job.dag.workflow.persistence
    marks._clear_cache()
    exist = [await file.exists() for file in job.output]
    return all(exist) and not await marks.incomplete(job)
