"""Pages of the report: from a study's files to HTML, by the templates in resources/report/.

Every file that a page shows is copied into the report; no page loads from another host. Jinja
escapes every value but captions and deviations, which markdown-it renders with HTML disabled.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt

from esr.analysis.claims import VERDICTS
from esr.analysis.ways import WAYS
from esr.report.answers import Answer, answers
from esr.report.forest import SHAPES, Track, track
from esr.thresholds.outcomes import count_statuses, in_words

PAGES = {
    "index": "Summary",
    "figures": "Figures",
    "tables": "Tables",
    "transcripts": "Transcripts",
    "graph": "Graph",
    "provenance": "Provenance",
}
"""Pages in the order of the menu; each has a template of the same name."""
TABLE_TITLES = {
    "tableA1": "Table A1: off-topic detectors",
    "sae_fit": "Fit of the SAEs to unsteered answers",
    "summary": "Measures of every arm",
    "comparisons": "Arms compared with the arm that they replay",
    "models": "Models compared",
    "contrasts": "Sweeps, random sets, shares and unsteered arms",
    "controls": "Activity of the random sets beside that of the detectors",
    "exclusions": "Exclusions: trials by status",
    "thresholds": "Thresholds of every latent and target",
    "recovery": "Recovery against its redraw null",
    "robustness": "Robustness of the main result",
    "variance_components": "Variance of restarts by latent and prompt",
    "corrected": "Rates corrected for the judge's errors",
    "agreement": "Agreement of judges, arm by arm",
    "judge_failures": "Responses that a judge failed to judge",
    "introspection": "Self-report of injected directions",
    "self_report_thresholds": "Thresholds of self-report beside behaviour",
    "drift": "Drift of judges on responses with known scores",
    "power": "Power of every claim at the study's size",
    "ledger": "Cost of judges and raters",
    "activation_regions": "Activations by region of the response",
    "activation_contrasts": "Activations: planned contrasts",
    "activation_latents": "Activations: single latents",
    "activation_lead": "Activations: lead time of the detectors",
    "activation_hazards": "Activations: hazard of a restart given the detectors",
}
"""Titles of tables; a table without one is shown by its file's name."""
ASSETS = ["style.css", "tables.js", "graph.js", "transcripts.js"]
MOST_ROWS = 400
"""Rows of a table that a page shows; the CSV has all of them."""


@dataclass(frozen=True)
class Picture:
    """A figure of the report: its files, caption (HTML), script and command."""

    name: str
    title: str
    caption: str
    numbers: pd.DataFrame
    script: str
    files: Mapping[str, str]
    graph: str

    @property
    def command(self) -> str:
        """Command that rebuilds the figure."""
        return f"uv run snakemake {self.name}"

    @property
    def sizes(self) -> str:
        """Trials or pairs behind its marks, from least to most; empty if the CSV has no `n`."""
        if "n" not in self.numbers:
            return ""
        n = self.numbers.loc[self.numbers["n"].gt(0), "n"]
        if n.empty:
            return ""
        low = int(n.min())
        high = int(n.max())
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"


@dataclass(frozen=True)
class Study:
    """Content of the pages of a study; `deviations` is HTML, the rest is text."""

    name: str
    title: str
    level: float
    models: Mapping[str, Mapping[str, Any]]
    arms: Mapping[str, Mapping[str, Any]]
    scorecard: pd.DataFrame
    figures: Sequence[Picture]
    tables: Mapping[str, pd.DataFrame]
    compute: pd.DataFrame
    dependencies: pd.DataFrame
    origin: Mapping[str, Any]
    settings: str
    deviations: str
    trials: int
    ledger: pd.DataFrame | None = None
    graphs: Mapping[str, str] = field(default_factory=dict)
    claims_note: str = ""
    """Which files of claims are left out, and why; empty if none is."""
    warnings: Mapping[str, str] = field(default_factory=dict)
    """What the summary warns of, by the table that shows it; empty where all is well."""
    masks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What `check_masks` found, by the label of the fine-tuned model."""

    @property
    def verdicts(self) -> dict[str, int]:
        """Number of claims by verdict."""
        counts = self.scorecard["verdict"].value_counts()
        return {verdict: int(counts.get(verdict, 0)) for verdict in VERDICTS}

    @property
    def ways(self) -> dict[str, str]:
        """Ways of grading with the names that the scorecard shows."""
        return dict(zip(WAYS, ["primary", "gated", "judge-free", "second judge"], strict=True))

    @property
    def answers(self) -> list[Answer]:
        """Sentences about each model."""
        labels = {name: str(model["label"]) for name, model in self.models.items()}
        return answers(self.tables, labels, self.ways)

    @property
    def tracks(self) -> list[Track]:
        """The forest plot: one track a claim, in the order of the claims."""
        figures = [figure.name for figure in self.figures]
        rows = self.scorecard.to_dict("records")
        return [
            track({str(k): v for k, v in row.items()}, figures, list(self.models)) for row in rows
        ]

    @property
    def first_figure(self) -> Picture | None:
        """Figure 2, which the summary shows."""
        return next((figure for figure in self.figures if figure.name == "fig2"), None)

    @property
    def excluded(self) -> pd.DataFrame | None:
        """Trials that are not measured, by model, arm and status; most first."""
        table = self.tables.get("exclusions")
        if table is None or not {"status", "n"} <= set(table):
            return None
        left_out = table[~table["status"].isin(["ok", "total"])]
        return left_out.sort_values("n", ascending=False, kind="stable")

    @property
    def searches(self) -> list[tuple[str, float, str]]:
        """Label, target (points) and, in words, how the threshold searches of a model ended."""
        if "thresholds" not in self.tables:
            return []
        counts = count_statuses(self.tables["thresholds"]).to_dict("records")
        return [
            (str(self.models[row["model"]]["label"]), row["target"], in_words(row))
            for row in counts
        ]

    def graph_title(self, name: str) -> str:
        """Title of a picture of the graph: that of its figure, or of the study."""
        return {each.name: each.title for each in self.figures}.get(name, "The study")

    @property
    def claims(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of the scorecard by experiment, in the order of the claims."""
        rows = self.scorecard.to_dict("records")
        found: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            found.setdefault(row["experiment"], []).append({str(k): v for k, v in row.items()})
        return found


