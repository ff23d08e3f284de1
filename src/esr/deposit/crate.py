"""The RO-Crate: a Workflow Run Crate with the bundle, the workflow, figures and scorecard.

Profiles: RO-Crate 1.1, Workflow RO-Crate 1.0, Process Run Crate 0.5, Workflow Run Crate 0.5
(https://w3id.org/ro/wfrun/workflow/0.5). The run of the study is one action: its instrument is the
Snakefile, its objects are configuration, prompts and claims, its results bundle, figures, tables.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from esr.deposit.about import MIT, About, Agent, is_open
from esr.provenance import file_digest

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
MEDIA = {
    ".csv": "text/csv",
    ".gz": "application/gzip",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".md": "text/markdown",
    ".yaml": "application/yaml",
}
BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
PAPER = "https://arxiv.org/abs/2602.06941"


def write_crate(
    folder: Path,
    about: About,
    workflow: Mapping[str, Path],
    inputs: Mapping[str, Path],
    results: Mapping[str, Path],
    described: Mapping[str, str],
) -> None:
    """Write a crate.

    Args:
        folder: The crate, which must not exist.
        about: Facts about the study.
        workflow: Files of the workflow by their path in the crate, with `Snakefile`.
        inputs: What the study read.
        results: What it made, with `bundle.tar.gz`.
        described: Descriptions of files, by their path in the crate.
    """
    crate = ROCrate(gen_preview=False, version="1.1")
    crate.name = about.title
    crate.description = description(about)
    crate.datePublished = about.date
    crate.keywords = "activation steering, sparse autoencoders, language models, reproducibility"
    software = _licence(crate)
    crate.license = software if is_open(about) else _terms(crate)
    authors = [_agent(crate, author) for author in about.authors]
    crate.creator = _one(authors)
    crate.root_dataset["author"] = _one(authors)
    crate.root_dataset["publisher"] = authors[0]
    crate.root_dataset["identifier"] = about.name
    _readme(crate, about)
    _profiles(crate)
    made = {
        path: crate.add_file(source, path, properties=_facts(source, described.get(path, path)))
        for path, source in {**inputs, **results}.items()
    }
    steps = _workflow(crate, about, workflow, authors, software)
    action = _run(crate, about)
    action["instrument"] = steps
    action["agent"] = authors[0]
    action["object"] = [*(made[path] for path in inputs), *_models(crate, about)]
    action["result"] = [made[path] for path in results]
    crate.root_dataset["mentions"] = action
    crate.root_dataset["citation"] = _paper(crate)
    crate.write(folder)


def _run(crate: ROCrate, about: About) -> Any:
    """The run of the study, as an action."""
    return crate.add(
        ContextEntity(
            crate,
            "#run",
            {
                "@type": "CreateAction",
                "name": f"Run of study {about.study}",
                "description": f"`snakemake --config study={about.study} -- all` at revision "
                f"{about.git}, configuration {about.config}, seeds {dict(about.seeds)}.",
                "endTime": about.date,
                "actionStatus": "http://schema.org/CompletedActionStatus",
            },
        )
    )


def _paper(crate: ROCrate) -> Any:
    """The paper that the study reproduces."""
    return crate.add(
        ContextEntity(
            crate,
            PAPER,
            {
                "@type": "ScholarlyArticle",
                "name": "Endogenous Resistance to Activation Steering in Language Models",
            },
        )
    )


def description(about: About) -> str:
    """What the deposit is, in two sentences or three."""
    models = ", ".join(model.label for model in about.models)
    text = (
        f"Results of study `{about.study}` on Endogenous Steering Resistance: every trial, "
        f"response, judgment and score, and the workflow that made them. Models: {models}."
    )
    if about.is_organism:
        text += (
            " The models are planted organisms, tiny Llamas whose truth is known: the results are "
            "evidence about the pipeline, and say nothing about language models."
        )
    return text


def _readme(crate: ROCrate, about: About) -> None:
    text = (
        f"# {about.title}\n\n{description(about)}\n\n`ro-crate-metadata.json` describes every file "
        "(RO-Crate 1.1, profile Workflow Run Crate 0.5). In a checkout of esr,\n\n"
        "```sh\nuv run python -m esr.bundle import bundle.tar.gz\n```\n\n"
        "takes the results back, and every figure is rebuilt from them without a GPU.\n"
    )
    facts = {"name": "README.md", "encodingFormat": "text/markdown", "about": crate.root_dataset}
    crate.add_file(io.StringIO(text), "README.md", properties=facts)


def _facts(source: Path, text: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "name": source.name,
        "description": text,
        "contentSize": str(source.stat().st_size),
        "sha256": file_digest(source),
    }
    media = MEDIA.get(source.suffix, "text/plain")
    return facts | {"encodingFormat": media}


def _licence(crate: ROCrate) -> Any:
    properties = {
        "@type": "CreativeWork",
        "name": "MIT License",
        "description": "Of software, tables and figures. Responses are also under the terms of the "
        "models that wrote them; see the dataset card.",
    }
    return crate.add(ContextEntity(crate, MIT, properties))


def _terms(crate: ROCrate) -> Any:
    properties = {
        "@type": "CreativeWork",
        "name": "Terms of the models",
        "description": "Software, tables and figures are under the MIT License, responses under "
        "the terms of those who wrote them; see the models, and the dataset card.",
    }
    return crate.add(ContextEntity(crate, "#terms", properties))


def _agent(crate: ROCrate, author: Agent) -> Any:
    identifier = author.orcid or "#" + "-".join(author.name.lower().split())
    kind = "Person" if author.is_person else "Organization"
    return crate.add(ContextEntity(crate, identifier, {"@type": kind, "name": author.name}))


def _profiles(crate: ROCrate) -> None:
    named = [
        crate.add(
            ContextEntity(
                crate,
                address,
                {"@type": ["CreativeWork", "Profile"], "name": name, "version": version},
            )
        )
        for address, (name, version) in PROFILES.items()
    ]
    crate.root_dataset["conformsTo"] = named


def _workflow(
    crate: ROCrate,
    about: About,
    files: Mapping[str, Path],
    authors: Sequence[Any],
    licence: Any,
) -> Any:
    main = crate.add_workflow(
        files["Snakefile"],
        "Snakefile",
        main=True,
        lang="snakemake",
        lang_version=about.versions.get("snakemake"),
        properties={
            "name": about.software["title"],
            "version": f"{about.software['version']} ({about.git})",
            "description": "The workflow: models, SAEs, prompts and judges in; figures out.",
            "encodingFormat": "text/plain",
        },
    )
    main["creator"] = _one(authors)
    main["author"] = _one(authors)
    main["conformsTo"] = {"@id": BIOSCHEMAS}
    main["license"] = licence
    parts = [
        crate.add_file(source, path, properties=_facts(source, f"Part of the workflow: {path}"))
        for path, source in files.items()
        if path != "Snakefile"
    ]
    main["hasPart"] = _one(parts)
    main["softwareRequirements"] = [
        crate.add(
            ContextEntity(
                crate,
                f"https://pypi.org/project/{name}/{version}/",
                {
                    "@type": "SoftwareApplication",
                    "name": name,
                    "version": version,
                    "url": f"https://pypi.org/project/{name}/{version}/",
                },
            )
        )
        for name, version in about.versions.items()
        if name != "esr"  # the workflow itself, which no index has
    ]
    return main


def _models(crate: ROCrate, about: About) -> list[Any]:
    """Models as inputs of the run, by their address on the Hub or their name."""
    found = []
    for model in about.models:
        if model.base is not None:
            continue  # made by the run
        facts: dict[str, Any] = {
            "@type": "CreativeWork",
            "name": model.label,
            "description": f"Language model {model.source}. Terms: {model.licence.name}.",
            "version": model.revision or "by the checksums in the bundle's manifests",
        }
        address = f"#model-{model.name}"
        if model.revision is not None:
            address = f"https://huggingface.co/{model.source}/tree/{model.revision}"
        if model.licence.link:
            facts["license"] = {"@id": model.licence.link}
        found.append(crate.add(ContextEntity(crate, address, facts)))
    return found


def _one(values: Sequence[Any]) -> Any:
    """A list, or its only value, as the standard recommends."""
    return values[0] if len(values) == 1 else list(values)
