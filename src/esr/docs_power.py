"""The page docs/power.md, from benchmarks/claims.csv, sizes.csv and branching.csv."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from esr.analysis.power import SEARCHED, label_of
from esr.docs_branching import branching_section

SHARES = ["confirmed_true", "refuted_true", "confirmed_null", "refuted_null"]
CLAIMS = Path("benchmarks/claims.csv")
SIZES = Path("benchmarks/sizes.csv")
STUDIES = {
    "organism": "organism",
    "january": "paper (claims of January 2026)",
    "published": "arxiv (published claims)",
    "introspection": "introspection (self-report)",
}
"""Studies by the name of their claims file."""

INTRO = """\
# Power and error rates

`uv run snakemake power` prints what the configured study can decide, before any GPU is used;
`estimate` prints it, too. The table is `results/<study>/tables/power.csv`. The scorecard shows the
power of each claim, and a claim that is undecided in a study without 80 % power is `underpowered`.
`python -m esr.docs_reference` generates this page from `claims.csv`, `sizes.csv` and
`branching.csv` in `benchmarks/`, which the scripts of these names make.

## What is simulated

A claim is simulated in two worlds: in one it is true, in the other the arm that it is about has the
value that the claim declares as its null. A claim about several models holds if it holds in each;
its null is that of the first one. `esr.analysis.simulation` draws studies of the configured size:
latents and prompts are crossed random factors, and their trials run through the measures, intervals
and verdicts that judge real studies (`esr.analysis.operating`).

- *True worlds* are what the claims state; `esr.analysis.truths` lists what they leave open and what
  is assumed for it.
- *Correlation.* No study has published the intra-latent correlation of restarts. Two are simulated,
  0.05 and 0.2; cells below show both, `0.05 / 0.2`. That of trials on one prompt is 0.01.
- *Pairing.* Arms that replay each other share latents and prompts, but not the chance of single
  trials.
- *Random sets* of latents differ from each other, under the null, too. Each study draws
  its own, three in those below. The log-odds of their restart rates have a standard deviation of
  0.55 in the organism's whole responses and of 0.3 in its branching, as sets drawn earlier had.
  Those of today differ less, by 0.14 and 0.08; three sets show little of how much all differ, so
  the larger values stand. It is known for no language model; 0.3 is assumed. More latents or trials
  do not reduce this difference, but more sets do: half the interval of S sets is 2.5 (3 sets), 1.2
  (5) or 0.7 (10) times the standard deviation of their results (Student 1908). For five, set
  `detectors.random_sets: 5` and add the arms `ablate-random-3` and `-4`. `snakemake power`
  simulates as many sets as a study has.
- *Judges* do not err, and the restart detector finds every restart, except where noted (last
  columns, below).
- *Family.* A sign claim of the confirmatory family needs its adjusted p-value. The simulation
  corrects by Bonferroni, which has no more power than Holm.
- *All ways.* The share of studies in which the second judge confirms the claim, too, and no way
  refutes it. An arm has a share of `agreement.size` in proportion to its trials. Where this is far
  below the power, the second judge needs more trials, and the label is `uncorroborated`. In a study
  without a second judge it is the restart detector that confirms, which measures only the
  multi-attempt rate.
- *Latents for 80 %* follow from the widths of simulated intervals at the design and at 4 times its
  latents. `none`: the claimed value lies at the edge of the region, or the prompts alone are too
  few. `8 sets`: with any number of latents and prompts fewer random sets decide the claim in less
  than 80 % of studies (on the terminal `none`, in the table `inf`).
- *Arms of other sizes* (of some latents, or that continue texts) are simulated at their own. Texts
  that are cut at several places, or continued several times, count as trials of their latent.

Power is from at least 60 simulated studies, all ways from 30, error rates from 100: the standard
error of a share of 50 % is 6, 9 and 5 points.
"""
ERRORS = """
## Error rates

`confirmed, null`: share of studies that confirm the claim in the world of its null;
`refuted, true`: share that refute it where it is true. Both should be at most 5 %. The first 100 or
120 studies of a claim are followed by 600 others if more than 5 % of them err.
`tests/analysis/test_error_rates.py` fails if any error is larger than 5 % beyond the error of
simulation (one-sided binomial test, Bonferroni over all cells at 5 %): 14 % in 100 studies,
8 % in 600.
`tests/analysis/test_operating.py` simulates some claims again. These shares are of the primary
judge's verdict. Without errors of judges the verdict of all ways confirms and refutes at most as
often.

