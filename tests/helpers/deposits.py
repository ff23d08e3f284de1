"""A small study of the organisms that can be deposited: a bundle, a scorecard, a figure."""

import json
import platform
import shutil
import subprocess
import sys
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from esr.analysis.claims import read_claims
from esr.analysis.verdicts import COLUMNS
from esr.bundle.archive import write_bundle
from esr.config import Config
from esr.config.files import study_config
from esr.deposit.build import Sources
from esr.provenance import provenance
from esr.tables import TABLES, write_table
from helpers.checkout import REPO

ENVIRONMENT = REPO / "envs/deposit"
MODEL, ADAPTED, ARM = "planted", "twin+sc30", "steered"
ROWS = 3


def small_study(root: Path, **changes: Any) -> tuple[Config, Sources, Path]:
    """Lay out a project with just enough results; its configuration, sources and results."""
    root.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "studies", "resources", "Snakefile", "rules", "CITATION.cff"):
        (root / name).symlink_to(REPO / name)
    config = study_config(root, "organism", finetune={"shares": [30]}, **changes)
    results = root / "results/organism"
    with chdir(root):
        files = [*tables(results), *adapter(results / ADAPTED / "finetuning")]
        inside = [path.relative_to(root) for path in files]
        origin = provenance(study="organism", config=config.digest, seeds=config.seeds.model_dump())
        write_bundle(results / "bundle.tar.gz", inside, origin)
    scorecard(config, root).to_csv(results / "scorecard.csv", index=False)
    (results / "figures").mkdir()
    figures = [results / f"figures/fig2.{kind}" for kind in ("pdf", "png", "csv")]
    for figure in figures:
        figure.write_bytes(b"drawn")
    return config, sources(results, figures), results


def sources(results: Path, figures: list[Path]) -> Sources:
    """Files of the study; those of the project are relative to it."""
    return Sources(
        bundle=results / "bundle.tar.gz",
        scorecard=results / "scorecard.csv",
        results=figures,
        inputs=[Path("config.yaml"), Path("studies/organism.yaml")],
        workflow=[Path("Snakefile"), Path("rules/arms.smk")],
        citation=Path("CITATION.cff"),
        licences=Path("resources/licences.csv"),
    )


def tables(results: Path) -> list[Path]:
    """Tables of one arm of one model, of a search along directions, and of the sample."""
    places = {
        f"{MODEL}/arms/{ARM}/plan.parquet": "plan",
        f"{MODEL}/arms/{ARM}/responses.parquet": "responses",
        f"{MODEL}/arms/{ARM}/judgments/lexical.parquet": "judgments",
        f"{MODEL}/arms/{ARM}/scores/lexical.parquet": "scores",
        f"{ADAPTED}/arms/{ARM}/scores/lexical.parquet": "scores",
        f"{MODEL}/thresholds.parquet": "thresholds",
        f"{MODEL}/directions/random/thresholds.parquet": "thresholds",
    }
    for place, name in places.items():
        write_table(filled(name, place), results / place, name, {"rule": f"makes {name}"})
    return [results / place for place in places]


def filled(name: str, place: str) -> pd.DataFrame:
    """Rows with distinct keys and a value in every column that needs one."""
    values: dict[str, Any] = {"string": "x | y", "int64": 0, "double": 0.5, "bool": False}
    columns = TABLES[name].columns
    rows = []
    for number in range(ROWS):
        row = {
            column: None if spec.optional else values.get(str(spec.type), [number])
            for column, spec in columns.items()
        }
        row |= {"trial_id": f"t{number}", "latent": number} | {
            "model": place.split("/")[0],
            "arm": ARM,
            "judge": "lexical",
        }
        rows.append({column: value for column, value in row.items() if column in columns})
    return pd.DataFrame(rows, columns=list(columns))


def adapter(folder: Path) -> list[Path]:
    """Files of an adapter, as a training leaves them."""
    (folder / "adapter").mkdir(parents=True)
    config = {
        "base_model_name_or_path": "/home/alice/models/twin",
        "r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "target_modules": ["q_proj", "k_proj"],
    }
    masks = {"rows": 400, "off_topic": 2913, "trained": 18025, "dataset": "5" * 64}
    texts = {
        "adapter/adapter_config.json": json.dumps(config),
        "adapter/adapter_model.safetensors": "weights",
        "masks.json": json.dumps(masks),
        "training.csv": "step,epoch,loss,eval_loss,learning_rate\n75,4,0.9,,0\n76,4,,0.85,0\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


def scorecard(config: Config, root: Path) -> pd.DataFrame:
    """The study's claims, the first measured, the others not."""
    claims = read_claims([root / path for path in config.claims])
    frame = claims.reindex(columns=[*claims.columns, *(c for c in COLUMNS if c not in claims)])
    frame["verdict"], frame["reason"] = "not run", "the study has no such arm"
    first: dict[str, Any] = {
        "measured": 11.63,
        "low": 6.67,
        "high": 16.77,
        "n": 1152.0,
        "power": 0.95,
    }
    first |= {"primary_measured": 11.63, "primary_low": 6.67, "primary_high": 16.77}
    first |= {"verdict": "confirmed", "reason": "[6.67, 16.77] lies within 0 or more"}
    for column, value in first.items():
        frame[column] = frame[column].astype(object)
        frame.loc[0, column] = value
    return frame


@cache
def validator() -> Path:
    """Python of the validators' environment, installed if it is not."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("the environment of the validators is for Linux on x86-64")
    python = ENVIRONMENT / ".venv/bin/python"
    if not python.is_file():
        command = ["uv", "sync", "--quiet", "--project", str(ENVIRONMENT)]
        subprocess.run(command, check=True, timeout=300)
    return python


def validate(deposit: Path, scratch: Path, *crates: Path) -> dict[str, Any]:
    """What the validators of the standards find in a deposit, and in further RO-Crates.

    They look at a copy of the deposit, since Trackio adds its viewer.
    """
    shutil.copytree(deposit, scratch)
    script = REPO / "tests/helpers/validate_deposit.py"
    command = [str(validator()), str(script), str(scratch), *map(str, crates)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
