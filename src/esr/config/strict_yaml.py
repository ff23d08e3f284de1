"""Strict reading of YAML: a key that is given twice is an error, not a choice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from esr.errors import EsrError
from esr.plain_yaml import LOADER


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    PyYAML lets the last of equal keys win, so that a copied model, arm or setting silently replaces
    the first. Here it is an error. A merge key (`<<: *other`) may be overridden, as in YAML.

    Raises:
        EsrError: no such file, not UTF-8, not YAML, or a key that is given twice; the message
            names the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise EsrError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise EsrError(f"{path}: cannot be read: {error.strerror}") from None
    loader = LOADER(text)
    try:
        node = loader.get_single_node()
        for line in _repeated_keys(node):
            raise EsrError(f"{path}, {line}")
        return None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        raise EsrError(f"{path}{where}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise EsrError(f"{path}: not valid YAML: {error}") from None
    finally:
        loader.dispose()


def _repeated_keys(root: Any) -> Iterator[str]:
    """Describe every key that occurs twice in one mapping."""
    # Before construction: afterwards, merged keys are indistinguishable from a block's own.
    seen: set[int] = set()
    nodes = [] if root is None else [root]
    while nodes:
        node = nodes.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
            continue
        first: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            nodes.append(value)
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            name = (key.tag, key.value)
            if name in first:
                yield (
                    f"line {line}: `{key.value}` is given twice in one block, first in line "
                    f"{first[name]}; remove or rename one of them"
                )
            first[name] = line
