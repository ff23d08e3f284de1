"""Episodes: which responses are read, where a correction lies, and which token holds which text."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from esr.arms.restarts import find_restarts, read_phrases
from esr.config import EpisodesConfig
from esr.episodes.extract import choose_backtracking, extract_episodes, find_correction
from esr.episodes.tokens import token_regions, token_spans
from esr.tables import write_table
from helpers.checkout import REPO

PHRASES = read_phrases(REPO / "resources/restart_phrases.txt")
OFF = "boil the sea. "
FIX = "Wait, that is not right. Let me start over."
ON = " knead the dough."
CORRECTED = OFF + FIX + ON


class TestCorrection:
    def found(self, response: str, first: tuple[int, int], second: tuple[int, int]) -> str | None:
        span = find_correction(response, first, second, find_restarts(PHRASES, response))
        return response[slice(*span)] if span else None

    @pytest.mark.parametrize(
        "boundary",
        [
            pytest.param(len(OFF), id="the judge counts it to the second attempt"),
            pytest.param(len(OFF + FIX), id="the judge counts it to the first attempt"),
        ],
    )
    def test_sentences_of_a_restart_are_one_correction(self, boundary: int) -> None:
        assert self.found(CORRECTED, (0, boundary), (boundary, len(CORRECTED))) == FIX

    def test_it_may_lie_between_the_attempts(self) -> None:
        first, second = (0, len(OFF)), (len(OFF + FIX), len(CORRECTED))
        assert self.found(CORRECTED, first, second) == FIX

    def test_of_several_restarts_the_one_at_the_judges_boundary_counts(self) -> None:
        text = "sorry. " + "a" * 200 + ". " + OFF + FIX + ON
        cut = text.index(FIX)
        assert self.found(text, (0, cut), (cut, len(text))) == FIX

    def test_a_restart_far_from_the_boundary_is_not_it(self) -> None:
        text = FIX + " a" * 200
        cut = len(text) - 20
        assert self.found(text, (0, cut), (cut, len(text))) is None

    def test_without_a_restart_phrase_there_is_none(self) -> None:
        assert self.found(OFF + ON, (0, len(OFF)), (len(OFF), len(OFF + ON))) is None

    @pytest.mark.parametrize("text", [FIX + ON, OFF + FIX])
    def test_without_text_before_or_after_there_is_none(self, text: str) -> None:
        assert self.found(text, (0, 5), (5, len(text))) is None

    def test_a_sentence_without_an_end_lasts_to_the_end_of_the_line(self) -> None:
        text = "boil the sea\nwait, that is wrong\nknead the dough"
        assert self.found(text, (0, 12), (13, len(text))) == "wait, that is wrong\n"


def word_tokenizer(words: Sequence[str], clean: bool = False) -> Any:
    ids = {word: i for i, word in enumerate(["<eos>", *words])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<eos>"))
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=clean)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


@cache
def byte_tokenizer() -> Any:
    """Every byte a token: characters are spread over up to four of them."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


