"""Stands in for torchvision, which envs/serve-cpu leaves out: models that see import it.

Whatever is imported from it is there, and of no use; text never calls it.
"""

import importlib.abc
import importlib.machinery
import sys
import types
from unittest.mock import MagicMock

__version__ = "0.28.0"  # of envs/serve


class _Anything(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        inside = fullname.startswith(f"{__name__}.")
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if inside else None

    def create_module(self, _: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        module.__getattr__ = lambda _: MagicMock()  # pyrefly: ignore[bad-assignment]


sys.meta_path.append(_Anything())
