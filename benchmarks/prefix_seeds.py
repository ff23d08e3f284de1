"""Planted truths about prefixes, directions and clamped detectors over sampling seeds.

    uv run python benchmarks/prefix_seeds.py results/organism 8 44 45 46

Makes prefix_seeds.csv. Takes thresholds, prompts, detectors and their means, random sets and
directions from a finished organism study, samples the first trials of each latent of `planted`
again with every seed, and continues these texts as the study does. Both judges grade all trials, in
all four ways.

prefix_seeds.csv has one row a truth, way of grading and seed (`all`: together): `truth`, `way`,
`seed`, `measure`, `unit`, `value` (difference; relative change where the unit is `percent change`;
a rate of one arm), `low`, `high` (95 %), `n` (trials, or pairs), `n_latents`, `status`, `holds`
(whether the interval lies beyond `bound`, on its side; of `near`, within it), `bound`.
"""

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pandas as pd
from organism_seeds import JUDGES, grade, plans, study

from esr.analysis.comparisons import compare, compare_sets, compare_unpaired
from esr.analysis.measures import summarise
from esr.analysis.ways import View, by_way, views
from esr.arms.continuing import continuing_trials, off_topic_texts, on_topic_trials
from esr.arms.plan import apply_condition, trial_seed
from esr.arms.responses import requests_of, responses_table
from esr.arms.restarts import read_phrases
from esr.config import Config
from esr.detectors.means import read_means
from esr.engines import open_engine, open_tokenizer, sampling_of
from esr.engines.journaled import generate_journaled
from esr.journal import Journal
from esr.judges import open_judge
from esr.judges.base import judge_responses
from esr.tables import read_table

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
MODEL = "planted"
ARMS = [
    *("unsteered", "ablate-to-mean", "steered-random", "steered-random-impact"),
    *("prefix-steered", "prefix-unsteered", "prefix-ablated", "prefix-on-topic"),
    *("branch-steered", "branch-unsteered", "branch-ablated", "branch-half", "branch-on-topic"),
    *("branch-random-0", "branch-random-1", "branch-random-2"),
    *("correction-steered", "correction-unsteered", "matched-prefix"),
]
"""Arms after `steered`, each after those whose trials or texts it takes."""
FEWER = {"texts": 75, "samples": 1}
"""Texts at several cuts, of which the study continues more."""
RANDOM = [f"branch-random-{number}" for number in range(3)]
COLUMNS = ["truth", "way", "seed", "measure", "unit", "value", "low", "high", "n", "n_latents"]
COLUMNS += ["status", "holds", "bound"]

Tables = dict[str, pd.DataFrame]
"""Plan, responses, judgments and scores of an arm, the last two by the primary judge."""


@dataclass(frozen=True)
class Truth:
    """What was planted: an arm, or an arm against another, lies beyond a bound.

    `kind`: `paired`, `ratio` (the relative change of paired arms, percent), `unpaired`, `near`
    (unpaired, within the bound on either side), `sets` (the random sets against the baseline) or
    `arm` (its rate, which must not exceed the bound).
    """

    name: str
    measure: str
    arm: str
    against: str = ""
    bound: float = 0.0
    above: bool = True
    kind: Literal["paired", "ratio", "unpaired", "near", "sets", "arm"] = "paired"


RATE = "multi_attempt_rate"
TRUTHS = [
    Truth("prefix: text restarts", RATE, "prefix-unsteered", "prefix-steered", -50, kind="ratio"),
    Truth("prefix: no cause", RATE, "prefix-on-topic", bound=5, above=False, kind="arm"),
    Truth("prefix: dependence", RATE, "prefix-ablated", "prefix-steered", above=False),
    Truth("branch: text restarts", RATE, "branch-unsteered", "branch-steered", -50, kind="ratio"),
    Truth("branch: cause", RATE, "branch-on-topic", "branch-steered", above=False),
    Truth("branch: dependence", RATE, "branch-ablated", "branch-steered", above=False),
    Truth("branch: half of the detectors", RATE, "branch-half", "branch-steered", above=False),
    Truth("branch: specificity", RATE, "branch-random", "branch-ablated", kind="sets"),
    Truth(
        "recovery under steering",
        "first_score",
        "correction-steered",
        "branch-steered",
        kind="unpaired",
    ),
    Truth("recovery is resisted", "first_score", "correction-unsteered", "correction-steered"),
    Truth("on-topic text holds", "first_score", "matched-prefix", "correction-steered"),
    Truth("random directions", "first_score", "steered-random", "steered", 20),
    Truth("detectors at their mean", RATE, "ablate-to-mean", "steered", above=False),
    Truth(
        "random directions matched by impact",
        "first_score",
        "steered-random-impact",
        "steered",
        20,
        kind="near",
    ),
]


