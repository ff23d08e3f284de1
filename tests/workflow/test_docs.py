"""What is documented is what is there."""

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

import esr
from esr.config import Config, load, merge
from esr.docs_reference import (
    PAGES,
    config_blocks,
    config_page,
    config_schema,
    files_page,
)
from esr.docs_text import OTHER_FILES
from esr.errors import EsrError
from esr.tables import TABLES
from helpers.checkout import REPO

PARQUET = re.compile(r'"<results>/([^"]+\.parquet)"')


def study(name: str) -> dict:
    protocol, models = (
        yaml.safe_load((REPO / path).read_text())
        for path in ("config.yaml", f"studies/{name}.yaml")
    )
    return merge(protocol, models, {"study": name})


STUDIES = sorted(path.stem for path in (REPO / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_generated_pages_are_fresh(path: Path) -> None:
    assert (REPO / path).read_text() == PAGES[path](), "run `uv run python -m esr.docs_reference`"


def test_every_key_of_the_configuration_is_on_its_page() -> None:
    page = config_page()
    blocks = list(config_blocks(config_schema()))
    assert {b.name for b in blocks} >= {"", "latents.relevance", "arms.<arm>", "models.<model>.sae"}
    for block in blocks:
        for key, node in block.keys.items():
            assert node["description"].strip(), f"{block.name}.{key} has no meaning"
            inner = f"`{block.name}.{key}".removeprefix("`.")
            assert f"| `{key}` |" in page or inner in page, f"{block.name}.{key}"


def test_a_key_that_takes_a_value_or_a_block_has_a_row_and_a_section() -> None:
    assert "| `threshold` or `none` or a block (below) | `threshold` |" in row(
        "arms.<arm>", "boost"
    )
    assert "| integer > 1 and <= 1000 |" in row("arms.<arm>.boost", "count")


def row(section: str, key: str) -> str:
    """Row of a key on the page of the configuration."""
    lines = config_page().split(f"\n## `{section}`\n")[1].split("\n## ")[0].splitlines()
    return next(line for line in lines if line.startswith(f"| `{key}` |"))


def test_keys_have_limits_units_and_sources() -> None:
    target = row("thresholds", "target")
    assert "| number >= 1 and < 100 | `50` |" in target
    assert "| points | January 50; published 30 |" in target
    assert "| integer > 0 and <= 1e+06 or `null` | `null` |" in row("arms.<arm>", "trials")
    assert "| path | required |" in row("judging.judges.<judge> (lexical)", "lexicon")


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_is_valid_by_the_code_and_by_the_schema(name: str) -> None:
    raw = study(name)
    assert load(raw).study == name
    jsonschema.Draft202012Validator(config_schema()).validate(raw)


def test_the_schema_refuses_what_the_code_refuses() -> None:
    validator = jsonschema.Draft202012Validator(config_schema())
    for wrong in (
        {"thresholds": {"targt": 30}},
        {"thresholds": {"target": 130}},
        {"arms": {"steered": {"boost": "much"}}},
        {"models": {"a name": None}},
        {"engine": {"shards": 0}},
    ):
        raw = merge(study("organism"), wrong)
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(raw)
        if wrong != {"models": {"a name": None}}:  # disabled before the code looks at its name
            with pytest.raises(EsrError):
                load(raw)


def test_the_schema_lets_null_disable_arms_models_and_judges() -> None:
    disabled = {"arms": {"x": None}, "models": {"x": None}, "judging": {"judges": {"x": None}}}
    jsonschema.Draft202012Validator(config_schema()).validate(merge(study("organism"), disabled))


def test_the_examples_on_the_page_are_valid() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", config_page(), re.DOTALL)
    config = load(merge(study("organism"), *map(yaml.safe_load, examples)))
    assert config.arms["ablated-and-instructed"].replay == "ablated"
    assert config.models["my-model"].steer_layer == 16


def test_the_protocol_restates_the_defaults() -> None:
    protocol = yaml.safe_load((REPO / "config.yaml").read_text())
    for section in ("seeds", "generation", "latents", "thresholds", "statistics"):
        default = Config.model_fields[section].default.model_dump(mode="json")
        assert merge(default, protocol[section]) == default, section


def test_tables_are_the_parquet_files_that_rules_make() -> None:
    rules = "".join(path.read_text() for path in sorted((REPO / "rules").glob("*.smk")))
    named = {path.replace("{{", "{").replace("}}", "}") for path in PARQUET.findall(rules)}
    documented = {table.path for table in TABLES.values()} | set(OTHER_FILES)
    documented |= {path.replace("{along}", "") for path in documented}  # empty for latents
    assert {table.path for table in TABLES.values()} <= named
    # A rule may name one arm, or stand for several tables: {model}/arms/steered/{table}.parquet.
    patterns = [re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)) for path in documented]
    for path in named:
        shape = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))
        assert any(re.fullmatch(one, path) for one in patterns) or any(
            re.fullmatch(shape, one) for one in documented
        ), f"{path} is in rules/ but not in docs/files.md"