class TestTokenSpans:
    def texts(self, tokenizer: Any, tokens: Sequence[int], prefill: str = "") -> list[str]:
        opening = tokenizer.encode(prefill, add_special_tokens=False) if prefill else []
        text = tokenizer.decode([*opening, *tokens], skip_special_tokens=True)
        return [text[a:b] for a, b in token_spans(tokenizer, tokens, prefill)]

    def test_words_hold_their_leading_blank_and_special_tokens_hold_nothing(self) -> None:
        tokenizer = word_tokenizer(["wait", ",", "let", "##'s"])
        assert self.texts(tokenizer, [1, 2, 3, 4, 0]) == ["wait", " ,", " let", "'s", ""]

    def test_a_blank_that_vanishes_before_a_comma_has_no_token(self) -> None:
        # The prefix decodes to "wait n", the whole to "waitn't": a prefix of it it is not.
        tokenizer = word_tokenizer(["do", "n't", ",", "n"], clean=True)
        assert tokenizer.decode([1, 4]) == "do n"
        assert self.texts(tokenizer, [1, 2, 3]) == ["do", "n't", ","]

    def test_tokens_of_one_character_all_hold_it(self) -> None:
        tokenizer = byte_tokenizer()
        tokens = tokenizer.encode("né€!")
        assert tokenizer.decode(tokens[:2]) == "n\ufffd"
        assert self.texts(tokenizer, tokens) == ["n", "é", "é", "€", "€", "€", "!"]

    def test_a_character_broken_off_at_the_end_is_a_replacement_mark(self) -> None:
        tokenizer = byte_tokenizer()
        tokens = tokenizer.encode("né")[:2]
        assert self.texts(tokenizer, tokens) == ["n", "\ufffd"]

    def test_a_prefill_comes_before_the_first_token(self) -> None:
        tokenizer = word_tokenizer(["wait", "let"])
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        assert token_spans(tokenizer, [2], "wait") == [(4, 8)]

    def test_no_tokens_have_no_spans(self) -> None:
        assert token_spans(byte_tokenizer(), []) == []

    @given(st.text(max_size=12))
    def test_spans_cover_the_text_in_order(self, text: str) -> None:
        tokenizer = byte_tokenizer()
        tokens = tokenizer.encode(text)
        spans = token_spans(tokenizer, tokens)
        whole = tokenizer.decode(tokens)
        assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(spans))
        assert {i for a, b in spans for i in range(a, b)} == set(range(len(whole)))
        # Each token holds the very character that its byte is of.
        owners = [i for i, c in enumerate(text) for _ in c.encode("utf-8", "replace")]
        if len(owners) == len(tokens) and whole == text:
            assert [a for a, _ in spans] == owners

    def test_tokens_of_the_organism_cover_their_words(self) -> None:
        folder = REPO / "resources/organisms/planted/model"
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        tokens = tokenizer.encode("then. wait, i got off track.", add_special_tokens=False)
        expected = ["then", ".", " wait", ",", " i", " got", " off", " track", ".", ""]
        assert self.texts(tokenizer, [*tokens, tokenizer.eos_token_id]) == expected


class TestTokenRegions:
    def row(self, **spans: tuple[int, int] | None) -> dict[str, Any]:
        ends = {name: span or (pd.NA, pd.NA) for name, span in spans.items()}
        return {f"{name}_{end}": span[i] for name, span in ends.items() for i, end in _ENDS}

    def test_a_token_belongs_where_its_last_character_is(self) -> None:
        row = self.row(off_topic=(0, 14), correction=(14, 57), on_topic=(57, 74))
        # " sea", ".", " Wait": the blank before "Wait" is still off topic, the token is not.
        spans = [(8, 12), (12, 13), (13, 18), (56, 57), (57, 58), (74, 74), (74, 80)]
        expected = ["off_topic", "off_topic", "correction", "correction", "on_topic", None, None]
        assert token_regions(spans, row) == expected

    def test_a_control_has_one_region(self) -> None:
        row = self.row(off_topic=None, correction=None, on_topic=(0, 5))
        assert token_regions([(0, 5), (5, 9)], row) == ["on_topic", None]


_ENDS = list(enumerate(("start", "end")))


class TestChoice:
    def means(self, *rows: Sequence[float]) -> np.ndarray:
        return np.array(rows, dtype=float)

    def test_latents_high_in_corrections_alone_are_chosen_highest_first(self) -> None:
        off = self.means([0, 0, 9, 0], [0, 0, 9, 0])
        correction = self.means([1, 3, 9, 0], [1, 3, 9, 0])
        on = self.means([0, 0, 0, 0], [0, 0, 0, 0])
        assert choose_backtracking(off, correction, on, count=4) == [1, 0]
        assert choose_backtracking(off, correction, on, count=1) == [1]
        assert choose_backtracking(off, correction, on, count=4, excluded=[1]) == [0]

    def test_one_episode_in_three_is_not_enough(self) -> None:
        nothing = np.zeros((3, 1))
        assert choose_backtracking(nothing, self.means([9], [0], [0]), nothing, count=1) == []

    def test_without_episodes_none_is_chosen(self) -> None:
        empty = np.zeros((0, 0))
        assert choose_backtracking(empty, empty, empty, count=3) == []


