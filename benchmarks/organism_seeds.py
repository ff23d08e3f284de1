"""Planted truths of the organisms over sampling seeds, in all four ways; makes organism_seeds.csv.

    uv run python benchmarks/organism_seeds.py results/organism 8 44 45 46

Takes thresholds, prompts and detectors from a finished organism study, so that the seeds of
sampling alone differ, and generates the first trials of each latent again with every seed. Both
judges grade all of them.

organism_seeds.csv has one row a truth, way of grading and seed (`all`: together): `truth`, `way`,
`seed`, `measure`, `unit`, `value` (difference, or rate of the unsteered arm), `low`, `high` (95 %),
`n` (trials, or pairs), `n_latents`, `status`, `holds` (whether the interval lies where the truth
does).
"""

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pandas as pd
import yaml

from esr.analysis.comparisons import compare, compare_unpaired
from esr.analysis.measures import summarise
from esr.analysis.ways import View, by_way, views
from esr.arms.plan import apply_condition, trial_seed
from esr.arms.responses import requests_of, responses_table
from esr.arms.restarts import read_phrases
from esr.arms.scores import score_trials, select
from esr.config import Config, load, merge
from esr.engines import open_engine, open_tokenizer, sampling_of
from esr.engines.journaled import generate_journaled
from esr.journal import Journal
from esr.judges import open_judge
from esr.judges.base import judge_responses
from esr.tables import read_table

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
ARMS = {
    "planted": ["steered", "meta-self-monitor", "ablate-otd", "unsteered"],
    "twin": ["steered"],
}
JUDGES = ["lexical", "sentences"]
MOST_UNSTEERED = 5.0
"""Highest rate (%) of second attempts in unsteered responses that counts as none."""
COLUMNS = ["truth", "way", "seed", "measure", "unit", "value", "low", "high", "n", "n_latents"]
COLUMNS += ["status", "holds"]


class Truth(NamedTuple):
    """What was planted: an arm against another, and the sign of the difference."""

    name: str
    measure: str
    treatment: tuple[str, str]
    baseline: tuple[str, str]
    sign: int


TRUTHS = [
    Truth("correction", "multi_attempt_rate", ("planted", "steered"), ("twin", "steered"), 1),
    Truth("recovery rate", "esr_rate", ("planted", "steered"), ("twin", "steered"), 1),
    Truth(
        "meta-prompt",
        "multi_attempt_rate",
        ("planted", "meta-self-monitor"),
        ("planted", "steered"),
        1,
    ),
    Truth(
        "dependence", "multi_attempt_rate", ("planted", "ablate-otd"), ("planted", "steered"), -1
    ),
]


def study() -> Config:
    """The organism study's configuration."""
    files = ("config.yaml", "studies/organism.yaml")
    return load(merge(*(yaml.safe_load((HERE.parent / name).read_text()) for name in files)))


def plans(
    config: Config, folder: Path, model: str, per_latent: int, seed: int
) -> Iterator[pd.DataFrame]:
    """Plans of the model's arms: the study's first trials of each latent, with other seeds."""
    steered = read_table(folder / model / "arms/steered/plan.parquet", "plan")
    number = steered.groupby("latent").cumcount()
    steered = steered.assign(
        seed=[trial_seed(seed, int(k), i) for k, i in zip(steered["latent"], number, strict=True)]
    )[number < per_latent]
    detectors = read_table(folder / model / "detectors/detectors.parquet", "detectors")
    ablated = detectors.loc[detectors["detector"], "latent"].tolist()
    for arm in ARMS[model]:
        plan = apply_condition(steered, config.arms[arm], ablated, config.steering.prompt)
        yield plan.assign(model=model, arm=arm)


def generate(
    config: Config, folder: Path, model: str, plan: pd.DataFrame, journal: Path
) -> pd.DataFrame:
    """Responses to a plan."""
    manifest = json.loads((folder / model / "assets/model.json").read_text())
    tokenizer = open_tokenizer(manifest)
    requests = requests_of(plan, tokenizer, config.generation.doubled_header)
    engine = open_engine(config, model, manifest, folder / model / "assets/sae.safetensors")
    with Journal(journal) as kept:
        done = generate_journaled(engine, requests, sampling_of(config, model), kept)
    return responses_table(plan, requests, done, tokenizer)


