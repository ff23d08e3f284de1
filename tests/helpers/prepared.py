"""A folder in which the organism study has just enough results to be steered by hand."""

import json
from pathlib import Path

import pandas as pd

from esr.assets.checkpoints import describe_local_model
from esr.assets.sae import from_saelens
from esr.assets.saelens import load_saelens
from esr.config import SaeConfig
from esr.tables import TABLES, write_table
from helpers.checkout import REPO
from helpers.organism import FOLDER

MODEL = "planted"
LATENT, THRESHOLD = 435, 327.2
"""A latent of fishing, and the boost that the shipped study finds for it."""
UNSEARCHED = 12
FAILED = 131
DETECTORS = (365, 81)
MEANS = {365: 0.5, 81: 2.0}
"""Mean activations on unsteered answers."""


def prepare(folder: Path) -> Path:
    """Lay out protocol, studies and resources, and what `prepare_model` and others make."""
    for name in ("config.yaml", "studies", "resources"):
        (folder / name).symlink_to(REPO / name)
    results = folder / "results/organism" / MODEL
    (results / "assets").mkdir(parents=True)
    source = Path("resources/organisms/planted/model")
    manifest = describe_local_model(FOLDER / "model") | {"source": source.as_posix()}
    (results / "assets/model.json").write_text(json.dumps(manifest))
    sae = from_saelens(load_saelens(SaeConfig(path=FOLDER / "sae"))[0])
    sae.save(results / "assets/sae.safetensors")
    return folder


def add_tables(folder: Path) -> None:
    """Add thresholds, labels and detectors."""
    results = folder / "results/organism" / MODEL
    rows = [(LATENT, THRESHOLD, "converged"), (FAILED, None, "out_of_bounds")]
    thresholds = _table("thresholds", len(rows))
    thresholds["latent"] = [latent for latent, _, _ in rows]
    thresholds["threshold"] = [value for _, value, _ in rows]
    thresholds["status"] = [status for _, _, status in rows]
    write_table(thresholds, results / "thresholds.parquet", "thresholds", {})
    labels = pd.DataFrame(
        {"model": [MODEL], "latent": [LATENT], "label": ["fishing: fish, cast, bait"]}
    )
    write_table(labels, results / "labels.parquet", "labels", {})
    detectors = _table("detectors", 3)
    detectors["latent"] = [*DETECTORS, UNSEARCHED]
    detectors["detector"] = [True, True, False]
    write_table(detectors, results / "detectors/detectors.parquet", "detectors", {})
    means = _table("means", len(MEANS)).assign(latent=MEANS.keys(), mean=MEANS.values())
    write_table(means, results / "detectors/means.parquet", "means", {})


def _table(name: str, rows: int) -> pd.DataFrame:
    """Rows with a value of the right type in every column that needs one."""
    values = {"string": "x", "int64": 0, "double": 0.0, "bool": False}
    columns = TABLES[name].columns.items()
    filled = {column: None if spec.optional else values[str(spec.type)] for column, spec in columns}
    return pd.DataFrame([filled] * rows)