*Judges that err* (`esr.analysis.misjudged`). Both judges find 80 % of the restarts, and see one in
0.5 % of the other steered responses; the restart detector 80 and 0.2 %. In half of the responses
they err together. (In the organism, with its second judge as the truth, the primary judge finds 41
to 92 % of the restarts and sees one in 0.4 to 12 % of the others.) The second judge's sample is
drawn as in a study. The shares are of the verdict of all ways. `habit`: the null is true, but the
primary judge alone sees what is claimed, as where ablation garbles the words that it looks for;
`by it` is how often that judge would confirm the claim. Empty: no number of restarts can show it.
A habit that the restart detector shares, as where both look for the same phrases, is not in this
column. The second judge must then confirm the claim, so that the verdict is no safer and no less
safe than that judge (`tests/analysis/test_misjudged.py` simulates it).
Shares are at the correlation of 0.2, of 30 studies and more; 200 others replace them if more than
5 % of them err. Where none of 30 errs, the error rate is below 9.5 % (one-sided 95 % bound; of 60
studies 4.9 %). Over all claims together each of these errors is below 1 %, which a test holds.
"""
REHEARSALS = """
## Claims about recovery, curves, judges, activations and self-report

These are no means or contrasts of arms. `esr.analysis.rehearsals` draws the table that each claim
reads, by the code that makes it in a study. Error rates are of the primary judge's verdict in 30
studies and more; power and all ways are from 20 and more (standard error up to 11 points). Latents
for 80 % follow from a search: their number is halved or doubled until the power crosses 80 %, in
half as many studies at each number ({searched} at most), and interpolated. Its error is about a
third. `none`: 16 times the latents are not
enough, or more latents do not help. Empty: steered latents do not matter.
What is assumed:

- *Recovery.* Restarts prefer low first scores, such that a new draw succeeds in 62.5 %, as in the
  organism. Under the null the last attempt is such a draw.
- *Boosts.* Restarts have a bell around their peak, of one standard deviation of the thresholds. Its
  height is a rate of restarts of 12 % (organism: 20 %), so that power is overstated where peaks are
  lower.
- *Shares.* The rates of trainings of one share differ by 10 %. Error rates are those with three
  trainings of each. With one, as configured, none of these claims is decided (`one_training`), and
  the power is 0; set `finetune.seeds`.
- *Judges.* Two that find 90 % of the restarts and see one in 0.2 % of the other responses, in half
  of the responses together. Under the null the second one's grades are those of other responses.
- *Ranks.* The same two judges without errors; under the null two other models are above the one
  that is claimed to be first.
- *Contrasts of activations.* The activation of a response is log-normal (standard deviation of its
  logarithm 0.6, 30 % of the variance between latents). Episodes are the responses that restart and
  improve, at most 200. The primary judge alone decides where a region begins, so such claims are
  `uncorroborated` at best.
- *Detectors.* Latents that see a mismatch are nearly silent on matched pairs; 150 others see none.
  Real activations are less clear, so that the power is an upper bound.
- *Hazards.* Detectors follow off-topicness and have a part of their own, which restarts follow in
  the world of the claim alone. The first score measures off-topicness without error; with error the
  null is confirmed far more often ([Method](method.md)). Such claims are `uncorroborated` at best.
  At most 240 responses are read, so that more latents do not help.
- *Self-report.* Log-probabilities of the trials of a plan. In both worlds an injection pushes every
  answer towards yes by 2 nats, and any vector adds 1 nat to questions about oneself. In the world
  of the claim the direction adds 1 nat to these, and its label is known in 20 % of the choices.
  Shifts have a standard deviation of 1 nat between directions and questions, 10 % of the variance
  between questions. The claims name no model; more models have less power. More directions on the
  same questions do not reduce the variance between questions.
"""
SIZE = """
## Sizes of the large studies

The power of core claims by the primary judge at the sizes of `studies/paper.yaml` and
`studies/arxiv.yaml` (first of each) and at others, with the GPU hours of the whole study
(`snakemake estimate`; H100, throughput assumed where it is not measured). Hours include the search
for thresholds, which grows with the number of latents. `second` is the number of replies if a
second judge graded every trial of the sampled arms; then all ways have about the power of the
primary judge. Shares are of 40 studies.

