"""Reference pages generated from the code: `python -m esr.docs_reference` in the project's folder.

Writes `docs/config.md` and `resources/config.schema.json` from `esr.config.Config`,
`docs/files.md` from `esr.tables.TABLES`, `docs/power.md` from two tables in `benchmarks/`, and the
costs in `docs/judges.md` from `esr.planning`, and `envs/container/apptainer.def` from the
Containerfile beside it. A test asserts that they are fresh.
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from esr.analysis.claims import CLAIM
from esr.analysis.measures import MEASURES
from esr.config import Config
from esr.docs_container import DEFINITION, apptainer_definition
from esr.docs_costs import judges_page
from esr.docs_power import power_page
from esr.docs_text import CONFIG_INTRO, FILES_INTRO, OTHER_FILES
from esr.tables import TABLES, Table

log = logging.getLogger(__name__)

Node = dict[str, Any]
LIMITS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


@dataclass(frozen=True)
class Block:
    """A block of keys: its dotted name (empty at the top), meaning, and keys by name."""

    name: str
    meaning: str
    keys: dict[str, Node]
    required: frozenset[str]


class _Untitled(GenerateJsonSchema):
    """Leaves out titles that only repeat a key's name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def config_schema() -> Node:
    """JSON Schema of a merged configuration, in which `null` disables arms, models and judges."""
    schema = Config.model_json_schema(schema_generator=_Untitled)
    judging = schema["$defs"]["JudgingConfig"]["properties"]
    for named in (schema["properties"]["arms"], schema["properties"]["models"], judging["judges"]):
        for pattern, entry in named["patternProperties"].items():
            named["patternProperties"][pattern] = {"anyOf": [entry, {"type": "null"}]}
        named["additionalProperties"] = False
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def config_blocks(schema: Node) -> Iterator[Block]:
    """Every block of keys of a schema, the outer ones first."""
    definitions = schema["$defs"]

    def walk(name: str, node: Node) -> Iterator[Block]:
        keys = node["properties"]
        yield Block(name, node["description"], keys, frozenset(node.get("required", ())))
        for key, child in keys.items():
            inside = f"{name}.{key}" if name else key
            for reference in _references(child.get("items", {})):
                yield from walk(f"{inside}[]", definitions[reference])
            for reference in _references(child):
                where = f"{inside}.<{key.removesuffix('s')}>" if _is_named(child) else inside
                kind = definitions[reference]["properties"].get("kind", {}).get("const")
                yield from walk(f"{where} ({kind})" if kind else where, definitions[reference])

    yield from walk("", schema)


def _references(node: Node) -> list[str]:
    """Definitions that a key's value may follow."""
    if "$ref" in node:
        return [node["$ref"].rsplit("/", 1)[1]]
    inner = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    inner += node.get("patternProperties", {}).values()
    return [found for child in inner for found in _references(child)]


def _is_block(node: Node) -> bool:
    """Whether a key takes blocks of keys and nothing else (but null)."""
    others = [choice for choice in node.get("anyOf", ()) if not _references(choice)]
    return bool(_references(node)) and all(choice == {"type": "null"} for choice in others)


def _is_named(node: Node) -> bool:
    return "patternProperties" in node


def type_text(node: Node) -> str:
    """Type of a key in words, with its limits."""
    if "$ref" in node:
        return "a block (below)"
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(type_text(choice) for choice in node["anyOf"]))
    if "enum" in node or "const" in node:
        choices = node.get("enum", [node.get("const")])
        return " or ".join(f"`{choice}`" for choice in choices)
    if node["type"] == "array":
        return f"list of {type_text(node['items'])}"
    limits = [f"{sign} {node[name]:g}" for name, sign in LIMITS.items() if name in node]
    words = {"null": "`null`", "string": "text", "boolean": "`true` or `false`"}
    kind: str = node["type"]
    plain = "path" if node.get("format") == "path" else words.get(kind, kind)
    return f"{plain} {' and '.join(limits)}".rstrip()


def default_text(node: Node, required: bool) -> str:
    """Default of a key as it would stand in YAML."""
    if required:
        return "required"
    value = node["default"]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{value if isinstance(value, str) and value else json.dumps(value)}`"


def config_page() -> str:
    """The page `docs/config.md`."""
    return CONFIG_INTRO + "".join(
        _config_section(block) for block in config_blocks(config_schema())
    )


def _config_section(block: Block) -> str:
    title = f"`{block.name}`" if block.name else "At the top"
    rows = [
        [
            f"`{key}`",
            type_text(node),
            default_text(node, key in block.required),
            node["description"],
            node.get("unit", ""),
            node.get("source", ""),
        ]
        for key, node in block.keys.items()
        if not _is_block(node)
    ]
    head = ["key", "type", "default", "meaning", "unit", "source"]
    return f"\n## {title}\n\n{_one_line(block.meaning)}\n" + (_table(head, rows) if rows else "")


def files_page() -> str:
    """The page `docs/files.md`."""
    others = [[f"`{path}`", meaning] for path, meaning in OTHER_FILES.items()]
    return (
        FILES_INTRO
        + "".join(_files_section(name, table) for name, table in TABLES.items())
        + "\n## Other files\n"
        + _table(["path", "what it is"], others)
        + "\n## Claims\n\n`resources/claims/*.csv`, read by the scorecard: one row is a claim.\n"
        + _table(["column", "meaning"], [[f"`{name}`", text] for name, text in CLAIM.items()])
    )


def measures_table() -> str:
    """The table of measures in `docs/method.md`, which a test compares with the page."""
    head = ["measure", "label", "unit", "definition", "formula", "defined in"]
    rows = [
        [f"`{m.name}`", m.label, m.unit, m.definition, m.formula, m.source]
        for m in MEASURES.values()
    ]
    return _table(head, rows)


def _files_section(name: str, table: Table) -> str:
    key = ", ".join(f"`{column}`" for column in table.key)
    rows = [
        [f"`{column}`", _arrow_text(str(spec.type)), spec.meaning, "yes" if spec.optional else ""]
        for column, spec in table.columns.items()
    ]
    about = f"\n## {name}\n\n`{table.path}`: one row is {table.row}. Key: {key}.\n"
    return about + _table(["column", "type", "meaning", "may be missing"], rows)


def _arrow_text(name: str) -> str:
    """Name of an Arrow type without its field names."""
    return name.replace("list<element: ", "list<").replace("list<item: ", "list<")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _one_line(text: str) -> str:
    return " ".join(text.split())


PAGES: dict[Path, Callable[[], str]] = {
    Path("docs/config.md"): config_page,
    Path("docs/files.md"): files_page,
    Path("docs/power.md"): power_page,
    Path("resources/config.schema.json"): lambda: json.dumps(config_schema(), indent=2) + "\n",
    Path("docs/judges.md"): judges_page,
    DEFINITION: apptainer_definition,
}
"""What is generated, by its path in the project's folder."""


def main() -> None:
    """Write all pages into the current folder."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for path, page in PAGES.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(), encoding="utf-8")
        log.info("wrote %s", path)


if __name__ == "__main__":
    main()
