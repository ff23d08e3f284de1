"""esr.planning.power: what a configured study can decide."""

from pathlib import Path

import pytest

from esr.planning.power import tabulate_power
from helpers.studies import load_study


def test_every_claim_of_the_study_is_labelled_at_its_size(caplog: pytest.LogCaptureFixture) -> None:
    table = tabulate_power(load_study(), studies=2)
    simulated = table[table["label"].ne("not simulated")]
    assert simulated["latents"].eq(load_study().latents.count).all()
    assert set(simulated["rho"]) == {0.05, 0.2}
    assert simulated["power"].between(0, 1).all()
    assert not caplog.records


def test_claims_without_a_simulated_world_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "own.csv"
    own.write_text("claim\n")
    table = tabulate_power(load_study({"claims": [str(own)]}), studies=2)
    assert table.empty
    assert "own.csv: no simulated world" in caplog.text
