"""Commands in the README and in docs/: each is one that works, as it stands there."""

import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from esr.config import AnthropicJudgeConfig, load, merge
from esr.report.graph import dependencies, read_jobs
from helpers.checkout import REPO, link_checkout, run_snakemake

PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
SHELL = re.compile(r"^```(?:sh|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
YAML = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
SETUP = ["uv sync", "uv lock", "uv export", "pip install", "python -m venv", ". .venv/bin/activate"]
"""How an environment is made; tests/test_requirements.py looks after what these lines rest on."""

VARIABLES = {"HF_HOME", "HF_TOKEN", AnthropicJudgeConfig.model_fields["key_variable"].default} | {
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


def examples() -> dict[str, str]:
    """Studies that pages write out in full: a block that begins with `# studies/<name>.yaml`."""
    found = {}
    for page in PAGES:
        for block in YAML.findall(page.read_text()):
            if named := re.match(r"# studies/([\w-]+)\.yaml\n", block):
                found[named.group(1)] = block
    return found


@pytest.fixture(scope="module")
def written_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the studies of the pages in it."""
    folder = link_checkout(tmp_path_factory.mktemp("docs"))
    for name, text in examples().items():
        (folder / "studies" / f"{name}.yaml").write_text(text)
    return folder


def planned(arguments: str) -> list[str]:
    """The same call of Snakemake without what would run, unlock or write something."""
    ignored = {"--unlock", "--report", "--rerun-incomplete", "--dry-run", "-n"}
    words = [word for word in shlex.split(arguments) if not word.endswith(".zip")]
    return [word for word in words if word not in ignored]


def calls() -> list[list[str]]:
    """Calls to plan: all bare targets at once, since each call takes seconds, and the others."""
    found = [planned(match.group(1)) for c in COMMANDS if (match := SNAKEMAKE.fullmatch(c))]
    bare = sorted({word for call in found for word in call if not set(" ".join(call)) & set("-=")})
    return [bare, *(call for call in found if set(" ".join(call)) & set("-="))]


@pytest.mark.parametrize("call", calls(), ids=shlex.join)
def test_what_is_asked_of_snakemake_can_be_planned(written_out: Path, call: list[str]) -> None:
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[\w-]*)?\)", page.read_text()):
        assert not target or (page.parent / target).exists(), f"{page.name} links {target}"


@pytest.mark.parametrize("name", sorted(examples()))
def test_a_study_that_is_written_out_is_valid(name: str) -> None:
    protocol = yaml.safe_load((REPO / "config.yaml").read_text())
    assert load(merge(protocol, yaml.safe_load(examples()[name]), {"study": name})).study == name


def fragments() -> list[tuple[str, str]]:
    """Blocks of YAML that show a part of a study."""
    pages = [page for page in PAGES if page.name != "config.md"]
    blocks = [(page.name, block) for page in pages for block in YAML.findall(page.read_text())]
    return [(name, block) for name, block in blocks if not block.startswith("# studies/")]


@pytest.mark.parametrize(("page", "block"), fragments(), ids=lambda text: text[:12])
def test_a_part_of_a_study_fits_into_the_default_one(page: str, block: str) -> None:
    whole = [
        yaml.safe_load((REPO / p).read_text()) for p in ("config.yaml", "studies/organism.yaml")
    ]
    load(merge(*whole, yaml.safe_load(block), {"study": "organism"}))


def test_the_table_of_figures_is_that_of_the_graph(written_out: Path) -> None:
    done = run_snakemake(written_out, "--dag", "dot", "--", "all")
    names = re.findall(r'^    "(fig\w+)":', (REPO / "rules/common.smk").read_text(), re.MULTILINE)
    table = dependencies(read_jobs(done.stdout), {name: f"plot_{name}" for name in names})
    rows = [
        f"| `{row.figure}` | `{row.script}` | {', '.join(f'`{arm}`' for arm in row.arms.split())} |"
        for row in table.itertuples()
    ]
    page = (REPO / "docs/report.md").read_text()
    shown = page.split("<!-- dependencies -->\n")[1].split("<!-- /dependencies -->")[0]
    assert shown.splitlines() == rows
    models = table.set_index("figure")["models"]
    assert models.pop("fig6") == "twin twin+sc30 twin+sc5 twin+sc90"
    assert set(models) == {"planted twin"}
