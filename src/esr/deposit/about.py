"""What a deposit says about itself: people, revision, date, models and their licences."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from esr.bundle.manifest import Manifest
from esr.config import Config
from esr.errors import EsrError
from esr.handwritten import read_csv_rows
from esr.plain_yaml import load_yaml

COLUMNS = ["source", "licence", "hub", "link"]


class Agent(NamedTuple):
    """An author: a person, or an organisation where CITATION.cff names no person."""

    name: str
    is_person: bool
    orcid: str | None = None


class Licence(NamedTuple):
    """Terms of a model: name, id on the Hub, address. Empty where they are not known here."""

    name: str
    hub: str
    link: str


MIT = "https://spdx.org/licenses/MIT"
UNKNOWN = Licence("not known here: see the page of the model", "", "")


@dataclass(frozen=True)
class DepositedModel:
    """A model of the study: name, label, source, commit, terms; the base of an adapter."""

    name: str
    label: str
    source: str
    revision: str | None
    licence: Licence
    base: str | None = None


@dataclass(frozen=True)
class About:
    """Facts that every part of a deposit repeats.

    Attributes:
        study: Name of the study.
        title: Its title.
        git: Revision that wrote the bundle.
        config: Digest of the configuration.
        versions: Versions of the libraries.
        seeds: Seeds of the study.
        date: Day of the revision (ISO 8601).
        software: Title, version and licence of this software.
        authors: Its authors.
        models: Models of the study.
        judges: Judges by name, and the model of each that is one, else its kind.
        imported: Arms whose responses come from a file.
    """

    study: str
    title: str
    git: str
    config: str
    versions: Mapping[str, str]
    seeds: Mapping[str, int]
    date: str
    software: Mapping[str, str]
    authors: Sequence[Agent]
    models: Sequence[DepositedModel]
    judges: Mapping[str, str]
    imported: Sequence[str]

    @property
    def is_organism(self) -> bool:
        """Whether all models are planted organisms, which are about the pipeline alone."""
        return all("organisms/" in model.source for model in self.models)

    @property
    def name(self) -> str:
        """Name of the deposit, also of its repository."""
        return f"esr-{self.study}"


def is_open(about: About) -> bool:
    """Whether the whole dataset is under the MIT License.

    It is if all models are, and no responses were imported. Else the responses are bound by the
    terms of those who wrote them, and no licence of this project covers the dataset.
    """
    return {model.licence.hub for model in about.models} == {"mit"} and not about.imported


def about(config: Config, manifest: Manifest, citation: Path, licences: Path, date: str) -> About:
    """Collect the facts.

    Args:
        config: The study.
        manifest: That of the bundle.
        citation: CITATION.cff.
        licences: Table of the models' terms.
        date: Day of the revision.
    """
    origin: dict[str, Any] = manifest.esr.model_dump()
    cited = load_yaml(citation.read_text(encoding="utf-8"))
    terms = read_licences(licences)
    return About(
        study=config.study,
        title=config.title or f"Study {config.study}",
        git=manifest.esr.git,
        config=str(origin.get("config", "")),
        versions=origin.get("versions", {}),
        seeds=origin.get("seeds", {}),
        date=date,
        software={name: str(cited[name]) for name in ("title", "version", "license")},
        authors=[agent_of(author) for author in cited["authors"]],
        models=[_model(config, name, terms) for name in config.models],
        judges={
            name: getattr(judge, "model", judge.kind)
            for name, judge in config.judging.judges.items()
        },
        imported=[name for name, arm in config.arms.items() if arm.responses is not None],
    )


def agent_of(author: Mapping[str, str]) -> Agent:
    """An author of CITATION.cff."""
    names = [
        author[part] for part in ("given-names", "name-particle", "family-names") if part in author
    ]
    return Agent(" ".join(names) or author["name"], bool(names), author.get("orcid"))


def _model(config: Config, name: str, terms: Sequence[tuple[str, Licence]]) -> DepositedModel:
    base = config.base_of(name)
    settings = config.models[base]
    source = settings.source.removeprefix("./")
    if settings.is_local and not any(fnmatchcase(source, pattern) for pattern, _ in terms):
        source = Path(source).name  # its folder on this machine stays private
    return DepositedModel(
        name,
        config.models[name].label,
        source,
        settings.revision,
        licence_of(source, terms),
        base if name in config.finetuned else None,
    )


def read_licences(path: Path) -> list[tuple[str, Licence]]:
    """Patterns of sources and the terms of their models, in the order of the file.

    Raises:
        EsrError: other columns.
    """
    columns, rows, _ = read_csv_rows(path)
    if columns != COLUMNS:
        raise EsrError(f"licences: {path} has columns {columns}, needs {COLUMNS}")
    return [(row["source"], Licence(row["licence"], row["hub"], row["link"])) for row in rows]


def licence_of(source: str, terms: Sequence[tuple[str, Licence]]) -> Licence:
    """Terms of a model by its source; the first pattern that fits."""
    return next((found for pattern, found in terms if fnmatchcase(source, pattern)), UNKNOWN)


def day_of(revision: str, bundle: Path) -> str:
    """Day of a commit, so that equal inputs give equal bytes; else that of the bundle."""
    commit = revision.removesuffix("-dirty")
    command = ["git", "show", "-s", "--format=%cs", commit]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return datetime.fromtimestamp(bundle.stat().st_mtime, UTC).date().isoformat()
