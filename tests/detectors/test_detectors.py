"""Off-topic detectors: mismatched pairs, the search, held-out pairs, controls."""

from itertools import combinations, permutations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from esr.analysis.claims import Finding, Region, decide
from esr.assets.sae_fit import Text
from esr.config import Config, DetectorsConfig, StatisticsConfig, load, merge
from esr.detectors.controls import REACH, match_controls, summarise_sets
from esr.detectors.search import (
    Pairs,
    assign_mismatched,
    auroc,
    check_table,
    derange,
    detector_table,
    effect_sizes,
    hold_out,
    pair_table,
)
from esr.engines.base import EncodeRequest, Intervention, Request
from esr.engines.transformers import TransformersEngine
from esr.errors import EsrError
from esr.planning.files import check_files
from esr.tables import read_table, write_table
from helpers.checkout import REPO, load_script
from helpers.planted_pairs import D_SAE, GRADED, PLANTED, SEPARABLE, N, found_in, labels, planted
from helpers.studies import load_study
from helpers.tiny import tiny_model, tiny_sae

FAST = StatisticsConfig(bootstrap=400)
STRICT = DetectorsConfig(criterion="zero_then_frequent", min_frequency=0.8)

few = st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=40)


def balanced(categories: list[str]) -> bool:
    return 2 * max(categories.count(name) for name in categories) <= len(categories)


class TestDerangement:
    @given(few, st.integers(0, 5))
    def test_nobody_meets_its_own_category_and_everybody_is_mismatched_once(
        self, categories: list[str], seed: int
    ) -> None:
        if not balanced(categories):
            with pytest.raises(EsrError, match=r"\d+ of \d+ discovery responses are of one cat"):
                derange(categories, seed)
            return
        partner = derange(categories, seed)
        assert sorted(partner) == list(range(len(categories)))
        assert all(categories[i] != categories[j] for i, j in enumerate(partner))

    def test_the_same_seed_deals_the_same_and_another_one_otherwise(self) -> None:
        categories = [f"c{i % 8}" for i in range(80)]
        assert derange(categories, 1).tolist() == derange(categories, 1).tolist()
        assert derange(categories, 1).tolist() != derange(categories, 2).tolist()

    def test_a_category_meets_many_others_not_one(self) -> None:
        categories = np.array([f"c{i % 8}" for i in range(160)])
        met = pd.Series(categories[derange(categories.tolist(), 0)]).groupby(categories).nunique()
        assert met.min() >= 5

    def test_every_other_member_is_met_about_equally_often(self) -> None:
        met = np.zeros((6, 6))
        for seed in range(1000):
            met[np.arange(6), derange(list("aabbcd"), seed)] += 1
        expected = np.zeros((6, 6))
        names = "aabbcd"
        valid = [p for p in permutations(range(6)) if all(names[i] != names[p[i]] for i in p)]
        for permutation in valid:
            expected[np.arange(6), permutation] += 1000 / len(valid)
        assert np.abs(met - expected).max() < 5 * np.sqrt(1000 * 0.25)


class TestSplit:
    @given(
        st.lists(st.integers(0, 9), min_size=1, max_size=60),
        st.floats(0, 0.95),
        st.integers(0, 3),
    )
    def test_all_responses_to_a_prompt_are_on_the_same_side(
        self, prompts: list[int], share: float, seed: int
    ) -> None:
        names = [f"p{i}" for i in prompts]
        out = hold_out(names, [f"c{i % 3}" for i in prompts], share, seed)
        sides = pd.Series(out).groupby(names)
        assert sides.nunique().eq(1).all()
        kept = int(sides.first().sum())
        assert kept == int(np.floor(share * len(set(names)) + 0.5))

    def test_half_of_every_category_is_held_out(self) -> None:
        prompts = [f"p{i}" for i in range(24)]
        categories = [f"c{i % 6}" for i in range(24)]
        out = pd.Series(hold_out(prompts, categories, 0.5, 7))
        assert out.groupby(categories).sum().eq(2).all()

    @given(st.integers(0, 20))
    @settings(max_examples=10)
    def test_partners_stay_on_their_side_and_off_their_category(self, seed: int) -> None:
        categories = [f"c{i % 5}" for i in range(50)]
        out = hold_out([f"p{i}" for i in range(50)], categories, 0.4, seed)
        partner = assign_mismatched(categories, out, seed)
        assert sorted(partner) == list(range(50))
        assert (out == out[partner]).all()
        assert all(categories[i] != categories[j] for i, j in enumerate(partner))


