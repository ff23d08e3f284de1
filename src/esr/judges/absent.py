"""Optional judges that a run leaves out: no key for them, or their model has retired."""

import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from esr.config import Config
from esr.handwritten import read_csv_rows


def absent_judges(config: Config, today: date | None = None) -> dict[str, str]:
    """Optional judges that cannot be called and have graded nothing yet, with the reason.

    Reads no table and imports no SDK, since every job of a run evaluates it.

    Args:
        config: The study.
        today: Day of the run; the current one if None.
    """
    last_days = _last_days(config.judging.prices) if config.judging.optional else {}
    day = (today or date.today()).isoformat()
    found = {}
    for name, judge in config.judging.optional.items():
        if any(path.is_file() and path.stat().st_size for path in _graded(config, name)):
            continue
        last = last_days.get(judge.model, "")
        if last and last < day:
            found[name] = f"{judge.model} retired on {last}"
        elif judge.key_variable and not os.environ.get(judge.key_variable, "").strip():
            found[name] = f"{judge.key_variable} is not set"
    return found


def _last_days(prices: Path) -> dict[str, str]:
    if not prices.is_file():
        return {}
    return {row["model"]: row.get("retires", "") for row in read_csv_rows(prices).rows}


def _graded(config: Config, name: str) -> Iterator[Path]:
    """Files that a judge has written in a study, among those that a bundle carries."""
    results = Path("results") / config.study
    yield results / "replies/judge_sample" / f"{name}.jsonl"
    yield results / "agreement/scores" / f"{name}.parquet"
