"""Strict reading of YAML that people write: a key that is given twice is an error, not a choice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from esr.config.load import load, merge
from esr.config.study import Config
from esr.errors import EsrError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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


def read_study_file(path: Path) -> dict[str, Any]:
    """Read the settings of a study or of the protocol.

    Raises:
        EsrError: as in `read_yaml`; no mapping at the top; an arm with `continued`, which is the
            name of `continue` in Python alone.
    """
    content = read_yaml(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise EsrError(f"{path}: has no keys at the top; write `key: value` lines")
    arms = content.get("arms")
    for name, arm in (arms if isinstance(arms, dict) else {}).items():
        if isinstance(arm, dict) and "continued" in arm:
            raise EsrError(f"{path}: arms.{name}.continued: unknown key; write `continue`")
    return content


def study_config(root: Path, study: str, **changes: Any) -> Config:
    """The configuration of a study as a run in the folder `root` has it, with changes."""
    files = [root / "config.yaml", root / "studies" / f"{study}.yaml"]
    return load(merge(*map(read_study_file, files), {"study": study}, changes))


def check_study_file(path: Path) -> None:
    """Check the file of a study, which its name identifies.

    Raises:
        EsrError: as in `read_study_file`; the file sets `study`, so that its results would go to
            the folder of another study.
    """
    if "study" in read_study_file(path):
        raise EsrError(
            f"{path}: remove `study`; the file name names the study, and `study` belongs in "
            "config.yaml or on the command line (--config study=...)"
        )


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
