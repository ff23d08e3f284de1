"""Commands in the README and in docs/: each is one that works, as it stands there."""

import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
import yaml

from esr.config import AnthropicJudgeConfig, load, merge
from esr.figures.catalogue import FIGURES
from esr.interactive.cli import app
from esr.report.graph import dependencies, read_jobs
from helpers.checkout import REPO, link_checkout, run_snakemake

TOP = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
PAGES = [*(REPO / name for name in TOP), *sorted((REPO / "docs").glob("*.md"))]
SHELL = re.compile(r"^```(?:sh|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
YAML = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
SETUP = ["uv sync", "uv lock", "uv export", "pip install", "python -m venv", ". .venv/bin/activate"]
"""How an environment is made; tests/test_requirements.py looks after what these lines rest on."""

VARIABLES = {
    "HF_HOME",
    "HF_TOKEN",
    "ZENODO_TOKEN",
    AnthropicJudgeConfig.model_fields["key_variable"].default,
} | {
    variable
    for study in (REPO / "studies").glob("*.yaml")
    for variable in re.findall(r"key_variable: (\w+)", study.read_text())
}
"""Variables of the environment that something reads."""


def commands() -> Iterator[tuple[str, str]]:
    """Page and command, one a line; lines joined by a backslash or `&&` are taken apart."""
    for page in PAGES:
        for block in SHELL.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                for part in line.split(" #")[0].split("&&"):
                    if part.strip():
                        yield page.name, part.strip()


COMMANDS = sorted({command for _, command in commands()})
SNAKEMAKE = re.compile(r"(?:uv run (?:--no-sync )?)?snakemake\b ?(.*)")


STUDY = re.compile(r"# studies/([\w-]+)\.yaml\n")


class Example(NamedTuple):
    """A block of YAML on a page: a study in full, or a part of one."""

    page: str
    line: int
    text: str

    @property
    def study(self) -> str | None:
        """Name of the study that the block writes out in full; None for a part of one."""
        named = STUDY.match(self.text)
        return named.group(1) if named else None


def examples() -> list[Example]:
    """Every block of YAML on every page, in its place."""
    return [
        Example(page.name, text[: block.start()].count("\n") + 1, block.group(1))
        for page in PAGES
        for text in [page.read_text()]
        for block in YAML.finditer(text)
    ]


STUDIES = [example for example in examples() if example.study]


@pytest.fixture(scope="module")
def written_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the studies of the pages, their transcripts, and organisms as if rebuilt."""
    folder = link_checkout(tmp_path_factory.mktemp("docs"))
    (folder / "results").mkdir()
    (folder / "results/organisms").symlink_to(REPO / "resources/organisms")
    (folder / "transcripts.jsonl").write_text("{}")
    for example in STUDIES:
        (folder / "studies" / f"{example.study}.yaml").write_text(example.text)
    return folder


def planned(arguments: str) -> list[str]:
    """The same call of Snakemake without what would run, unlock or write something."""
    ignored = {"--unlock", "--report", "--rerun-incomplete", "--dry-run", "-n"}
    words = [word for word in shlex.split(arguments) if not word.endswith(".zip")]
    return [word for word in words if word not in ignored]


def options_and_targets(call: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """A call taken apart; one that cannot be is all options."""
    begin = call.index("--") + 1 if "--" in call else 2 if call[:1] == ["--profile"] else 0
    targets = call[begin:]
    plain = targets and not set(" ".join(targets)) & set("-=")
    return (tuple(call[:begin]), targets) if plain else (tuple(call), [])


def calls() -> list[list[str]]:
    """Calls to plan: all targets with the same options at once, since each call takes seconds."""
    found = [planned(match.group(1)) for c in COMMANDS if (match := SNAKEMAKE.fullmatch(c))]
    together: dict[tuple[tuple[str, ...], bool], set[str]] = {}
    for options, targets in map(options_and_targets, filter(None, found)):
        together.setdefault((options, bool(targets)), set()).update(targets)
    return [[*options, *sorted(targets)] for (options, _), targets in together.items()]


@pytest.mark.parametrize("call", calls(), ids=shlex.join)
def test_documented_snakemake_commands_can_be_planned(written_out: Path, call: list[str]) -> None:
    planning = [] if "--rulegraph" in call else ["--quiet", "host", "--dry-run"]
    done = run_snakemake(written_out, *planning, *call)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("command", [c for c in COMMANDS if not SNAKEMAKE.fullmatch(c)])
def test_every_other_command_is_known_and_names_what_is_there(command: str) -> None:
    if any(command.startswith(known) for known in SETUP):
        return
    words = shlex.split(command.removeprefix("uv run "))
    if words[0] == "export":
        assert {word.split("=")[0] for word in words[1:]} <= VARIABLES
    elif words[0] == "esr":
        group = typer.main.get_command(app)
        group.commands[words[1]].make_context(words[1], words[2:])  # pyrefly: ignore[missing-attribute]
    elif words[0] == "pytest":
        marks = [words[i + 1] for i, word in enumerate(words) if word == "-m"]
        assert all(mark == "not slow" for mark in marks)
        assert all((REPO / word).exists() for word in words if word.startswith("tests/"))
    elif words[0] == "python" and words[1] == "-m":
        assert importlib.util.find_spec(words[2]) is not None
    elif words[0] == "python":
        assert (REPO / words[1]).is_file()
    else:
        assert shutil.which(words[0]), f"{command!r}: nothing here knows how to check it"


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def links() -> list[tuple[Path, str]]:
    """Page and target of every link that does not leave the project."""
    pattern = re.compile(r"\]\((?!https?:)([^)]*)\)")
    return [(page, target) for page in PAGES for target in pattern.findall(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in (target for origin, target in links() if origin == page):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), f"{page.name} links {target}"
        assert not anchor or anchor in anchors(path), f"{page.name} links {target}"


def test_links_to_headings_are_found() -> None:
    targets = {target for _, target in links()}
    assert "method.md#claims-and-verdicts" in targets
    assert "where-a-value-comes-from" in anchors(REPO / "docs/config.md")


def test_two_pages_do_not_write_out_the_same_study() -> None:
    names = [str(example.study) for example in STUDIES]
    assert sorted(names) == sorted(set(names))
    assert {"README.md", "add-a-model.md"} <= {example.page for example in STUDIES}


@pytest.mark.parametrize(
    "example", examples(), ids=lambda example: f"{example.page}:{example.line}"
)
def test_every_block_of_yaml_is_valid(example: Example) -> None:
    base = ["config.yaml"] if example.study else ["config.yaml", "studies/organism.yaml"]
    files = [yaml.safe_load((REPO / path).read_text()) for path in base]
    name = example.study or "organism"
    assert load(merge(*files, yaml.safe_load(example.text), {"study": name})).study == name


def test_the_table_of_figures_is_that_of_the_catalogue_and_the_graph(written_out: Path) -> None:
    done = run_snakemake(written_out, "--dag", "dot", "--", "all")
    table = dependencies(read_jobs(done.stdout), {name: f"plot_{name}" for name in FIGURES})
    rows = [
        f"| `{row.figure}` | {FIGURES[row.figure].shows} | {', '.join(row.arms.split())} |"
        for row in table.itertuples()
    ]
    page = (REPO / "docs/report.md").read_text()
    shown = page.split("<!-- dependencies -->\n")[1].split("<!-- /dependencies -->")[0]
    assert shown.splitlines() == rows
    models = table.set_index("figure")["models"].to_dict()
    assert models.pop("fig6") == "twin twin+sc30 twin+sc5 twin+sc90"
    assert models.pop("fig6_losses") == "twin twin+sc30 twin+sc5 twin+sc90"
    for judges in ("figA2", "figA3", "figA4"):  # the sample covers every arm that a claim reads
        assert models.pop(judges).startswith("planted twin")
    assert models.pop("figB3") == "planted", "its texts alone are continued"
    assert set(models.values()) == {"planted twin"}


def test_every_figure_is_a_target_on_the_page_of_experiments() -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", (REPO / "docs/experiments.md").read_text(), re.MULTILINE)
    targets = re.findall(r"`(\w+)`", " ".join(rows))
    assert sorted(name for name in targets if name.startswith("fig")) == sorted(FIGURES)
