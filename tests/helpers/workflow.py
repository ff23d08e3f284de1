"""The workflow as Snakemake's own parser sees it: rules and their slots, in order."""

import ast
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from snakemake.parser import parse
from snakemake.sourcecache import LocalSourceFile

from helpers.checkout import REPO

TARGETS = ("targets", "planning")
"""Stages whose rules are targets by name and write no file."""


class Slot(NamedTuple):
    """A directive of a rule: its name, and its strings as they stand in the source."""

    name: str
    strings: tuple[str, ...]
    keywords: tuple[str, ...]


class ParsedRule(NamedTuple):
    """A rule: its name, stage (file in rules/), docstring, and slots in the order of the source."""

    name: str
    stage: str
    docstring: str
    slots: tuple[Slot, ...]

    def strings(self, name: str) -> tuple[str, ...]:
        """Strings in a slot; none if the rule does not have it."""
        return next((slot.strings for slot in self.slots if slot.name == name), ())

    def keywords(self, name: str) -> tuple[str, ...]:
        """Keyword arguments of a slot."""
        return next((slot.keywords for slot in self.slots if slot.name == name), ())


@cache
def parsed_rules() -> tuple[ParsedRule, ...]:
    """Every rule in rules/, stage by stage; not those that `use` another one's slots."""
    paths = sorted((REPO / "rules").glob("*.smk"))
    return tuple(rule for path in paths for rule in _rules_of(path))


def made_by(name: str) -> ParsedRule:
    """The rule of a name."""
    return next(rule for rule in parsed_rules() if rule.name == name)


def _rules_of(path: Path) -> list[ParsedRule]:
    def opened(source: LocalSourceFile) -> object:
        return Path(source.get_path_or_uri(secret_free=True)).open()

    workflow = SimpleNamespace(sourcecache=SimpleNamespace(open=opened))
    code, _ = parse(LocalSourceFile(path.as_posix()), workflow, {})
    functions = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef)]
    calls = [[each for each in f.decorator_list if isinstance(each, ast.Call)] for f in functions]
    own = [found for found in calls if "userule" not in {ast.unparse(c.func)[9:] for c in found}]
    return [_rule(path.stem, found) for found in own if found]


def _rule(stage: str, calls: list[ast.Call]) -> ParsedRule:
    slots = [_slot(call) for call in calls]
    name = next(s for s in slots if s.name == "rule").strings[0]
    docstring = next((s.strings[0] for s in slots if s.name == "docstring"), "")
    inner = tuple(s for s in slots if s.name not in ("rule", "docstring", "norun"))
    return ParsedRule(name, stage, docstring, inner)


def _slot(call: ast.Call) -> Slot:
    assert isinstance(call.func, ast.Attribute)
    constants = [node for node in ast.walk(call) if isinstance(node, ast.Constant)]
    found = tuple(node.value for node in constants if isinstance(node.value, str))
    return Slot(call.func.attr, found, tuple(word.arg or "" for word in call.keywords))
