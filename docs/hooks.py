"""Pages of the library reference: one a package of `esr`, from its docstrings (mkdocs hook)."""

import gc
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

SOURCE = Path(__file__).parents[1] / "src"
SHARED = "esr"
"""Page of the modules that stand beside the stages."""


def modules(folder: Path, name: str) -> Iterator[str]:
    """Names of a package and of all public modules in it, in the order of their names."""
    yield name
    for module in pkgutil.iter_modules([str(folder)]):
        inner = f"{name}.{module.name}"
        if module.name.startswith("_"):
            continue
        if module.ispkg:
            yield from modules(folder / module.name, inner)
        else:
            yield inner


def reference() -> dict[str, list[str]]:
    """Modules by page: a page a stage, and one of the modules that all stages use."""
    found: dict[str, list[str]] = {}
    for name in modules(SOURCE / SHARED, SHARED):
        _, *rest = name.split(".")
        is_stage = rest and (SOURCE / SHARED / rest[0]).is_dir()
        found.setdefault(rest[0] if is_stage else SHARED, []).append(name)
    return found


def on_startup(command: Literal["build", "gh-deploy", "serve"], dirty: bool) -> None:
    """Collect no garbage while the site is built once: of what is made, nearly all is kept."""
    if command == "build":
        gc.disable()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a generated page for each entry of `reference`."""
    for page, names in reference().items():
        title = page if page == SHARED else f"{SHARED}.{page}"
        text = f"# {title}\n\n" + "\n".join(f"::: {name}\n" for name in names)
        files.append(File.generated(config, f"api/{page}.md", content=text))
    return files