def trials(*rows: tuple[str, list[float], str]) -> dict[str, pd.DataFrame]:
    """Scores, judgments and responses of (status, attempt scores, response)."""
    scores, judgments, responses = [], [], []
    for i, (status, points, text) in enumerate(rows):
        name = f"t{i}"
        many = len(points) > 1
        known = bool(points)
        scores.append(
            {
                **{"trial_id": name, "prompt_id": "p", "latent": i // 2, "boost": 9.0, "seed": i},
                **{"status": status, "n_attempts": len(points) if known else None},
                **{"first_score": points[0] if known else None},
                **{"last_score": points[-1] if known else None},
                **{"improved": many and points[-1] > points[0] if known else None},
                **{"restart_detected": bool(find_restarts(PHRASES, text))},
            }
        )
        cuts = [0, len(OFF), len(text)] if many else [0, len(text)]
        for k, score in enumerate(points):
            where = {"start": cuts[k], "end": cuts[k + 1]} if k + 1 < len(cuts) else {}
            judgments.append({"trial_id": name, "attempt": k, "score": score} | where)
        responses.append({"trial_id": name, "response": text})
    types = {"improved": "boolean", "restart_detected": "boolean", "latent": "Int64"}
    numbers = dict.fromkeys(["n_attempts"], "Int64") | dict.fromkeys(
        ["first_score", "last_score"], "Float64"
    )
    return {
        "scores": pd.DataFrame(scores, columns=_SCORED).astype(types | numbers),
        "judgments": pd.DataFrame(judgments, columns=["trial_id", "attempt", "score", *_SPAN]),
        "responses": pd.DataFrame(responses, columns=["trial_id", "response"]),
    }


_SPAN = ["start", "end"]
_SCORED = ["trial_id", "prompt_id", "latent", "boost", "seed", "status", "n_attempts"]
_SCORED += ["first_score", "last_score", "improved", "restart_detected"]
EPISODE = ("ok", [0.0, 90.0], CORRECTED)
BASELINE = ("ok", [80.0], "knead the dough.")
UNRESTARTED = ("ok", [10.0], "boil the sea.")


def extracted(
    *rows: tuple[str, list[float], str], choose: bool = False, **sizes: Any
) -> pd.DataFrame:
    return extract_episodes(
        **trials(*rows), phrases=PHRASES, settings=EpisodesConfig(**sizes), choose=choose
    )


class TestExtraction:
    def test_groups_follow_from_attempts_scores_and_restarts(self) -> None:
        table = extracted(
            EPISODE,
            BASELINE,
            UNRESTARTED,
            ("ok", [90.0, 10.0], CORRECTED),  # worse
            ("ok", [0.0, 50.0, 90.0], CORRECTED),  # three attempts
            ("ok", [10.0], "boil the sea. wait, that is wrong"),  # a restart by the detector
            ("ok", [40.0], "boil the dough."),  # neither on topic nor off
            ("no_attempts", [], ""),
        )
        found = dict(zip(table["trial_id"], table["group"], strict=True))
        assert found == {"t0": "episode", "t1": "baseline", "t2": "unrestarted"}
        assert table["status"].eq("ok").all()

    def test_unsteered_trials_are_no_episodes(self) -> None:
        tables = trials(EPISODE, EPISODE)
        tables["scores"]["boost"] = [0.0, 9.0]
        found = extract_episodes(**tables, phrases=PHRASES, settings=EpisodesConfig(), choose=False)
        assert found["trial_id"].tolist() == ["t1"]

    def test_stretches_follow_each_other_without_a_gap(self) -> None:
        row = extracted(EPISODE).iloc[0]
        spans = [row[f"{r}_{e}"] for r in ("off_topic", "correction", "on_topic") for e in _SPAN]
        cuts = [len(OFF), len(OFF + FIX)]
        assert spans == [0, cuts[0], cuts[0], cuts[1], cuts[1], len(CORRECTED)]

    def test_an_unlocated_trial_keeps_a_row_with_its_status(self) -> None:
        tables = trials(EPISODE, ("ok", [0.0, 90.0], OFF + ON))
        tables["judgments"].loc[0, _SPAN] = None
        table = extract_episodes(**tables, phrases=PHRASES, settings=EpisodesConfig(), choose=False)
        assert table["status"].tolist() == ["no_spans", "no_correction"]
        assert table["off_topic_start"].isna().all()
        assert table["held_out"].isna().all()

    def test_an_annotators_places_go_before_those_of_the_restart_detector(self) -> None:
        boundaries = pd.DataFrame(
            {
                "trial_id": ["t0", "t1"],
                "status": ["ok", "not_found"],
                "off_topic_start": pd.array([2, None], dtype="Int64"),
                "correction_start": pd.array([9, None], dtype="Int64"),
                "on_topic_start": pd.array([20, None], dtype="Int64"),
            }
        )
        table = extract_episodes(
            **trials(EPISODE, EPISODE, BASELINE),
            phrases=PHRASES,
            settings=EpisodesConfig(),
            choose=False,
            boundaries=boundaries,
        )
        row = table.iloc[0]
        spans = [row[f"{r}_{e}"] for r in ("off_topic", "correction", "on_topic") for e in _SPAN]
        assert spans == [2, 9, 9, 20, 20, len(CORRECTED)]
        assert table["status"].tolist() == ["ok", "not_found", "ok"]
        assert table["off_topic_start"].isna().tolist() == [False, True, True]

    def test_only_so_many_of_a_group_are_read_the_same_ones_every_time(self) -> None:
        rows = [EPISODE] * 10 + [BASELINE] * 10 + [UNRESTARTED] * 10
        sizes: dict[str, Any] = {"max_episodes": 4, "max_baseline": 3, "max_unrestarted": 0}
        table = extracted(*rows, **sizes)
        counts = table[table["status"].eq("ok")]["group"].value_counts().to_dict()
        assert counts == {"episode": 4, "baseline": 3}
        assert table["status"].isin(["ok", "not_drawn"]).all()
        assert len(table) == 30
        pd.testing.assert_frame_equal(table, extracted(*rows, **sizes))
        assert not table["status"].equals(extracted(*rows, seed=1, **sizes)["status"])

    def test_one_response_that_no_longer_qualifies_changes_one_that_is_read(self) -> None:
        rows = [EPISODE] * 10 + [BASELINE] * 10
        sizes: dict[str, Any] = {"max_episodes": 4, "max_baseline": 4}
        table = extracted(*rows, **sizes).set_index("trial_id")
        read = table.index[table["status"].eq("ok")]
        for gone in (0, 9, 19):
            without = extracted(
                *rows[:gone], ("no_attempts", [], ""), *rows[gone + 1 :], **sizes
            ).set_index("trial_id")
            again = without.index[without["status"].eq("ok")]
            assert len(again) == len(read) == 8
            assert len(set(read) - set(again)) <= 1

    def test_controls_are_aligned_at_the_sentence_nearest_to_where_an_episode_is(self) -> None:
        # The correction of the episode starts at character 14.
        near = ("ok", [10.0], "boil it. a new sea. more of the sea. boil it again.")
        single = ("ok", [10.0], "boil the sea and boil it")
        short = ("ok", [10.0], "boil. it.")
        table = extracted(EPISODE, near, single, short)
        assert table["anchor"].fillna(-1).tolist() == [14, len("boil it. "), -1, -1]

    def test_backtracking_latents_are_chosen_on_half_of_the_steered_latents(self) -> None:
        table = extracted(*[EPISODE] * 20, BASELINE, choose=True)
        episodes = table[table["group"].eq("episode")]
        assert episodes["held_out"].sum() == 10
        assert episodes.groupby("latent")["held_out"].nunique().eq(1).all()
        assert table.loc[table["group"].eq("baseline"), "held_out"].all()
        assert extracted(*[EPISODE] * 20, choose=False)["held_out"].all()

    @pytest.mark.parametrize("rows", [[], [BASELINE], [("no_attempts", [], "")]])
    def test_an_arm_without_episodes_gives_a_table_without_them(
        self, rows: list[Any], tmp_path: Path
    ) -> None:
        table = extracted(*rows, choose=True)
        assert not table["group"].eq("episode").any()
        write_table(table.assign(model="m"), tmp_path / "episodes.parquet", "episodes", {})
