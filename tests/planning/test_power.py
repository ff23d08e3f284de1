"""esr.planning.power: what a configured study can decide."""

from pathlib import Path

import pandas as pd
import pytest

from esr.agreement.arms import sampled_cells
from esr.analysis.claims import read_claims
from esr.planning.power import design_of, print_power, tabulate_power
from esr.planning.work import arm_trials
from helpers.studies import load_study


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return tabulate_power(load_study(), studies=2)


def test_every_claim_of_the_study_is_labelled_at_its_size(table: pd.DataFrame) -> None:
    simulated = table[table["power"].notna()]
    design = design_of(load_study())
    own = {latents for latents, _ in design.sizes.values()}
    assert set(simulated["latents"]) <= {design.latents, design.sweep[0], *own}
    assert {design.latents, design.sweep[0]} <= set(simulated["latents"])
    assert simulated["claim"].nunique() == table["claim"].nunique(), "every claim is simulated"
    assert set(simulated["rho"]) == {0.05, 0.2}
    assert simulated["power"].between(0, 1).all()
    assert simulated["agreed"].le(simulated["power"]).all()
    assert set(table["claim"]) == set(read_claims(load_study().claims)["claim"])


def test_the_design_is_that_of_the_configuration() -> None:
    config = load_study(name="paper")
    design = design_of(config)
    assert (design.latents, design.trials, design.prompts) == (500, 5, 38)
    assert design.sweep == (50, 10)
    trials = sum(arm_trials(config, arm) for _, arm in sampled_cells(config))
    share = config.agreement.size / trials
    assert design.sampled == round(share * 2500)
    assert share > 0.5, "with a tenth no claim is decided by all ways"
    assert (design.per_stratum, design.trainings) == (500, 1)
    alone = load_study({"judging": {"judges": {"sentences": None}}})
    assert design_of(alone).sampled == 0, "no second judge"


def test_arms_have_their_own_sizes() -> None:
    sizes = design_of(load_study(name="arxiv")).sizes
    assert sizes["steered-random"] == (200, 5)
    assert sizes["contrastive-vectors"] == (24, 38)
    assert sizes["prefix-unsteered"] == (250, 4), "one text a latent, cut at four places"
    assert "meta-self-monitor" not in sizes, "as large as the arm that it replays"


def test_claims_about_models_that_the_study_lacks_are_not_run() -> None:
    january = load_study({"claims": ["resources/claims/january.csv"]})
    found = tabulate_power(january, studies=2)
    labels = found.set_index("claim")["label"]
    assert labels["multi-70b"] == "not run: this study has no model llama-3.3-70b"
    assert found["power"].isna().all()
    assert labels["meta-grows"].startswith("not simulated: it names no model")


def test_as_many_random_sets_are_simulated_as_the_study_has(tmp_path: Path) -> None:
    claims = tmp_path / "organism.csv"
    rows = read_claims(["resources/claims/organism.csv"])
    rows[rows["claim"].eq("branch-specificity")].to_csv(claims, index=False)
    power = {}
    for sets in (1, 3, 8):
        changed = {
            f"branch-random-{number}": {"replay": "branch-steered", "ablate": f"random-{number}"}
            if number < sets
            else None
            for number in range(8)
        }
        config = load_study(
            {"claims": [str(claims)], "arms": changed, "detectors": {"random_sets": 8}}
        )
        power[sets] = tabulate_power(config, studies=12)["power"].mean()
    assert power[1] == 0
    assert power[8] == 1
    assert 0.4 < power[3] < 1


def test_imported_trials_are_not_simulated() -> None:
    config = load_study()
    steered = {"over": None, "trials": None, "responses": "given.jsonl", "model": "planted"}
    removed = dict.fromkeys(name for name in config.arms if name != "steered")
    imported = load_study(
        {"arms": removed | {"steered": steered}, "latents": {"relevance": {"criterion": "zero"}}},
        {"finetune": {"models": []}},
    )
    found = tabulate_power(imported, studies=2)
    assert found["power"].isna().all()
    assert "not simulated: the trials of `steered` come from a file" in set(found["label"])


def test_claims_without_a_simulated_world_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "own.csv"
    claims = read_claims(["resources/claims/organism.csv"]).head(2)
    claims.to_csv(own, index=False)
    found = tabulate_power(load_study({"claims": [str(own)]}), studies=2)
    assert found["label"].str.startswith("not simulated").all()
    assert "own.csv: no simulated world" in caplog.text


def test_the_terminal_shows_percent_and_what_no_number_of_latents_decides() -> None:
    row = {"claim": "c", "source": "s", "rho": 0.2, "value": 1.7, "power": 0.333, "agreed": 0.0}
    row |= {"latents": 500, "latents_80": float("inf"), "label": "underpowered"}
    other = {"claim": "d", "source": "s", "label": "not simulated: why"}
    any_number = row | {"latents_80": float("nan")}
    lines = list(print_power(pd.DataFrame([row, any_number, other])))
    assert "33 %" in lines[1]
    assert "none" in lines[1]
    assert "any" in lines[2]
    assert lines[-1] == "not simulated: why: d"