class Sampler:
    """Generates and grades arms of one seed, one after the other.

    Args:
        config: The organism study.
        folder: Its results.
        scratch: Folder of journals.
        per_latent: Trials of a latent or direction.
        seed: Of sampling.
    """

    def __init__(
        self, config: Config, folder: Path, scratch: Path, per_latent: int, seed: int
    ) -> None:
        """Open the tokenizer; engines are opened arm by arm."""
        self.per_latent, self.seed = per_latent, seed
        self.config, self.base, self.scratch = config, folder / MODEL, scratch
        self.manifest = json.loads((self.base / "assets/model.json").read_text(encoding="utf-8"))
        self.tokenizer = open_tokenizer(self.manifest)
        self.phrases = read_phrases(config.judging.restart_phrases)
        self.made: dict[str, Tables] = {}

    def add(self, arm: str, plan: pd.DataFrame) -> list[pd.DataFrame]:
        """Generate an arm and keep it for those that replay or continue it; its scores by judge."""
        plan = plan.assign(model=MODEL, arm=arm)
        responses = self.generate(arm, plan)
        scores = list(grade(self.config, plan, responses, self.scratch / f"{arm}.replies"))
        kept = {"plan": plan, "responses": responses, "scores": scores[0]}
        if arm == "steered":
            primary = self.config.judging.judges[JUDGES[0]]
            judge = open_judge(primary, self.scratch / "again.replies", config=self.config)
            kept["judgments"] = judge_responses(plan, responses, judge, self.phrases)
        self.made[arm] = kept
        return scores

    def generate(self, arm: str, plan: pd.DataFrame) -> pd.DataFrame:
        """Responses to a plan, as the study samples this arm."""
        config = self.config
        named = config.directions_of(arm)
        sets = [] if named is None else [self.base / f"directions/{named}/vectors.safetensors"]
        requests = requests_of(plan, self.tokenizer, config.generation.doubled_header)
        sae = self.base / "assets/sae.safetensors"
        engine = open_engine(config, MODEL, self.manifest, sae, sets)
        with Journal(self.scratch / f"{arm}.jsonl") as journal:
            done = generate_journaled(engine, requests, sampling_of(config, MODEL, arm), journal)
        return responses_table(plan, requests, done, self.tokenizer)

    def plan(self, arm: str) -> pd.DataFrame:
        """Plan of an arm, from the arms made so far."""
        settings = self.config.arms[arm]
        if settings.source is None:
            return apply_condition(self.drawn(arm), settings, (), self.config.steering.prompt)
        trials = self.made[settings.source]["plan"]
        continued = settings.continued
        if continued is not None and continued.where == "on_topic":
            texts = self.made[continued.arm]
            trials = on_topic_trials(trials, texts["plan"], texts["responses"], self.tokenizer, arm)
        elif continued is not None:
            found = off_topic_texts(
                **self.made[continued.arm], phrases=self.phrases, below=continued.below
            )
            chosen = continued.model_copy(update=FEWER if continued.cuts else {})
            trials = continuing_trials(found, chosen, self.tokenizer, arm)
        ablated = self.ablated(str(settings.ablate))
        prompt, means = self.config.steering.prompt, self.means(settings.ablate_to)
        return apply_condition(trials, settings, ablated, prompt, means)

    def drawn(self, arm: str) -> pd.DataFrame:
        """The study's first trials of each direction of an arm, with another seed."""
        plan = read_table(self.base / f"arms/{arm}/plan.parquet", "plan")
        number = plan.groupby("latent").cumcount()
        of = zip(plan["latent"], number, strict=True)
        plan = plan.assign(seed=[trial_seed(self.seed, int(k), i) for k, i in of])
        return plan[number < self.per_latent]

    def means(self, clamped: float | str | None) -> dict[int, float]:
        """Mean activation of each latent on unsteered answers, for an arm that clamps to it."""
        return read_means(self.base / "detectors/means.parquet") if clamped == "mean" else {}

    def ablated(self, what: str) -> list[int]:
        """Latents that an arm ablates: the study's detectors, or one of its random sets."""
        folder = self.base / "detectors"
        if what == "detectors":
            table = read_table(folder / "detectors.parquet", "detectors")
            return list(table.loc[table["detector"], "latent"])
        if what.startswith("random-"):
            table = read_table(folder / "controls.parquet", "controls")
            return list(table.loc[table["set"].eq(int(what.removeprefix("random-"))), "latent"])
        return []