To change a study, set `latents.count` and `arms.<arm>.trials` of every arm that draws trials
(`steered`, and `steered-30` or `steered-50`); replays follow. With one trial of each latent,
latents cannot be compared with each other.
"""


def power_page() -> str:
    """The page; its tables need the two files in the current folder."""
    table, sizes = pd.read_csv(CLAIMS), pd.read_csv(SIZES)
    other = table["rehearsed"].eq(True)
    simulated = table[table["simulated"] & ~other]
    parts = [INTRO, ERRORS]
    for study, title in STUDIES.items():
        mine = simulated[simulated["study"].eq(study)]
        if mine.empty:
            continue
        latents, trials = (int(mine[name].iloc[0]) for name in ("latents", "trials"))
        parts.append(f"\n### {title}: {latents} latents x {trials} trials\n")
        parts.append(_table(list(_claim_rows(mine))))
        parts.append("\nWith judges that err:\n")
        parts.append(_table(list(_judged_rows(mine))))
    parts.append(REHEARSALS.format(searched=SEARCHED))
    parts.append(_table(list(_rehearsed_rows(table[other]))))
    others = table[~table["simulated"].astype(bool)].drop_duplicates(["study", "claim"])
    if others.empty:
        parts.append("\nEvery claim of these files is simulated.\n")
    else:
        parts.append("\n## Not simulated\n\nThese claims have no power in the scorecard.\n")
    for why, rows in others.groupby("why", sort=False):
        names = ", ".join(f"`{row.claim}` ({row.study})" for row in rows.itertuples())
        parts.append(f"\n- {why}: {names}")
    parts.append("\n" + SIZE)
    parts.append(_table(list(_size_rows(sizes))))
    parts.append(branching_section())
    return "".join(parts)


def _claim_rows(table: pd.DataFrame) -> Iterator[list[str]]:
    yield [
        "claim",
        "value",
        "confirmed, true %",
        "refuted, true %",
        "confirmed, null %",
        "refuted, null %",
        "all ways, true %",
        "latents for 80 %",
        "this size",
    ]
    for claim, rows in table.groupby("claim", sort=False):
        shares = [*SHARES, "agreed"]
        sets = rows["sets_80"].iloc[0]
        none = "none" if np.isnan(sets) else f"{_count(sets)} sets"
        needed = [_count(value, none) for value in rows["latents_80"]]
        yield [
            f"`{claim}`",
            f"{rows['value'].iloc[0]:.3g}",
            *[_shares(rows[name]) for name in shares],
            " / ".join(needed),
            label(list(rows["power"]), list(rows["agreed"])),
        ]


def _judged_rows(table: pd.DataFrame) -> Iterator[list[str]]:
    names = ["confirmed, true", "refuted, true", "confirmed, null", "refuted, null", "habit"]
    yield ["claim", *[f"{name} %" for name in names], "by it %"]
    for claim, rows in table[table["judged_studies"].gt(0)].groupby("claim", sort=False):
        rows = rows[rows["rho"].eq(rows["rho"].max())]
        shares = [f"judged_{name}" for name in ("true", "refuted_true", "null", "refuted_null")]
        yield [f"`{claim}`", *[_shares(rows[name]) for name in [*shares, "habit", "habit_primary"]]]


def _rehearsed_rows(table: pd.DataFrame) -> Iterator[list[str]]:
    names = ["confirmed, true", "refuted, true", "confirmed, null", "refuted, null"]
    head = ["claim", "study", "value", *[f"{name} %" for name in names]]
    yield [*head, "power %", "all ways %", "latents for 80 %", "this size"]
    for (study, claim), rows in table.groupby(["study", "claim"], sort=False):
        value = f"{rows['value'].iloc[0]:.3g}"
        yield [
            f"`{claim}`",
            str(study),
            value,
            *[_shares(rows[name]) for name in [*SHARES, "power", "agreed"]],
            "" if rows["latents_80"].isna().all() else " / ".join(map(_count, rows["latents_80"])),
            label(list(rows["power"]), list(rows["agreed"])),
        ]


def _shares(values: pd.Series) -> str:
    return "" if values.isna().all() else " / ".join(f"{value:.0f}" for value in values)


def label(powers: list[float], agreed: list[float]) -> str:
    """Whether a study decides a claim, from its shares (percent) at each correlation.

    Args:
        powers: Confirmed by the primary judge, if the claim is true.
        agreed: Confirmed by all ways.
    """
    found = [label_of(power / 100, both / 100) for power, both in zip(powers, agreed, strict=True)]
    if "decidable" not in found:
        return "uncorroborated" if "uncorroborated" in found else "not decidable"
    return "decidable" if set(found) == {"decidable"} else "decidable at one correlation only"


def _count(value: float, none: str = "none") -> str:
    return none if np.isinf(value) else f"{value:,.0f}"


def _size_rows(table: pd.DataFrame) -> Iterator[list[str]]:
    powers = [name for name in table if str(name).startswith("power_")]
    for study, mine in table.groupby("study", sort=False):
        claims = list(dict.fromkeys(mine["claim"]))
        yield [f"`{study}`: latents x trials", "GPU hours", "second", *[f"`{c}`" for c in claims]]
        for (latents, trials), rows in mine.groupby(["latents", "trials"], sort=False):
            row = rows.set_index("claim")
            shown = [" / ".join(f"{row.loc[c, name]:.0f}" for name in powers) for c in claims]
            cost = [f"{row[name].iloc[0]:,.0f}" for name in ("gpu_hours", "second")]
            yield [f"{latents:,} x {trials}", *cost, *shown]


def _table(rows: list[list[str]]) -> str:
    """Rows as Markdown; a row that starts with a study begins another table."""
    lines = []
    for number, row in enumerate(rows):
        head = number == 0 or "latents x trials" in row[0]
        lines.append(("\n" if head else "") + f"| {' | '.join(row)} |\n")
        if head:
            lines.append(f"|{'---|' * len(row)}\n")
    return "".join(lines)
