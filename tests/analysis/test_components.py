"""esr.analysis.components: planted variances are recovered, and chance concentrates nothing."""

import numpy as np
import pandas as pd
import pytest

from esr.analysis.components import (
    component_table,
    components,
    concentration,
    jackknifed,
)
from esr.analysis.simulation import draw_study
from esr.analysis.specs import ArmSpec, StudySpec
from helpers.checkout import load_script
from helpers.scores import scores_of


def crossed(
    seed: int, latent: float, prompt: float, latents: int = 40, prompts: int = 24
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal values with these variances of latent and prompt and a rest of 1; not all cells."""
    rng = np.random.default_rng(seed)
    of, at = (each.ravel() for each in np.indices((latents, prompts)))
    kept = rng.random(len(of)) < 0.6
    of, at = of[kept], at[kept]
    values = 3 + np.sqrt(latent) * rng.normal(size=latents)[of] + rng.normal(size=len(of))
    return values + np.sqrt(prompt) * rng.normal(size=prompts)[at], of, at


def by_pairs(values: np.ndarray, of: np.ndarray, at: np.ndarray) -> tuple[float, float]:
    """Correlations from the definition, by all pairs of trials."""
    product = np.outer(values, values)
    same_l, same_p = np.equal.outer(of, of), np.equal.outer(at, at)
    other = product[~same_l & ~same_p].mean()
    total = (values**2).mean() - other
    return (
        (product[same_l & ~same_p].mean() - other) / total,
        (product[~same_l & same_p].mean() - other) / total,
    )


def test_the_sums_are_those_over_all_pairs() -> None:
    values, of, at = crossed(0, 0.5, 0.3, 9, 7)
    of, at, values = np.append(of, of[:4]), np.append(at, at[:4]), np.append(values, values[:4] + 1)
    assert components(values, of, at)[:2] == pytest.approx(by_pairs(values, of, at))


@pytest.mark.parametrize(("latent", "prompt"), [(0.0, 0.0), (0.5, 0.0), (0.3, 0.7)])
def test_planted_components_are_recovered(latent: float, prompt: float) -> None:
    truth = np.array([latent, prompt]) / (1 + latent + prompt)
    found = np.array([components(*crossed(seed, latent, prompt))[:2] for seed in range(60)])
    assert found.mean(axis=0) == pytest.approx(truth, abs=0.03)


def test_intervals_hold_the_truth() -> None:
    inside = []
    for seed in range(16):
        ends = {name: found[1] for name, found in jackknifed(*crossed(seed, 0.3, 0.2)).items()}
        truth = {"latent": 0.2, "prompt": 0.2 / 1.5}
        inside += [ends[name].low <= truth[name] <= ends[name].high for name in truth]
    assert np.mean(inside) >= 0.84  # of 0.95: 2.8 standard errors of 32


@pytest.mark.parametrize("rho", [0.0, 0.2])
def test_the_correlation_of_simulated_restarts_is_found(rho: float) -> None:
    spec = StudySpec(60, 8, 24, {"steered": ArmSpec(multi=0.1)}, rho=rho, rho_prompt=0)
    found = []
    for seed in range(20):
        scores = draw_study(spec, seed)["primary"]["steered"]
        latents, prompts = scores["latent"].to_numpy(), scores["prompt_id"].astype(int).to_numpy()
        found.append(components(scores["multi_attempt"].to_numpy(float), latents, prompts)[:2])
    assert np.mean(found, axis=0) == pytest.approx([rho, 0], abs=0.04)


def test_few_latents_that_carry_all_events_are_seen() -> None:
    latents = np.repeat(np.arange(20), 10)
    events = np.isin(latents, [3, 7]).astype(float)
    found = concentration(events, latents)
    assert {name: value for name, (value, _) in found.items()} == {
        "top": 100,
        "half": 1,
        "effective": 2,
    }
    # Shuffled, two of twenty latents hold few of the events, if more than a tenth.
    assert 10 < found["top"][1] < 30
    assert found["effective"][1] > 8


def test_events_that_fall_by_chance_are_as_concentrated_as_the_null() -> None:
    rng = np.random.default_rng(1)
    latents = np.repeat(np.arange(30), 16)
    top = [
        concentration((rng.random(480) < 0.1).astype(float), latents, 50)["top"] for _ in range(20)
    ]
    assert np.mean([value - null for value, null in top]) == pytest.approx(0, abs=2)
    assert np.mean([value for value, _ in top]) > 15, "chance alone is above a tenth"


def test_without_events_nothing_is_defined() -> None:
    table = component_table(scores_of([[40.0]] * 40))
    assert table["status"].eq("undefined").all()
    assert table["value"].isna().all()
    rare = component_table(scores_of([[20.0, 90.0]] * 3 + [[40.0]] * 57))
    assert rare["status"].eq("few_events").all()


def test_the_table_has_every_model_and_event() -> None:
    script = load_script("tabulate_components")

    class Settings:
        level, seed = 0.95, 0

    scores = scores_of([[20.0, 90.0], [40.0]] * 30)
    both = pd.concat([scores.assign(model=name) for name in "ab"])
    table = script.tabulate(both, Settings())
    assert table.groupby(["model", "event"]).size().eq(5).all()
    assert script.printed(table)["value"].str.contains(r"\[").sum() == 8
