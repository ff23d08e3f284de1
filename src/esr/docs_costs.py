"""The table of costs in docs/judges.md: dollars and GPU hours of the large studies, by judge.

`python -m esr.docs_reference` writes it between two comments of the page.
"""

from pathlib import Path

from esr.config import Config, VllmJudgeConfig, load, merge
from esr.plain_yaml import load_yaml
from esr.planning.costs import as_configured, estimate
from esr.planning.hours import estimate_compute

PAGE = Path("docs/judges.md")
BEGIN, END = "<!-- costs of judges -->\n", "<!-- / -->\n"
STUDIES = ("paper", "arxiv")
HEAD = ["primary judge"]
HEAD += [f"`{study}`: {what}" for study in STUDIES for what in ("dollars", "GPU hours")]
CHOICES = {
    "qwen3-32b": "Qwen3-32B, run by the workflow",
    "gpt-5-mini": "GPT-5-mini",
    "gemini-2.5-flash": "Gemini 2.5 Flash",
    "claude-haiku-4.5": "Haiku 4.5, in batches",
    "claude-sonnet-4.5": "Sonnet 4.5, in batches",
}
"""Judges of both studies, with their names in the table."""


def judges_page() -> str:
    """The page on judges with a fresh table of costs."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + costs_table() + END + after


def costs_table() -> str:
    """Dollars of the primary judge, and all GPU hours, of both studies with every judge."""
    rows = [HEAD, ["---"] * len(HEAD)]
    for judge, name in CHOICES.items():
        cells = [each for study in STUDIES for each in _costs(_config(study, judge))]
        rows.append([name, *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _config(study: str, judge: str) -> Config:
    """A study with this primary judge."""
    own = {} if judge.startswith("qwen") else {"judges": {judge: {"optional": False}}}
    files = [Path("config.yaml"), Path(f"studies/{study}.yaml")]
    parts = [load_yaml(path.read_text(encoding="utf-8")) for path in files]
    return load(merge(*parts, {"study": study, "judging": {"primary": judge, **own}}))


def _costs(config: Config) -> tuple[str, str]:
    """Dollars and GPU hours, in words."""
    table = estimate(config)
    primary = config.judging.primary
    dollars = as_configured(table[table["judge"].eq(primary)])
    hours = estimate_compute(config)["gpu_hours"].sum()
    is_local = isinstance(config.judging.judges[primary], VllmJudgeConfig)
    shown = "$0" if is_local else f"${round(dollars, -1):,.0f}"
    return shown, f"{hours:.0f}"