def test_every_column_is_on_the_page_of_files() -> None:
    sections = dict(re.findall(r"\n## (\w+)\n(.*?)(?=\n## |\Z)", files_page(), re.DOTALL))
    for name, table in TABLES.items():
        for column, spec in table.columns.items():
            row = next(line for line in sections[name].splitlines() if f"| `{column}` |" in line)
            assert spec.meaning in row
            assert row.endswith("| yes |" if spec.optional else "|  |")


def test_the_schema_file_is_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(
        json.loads((REPO / "resources/config.schema.json").read_text())
    )


def test_the_readme_cites_the_paper_and_the_software_as_the_citation_file_does() -> None:
    readme = " ".join((REPO / "README.md").read_text().split())
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    (paper,) = citation["references"]
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"] == esr.__version__
    assert f"\n## {esr.__version__}\n" in (REPO / "CHANGELOG.md").read_text()
    assert f"{{{citation['title']}}}" in readme
    assert f"{{{citation['version']}}}" in readme
    assert f"{{{paper['title']}}}" in readme
    names = [f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]]
    assert " and ".join(names) in readme
    assert paper["identifiers"][0]["value"].removeprefix("arXiv:") in readme


@pytest.mark.parametrize(
    ("topic", "stated"),
    [
        ("degraded responses", ["PAPER_MAPPING.md", "README does not mention", "judging.degraded"]),
        ("constants of the threshold search", ["tolerance 5", "15 iterations of 10", "20 queries"]),
        ("SAE, Gemma 9B", ["stars imply an instruction-tuned SAE", "unverified"]),
        ("backtracking latents", ["16, chosen by hand", "models.<model>.backtracking"]),
        ("window around a correction", ["150 tokens"]),
        ("pairs of the discovery that are searched", ["not like for like"]),
        ("a response that only asks a clarifying question", ["no attempt"]),
        ("judges compared", ["told the label", "`blind`"]),
        ("partial ablation, ablation to the mean", ["unverified", "unsteered answers"]),
    ],
)
def test_a_protocol_that_sources_differ_on_is_declared_with_its_key(
    topic: str, stated: list[str]
) -> None:
    lines = (REPO / "docs/deviations.md").read_text(encoding="utf-8").splitlines()
    (row,) = [line for line in lines if line.startswith(f"| {topic} |")]
    assert all(text in row for text in stated), row


def test_the_judge_of_the_paper_knows_when_a_response_has_no_attempt() -> None:
    rubric = yaml.safe_load((REPO / "resources/rubrics/paper.yaml").read_text(encoding="utf-8"))
    assert rubric["version"] >= 2
    system = " ".join(rubric["system"].split())
    assert "empty only if the response does nothing but ask a clarifying question" in system


def test_the_settings_of_the_paper_study_are_attributed_to_the_source_that_states_them() -> None:
    text = (REPO / "studies/paper.yaml").read_text(encoding="utf-8")
    (degraded,) = [line for line in text.splitlines() if "degraded:" in line]
    assert "PAPER_MAPPING.md" in degraded


def test_files_for_catalogues_are_yaml_and_contributing_names_what_is_there() -> None:
    catalogue = yaml.safe_load((REPO / ".snakemake-workflow-catalog.yml").read_text())
    assert catalogue["usage"]["report"] is True
    for template in (REPO / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"):
        form = yaml.safe_load(template.read_text())
        assert {"name", "description", "body"} <= set(form), template.name
        ids = [each["id"] for each in form["body"]]
        assert len(set(ids)) == len(ids) > 0
    text = (REPO / "CONTRIBUTING.md").read_text()
    for path in re.findall(r"`((?:src|tests|resources|docs)/[^`<]*)`", text):
        assert (REPO / path).exists(), f"CONTRIBUTING.md names {path}"
