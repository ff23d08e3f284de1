"""A failed group of jobs keeps the files of those that have finished, by Snakemake's own graph."""

import re
from pathlib import Path

import pytest

from helpers.checkout import run_snakemake

SNAKEFILE = """\
from pathlib import Path
from snakemake.jobs import GroupJob
from snakemake.persistence.file import FilePersistence
from esr.kept import keep_finished

rule all:
    input: "finished", "killed", "failed"

rule arm:
    output: "{arm,finished|killed|failed}"
    shell: "touch {output}"

onstart:
    keep = config["keep"]
    if keep:
        keep_finished()
    jobs = {job.output[0]: job for job in workflow.dag.jobs if job.rule.name == "arm"}
    group = GroupJob("arms", frozenset(jobs.values()), workflow.global_resources)
    group.finalize()
    group.register()  # as when it is submitted: its jobs have begun
    for job in jobs.values():
        workflow.async_run(workflow.persistence.incomplete(job))
    Path("finished").touch()
    Path("killed").touch()
    there = FilePersistence()  # of the Snakemake in the allocation
    there._unmark_incomplete(there._get_key(jobs["finished"].output[0]))
    workflow.async_run(group.postprocess(error=True))
    raise WorkflowError("the group has failed")
"""


@pytest.mark.parametrize(
    ("keep", "left", "again"),
    [(1, ["finished"], 2), (0, [], 3)],
    ids=["kept", "by Snakemake alone"],
)
def test_what_a_finished_job_of_a_failed_group_made_stays_and_is_not_made_again(
    tmp_path: Path, keep: int, left: list[str], again: int
) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    run = ["--config", f"keep={keep}", "--cores", "1"]
    failed = run_snakemake(tmp_path, *run)
    assert "the group has failed" in failed.stdout
    assert [name for name in ("finished", "killed", "failed") if (tmp_path / name).exists()] == left
    planned = run_snakemake(tmp_path, "--dry-run", "--quiet", "rules", *run)
    assert re.search(rf"^arm +{again}$", planned.stdout, re.MULTILINE), planned.stdout