class TestAuroc:
    def test_golden_values(self) -> None:
        matched = np.array([[1, 0, 5], [2, 0, 6]], float)
        mismatched = np.array([[3, 0, 5], [1.5, 1, 0]], float)
        # of 4 comparisons: 3 won; 2 won and 2 tied; 1 tied
        assert auroc(matched, mismatched).tolist() == [0.75, 0.75, 0.125]

    @given(st.integers(0, 50))
    @settings(max_examples=15)
    def test_it_is_the_share_of_comparisons_won_ties_counting_half(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        a, b = rng.integers(0, 4, (9, 5)).astype(float), rng.integers(0, 5, (7, 5)).astype(float)
        won = (b[:, None] > a).mean(axis=(0, 1)) + (b[:, None] == a).mean(axis=(0, 1)) / 2
        np.testing.assert_allclose(auroc(a, b), won)
        u = mannwhitneyu(b, a, axis=0).statistic
        np.testing.assert_allclose(auroc(a, b), u / 63)

    def test_swapping_the_sides_gives_the_complement(self) -> None:
        rng = np.random.default_rng(0)
        a, b = rng.random((8, 20)), rng.random((8, 20))
        np.testing.assert_allclose(auroc(a, b) + auroc(b, a), 1)

    def test_blocks_of_latents_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rng = np.random.default_rng(0)
        a, b = rng.random((8, 11)), rng.random((8, 11))
        whole = auroc(a, b)
        monkeypatch.setattr("esr.detectors.search.BLOCK", 4)
        assert auroc(a, b).tolist() == whole.tolist()


class TestSearch:
    @pytest.mark.parametrize("how", [SEPARABLE, GRADED, STRICT], ids=lambda how: how.criterion)
    def test_every_criterion_finds_what_was_planted_and_nothing_else(
        self, how: DetectorsConfig
    ) -> None:
        table = found_in(planted(), how)
        assert sorted(table.loc[table["found"], "latent"]) == PLANTED
        assert table["detector"].tolist() == table["found"].tolist()

    def test_the_table_is_sorted_labelled_and_without_dead_latents(self) -> None:
        table = found_in(planted(), SEPARABLE)
        assert set(table["latent"].head(3)) == set(PLANTED)
        assert table["frequency_mismatched"].iloc[3:].is_monotonic_decreasing
        assert table["label"].tolist() == [f"label {i}" for i in table["latent"]]
        assert D_SAE - 1 not in set(table["latent"])

    def test_what_the_search_has_not_seen_cannot_change_what_it_finds(self) -> None:
        pairs = planted()
        spoiled = pairs.mismatched.copy()
        spoiled[pairs.held_out] = 0
        other = Pairs(pairs.matched, spoiled, pairs.held_out, pairs.prompts, pairs.partner)
        before, after = found_in(pairs, SEPARABLE), found_in(other, SEPARABLE)
        searched = ["latent", "mean_mismatched", "auroc", "margin", "found"]
        pd.testing.assert_frame_equal(before[searched], after[searched])
        check = after.set_index("latent").loc[PLANTED]
        assert check["held_out_mismatched"].eq(0).all()
        assert check["held_out_auroc"].le(0.5).all()

    def test_chance_findings_do_not_survive_the_held_out_pairs(self) -> None:
        rng = np.random.default_rng(1)
        a, b = rng.random((16, 3000)), rng.random((16, 3000))
        out = np.arange(16) >= 8
        pairs = Pairs(a, b, out, [f"p{i}" for i in range(16)], np.roll(np.arange(16), 1))
        how = DetectorsConfig(criterion="graded", min_auroc=0.9, max_leak=1)
        table = detector_table(pairs, labels(3000), how, ())
        lucky = table[table["found"]]
        assert len(lucky) > 3
        assert lucky["auroc"].min() >= 0.9
        assert lucky["held_out_auroc"].astype(float).mean() == pytest.approx(0.5, abs=0.15)

    def test_margin_separates_separable_from_an_overlap_of_one_pair(self) -> None:
        pairs = planted(held_out=0)
        pairs.matched[0, PLANTED[0]] = 5.999
        table = found_in(pairs, SEPARABLE).set_index("latent")
        assert not table.loc[PLANTED[0], "found"]
        assert table.loc[PLANTED[0], "auroc"] > 0.98
        assert table.loc[PLANTED[0], "margin"] < 0

    def test_zero_then_frequent_is_strict_about_zero_and_counts_pairs(self) -> None:
        pairs = planted(held_out=0)
        pairs.matched[5, PLANTED[0]] = 0.01
        pairs.mismatched[: N // 5 + 1, PLANTED[1]] = 0  # active on less than 80 %
        pairs.mismatched[: N // 5, PLANTED[2]] = 0  # on exactly 80 %
        table = found_in(pairs, STRICT)
        assert table.loc[table["found"], "latent"].tolist() == [PLANTED[2]]

    def test_a_latent_that_is_never_active_is_no_detector_whatever_the_criterion(self) -> None:
        anything = [
            DetectorsConfig(criterion="zero_then_frequent", min_frequency=0),
            DetectorsConfig(criterion="graded", min_auroc=0.5, max_leak=1),
            SEPARABLE,
        ]
        for how in anything:
            table = found_in(planted(), how, given=(D_SAE - 1,))
            assert not table.set_index("latent").loc[D_SAE - 1, "found"]

    def test_a_given_list_stands_beside_the_found_one_or_in_for_it(self) -> None:
        beside = found_in(planted(), SEPARABLE, given=(17, 5, 39))
        assert sorted(beside.loc[beside["detector"], "latent"]) == PLANTED
        both = beside[beside["found"] & beside["given"]]
        assert both["latent"].tolist() == [17]
        stands_in = found_in(planted(), DetectorsConfig(use="given"), given=(17, 5, 39))
        assert sorted(stands_in.loc[stands_in["detector"], "latent"]) == [5, 17, 39]
        none_given = found_in(planted(), DetectorsConfig(use="given"), given=())
        assert sorted(none_given.loc[none_given["detector"], "latent"]) == PLANTED

    def test_without_held_out_pairs_the_check_is_missing_not_passed(self, tmp_path: Path) -> None:
        table = found_in(planted(held_out=0), SEPARABLE)
        assert table["held_out_auroc"].isna().all()
        write_table(table.assign(model="m"), tmp_path / "detectors.parquet", "detectors", {})
        assert (
            read_table(tmp_path / "detectors.parquet", "detectors")["held_out_auroc"].isna().all()
        )

    def test_finding_nothing_gives_tables_without_detectors(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        a = rng.random((10, 4))
        pairs = Pairs(a, a, np.zeros(10, bool), [f"p{i}" for i in range(10)], np.arange(10))
        table = detector_table(pairs, labels(4), SEPARABLE, ())
        assert not table["found"].any()
        write_table(table.assign(model="m"), tmp_path / "a.parquet", "detectors", {})
        write_table(
            pair_table(pairs, []).assign(model="m"), tmp_path / "b.parquet", "detector_pairs", {}
        )
        none = read_table(tmp_path / "b.parquet", "detector_pairs")
        assert none.empty
        assert check_table(none, FAST).empty


class TestPairs:
    def test_every_pair_names_its_prompt_and_the_prompt_of_its_response(
        self, tmp_path: Path
    ) -> None:
        pairs = planted()
        written = pair_table(pairs, PLANTED).assign(model="m")
        write_table(written, tmp_path / "a.parquet", "detector_pairs", {})
        table = read_table(tmp_path / "a.parquet", "detector_pairs")
        assert len(table) == 2 * N * len(PLANTED)
        own = table[table["matched"]]
        assert own["prompt_id"].eq(own["response_of"]).all()
        mismatched = table[~table["matched"]]
        assert mismatched["prompt_id"].ne(mismatched["response_of"]).all()
        one = mismatched[mismatched["latent"].eq(PLANTED[1])]
        np.testing.assert_allclose(one["activation"], pairs.mismatched[:, PLANTED[1]])


class TestCheckTable:
    def test_statistics_are_those_of_the_pairs_that_were_not_searched(self) -> None:
        pairs = planted()
        table = check_table(pair_table(pairs, PLANTED), FAST).set_index("latent")
        out = pairs.mismatched[pairs.held_out]
        assert table["mean_mismatched"].tolist() == pytest.approx(out[:, PLANTED].mean(axis=0))
        assert table["pairs"].eq("held_out").all()
        assert table["n_pairs"].eq(len(out)).all()
        assert table["n_prompts"].eq(len(out) // 2).all()

    def test_without_held_out_pairs_the_table_marks_the_pairs_of_the_search(self) -> None:
        table = check_table(pair_table(planted(held_out=0), PLANTED), FAST)
        assert table["pairs"].eq("search").all()

    def test_d_is_the_difference_of_means_over_the_root_mean_variance(self) -> None:
        a = np.array([[0.0], [2], [4], [6], [3], [3]])
        b = np.array([[5.0], [6], [9], [12], [8], [8]])
        table = effect_sizes(a, b, list("pqrstu"), FAST)
        expected = 5 / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
        assert table["d"].iloc[0] == pytest.approx(expected)
        assert table["low"].iloc[0] < expected < table["high"].iloc[0]

    def test_copies_of_a_prompts_responses_add_no_certainty(self) -> None:
        rng = np.random.default_rng(0)
        a, b = rng.normal(0, 1, (30, 1)), rng.normal(1, 1, (30, 1))
        names = [f"p{i}" for i in range(30)]
        once = effect_sizes(a, b, names, FAST).iloc[0]
        wide_a, wide_b = np.repeat(a, 3, axis=0), np.repeat(b, 3, axis=0)
        thrice = effect_sizes(wide_a, wide_b, names * 3, FAST).iloc[0]
        assert once["high"] - once["low"] > 0
        again = effect_sizes(np.tile(a, (3, 1)), np.tile(b, (3, 1)), names * 3, FAST).iloc[0]
        width = once["high"] - once["low"]
        assert again["high"] - again["low"] == pytest.approx(width, rel=0.1)
        wrong = thrice["high"] - thrice["low"]  # copies given to other prompts
        assert wrong < 0.8 * width

    def test_a_handful_of_prompts_decides_nothing_about_an_effect(self) -> None:
        """Of 300 latents that see no mismatch, some have a large effect on five prompts."""
        rng = np.random.default_rng(0)
        claimed = Region(0.8, np.inf)
        for prompts, status in ((5, "few_clusters"), (20, "ok")):
            sides = rng.normal(size=(2, prompts, 300))
            names = [f"p{i}" for i in range(prompts)]
            table = effect_sizes(sides[0], sides[1], names, StatisticsConfig(bootstrap=200))
            assert set(table["status"]) == {status}
            assert (table["low"] > 0.8).any() == (status == "few_clusters")
            rows = table[["d", "low", "high", "status"]].itertuples(index=False)
            findings = (Finding(d, low, high, status=how) for d, low, high, how in rows)
            assert not any(decide(each, claimed)[0] == "confirmed" for each in findings)

    def test_intervals_hold_the_truth_at_their_level(self) -> None:
        rng = np.random.default_rng(3)
        hits = 0
        for seed in range(120):
            prompts = np.repeat(np.arange(25), 2)
            own = rng.normal(0, 0.6, 25)[prompts]
            a = own + rng.normal(0, 0.8, 50)
            b = 1.5 + own + rng.normal(0, 0.8, 50)
            how = StatisticsConfig(bootstrap=300, seed=seed)
            row = effect_sizes(a[:, None], b[:, None], [str(p) for p in prompts], how).iloc[0]
            hits += row["low"] <= 1.5 <= row["high"]
        assert 0.87 <= hits / 120 <= 0.99

    @pytest.mark.parametrize(
        ("a", "b", "prompts", "status"),
        [
            (np.zeros((4, 1)), np.full((4, 1), 7.3), list("pqrs"), "undefined"),
            (np.array([[0.0], [1]]), np.array([[2.0], [4]]), list("pp"), "too_few"),
        ],
    )
    def test_undefined_statistics_are_missing(
        self, a: np.ndarray, b: np.ndarray, prompts: list[str], status: str
    ) -> None:
        row = effect_sizes(a, b, prompts, FAST).iloc[0]
        assert row["status"] == status
        assert np.isnan(row["low"])


ACTIVITY = ("frequency", "mean")


def members(controls: pd.DataFrame) -> list[set[int]]:
    """Latents of each set."""
    return [set(one) for _, one in controls.groupby("set")["latent"]]


class TestControls:
    """500 latents whose activity spans four orders of magnitude, ten of them detectors."""

    RNG = np.random.default_rng(5)
    FREQUENCY = np.where(RNG.random(500) < 0.2, 0, 10 ** RNG.uniform(-4, -0.3, 500))
    MEAN = FREQUENCY * 10 ** RNG.normal(0, 0.3, 500)
    ALIVE = np.flatnonzero(FREQUENCY > 0)
    DETECTORS = RNG.choice(ALIVE, 10, replace=False).tolist()
    SHORT: ClassVar[dict[str, Any]] = {"nearest": 3, "matching": "activation"}
    """One detector is more active than any other latent."""
    SHORT |= {"mean": MEAN.copy(), "frequency": FREQUENCY.copy()}
    SHORT["mean"][DETECTORS[0]] = 3 * MEAN.max()
    SHORT["frequency"][DETECTORS[0]] = FREQUENCY.max()

    def match(self, **changes: Any) -> pd.DataFrame:
        how: dict[str, Any] = {
            "detectors": self.DETECTORS,
            "frequency": self.FREQUENCY,
            "mean": self.MEAN,
            "sets": 5,
            "nearest": 4,
            "seed": 0,
            "matching": "number",
        }
        return match_controls(**how | changes)

    def test_sets_have_a_latent_of_its_own_for_every_detector(self) -> None:
        table = self.match()
        for _, one in table.groupby("set"):
            assert sorted(one["detector"]) == sorted(self.DETECTORS)
            assert one["latent"].is_unique
        assert set(table["latent"]).isdisjoint(self.DETECTORS)
        assert set(table["latent"]) <= set(self.ALIVE)

    def test_they_are_about_as_active_as_the_detectors(self) -> None:
        table = self.match()
        for name in ("frequency", "mean"):
            ratio = np.log10(table[name] / table[f"detector_{name}"])
            assert ratio.abs().median() < 0.15
            assert ratio.abs().max() < 1
        unmatched = self.match(matching="random").query("mean > 0")
        off = np.log10(unmatched["mean"] / unmatched["detector_mean"])
        assert off.abs().median() > 0.5

    def test_no_other_sets_of_pools_are_closer_to_the_detectors(self) -> None:
        """Golden: with one detector a pool holds its nearest latents, whatever the set."""
        table = self.match(detectors=self.DETECTORS[:1], sets=4)
        place = np.stack([np.log(self.FREQUENCY + 1e-6), np.log(self.MEAN + 1e-6)], axis=1)
        others = np.setdiff1d(self.ALIVE, self.DETECTORS[:1])
        place /= place[others].std(axis=0)
        far = np.linalg.norm(place[others] - place[self.DETECTORS[0]], axis=1)
        assert set(table["latent"]) == set(others[np.argsort(far)[:4]])

    def test_two_equal_detectors_share_their_nearest_latents_at_the_least_cost(self) -> None:
        activity = np.array([1.0, 1.1, 1.2, 1.3, 1.0, 1.15])  # detectors 4 and 5
        for seed in range(4):
            how = {"frequency": activity / 2, "mean": activity, "sets": 2, "nearest": 2}
            table = self.match(detectors=[4, 5], seed=seed, **how)
            by_detector = table.groupby("detector")["latent"].agg(set)
            cost = {
                pool: sum(abs(np.log(activity[k] / activity[4])) for k in pool)
                + sum(abs(np.log(activity[k] / activity[5])) for k in {0, 1, 2, 3} - set(pool))
                for pool in combinations(range(4), 2)
            }
            assert tuple(sorted(by_detector[4])) == min(cost, key=lambda pool: cost[pool])

    def test_sets_share_no_latent_until_the_pools_run_out(self) -> None:
        assert self.match(sets=4)["latent"].is_unique
        assert not self.match(sets=5)["latent"].is_unique

    def test_a_set_that_falls_short_gets_latents_until_it_is_as_active(self) -> None:
        """One detector is more active than any other latent, as in the organism."""
        short = self.match(**self.SHORT | {"matching": "number"})
        full = self.match(**self.SHORT)
        assert summarise_sets(short)["mean_share"].max() < 75
        sums = summarise_sets(full)
        assert sums["mean_share"].between(98, 102).all()
        assert sums["latents"].gt(len(self.DETECTORS)).all()
        added = full.merge(short, on=["set", "latent"], how="left", indicator=True)
        added = added[added["_merge"].eq("left_only")]
        assert (added["detector_x"] == self.DETECTORS[0]).mean() > 0.5
        assert full.groupby("set")["latent"].apply(lambda one: one.is_unique).all()
        assert set(full["latent"]).isdisjoint(self.DETECTORS)

    def test_a_set_as_active_as_the_detectors_gets_no_more(self) -> None:
        activity = np.linspace(0.1, 0.2, 500)
        how = {"frequency": activity, "mean": activity, "matching": "activation"}
        assert summarise_sets(self.match(**how))["latents"].eq(len(self.DETECTORS)).all()

    def test_random_draws_from_all_latents_but_the_detectors_dead_ones_included(self) -> None:
        table = self.match(matching="random", sets=60)
        assert set(table["latent"]).isdisjoint(self.DETECTORS)
        dead = np.flatnonzero(self.FREQUENCY == 0)
        drawn = table["latent"].isin(dead).mean()
        assert drawn == pytest.approx(len(dead) / 490, abs=4 * np.sqrt(0.2 * 0.8 / 600))

    def test_sums_count_a_detector_once_however_many_latents_stand_for_it(self) -> None:
        rows = [(0, 8, 4, 0.2, 0.5, 2.0, 5.0), (0, 9, 4, 0.1, 0.5, 3.0, 5.0)]
        rows += [(0, 6, 2, 0.2, 0.3, 1.0, 1.0), (1, 7, 4, 0.5, 0.5, 0.0, 0.0)]
        names = ["set", "latent", "detector", "frequency", "detector_frequency", "mean"]
        sums = summarise_sets(pd.DataFrame(rows, columns=[*names, "detector_mean"]))
        first, silent = sums.to_dict("records")
        assert (first["detectors"], first["latents"]) == (2, 3)
        assert (first["mean"], first["detector_mean"], first["mean_share"]) == (6, 6, 100)
        assert first["frequency_share"] == pytest.approx(62.5)
        assert np.isnan(silent["mean_share"])  # no share of nothing

    def test_sets_differ_and_come_again_with_the_seed(self) -> None:
        table = self.match()
        sets = table.groupby("set")["latent"].agg(frozenset)
        assert sets.nunique() == 5
        pd.testing.assert_frame_equal(table, self.match())
        fewer = self.match(sets=2)
        pd.testing.assert_frame_equal(fewer, table[table["set"] < 2])

    def test_rounding_changes_no_set_and_larger_noise_a_latent_here_and_there(self) -> None:
        """The sets follow from the pools, whatever the order in which these are found."""
        changed: dict[float, list[int]] = {1e-6: [], 1e-4: []}
        for seed in range(40):
            drawn = members(self.match(seed=seed, **self.SHORT))
            for size, counts in changed.items():
                noise = np.exp(size * np.random.default_rng(seed).normal(size=(2, 500)))
                activity = {
                    name: self.SHORT[name] * x for name, x in zip(ACTIVITY, noise, strict=True)
                }
                again = members(self.match(seed=seed, **self.SHORT | activity))
                counts += [len(a ^ b) for a, b in zip(drawn, again, strict=True)]
        assert np.mean(np.array(changed[1e-6]) > 0) <= 0.01
        assert np.mean(np.array(changed[1e-4]) > 0) <= 0.05
        assert max(changed[1e-4]) <= 4

    def test_a_latent_that_drops_out_leaves_the_others_of_its_set(self) -> None:
        others = []
        for seed in range(10):
            drawn = members(self.match(seed=seed, **self.SHORT))
            for number, one in enumerate(drawn):
                gone = sorted(one)[seed % len(one)]
                again = members(self.match(seed=seed, excluded=[gone], **self.SHORT))[number]
                others.append(len(one - again) - 1)
        assert np.mean(others) < 1
        assert np.mean(np.array(others) == 0) > 0.6

    def test_one_more_detector_changes_one_latent_of_a_set_drawn_from_all(self) -> None:
        drawn = members(self.match(matching="random"))
        taken = min(drawn[0])
        again = members(self.match(matching="random", detectors=[*self.DETECTORS, taken]))
        for one, other in zip(drawn, again, strict=True):
            assert one - other <= {taken}
            assert len(other) == len(one) + 1

    def test_every_latent_of_a_pool_is_drawn_equally_often(self) -> None:
        first = [
            self.match(detectors=self.DETECTORS[:1], sets=2, seed=seed)["latent"].tolist()
            for seed in range(400)
        ]
        for place in (0, 1):
            counts = pd.Series([one[place] for one in first]).value_counts()
            assert len(counts) == 4
            assert counts.between(65, 135).all()  # four standard deviations about 100

    def test_the_chance_of_an_added_latent_falls_by_e_over_the_reach(self) -> None:
        """Latent 1 is the pool, 2 is what it lacks, and 3 the same but for the mean."""
        mean = np.array([10, 5.2, 4.8, 4.8 * np.exp(-REACH)])
        how: dict[str, Any] = {"mean": mean, "frequency": np.array([0.4, 0.3, 0.192, 0.192])}
        how |= {"detectors": [0], "sets": 1, "nearest": 1, "matching": "activation"}
        added = [self.match(seed=seed, **how)["latent"].tolist() for seed in range(600)]
        assert {one[0] for one in added} == {1}
        share = np.mean([one[1] == 2 for one in added])
        assert share == pytest.approx(np.e / (1 + np.e), abs=4 * np.sqrt(0.2 / 600))

    def test_detectors_known_but_not_in_use_are_not_drawn(self) -> None:
        drawn = set(self.match()["latent"])
        again = set(self.match(excluded=sorted(drawn))["latent"])
        assert again.isdisjoint(drawn)

    def test_without_detectors_there_is_nothing_to_match(self, tmp_path: Path) -> None:
        table = self.match(detectors=[])
        write_table(table.assign(model="m"), tmp_path / "controls.parquet", "controls", {})
        assert read_table(tmp_path / "controls.parquet", "controls").empty

    def test_too_few_eligible_latents_are_an_error_with_a_remedy(self) -> None:
        alive = np.zeros(500)
        alive[[*self.DETECTORS, 1, 2]] = 0.1
        with pytest.raises(EsrError, match=r"10 detectors, but only \d+ other.*disable the arms"):
            self.match(frequency=alive, mean=alive)
        alive[20:34] = 0.1
        with pytest.raises(EsrError, match="random sets cannot differ"):
            self.match(frequency=alive, mean=alive)
        assert len(self.match(frequency=alive, mean=alive, sets=1)) == len(self.DETECTORS)


class TestReadings:
    REQUESTS = tuple(Request((2, 5, 6), 44 + i, Intervention(7, 3.0)) for i in range(3))

    def test_steering_is_read_along_only_where_it_comes_before_the_layer_read(self) -> None:
        script = load_script("match_controls")
        for earlier, expected in ((True, Intervention(7, 3.0)), (False, Intervention())):
            readings = script.steered_passes(self.REQUESTS, [[8, 9], None, []], earlier)
            assert [reading.intervention for reading in readings] == [expected]
            assert [(r.tokens, r.start) for r in readings] == [((2, 5, 6, 8, 9), 3)]

    def test_activity_counts_every_token_once(self) -> None:
        script = load_script("match_controls")
        readings = script.steered_passes(self.REQUESTS, [[8], [8, 9, 9], []], False)

        class Says:
            def encode(self, readings: Any, pool: str) -> list[np.ndarray]:
                assert pool == "activity"
                return [np.array([[0.0], [0.0]]), np.array([[1.0], [4.0]])]

        frequency, mean = script.activity(Says(), readings)
        assert frequency.tolist() == [0.75]
        assert mean.tolist() == [3.0]

    def test_means_are_over_the_tokens_of_answers_at_the_layer_of_ablation(self) -> None:
        script = load_script("measure_means")
        config = script.reading_where_latents_are_ablated(
            load_study({"models": {"planted": {"ablate_layer": 1, "read_layer": 2}}}), "planted"
        )
        layer = config.models["planted"].read_layer
        assert layer == 1
        engine = TransformersEngine(tiny_model(), tiny_sae(), 0, layer, batch_size=2)
        texts = [Text((2, 5, 6, 7), 2), Text((2, 9, 8, 4, 3, 3), 1), Text((2, 5), 2)]
        table = script.means_table(engine, texts)
        requests = [EncodeRequest(one.tokens, one.start) for one in texts[:2]]
        acts = np.concatenate(engine.encode(requests, pool=None))
        assert len(acts) == 2 + 5
        np.testing.assert_allclose(table["mean"], acts.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(table["frequency"], (acts > 0).mean(axis=0), atol=1e-6)
        assert table["tokens"].eq(7).all()
        with pytest.raises(EsrError, match="no unsteered answer has a token"):
            script.means_table(engine, texts[2:])

    def test_responses_that_failed_are_not_read_and_none_at_all_is_an_error(self) -> None:
        script = load_script("find_detectors")
        plan = pd.DataFrame({"prompt_id": list("pqr")})
        responses = pd.DataFrame(
            {"status": ["ok", "engine_error", "ok"], "tokens": [[1, 2], None, []]}
        )
        kept, tokens = script.trials_with_response(plan, responses, "discovery")
        assert kept["prompt_id"].tolist() == ["p"]
        assert tokens == [[1, 2]]
        with pytest.raises(EsrError, match="arm discovery has no response, so no detectors"):
            script.trials_with_response(plan, responses.assign(status="engine_error"), "discovery")


class TestDiscoveryPrompts:
    def study(self, **arms: Any) -> Config:
        raw = merge(
            yaml.safe_load((REPO / "config.yaml").read_text()),
            yaml.safe_load((REPO / "studies/organism.yaml").read_text()),
            {"arms": arms},
        )
        return load(raw)

    def problems(self, **arms: Any) -> list[str]:
        return [text for text in check_files(self.study(**arms)) if "discovery" in text]

    @pytest.fixture(autouse=True)
    def _in_the_repository(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(REPO)

    def test_those_of_the_organism_are_its_own(self) -> None:
        assert self.problems() == []

    def test_prompts_that_are_evaluated_are_refused_by_name(self) -> None:
        (problem,) = self.problems(discovery={"prompts": "resources/prompts/organism.csv"})
        assert problem.startswith("arms.discovery.prompts: detectors are searched on prompts")
        assert "48 of resources/prompts/organism.csv" in problem

    def test_one_prompt_in_other_letters_is_enough(self, tmp_path: Path) -> None:
        prompts = pd.read_csv("resources/prompts/organism_discovery.csv")
        shared = pd.read_csv("resources/prompts/organism.csv")["prompt"].iloc[3]
        prompts.loc[0, "prompt"] = f" {shared.upper().rstrip('.')} "
        prompts.to_csv(tmp_path / "mine.csv", index=False)
        (problem,) = self.problems(discovery={"prompts": str(tmp_path / "mine.csv")})
        assert "1 of resources/prompts/organism.csv" in problem

    def test_without_ablations_discovery_prompts_are_not_checked(self) -> None:
        ablations = [name for name, arm in self.study().arms.items() if isinstance(arm.ablate, str)]
        disabled: dict[str, Any] = dict.fromkeys(ablations)
        evaluated = {"prompts": "resources/prompts/organism.csv"}
        assert self.problems(**disabled, discovery=evaluated) == []
