"""Files of a study and of the protocol."""

from pathlib import Path
from typing import Any

from esr.config.load import load, merge
from esr.config.strict_yaml import read_yaml
from esr.config.study import Config
from esr.errors import EsrError


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