def build(study: Study, templates: Path, folder: Path) -> None:
    """Write all pages, their assets, and the tables they offer.

    Args:
        study: What is shown.
        templates: Folder of templates, style sheet and scripts.
        folder: The report's; figures, graphs and transcripts are already in it.
    """
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown: dict[str, Any] = {"most": MOST_ROWS, "shapes": SHAPES}
    environment.globals.update(shown)
    environment.filters.update(number=number, measured=measured, cells=cells)
    environment.filters.update(measured_by=measured_by, percent=percent)
    environment.filters.update(anchor=anchor, table_title=table_title)
    for name, title in PAGES.items():
        page = environment.get_template(f"{name}.html")
        text = page.render(study=study, page=name, title=title, pages=PAGES)
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    (folder / "assets").mkdir(exist_ok=True)
    for asset in ASSETS:
        shutil.copy(templates / asset, folder / "assets" / asset)
    (folder / "tables").mkdir(exist_ok=True)
    for name, table in {"scorecard": study.scorecard, **study.tables}.items():
        table.to_csv(folder / "tables" / f"{name}.csv", index=False, float_format="%.6g")


def copy_files(paths: Iterable[str | Path], folder: Path) -> None:
    """Copy files into a folder of the report."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in map(Path, paths):
        shutil.copy(path, folder / path.name)


def markdown(text: str) -> str:
    """Markdown as HTML, its headings one level down (a page has its own); HTML in it stays text."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for token in tokens:
        if token.type.startswith("heading_"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
    return str(parser.renderer.render(tokens, parser.options, {}))


def number(value: Any) -> str:
    """A number as shown: four significant digits, thousands apart; an en dash if it is missing."""
    if value is None or pd.isna(value):
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{float(f'{value:.4g}'):g}"


def measured(row: Mapping[str, Any], value: str = "measured") -> str:
    """`4.0 [3.1, 5.2]`, to three significant digits; a dash if there is no value."""
    value, low, high = (row[column] for column in (value, "low", "high"))
    if pd.isna(value):
        return "–" if pd.isna(low) else shown_ends(low, high)
    if pd.isna(low) or low == high:
        return f"{value:.3g}"
    return f"{value:.3g} {shown_ends(low, high)}"


def shown_ends(low: float, high: float) -> str:
    """`[3.1, 5.2]`, to three significant digits; an end may be infinite."""
    return f"[{low:.3g}, {high:.3g}]".replace("inf", "∞")


def percent(share: float) -> str:
    """A share as `85 %`; a dash if it is missing."""
    return "–" if pd.isna(share) else f"{100 * share:.0f} %"


def measured_by(row: Mapping[str, Any], way: str) -> str:
    """What one way of grading measured, in the form of `measured`; a dash without a row."""
    ends = {name: row[f"{way}_{name}"] for name in ("measured", "low", "high")}
    return measured(ends)


def cells(table: pd.DataFrame) -> list[list[str]]:
    """Rows of a table as text, at most `MOST_ROWS`."""
    return [[number(value) for value in row] for row in table.head(MOST_ROWS).to_numpy(object)]


def table_title(name: str) -> str:
    """Title of a table by its file's name."""
    return TABLE_TITLES.get(name, name.replace("_", " ").capitalize())


def anchor(name: str) -> str:
    """Anchor of a name on a page."""
    return "".join(c if c.isalnum() else "-" for c in name).lower()