def grade(
    config: Config, plan: pd.DataFrame, responses: pd.DataFrame, replies: Path
) -> Iterator[pd.DataFrame]:
    """Scores of all trials by each judge."""
    phrases = read_phrases(config.judging.restart_phrases)
    for name in JUDGES:
        judge = open_judge(config.judging.judges[name], replies, config=config)
        judgments = judge_responses(plan, responses, judge, phrases, config.judged_alone)
        yield score_trials(plan, responses, judgments, phrases, name)


def truths(found: list[View], config: Config) -> pd.DataFrame:
    """Every truth in every way, on trials of one seed or of several."""
    how = {"level": config.statistics.level, "seed": config.statistics.seed}
    return by_way(found, lambda view: pd.DataFrame(_rows(view, how)))


def _rows(view: View, how: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for truth in TRUTHS:
        names = view.shown([truth.measure])
        treated, base = (
            select(view.scores, model=model, arm=arm).reset_index(drop=True)
            for model, arm in (truth.treatment, truth.baseline)
        )
        paired = truth.treatment[0] == truth.baseline[0]
        for name in names:
            row = (compare if paired else compare_unpaired)(base, treated, [name], **how).iloc[0]
            value, low, high = row["difference"], row["low"], row["high"]
            n = row["n_pairs"] if paired else len(treated) + len(base)
            sides = {"value": value, "low": low, "high": high, "status": row["status"]}
            holds = bool(low > 0 if truth.sign > 0 else high < 0)
            facts = {"truth": truth.name, "measure": name, "unit": row["unit"], "n": n}
            yield facts | sides | {"n_latents": treated["latent"].nunique(), "holds": holds}
    bare = select(view.scores, model="planted", arm="unsteered").reset_index(drop=True)
    for name in view.shown(["multi_attempt_rate"]):
        row = summarise(bare, [name], level=how["level"]).iloc[0]
        ends = {"value": row["estimate"], "low": row["low"], "high": row["high"]}
        facts = {"truth": "no cause", "measure": name, "unit": row["unit"], "n": row["n"]}
        facts |= {"status": row["status"], "n_latents": bare["latent"].nunique()}
        yield facts | ends | {"holds": bool(row["estimate"] <= MOST_UNSTEERED)}


def main(folder: Path, per_latent: int, seeds: list[int]) -> None:
    """Generate, grade and compare."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = study()
    graded: dict[int, dict[str, list[pd.DataFrame]]] = {}
    with TemporaryDirectory() as scratch:
        for seed in seeds:
            graded[seed] = {name: [] for name in JUDGES}
            for model in ARMS:
                for plan in plans(config, folder, model, per_latent, seed):
                    arm = plan["arm"].iloc[0]
                    place = Path(scratch) / f"{seed}-{model}-{arm}"
                    done = generate(config, folder, model, plan, place.with_suffix(".jsonl"))
                    for scores in grade(config, plan, done, place.with_suffix(".replies")):
                        graded[seed][scores["judge"].iloc[0]].append(scores)
                    log.info("%d %s %s: %d trials", seed, model, arm, len(plan))
    groups = {str(seed): [seed] for seed in seeds} | ({"all": seeds} if len(seeds) > 1 else {})
    parts = []
    for name, members in groups.items():
        first, second = (
            pd.concat([t for seed in members for t in graded[seed][judge]], ignore_index=True)
            for judge in JUDGES
        )
        parts.append(truths(views(first, second), config).assign(seed=name))
    table = pd.concat(parts, ignore_index=True)[COLUMNS]
    table.to_csv(HERE / "organism_seeds.csv", index=False, float_format="%.4g")
    log.info("%d of %d rows hold", table["holds"].sum(), len(table))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [int(seed) for seed in sys.argv[3:]])
