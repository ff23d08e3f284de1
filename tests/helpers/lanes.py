"""How xdist hands out tests: by file, and together what shares something that takes long."""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from helpers.beside import STUDY_TESTS

VLLM_TESTS = {
    "tests/engines/test_vllm.py",
    "tests/interactive/test_steer_vllm.py",
    "tests/workflow/test_local_judge.py",
}
"""Files that fork hosts of vLLM: a second process of pytest would import it once more."""


def lane(nodeid: str) -> str:
    """Name of what a test is handed out with."""
    if nodeid.startswith(STUDY_TESTS):
        return STUDY_TESTS
    file = nodeid.split("::")[0]
    return "vLLM" if file in VLLM_TESTS else file


class Lanes(LoadScopeScheduling):
    """Hands out tests by file, in their order, but those together that share a run or vLLM."""

    def _split_scope(self, nodeid: str) -> str:
        return lane(nodeid)


def in_lanes(config: pytest.Config, log: Any) -> Lanes:
    """Lanes in the order of the collection, in as many processes as `-n`."""
    config.option.loadscopereorder = False
    return Lanes(config, log)
