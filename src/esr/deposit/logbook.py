"""The reproduction logbook: a page a claim, in the format of Trackio's logbooks.

`trackio logbook serve` and `trackio logbook publish` read `.trackio/logbook/pages/` in the folder
where they are started; the pages are plain Markdown, cut into cells by comments. Trackio adds its
viewer and the manifest itself (schema version 2).
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from esr.analysis.ways import WAYS
from esr.deposit.about import About
from esr.deposit.crate import PAPER, description
from esr.report.forest import figure_of

PAGES = Path(".trackio/logbook/pages")
ARXIV = PAPER.rsplit("/", 1)[1]
NO_CLAIM = "No claim is about the models of this study"
NAMES = {
    "primary": "primary judge",
    "gated": "gated by restart phrases",
    "judge_free": "restart detector, no judge",
    "second": "second judge, on the sample",
}


def write_logbook(
    folder: Path, about: About, scorecard: pd.DataFrame, figures: Sequence[str]
) -> list[str]:
    """Write the logbook.

    Args:
        folder: Its workspace, in which `.trackio` is made.
        about: Facts about the study.
        scorecard: `scorecard.csv`.
        figures: Names of the figures that lie in the crate.

    Returns:
        Names of the claims' pages.
    """
    rows: list[dict[str, Any]] = scorecard.astype(object).to_dict("records")
    slugs = _slugs(rows)
    pages = folder / PAGES
    for slug, row in zip(slugs, rows, strict=True):
        _write(pages / slug / "page.md", claim_page(row, about, figures))
    _write(pages / "index.md", index_page(about, rows, slugs))
    metadata = {"space_id": None, "emoji": "🎯", "paper": {"arxiv_id": ARXIV, "url": PAPER}}
    _write(pages.parents[1] / "metadata.json", json.dumps(metadata, indent=2, ensure_ascii=False))
    _write(folder / "README.md", _readme(about))
    return slugs


def claim_page(row: Mapping[str, Any], about: About, figures: Sequence[str]) -> str:
    """Page of a claim: text and source, region and null, verdict, ways of grading, command."""
    unit = shown(row["unit"])
    facts = [
        ("source", f"{shown(row['source'])}, {shown(row['experiment'])}"),
        ("claimed value", f"{shown(row['expected'])} {unit}" if known(row["expected"]) else "none"),
        ("holds in", f"{region(row)} {unit} ({shown(row['basis'])})"),
        ("null", f"{shown(row['null'])} {unit}"),
        ("measured", f"{interval(row, '')} {unit}, n = {shown(row['n'])}"),
        ("status", shown(row["status"])),
        ("power at this size", f"{share(row['power'])}; all ways: {share(row['power_agreed'])}"),
        ("where", f"`{shown(row['table'])}`, `{shown(row['where'])}`, `{shown(row['statistic'])}`"),
    ]
    claim = _table(("claim", str(row["claim"])), facts)
    verdict = f"**{shown(row['verdict'])}**: {shown(row['reason'])}"
    grading = _table(
        ("graded by", f"measured ({unit})", "p (Holm)", "verdict"),
        [
            (
                NAMES[way],
                interval(row, f"{way}_"),
                shown(row[f"{way}_p_holm"]),
                shown(row[f"{way}_verdict"]),
            )
            for way in WAYS
        ],
    )
    cells = [
        ("claim", "Claim", claim),
        ("verdict", "Verdict", verdict),
        ("grading", "Four ways of grading", grading),
        ("rebuild", "Figure, and the command that rebuilds it", _command(row, about, figures)),
    ]
    name = str(row["claim"])
    return f"# {row['statement']}\n" + "".join(
        cell(
            f"{about.study}/{name}/{part}", title, body, "code" if part == "rebuild" else "markdown"
        )
        for part, title, body in cells
    )


def index_page(about: About, rows: Sequence[Mapping[str, Any]], slugs: Sequence[str]) -> str:
    """First page: what the study is, and a row a claim."""
    listed = [
        (f"[{row['statement']}](#/{slug})", shown(row["verdict"]), shown(row["source"]))
        for slug, row in zip(slugs, rows, strict=True)
    ]
    found = Counter(shown(row["verdict"]) for row in rows)
    verdicts = ", ".join(f"{number} {verdict}" for verdict, number in found.most_common())
    origin = f"Revision `{about.git}`, configuration `{about.config}`."
    study = f"{description(about)}\n\n{verdicts or NO_CLAIM}.\n\n{origin}\n"
    # Trackio shows of this page its paper and its cells.
    return (
        f"# {about.title}\n\nPaper: [{ARXIV}]({PAPER})\n\n## Pages\n\n"
        + _table(("Page", "Verdict", "Source"), listed)
        + cell(f"{about.study}/study", "The study", study)
    )


def cell(name: str, title: str, body: str, kind: str = "markdown") -> str:
    """A cell of a page; its id follows from its name, so that equal inputs give equal bytes."""
    identity = f"cell_{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    payload = json.dumps({"type": kind, "id": identity, "title": title}, ensure_ascii=False)
    return f"\n\n---\n<!-- trackio-cell\n{payload}\n-->\n{body.strip()}\n"


def _command(row: Mapping[str, Any], about: About, figures: Sequence[str]) -> str:
    figure = figure_of(row, figures).partition("figures.html#")[2]
    target = figure or f"results/{about.study}/{row['table']}"
    lines = [
        "uv run python -m esr.bundle import bundle.tar.gz",
        f"uv run snakemake --config study={about.study} -- {target} scorecard",
    ]
    shell = "\n".join(lines)
    place = (
        f"`crate/figures/{figure}.pdf`" if figure else f"`{row['table']}` (no figure of its own)"
    )
    return f"The figure is {place}.\n\n````bash\n{shell}\n````\n"


def region(row: Mapping[str, Any]) -> str:
    """Region in which a claim holds; an open end is a word."""
    low, high = row["lower"], row["upper"]
    if known(low) and known(high):
        return f"[{shown(low)}, {shown(high)}]"
    if known(low):
        return f"{shown(low)} or more"
    return f"{shown(high)} or less" if known(high) else "every value"


def interval(row: Mapping[str, Any], way: str) -> str:
    """Measured value and interval of a way of grading, or that there is none."""
    value, low, high = (row[f"{way}{name}"] for name in ("measured", "low", "high"))
    if not known(value):
        return "not measured"
    return f"{shown(value)} [{shown(low)}, {shown(high)}]" if known(low) else shown(value)


def known(value: Any) -> bool:
    """Whether a cell has a value."""
    return not pd.isna(value) and value != ""


def shown(value: Any) -> str:
    """A cell as text: four significant digits; a dash where there is no value."""
    if not known(value):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def share(value: Any) -> str:
    """A share of simulated studies in percent; not every claim has one."""
    return f"{100 * float(value):.0f} %" if known(value) else "not simulated"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(c.replace('|', '&#124;') for c in line)} |\n" for line in lines)


def _slugs(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of pages, unique although two sources may use one name."""
    found: list[str] = []
    for row in rows:
        base = re.sub(r"[^a-z0-9]+", "-", str(row["claim"]).lower()).strip("-") or "claim"
        number = sum(
            name == base or re.fullmatch(rf"{base}-\d+", name) is not None for name in found
        )
        name = base if base not in found else f"{base}-{number + 1}"
        found.append(name)
    return found


def _readme(about: About) -> str:
    return (
        f"# Logbook of study {about.study}\n\nA page a claim, in the format of Trackio's logbooks "
        f"(`{PAGES.as_posix()}/`, plain Markdown). In this folder, with Trackio installed:\n\n"
        "```sh\ntrackio logbook serve                      # look at it here\n"
        "trackio logbook publish <owner>/<space>    # make a Space of it\n```\n"
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
