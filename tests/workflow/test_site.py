"""The documentation site builds without a warning, and its words are those of the folders."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mkdocs.config import load_config

from esr.figures.catalogue import ALL_FIGURES
from helpers.checkout import REPO

RULE = re.compile(r"^(?:rule|use rule \w+ as) (\w+)(?: with)?:", re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=REPO, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def titles(section: str) -> list[str]:
    """Titles of the pages of a section of the navigation."""
    nav = load_config(str(REPO / "mkdocs.yml")).nav or []
    (pages,) = (part[section] for part in nav if section in part)
    return [next(iter(page)) for page in pages]


def test_every_page_is_built(site: Path) -> None:
    for page in (REPO / "docs").glob("*.md"):
        assert (site / f"{page.stem}.html").is_file()


def test_the_site_loads_nothing_from_another_host(site: Path) -> None:
    for page in site.glob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|link)[^>]*(?:src|href)=\"?(https?:[^\s\">]+)", page.read_text()
        )
        assert not loaded, f"{page.name} loads {loaded}"


def test_the_library_reference_has_every_documented_function(site: Path) -> None:
    page = (site / "api/analysis.html").read_text()
    assert 'id="esr.analysis.measures.summarise"' in page
    assert 'id="esr.analysis.statistics"' in page
    assert 'id="esr.errors.EsrError"' in (site / "api/esr.html").read_text()


def test_sections_have_the_names_of_the_folders() -> None:
    packages = {path.parent.name for path in (REPO / "src/esr").glob("*/__init__.py")}
    assert set(titles("Library")) == packages | {"esr"}
    assert set(titles("Stages")) <= packages


def test_stages_are_in_pipeline_order_everywhere() -> None:
    table = list(stages_on_the_page())
    for section in ("Stages", "Library"):
        shown = [title for title in titles(section) if title in table and title != "organisms"]
        assert shown == [stage for stage in table if stage in shown]


def test_the_table_of_stages_names_every_rule() -> None:
    files = {path.stem: path for path in (REPO / "rules").glob("*.smk")}
    shared = {"common", "allocations", "targets"}
    assert set(stages_on_the_page()) == set(files) - shared
    for stage, rules in stages_on_the_page().items():
        named = RULE.findall(files[stage].read_text())
        expected = [f"plot_{name}" for name in ALL_FIGURES] if stage == "figures" else rules
        assert sorted(named) == sorted(expected), stage


def stages_on_the_page() -> dict[str, list[str]]:
    """Rules by stage, as the table in docs/architecture.md has them."""
    text = (REPO / "docs/architecture.md").read_text().split("## Stages")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| [^|]* \| (`.*) \|$", text, re.MULTILINE)
    return {stage: re.findall(r"`([\w<>]+)`", rules) for stage, rules in rows}
