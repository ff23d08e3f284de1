"""Putting a deposit together from the bundle and the results of a study."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from esr.bundle.unpack import import_bundle, read_manifest
from esr.config import Config
from esr.deposit.about import About, about, day_of
from esr.deposit.adapters import Adapter, write_adapter
from esr.deposit.crate import write_crate
from esr.deposit.dataset import write_dataset
from esr.deposit.logbook import write_logbook
from esr.deposit.tables import parts_of
from esr.docs_text import OTHER_FILES
from esr.errors import EsrError, full_disk, is_full
from esr.figures.catalogue import ALL_FIGURES

BUNDLE = "bundle.tar.gz"
TRAINING = ("learning_rate", "lr_scheduler", "optimizer", "num_epochs", "micro_batch_size", "seed")
"""Settings of a training that a card shows, where the study has them."""


@dataclass(frozen=True)
class Sources:
    """Files that a deposit is made from, by what they are to the study.

    Attributes:
        bundle: `bundle.tar.gz`.
        scorecard: `scorecard.csv`.
        results: Figures, tables and numbers, below `results/<study>/`.
        inputs: What the study read, relative to the project.
        workflow: Files of the workflow, relative to the project; with `Snakefile`.
        citation: CITATION.cff.
        licences: Terms of models.
    """

    bundle: Path
    scorecard: Path
    results: Sequence[Path]
    inputs: Sequence[Path]
    workflow: Sequence[Path]
    citation: Path
    licences: Path


def write_deposit(folder: Path, config: Config, sources: Sources, root: Path) -> About:
    """Write a deposit.

    Args:
        folder: The deposit; an earlier one in its place is replaced.
        config: The study.
        sources: Its files.
        root: Folder `results/<study>/` of the project.

    Returns:
        What the deposit says about itself.

    Raises:
        EsrError: the bundle is damaged or of another study, or the disk is full.
    """
    manifest = read_manifest(sources.bundle)
    if manifest.esr.study != config.study:
        raise EsrError(
            f"{sources.bundle} is of study {manifest.esr.study!r}, not of {config.study!r}; run "
            f"`snakemake --config study={config.study} -- bundle`"
        )
    day = day_of(manifest.esr.git, sources.bundle)
    facts = about(config, manifest, sources.citation, sources.licences, day)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        figures = sorted({path.stem for path in sources.results if path.stem in ALL_FIGURES})
        scorecard = pd.read_csv(sources.scorecard, keep_default_na=True)
        write_logbook(folder / "logbook", facts, scorecard, figures)
        with tempfile.TemporaryDirectory(prefix=".deposit-", dir=root) as scratch:
            unpacked = Path(scratch)
            files = import_bundle(sources.bundle, unpacked)
            own = unpacked / "results" / config.study
            rows = write_dataset(
                folder / "dataset", facts, parts_of([unpacked / f for f in files], own)
            )
            for adapter in adapters_of(config, facts, own):
                write_adapter(folder / f"adapters/{adapter.model.name}", facts, adapter)
        _crate(folder / "crate", facts, sources, root)
        (folder / "README.md").write_text(readme(facts, rows), encoding="utf-8")
    except OSError as error:
        if is_full(error):
            raise full_disk(error, folder) from error
        raise
    return facts


def adapters_of(config: Config, facts: About, own: Path) -> Iterable[Adapter]:
    """Adapters of the study, with their files in the unpacked bundle."""
    for name, tuned in config.finetuned.items():
        training = config.finetune.training_of(tuned.training).model_dump(mode="json")
        place = own / name / "finetuning"
        yield Adapter(
            next(model for model in facts.models if model.name == name),
            place / "adapter",
            place / "masks.json",
            place / "training.csv",
            tuned.share,
            {key: training[key] for key in TRAINING if key in training},
        )


def _crate(folder: Path, facts: About, sources: Sources, root: Path) -> None:
    results = {BUNDLE: sources.bundle, "scorecard.csv": sources.scorecard}
    results |= {path.relative_to(root).as_posix(): path for path in sources.results}
    inputs = places_of(sources.inputs)
    workflow = {path.as_posix(): path for path in sources.workflow if path.as_posix() not in inputs}
    write_crate(folder, facts, workflow, inputs, results, descriptions(results))
    link = folder / BUNDLE
    link.unlink()
    place(sources.bundle, link)


def places_of(inputs: Iterable[Path]) -> dict[str, Path]:
    """Inputs of a study by their path in the crate.

    That is the path in the project (the current folder), or `inputs/<number>/<name>` for a file
    outside of it.
    """
    found: dict[str, Path] = {}
    for path in inputs:
        inside = Path(os.path.normpath(Path().absolute() / path))
        try:
            place = inside.relative_to(Path().absolute())
        except ValueError:
            place = Path(f"inputs/{len(found)}/{path.name}")
        found[place.as_posix()] = path
    return found


def descriptions(results: Iterable[str]) -> dict[str, str]:
    """What each file is, by its path: that of docs/files.md, or the title of a figure."""
    known = {}
    for names, text in OTHER_FILES.items():
        first, *others = names.split(", ")
        known[first] = text
        known |= {str(Path(first).with_suffix(end)): text for end in others if end[0] == "."}
    found = {}
    for path in results:
        figure = ALL_FIGURES.get(Path(path).stem) if path.startswith("figures/") else None
        table = f"Table {Path(path).stem} of the study (docs/files.md)."
        found[path] = (
            known.get(path, table) if figure is None else f"{figure.title}. {figure.shows}"
        )
    return found


def place(source: Path, target: Path) -> None:
    """Put a file in a second place without a second copy, where the file system can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def readme(facts: About, rows: Mapping[str, int]) -> str:
    """What is where, and what to do with it."""
    adapters = [model.name for model in facts.models if model.base]
    made = f"| `adapters/` | model repositories of {len(adapters)} LoRA adapters, with cards |\n"
    return (
        f"# Deposit of study {facts.study}\n\n{facts.title}. Revision `{facts.git}`.\n\n"
        "| folder | what |\n|---|---|\n"
        "| `crate/` | RO-Crate (Workflow Run Crate 0.5): bundle, workflow, figures, scorecard |\n"
        f"| `dataset/` | dataset for the Hugging Face Hub: {len(rows)} tables, "
        f"{sum(rows.values()):,} rows, card, Croissant metadata |\n"
        + (made if adapters else "")
        + "| `logbook/` | a page a claim, in the format of Trackio's logbooks |\n\n"
        "Nothing has left this machine. To publish it, from the project's folder:\n\n"
        f"```sh\nuv run esr upload --study {facts.study} --to hub --owner <name>\n"
        f"uv run esr upload --study {facts.study} --to zenodo\n```\n\n"
        "Any checkout of esr takes the results back:\n\n"
        f"```sh\nuv run python -m esr.bundle import crate/{BUNDLE}\n```\n"
    )
