"""CPU seconds of the organism study by rule, before and after: benchmarks/study.csv.

    uv run snakemake                          # in a fresh checkout, on an otherwise idle machine
    uv run python benchmarks/study.py         # or: benchmarks/study.py FOLDER, of another checkout

Reads the benchmark files that Snakemake wrote for each job, and the logs with the durations of its
runs. Replaces the rows `after` of the table, keeps the rows `before`, and fills in the tables of
docs/performance.md. Columns: run (`before`, `after`), part (of the study), rule, jobs, cpu_seconds
(of all its jobs), longest (seconds of its longest job), memory (peak resident set of a job, MB).
The part `all` is the whole study; its `longest` is the time of its runs. Rows `before` have no
rule.
"""

import logging
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from esr.report.jobs import compute_table

log = logging.getLogger(__name__)

TABLE = Path("benchmarks/study.csv")
PAGE = Path("docs/performance.md")
BLOCK = re.compile(r"(<!-- study -->\n).*?(<!-- /study -->)", re.DOTALL)
SHOWN = 10
"""Rules in the table of the page: those with the most CPU seconds."""
OTHERS = "figures, tables and all others"
PARTS = {
    "generate_responses": "generation",
    "generate_shard": "generation",
    "find_thresholds": "thresholds",
    "configure_training": "fine-tuning",
    "train_adapter": "fine-tuning",
    "check_masks": "fine-tuning",
    "merge_adapter": "fine-tuning",
    **dict.fromkeys(["plan_arm", "judge_responses", "score_trials"], "plans, judgments, scores"),
}
"""Part of the study that a rule belongs to; all other rules are `OTHERS`."""


def rule_of(path: Path, rules: list[str]) -> str:
    """The rule that a benchmark file belongs to: its name begins the name of the file."""
    fits = [name for name in rules if path.stem == name or path.stem.startswith(f"{name}_")]
    return max(fits, key=len, default=path.stem)


def measured(folder: Path) -> pd.DataFrame:
    """One row a rule of the run in a checkout, and `all`."""
    names = re.compile(r"^rule (\w+):", re.MULTILINE)
    rules = [
        name for path in Path("rules").glob("*.smk") for name in names.findall(path.read_text())
    ]
    records: dict[str, list[str | Path]] = {}
    for path in sorted((folder / "benchmarks/jobs/organism").rglob("*.tsv")):
        records.setdefault(rule_of(path, rules), []).append(path)
    table = compute_table(records)
    table = table.assign(cpu_seconds=table["cpu_hours"] * 3600)
    whole = {
        "part": "all",
        "jobs": table["jobs"].sum(),
        "cpu_seconds": table["cpu_seconds"].sum(),
        "longest": duration(folder),
        "memory": table["memory"].max(),
    }
    table = table.assign(part=table["rule"].map(PARTS).fillna(OTHERS))
    return pd.concat([table.sort_values("cpu_seconds", ascending=False), pd.DataFrame([whole])])


def duration(folder: Path) -> float | None:
    """Seconds of all runs in a checkout, by Snakemake's logs; None if they do not say."""
    found = [
        60 * (60 * int(hours) + int(minutes)) + float(seconds)
        for path in (folder / ".snakemake/log").glob("*.log")
        for hours, minutes, seconds in re.findall(
            r"Elapsed time: (\d+):(\d+):([\d.]+)", path.read_text(errors="replace")
        )
    ]
    return sum(found) or None


def markdown(table: pd.DataFrame) -> str:
    """Two tables: parts of the study before and after; the rules with the most CPU seconds."""
    sums = table.pivot_table(["jobs", "cpu_seconds"], "part", "run", "sum")
    order = [*dict.fromkeys(PARTS.values()), OTHERS, "all"]
    lines = ["| part | jobs before | now | CPU seconds before | now |", "|---|---|---|---|---|"]
    for part, numbers in sums.reindex(order).iterrows():
        cells = " | ".join(rounded(numbers.get(each)) for each in SHOWN_SUMS)
        lines.append(f"| {part} | {cells} |")
    whole = table[table["part"].eq("all")].set_index("run")["longest"] / 60
    minutes = " | ".join(rounded(whole.get(run)) for run in ("before", "after"))
    lines += [f"| minutes of the runs | | | {minutes} |", ""]
    lines += [
        "| rule | jobs | CPU seconds | longest job (s) | memory (MB) |",
        "|---|---|---|---|---|",
    ]
    rules = table[table["run"].eq("after") & table["rule"].notna()].nlargest(SHOWN, "cpu_seconds")
    for row in rules.itertuples():
        shown = (row.jobs, row.cpu_seconds, row.longest, row.memory)
        lines.append(f"| `{row.rule}` | {' | '.join(map(rounded, shown))} |")
    return "\n".join(lines) + "\n"


def rounded(number: Any) -> str:
    """A number without decimals; a dash if there is none."""
    return "-" if number is None or pd.isna(number) else f"{number:.0f}"


SHOWN_SUMS = [(name, run) for name in ("jobs", "cpu_seconds") for run in ("before", "after")]


def main(folder: Path) -> None:
    """Measure; write the table and the page."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    kept = pd.read_csv(TABLE)
    after = measured(folder).assign(run="after")
    table = pd.concat([kept[kept["run"].eq("before")], after[kept.columns]])
    table.to_csv(TABLE, index=False, float_format="%.1f")
    text = PAGE.read_text()
    PAGE.write_text(BLOCK.sub(lambda found: found[1] + markdown(table) + found[2], text))
    log.info("%s", markdown(table))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path())
