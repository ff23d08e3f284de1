"""What is documented is what is there."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

from checkout import REPO
from esr.config import Config, load, merge
from esr.errors import EsrError
from esr.reference import PAGES, config_blocks, config_page, config_schema, files_page
from esr.tables import TABLES

PARQUET = re.compile(r'"results/\{study\}/([^"]+\.parquet)"')


def study(name: str) -> dict:
    protocol, models = (
        yaml.safe_load((REPO / path).read_text())
        for path in ("config.yaml", f"studies/{name}.yaml")
    )
    return merge(protocol, models, {"study": name})


STUDIES = sorted(path.stem for path in (REPO / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_generated_pages_are_fresh(path: Path) -> None:
    assert (REPO / path).read_text() == PAGES[path](), "run `uv run python -m esr.reference`"


def test_every_key_of_the_configuration_is_on_its_page() -> None:
    page = config_page()
    blocks = list(config_blocks(config_schema()))
    assert {b.name for b in blocks} >= {"", "latents.relevance", "arms.<arm>", "models.<model>.sae"}
    for block in blocks:
        for key, node in block.keys.items():
            assert node["description"].strip(), f"{block.name}.{key} has no meaning"
            inner = f"`{block.name}.{key}".removeprefix("`.")
            assert f"| `{key}` |" in page or inner in page, f"{block.name}.{key}"


def test_keys_say_their_limits_units_and_sources() -> None:
    rows = {line.split(" | ")[0].strip("| `"): line for line in config_page().splitlines()}
    assert "| number > 0 and < 100 | `50` |" in rows["target"]
    assert "| points | January 50; published 30 |" in rows["target"]
    assert "| integer > 0 or `null` | `null` |" in rows["trials"]
    assert "| path | required |" in rows["prompts"]


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


def test_the_example_of_a_new_model_is_valid() -> None:
    example = re.search(r"```yaml\n(.*?)```", config_page(), re.DOTALL)
    assert example is not None
    config = load(merge(study("organism"), yaml.safe_load(example.group(1))))
    assert config.models["my-model"].steer_layer == 16


def test_the_protocol_restates_the_defaults() -> None:
    protocol = yaml.safe_load((REPO / "config.yaml").read_text())
    for section in ("seeds", "generation", "latents", "thresholds", "statistics"):
        default = Config.model_fields[section].default.model_dump(mode="json")
        assert merge(default, protocol[section]) == default, section


def test_tables_are_the_parquet_files_that_rules_make() -> None:
    made = {
        path.replace("{{", "{").replace("}}", "}")
        for file in sorted((REPO / "rules").glob("*.smk"))
        for path in PARQUET.findall(file.read_text())
    }
    listed = {table.path for table in TABLES.values()}
    assert listed <= made
    parts = "{model}/arms/{arm}/shards/{shard}.parquet"
    generic = "{model}/arms/{arm}/{table}.parquet"
    assert made - listed <= {parts, generic}
    assert f"`{parts}`" in files_page()


def test_every_column_is_on_the_page_of_files() -> None:
    sections = dict(re.findall(r"\n## (\w+)\n(.*?)(?=\n## |\Z)", files_page(), re.DOTALL))
    for name, table in TABLES.items():
        for column, spec in table.columns.items():
            row = next(line for line in sections[name].splitlines() if f"| `{column}` |" in line)
            assert spec.meaning in row
            assert row.endswith("| yes |" if spec.optional else "|  |")


def lock() -> dict[str, str]:
    text = (REPO / "requirements.lock").read_text()
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


def test_direct_dependencies_are_pinned_and_locked() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    pins = dict(one.split("==") for one in project["dependencies"])
    assert pins.items() <= lock().items()


def test_the_lock_has_checksums_and_no_addresses() -> None:
    text = (REPO / "requirements.lock").read_text()
    assert "://" not in text
    assert "/" not in "".join(line for line in text.splitlines() if line.startswith("#"))
    blocks = re.split(r"\n(?=[\w-])", text)[1:]
    assert len(blocks) == len(re.findall(r"^[\w-]", text, re.MULTILINE)) > 50
    assert all("==" in block and "--hash=sha256:" in block for block in blocks)


@pytest.mark.skipif(
    shutil.which("uv") is None or not (REPO / "uv.lock").is_file(), reason="needs uv and uv.lock"
)
def test_the_lock_is_the_export_of_the_resolution() -> None:
    command = ["uv", "export", "--quiet", "--frozen", "--offline", "--no-emit-project", "--no-dev"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
    exported, committed = (
        [line for line in text.splitlines() if not line.startswith("#")]
        for text in (done.stdout, (REPO / "requirements.lock").read_text())
    )
    assert committed == exported, "run the command in docs/environments.md"


def test_the_schema_file_is_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(
        json.loads((REPO / "resources/config.schema.json").read_text())
    )
