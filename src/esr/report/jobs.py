"""What a study cost in computing: Snakemake's benchmark files, summed by rule."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

COLUMNS = ["rule", "jobs", "hours", "cpu_hours", "longest", "memory"]


def compute_table(records: Mapping[str, Iterable[str | Path]]) -> pd.DataFrame:
    """Jobs by rule, most hours first.

    Columns: rule, jobs (with a record), hours (wall clock), cpu_hours, longest (seconds of the
    longest job), memory (peak resident set, MB). Only files that are there count: a job whose
    output was made elsewhere has none here.

    Args:
        records: Benchmark files that the jobs of each rule write.
    """
    rows = []
    for rule, paths in records.items():
        found = [
            Path(path).read_text(encoding="utf-8").splitlines()
            for path in paths
            if Path(path).is_file()
        ]
        if not found:
            continue
        table = pd.DataFrame(
            row for lines in found for row in csv.DictReader(lines, delimiter="\t")
        )
        numbers = table[["s", "cpu_time", "max_rss"]].apply(pd.to_numeric, errors="coerce")
        hours = numbers[["s", "cpu_time"]].sum() / 3600
        longest = numbers["s"].max()
        memory = numbers["max_rss"].max()
        rows.append([rule, len(found), hours["s"], hours["cpu_time"], longest, memory])
    return pd.DataFrame(rows, columns=COLUMNS).sort_values("hours", ascending=False)