def rows_of(view: View, how: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every truth on the trials of a view."""
    arms = {
        name: cell.reset_index(drop=True) for name, cell in view.scores.groupby("arm", sort=False)
    }
    level = {"level": how["level"]}
    for truth in TRUTHS:
        for name in view.shown([truth.measure]):
            base = arms.get(truth.against)
            if truth.kind == "arm":
                row = summarise(arms[truth.arm], [name], **level).iloc[0]
                columns = ["estimate", "low", "high", "n"]
            elif truth.kind == "sets":
                sets = [arms[arm] for arm in RANDOM]
                row = compare_sets(base, sets, [name], **level).iloc[0]
                columns = ["difference", "low", "high", "n_treatment"]
            else:
                test = compare_unpaired if truth.kind in ("unpaired", "near") else compare
                row = test(base, arms[truth.arm], [name], **how).iloc[0]
                columns = ["difference", "low", "high", "n_treatment"]
            if truth.kind == "ratio":
                columns[:3] = ["relative_change", "relative_low", "relative_high"]
            value, low, high, n = (row[column] for column in columns)
            held = low > truth.bound if truth.above else high < truth.bound
            if truth.kind == "near":
                held = -truth.bound < low and high < truth.bound
            if truth.kind == "arm":
                held = value <= truth.bound
            unit = "percent change" if truth.kind == "ratio" else row["unit"]
            facts = {"truth": truth.name, "measure": name, "unit": unit, "bound": truth.bound}
            first = arms[RANDOM[0] if truth.kind == "sets" else truth.arm]
            ends = {"value": value, "low": low, "high": high, "n": n, "status": row["status"]}
            yield facts | ends | {"n_latents": first["latent"].nunique(), "holds": bool(held)}


def sampled(
    config: Config, folder: Path, scratch: Path, per_latent: int, seed: int
) -> dict[str, pd.DataFrame]:
    """Scores of all arms by judge, with one seed of sampling."""
    sampler = Sampler(config, folder, scratch, per_latent, seed)
    steered = next(plans(config, folder, MODEL, per_latent, seed))
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in JUDGES}
    for arm in ["steered", *ARMS]:
        plan = steered if arm == "steered" else sampler.plan(arm)
        for scores in sampler.add(arm, plan):
            found[scores["judge"].iloc[0]].append(scores)
        log.info("%d %s: %d trials", seed, arm, len(plan))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in found.items()}


def main(folder: Path, per_latent: int, seeds: list[int]) -> None:
    """Generate, grade and compare."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = study()
    graded = {}
    for seed in seeds:
        with TemporaryDirectory() as scratch:
            graded[seed] = sampled(config, folder, Path(scratch), per_latent, seed)
    how = {"level": config.statistics.level, "seed": config.statistics.seed}
    groups = {str(seed): [seed] for seed in seeds} | ({"all": seeds} if len(seeds) > 1 else {})
    parts = []
    for name, members in groups.items():
        first, second = (
            pd.concat([graded[seed][judge] for seed in members], ignore_index=True)
            for judge in JUDGES
        )
        table = by_way(views(first, second), lambda view: pd.DataFrame(rows_of(view, how)))
        parts.append(table.assign(seed=name))
    table = pd.concat(parts, ignore_index=True)[COLUMNS]
    table.to_csv(HERE / "prefix_seeds.csv", index=False, float_format="%.4g")
    log.info("%d of %d rows hold", table["holds"].sum(), len(table))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [int(seed) for seed in sys.argv[3:]])
