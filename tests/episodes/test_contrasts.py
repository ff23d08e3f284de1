"""Activation statistics on hand-made traces: means by region, contrasts, alignment, lead."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from esr.analysis.claims import ABSENT
from esr.config import EpisodesConfig, StatisticsConfig
from esr.episodes.contrasts import (
    CELLS,
    KINDS,
    contrast,
    latent_contrasts,
    model_contrasts,
    region_means,
    region_values,
)
from esr.episodes.extract import GROUPS, REGIONS
from esr.episodes.traces import Traces, aligned, anchors, lead_summary, lead_times, read_traces
from esr.tables import TABLES, write_table
from helpers.traces import made, many

QUICK = StatisticsConfig(bootstrap=200)


class TestTokens:
    def test_latents_of_a_kind_are_summed_at_each_token(self) -> None:
        traces = made(("episode", "ocn", [1.0, 2.0, 3.0]), kinds={"detector": 2, "backtracking": 1})
        assert traces.tokens("detector")["value"].tolist() == [1, 2, 3]
        assert traces.tokens("detector", latent=1)["value"].tolist() == [0.5, 1, 1.5]

    def test_tokens_without_text_are_left_out(self) -> None:
        traces = made(("episode", "ocn", [1.0, 2.0, 3.0]))
        traces.activations.loc[2, "end"] = traces.activations.loc[2, "start"]
        assert traces.tokens("detector")["position"].tolist() == [0, 1]

    def test_backtracking_latents_are_seen_only_where_they_were_not_chosen(self) -> None:
        both = {"detector": 1, "backtracking": 1}
        traces = made(("episode", "ocn", [1.0, 2.0, 3.0]), kinds=both, held_out=False)
        assert traces.tokens("backtracking").empty
        assert len(traces.tokens("detector")) == 3

    @pytest.mark.parametrize(
        ("traces", "kind", "note"),
        [
            (made(("episode", "o", [1.0]), kinds={"backtracking": 1}), "detector", "no detectors"),
            (made(("baseline", "n", [1.0])), "detector", "no self-corrections"),
            (made(("episode", "o", [1.0])), "backtracking", "no backtracking latents"),
            (made(), "detector", "no self-corrections"),
        ],
    )
    def test_missing_latents_and_episodes_have_a_note(
        self, traces: Traces, kind: str, note: str
    ) -> None:
        assert note in traces.note(kind)

    def test_traces_survive_the_disk(self, tmp_path: Path) -> None:
        traces = made()
        episodes = pd.DataFrame(columns=list(TABLES["episodes"].columns))
        write_table(episodes, tmp_path / "e.parquet", "episodes", {})
        write_table(traces.activations, tmp_path / "a.parquet", "episode_activations", {})
        paths = [str(tmp_path / "e.parquet")], [str(tmp_path / "a.parquet")]
        assert read_traces(["m"], *paths)["m"].tokens("detector").empty


class TestRegions:
    def test_a_region_counts_by_its_mean_over_tokens_and_a_trial_once(self) -> None:
        traces = made(
            ("episode", "ooocnn", [1.0, 2.0, 3.0, 9.0, 4.0, 6.0]), ("episode", "oc.", [4.0, 1, 99])
        )
        values = region_values(traces.tokens("detector"))
        means = region_means(values, QUICK).set_index("cell")
        assert means.loc["off_topic", "value"] == pytest.approx((2 + 4) / 2)
        assert means.loc["on_topic", "value"] == pytest.approx(5)
        assert means["n"].to_dict() == {
            **{"off_topic": 2, "correction": 2, "on_topic": 1},
            **{"baseline": 0, "unrestarted": 0},
        }
        assert means.loc["baseline", "status"] == "undefined"
        assert np.isnan(means.loc["baseline", "value"])

    def test_intervals_hold_the_planted_mean(self) -> None:
        means = region_means(region_values(many().tokens("detector")), QUICK).set_index("cell")
        assert means.loc["unrestarted", "low"] <= 3.5 <= means.loc["unrestarted", "high"]
        assert means.loc[["off_topic", "baseline", "unrestarted"], "status"].eq("ok").all()
        assert means.loc["correction", "status"] == "no_variation"


class TestContrasts:
    def values(self, *cells: tuple[str, str, float]) -> pd.DataFrame:
        rows = [
            {"trial_id": t, "cluster": i, "cell": c, "value": v}
            for i, (t, c, v) in enumerate(cells)
        ]
        table = pd.DataFrame(rows)
        return table.assign(cluster=pd.factorize(table["trial_id"])[0])

    def test_a_paired_effect_is_the_mean_over_the_deviation_of_differences(self) -> None:
        first, second = [3.0, 5.0, 4.0, 8.0], [1.0, 1.0, 3.0, 2.0]
        cells = [(f"t{i}", "off_topic", v) for i, v in enumerate(first)]
        cells += [(f"t{i}", "on_topic", v) for i, v in enumerate(second)]
        found = contrast(self.values(*cells), "off_topic", "on_topic", QUICK)
        change = np.subtract(first, second)
        assert found["paired"] is True
        assert found["difference"] == pytest.approx(change.mean())
        assert found["effect"] == pytest.approx(change.mean() / change.std(ddof=1))
        assert found["effect_low"] <= found["effect"] <= found["effect_high"]
        # All 2^4 swaps are enumerated; only none and all are as extreme.
        assert found["p_value"] == pytest.approx(2 / 16)

    def test_episodes_without_a_region_are_in_no_pair(self) -> None:
        cells = [("a", "off_topic", 3.0), ("b", "off_topic", 9.0), ("a", "on_topic", 1.0)]
        found = contrast(self.values(*cells), "off_topic", "on_topic", QUICK)
        assert (found["n_first"], found["n_second"]) == (1, 1)
        assert found["difference"] == pytest.approx(2)
        assert found["status"] == "too_few"

    def test_an_effect_between_groups_is_cohens_with_the_pooled_deviation(self) -> None:
        first, second = [3.0, 5.0, 4.0], [1.0, 1.5, 3.0, 2.0]
        cells = [(f"a{i}", "off_topic", v) for i, v in enumerate(first)]
        cells += [(f"b{i}", "baseline", v) for i, v in enumerate(second)]
        found = contrast(self.values(*cells), "off_topic", "baseline", QUICK)
        t = stats.ttest_ind(first, second).statistic
        assert found["paired"] is False
        assert found["effect"] == pytest.approx(t * np.sqrt(1 / 3 + 1 / 4))

    def test_planted_differences_are_found_and_equal_groups_are_not_separated(self) -> None:
        table = model_contrasts(many(kinds=dict.fromkeys(KINDS, 2)), QUICK)
        found = table[table["kind"].eq("detector")].set_index(["first", "second"])
        assert found.loc[("off_topic", "on_topic"), "p_holm"] < 0.02
        assert found.loc[("off_topic", "baseline"), "low"] > 0
        assert found.loc[("on_topic", "baseline"), "p_holm"] > 0.05
        # Off topic and uncorrected is no lower: the first token of an episode is quiet.
        assert found.loc[("off_topic", "unrestarted"), "difference"] < 0

    @pytest.mark.parametrize(
        ("kind", "status"),
        [("backtracking", "no_backtracking_latents"), ("detector", "no_detectors")],
    )
    def test_a_kind_without_latents_has_a_status_and_no_number(
        self, kind: str, status: str
    ) -> None:
        table = model_contrasts(many(kinds={other: 2 for other in KINDS if other != kind}), QUICK)
        missing = table[table["kind"].eq(kind)]
        assert missing["status"].eq(status).all()
        assert status in ABSENT, "a claim about it is not run"
        assert missing[["difference", "effect", "p_value", "p_holm"]].isna().all(axis=None)
        assert missing["n_first"].eq(0).all()

    def test_holm_spans_the_family_of_the_model(self) -> None:
        table = model_contrasts(many(kinds=dict.fromkeys(KINDS, 1)), QUICK)
        smallest = table["p_value"].min()
        assert table["p_holm"].min() == pytest.approx(min(1, len(table) * smallest))

    def test_every_latent_is_tested_and_a_constant_one_has_no_effect(self) -> None:
        traces = many(kinds={"detector": 2})
        traces.activations.loc[traces.activations["latent"].eq(1), "activation"] = 1.0
        table = latent_contrasts(traces, QUICK).set_index(["latent", "first", "second"])
        pair = ("off_topic", "on_topic")
        assert table.loc[(0, *pair), "effect"] > 3
        assert np.isnan(table.loc[(1, *pair), "effect"])
        assert table.loc[(1, *pair), "p_bh"] == 1

    def test_without_anything_read_the_table_is_empty(self) -> None:
        assert latent_contrasts(made(), QUICK).empty
        assert "p_bh" in latent_contrasts(made(), QUICK)


class TestAlignment:
    def test_positions_count_from_the_first_token_of_the_correction(self) -> None:
        episode = ("episode", "ooocn", [1.0, 2, 3, 4, 5])
        table = aligned(made(*[episode] * 6).tokens("detector"), 2, QUICK)
        own = table[table["group"].eq("episode")].set_index("position")
        assert own["value"].to_dict() == {
            -2: 2,
            -1: 3,
            0: 4,
            1: 5,
            2: pytest.approx(np.nan, nan_ok=True),
        }

    def test_responses_that_are_too_short_are_no_zeros(self) -> None:
        long, short = ("episode", "oocn", [8.0] * 4), ("episode", "ocn", [2.0] * 3)
        table = aligned(made(*[long] * 6, *[short] * 6).tokens("detector"), 2, QUICK)
        own = table[table["group"].eq("episode")].set_index("position")
        assert own.loc[-2, ["value", "n"]].tolist() == [8, 6]
        assert own.loc[-1, ["value", "n"]].tolist() == [5, 12]

    def test_a_position_with_few_responses_has_no_mean(self) -> None:
        table = aligned(made(*[("episode", "ocn", [1.0] * 3)] * 4).tokens("detector"), 1, QUICK)
        own = table[table["group"].eq("episode")]
        assert own["value"].isna().all()
        assert own["status"].eq("too_few").all()
        assert own["n"].eq(4).all()

    def test_a_response_is_aligned_at_the_token_that_holds_its_anchor(self) -> None:
        traces = made(
            ("episode", "ooocn", [0.0] * 5),
            ("unrestarted", "o" * 5, [0.0] * 5),
            ("baseline", "n", [0]),
        )
        traces.episodes.loc[1, "anchor"] = 7  # the second character of its fourth token
        assert anchors(traces.tokens("detector")).to_dict() == {"t0": 3, "t1": 3}

    def test_without_episodes_nothing_is_aligned(self) -> None:
        table = aligned(made(("baseline", "nn", [0.0, 0.0])).tokens("detector"), 1, QUICK)
        assert table["n"].eq(0).all()


class TestLead:
    settings = EpisodesConfig(smoothing_window=2, false_alarms=0.1)

    def test_the_rise_is_the_first_token_above_what_baselines_reach(self) -> None:
        traces = made(
            ("baseline", "nnnn", [0.0, 1.0, 1.0, 0.0]),
            ("episode", "ooooocn", [0.0, 0.0, 3.0, 3.0, 3.0, 0.0, 0.0]),
            ("episode", "oocn", [0.0, 0.0, 0.0, 5.0]),
            ("episode", "oocn", [0.0] * 4),
            ("unrestarted", "ooo", [4.0] * 3),
        )
        leads = lead_times(traces.tokens("detector"), self.settings).set_index("trial_id")
        assert leads["level"].eq(1).all()
        assert leads.loc["t1", ["rise", "correction", "lead", "status"]].tolist() == [
            *[2, 5, 3],
            "before",
        ]
        assert leads.loc[["t2", "t3", "t4"], "status"].tolist() == ["after", "never", "risen"]
        assert leads.loc[["t2", "t3"], "lead"].isna().all()

    def test_the_share_of_false_alarms_is_as_configured(self) -> None:
        rng = np.random.default_rng(1)
        quiet = [("baseline", "n" * 20, list(rng.random(20))) for _ in range(40)]
        leads = lead_times(made(*quiet).tokens("detector"), self.settings)
        assert leads["rise"].notna().mean() <= 0.1

    def test_without_baselines_there_is_no_level_and_no_lead(self) -> None:
        traces = made(("episode", "oocn", [9.0] * 4))
        leads = lead_times(traces.tokens("detector"), self.settings)
        assert leads["status"].tolist() == ["no_baseline"]
        assert lead_summary(leads, QUICK)["value"].isna().all()

    def test_lead_and_shares_of_planted_episodes(self) -> None:
        leads = lead_times(many().tokens("detector"), self.settings)
        found = lead_summary(leads, QUICK).set_index("quantity")
        assert found.loc["rise before the correction", "value"] == 100
        assert found.loc["rise in unrestarted responses", "value"] == 100
        assert found.loc["rise in baseline responses", "value"] <= 10
        assert found.loc["median lead", ["value", "low", "high"]].tolist() == [5, 5, 5]
        assert found.loc["mean lead", "n"] == 12

    def test_no_tokens_give_no_lead(self) -> None:
        leads = lead_times(made().tokens("detector"), self.settings)
        table = lead_summary(leads, QUICK)
        assert table["n"].eq(0).all()
        assert table["status"].eq("undefined").all()


def test_cells_are_of_known_groups_and_regions() -> None:
    assert {group for group, _ in CELLS.values()} == set(GROUPS)
    assert {region for _, region in CELLS.values()} == set(REGIONS)
