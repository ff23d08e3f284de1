"""Make report/: the study as a static site that works from disk (open report/index.html).

Pages: summary with the scorecard, figures, tables, transcripts, graph, provenance. Transcripts are
in data/: index.js (one row a trial, in columns) and chunk-<i>.js (texts), as
`esr.report.transcripts` describes them. No page makes a request to another host.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from esr.agreement.drift import drift_note
from esr.agreement.failures import failure_note
from esr.analysis.claims_scope import no_claims_note
from esr.arms.files import ArmFiles, group_files
from esr.arms.restarts import read_phrases
from esr.config import Config
from esr.job import config_of, origin, output, start
from esr.report.jobs import compute_table
from esr.report.site import Picture, Study, build, copy_files, markdown
from esr.report.transcripts import (
    Row,
    full_bars,
    read_traces,
    read_trials,
    write_transcripts,
)
from esr.tables import read_provenance, read_tables

NOTES = {"drift": drift_note, "judge_failures": failure_note}
"""What the summary warns of, by the table that shows it."""


def pictures(job: Any) -> list[Picture]:
    """All figures with their captions and numbers."""
    found = []
    for (name, title), csv, caption in zip(
        job.params.figures.items(), job.input.figures, job.input.captions, strict=True
    ):
        found.append(
            Picture(
                name=name,
                title=title,
                caption=markdown(Path(caption).read_text(encoding="utf-8")),
                numbers=pd.read_csv(csv),
                script=f"scripts/figures/plot_{name}.py",
                files={kind: f"figures/{name}.{kind}" for kind in ("png", "pdf", "csv")},
                graph=f"graph.html#graph-{name}",
            )
        )
    return found


def trials(job: Any, arms: list[ArmFiles], traces: dict[str, Any]) -> Iterator[Row]:
    """Every trial of the study; those of the arm of the episodes with their activations."""
    config = config_of(job)
    phrases = read_phrases(Path(job.input.phrases))
    shown_last = [arm for arm in config.arms if config.arms[arm].over == "prompts"]
    for arm in sorted(arms, key=lambda each: each.arm in shown_last):
        read = traces.get(arm.model, {}) if arm.arm == config.episodes.arm else {}
        yield from read_trials(arm, phrases, read)


def facts(job: Any, config: Config, arms: list[ArmFiles]) -> dict[str, str]:
    """Where the results come from: code, versions, seeds, engine and judge as served."""
    scores = read_provenance(Path(job.input.scores[0]))
    judges = {str(read_provenance(Path(path)).get("judge", "")) for path in job.input.judgments}
    here = origin(job)
    found = {
        "Study": config.study,
        "Configuration": here["config"],
        "Scored at": scores.get("git", ""),
        "Report made at": here["git"],
        "Versions": ", ".join(f"{name} {v}" for name, v in scores.get("versions", {}).items()),
        "Seeds": ", ".join(f"{name} {seed}" for name, seed in here["seeds"].items()),
        "Judge as served": ", ".join(sorted(judges)),
    }
    for arm in arms:
        if arm.responses is not None:
            engine = read_provenance(arm.responses).get("engine")
            found.setdefault(f"Engine of {arm.model}", _as_text(engine))
    return found


def _as_text(value: Any) -> str:
    """Nested facts on one line, with checksums abbreviated."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_as_text(each)}" for name, each in value.items())
    text = str(value)
    return f"{text[:12]}…" if len(text) >= 32 and text.isalnum() else text


def main(job: Any) -> None:
    """Write the site from scratch."""
    config = config_of(job)
    folder = output(job)
    shutil.rmtree(folder, ignore_errors=True)
    copy_files([*job.input.pictures, *job.input.figures], folder / "figures")
    copy_files([*job.input.graphs, job.input.dependencies], folder / "graph")
    kinds = ("plans", "responses", "judgments", "scores")
    arms = group_files(*(getattr(job.input, kind) for kind in kinds))
    traces = read_traces(job.input.episodes, job.input.activations)
    labels = {name: model.label for name, model in config.models.items()}
    scales = {name: full_bars(traces.get(name, {})) for name in config.base_models}
    pages = {name: page for name, model in config.models.items() if (page := model.latent_pages)}
    found = trials(job, arms, traces)
    count = write_transcripts(folder / "data", found, labels, scales, pages)
    shown_tables = [*job.input.tables, *job.input.drift, *job.input.failures]
    tables = {Path(path).stem: pd.read_csv(path) for path in shown_tables}
    tables["sae_fit"] = read_tables(job.input.fits, "sae_fit")
    ledger = pd.read_csv(job.input.ledger[0]) if job.input.ledger else None
    models = {name: model.model_dump(mode="json") for name, model in config.models.items()}
    shown = ["label", "source", "revision", "parameters", "dtype", "steer_layer", "read_layer"]
    study = Study(
        name=config.study,
        title=config.title,
        level=config.statistics.level,
        models={name: {key: model[key] for key in shown} for name, model in models.items()},
        arms=config.model_dump(mode="json")["arms"],
        scorecard=pd.read_csv(job.input.scorecard),
        figures=pictures(job),
        tables=tables if ledger is None else {**tables, "ledger": ledger},
        compute=compute_table(job.params.records),
        dependencies=pd.read_csv(job.input.dependencies),
        origin=facts(job, config, arms),
        settings=yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False),
        deviations=markdown(Path(job.input.deviations).read_text(encoding="utf-8")),
        trials=count,
        ledger=ledger,
        warnings={name: note(tables[name]) for name, note in NOTES.items() if name in tables},
        claims_note=no_claims_note(job.input.claims, config.models),
        graphs={
            Path(path).stem: f"graph/{Path(path).name}"
            for path in job.input.graphs
            if path.endswith(".svg")
        },
        masks={
            labels[name]: json.loads(Path(path).read_text(encoding="utf-8"))
            for name, path in zip(config.finetuned, job.input.masks, strict=True)
        },
    )
    build(study, Path(job.input.templates[0]).parent, folder)


if __name__ == "__main__":
    main(start(snakemake))
