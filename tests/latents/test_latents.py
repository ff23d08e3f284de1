"""Selection of latents: the draw, the two filters, and a reason for every exclusion."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from esr.config import ConcretenessConfig, RelevanceConfig
from esr.errors import EsrError
from esr.latents.ratings import LexicalRater, rate_labels
from esr.latents.relevance import relevance_table
from esr.latents.selection import draw_candidates, read_labels, select_latents
from esr.tables import write_table

# Labels


def labels(folder: Path, text: str, d_sae: int = 5) -> pd.DataFrame:
    path = folder / "labels.csv"
    path.write_text(text)
    return read_labels(path, d_sae)


@pytest.mark.parametrize("name", ["latent", "index_in_sae"])
def test_labels_are_laid_out_one_row_a_latent(tmp_path: Path, name: str) -> None:
    table = labels(tmp_path, f'{name},label\n3,boats\n0,"baking: bread, dough"\n')
    assert table["latent"].tolist() == [0, 1, 2, 3, 4]
    assert table["label"].fillna("-").tolist() == ["baking: bread, dough", "-", "-", "boats", "-"]
    write_table(table.assign(model="m"), tmp_path / "labels.parquet", "labels", {})


def test_further_columns_of_a_label_file_do_not_matter(tmp_path: Path) -> None:
    table = labels(tmp_path, "index_in_sae,label,latent\n9,boats,1\n")
    assert table["label"].notna().tolist() == [False, True, False, False, False]


def test_a_label_is_text_even_if_it_reads_none_or_7_but_an_empty_one_is_missing(
    tmp_path: Path,
) -> None:
    table = labels(tmp_path, "latent,label\n0,None\n1,7\n2,\n3,NA\n")
    assert table["label"].fillna("-").tolist() == ["None", "7", "-", "NA", "-"]


def test_an_sae_without_labels_has_none() -> None:
    assert read_labels(None, 3)["label"].isna().all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latent,label\n5,boats\n", "latent 5, but the SAE has latents 0 to 4; .*another SAE"),
        ("latent,label\n-1,boats\n", "latent -1, but"),
        ("latent,label\n1,boats\n2,bread\n1,ships\n", "labels latent 1 twice"),
        ("latent,text\n1,boats\n", r"has columns \['latent', 'text'\], needs latent"),
    ],
)
def test_labels_of_another_sae_or_kind_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(EsrError, match=message):
        labels(tmp_path, text)


# The draw


def test_seed_42_draws_these_latents_of_512() -> None:
    drawn = draw_candidates(read_labels(None, 512), 8, seed=42)
    assert drawn["latent"].tolist() == [176, 51, 152, 45, 239, 331, 326, 168]
    assert drawn["order"].tolist() == list(range(8))


def test_a_larger_draw_begins_with_the_smaller_one() -> None:
    table = read_labels(None, 100)
    small, large = (draw_candidates(table, n, seed=1)["latent"].tolist() for n in (10, 60))
    assert large[:10] == small
    assert len(set(large)) == 60


def test_no_more_latents_are_drawn_than_there_are() -> None:
    assert sorted(draw_candidates(read_labels(None, 7), 99, 0)["latent"]) == list(range(7))


# Concreteness


def test_the_lexical_rating_is_the_share_of_concrete_words() -> None:
    rater = LexicalRater(frozenset({"bread", "dough", "boat"}))
    assert rater.rate(["Bread, DOUGH", "a boat in time", "unspecific: the", "42 %!"]) == [
        100,
        25,
        0,
        None,
    ]


def test_unrated_labels_have_a_status_and_no_number_and_unlabelled_ones_no_row() -> None:
    candidates = pd.DataFrame(
        {"latent": [4, 2, 9], "order": [0, 1, 2], "label": ["bread", None, "???"]}
    )
    table = rate_labels(candidates, LexicalRater(frozenset({"bread"})))
    assert table["latent"].tolist() == [4, 9]
    assert table["status"].tolist() == ["ok", "unrated"]
    assert table["concreteness"].isna().tolist() == [False, True]
    assert rate_labels(candidates.assign(label=None), None).empty, "no labels, no rater"


# Relevance


ACTIVATIONS = np.array([[5.0, 0.0, 3.0, 3.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0]])


def relevant(**settings: Any) -> dict[str, list[int]]:
    table = relevance_table(["p", "q"], ACTIVATIONS, [3, 0, 4, 2], RelevanceConfig(**settings))
    hits = table[table["relevant"]].groupby("prompt_id")["latent"].agg(list)
    return hits.to_dict()


def test_top_n_means_among_the_n_most_active_of_all_latents_and_active_at_all() -> None:
    assert relevant(criterion="top_n", top_n=1) == {"p": [0], "q": [3]}
    assert relevant(criterion="top_n", top_n=2) == {"p": [0, 2], "q": [3]}
    assert relevant(criterion="top_n", top_n=5) == {"p": [3, 0, 2], "q": [3]}


def test_zero_means_active_at_all() -> None:
    assert relevant(criterion="zero", top_n=1) == {"p": [3, 0, 2], "q": [3]}


def test_the_table_keeps_activation_and_rank_of_every_prompt_and_candidate() -> None:
    table = relevance_table(["p", "q"], ACTIVATIONS, [3, 0], RelevanceConfig())
    assert table[["prompt_id", "latent", "activation", "rank"]].to_dict("split")["data"] == [
        ["p", 3, 3.0, 3],
        ["p", 0, 5.0, 1],
        ["q", 3, 1.0, 1],
        ["q", 0, 0.0, 2],
    ]


# Selection


def select(
    ratings: list[float | None],
    relevant: dict[int, list[str]] | None = None,
    names: list[str | None] | None = None,
    count: int = 1,
    scope: str = "pool",
    trials: int = 1,
    unread: int | None = None,
    **criteria: Any,
) -> pd.DataFrame:
    """Select among latents 10, 11, ... with these ratings, relevant to some of prompts p, q, r."""
    latents = [10 + i for i in range(len(ratings))]
    names = names or [f"thing {k}" for k in latents]
    candidates = pd.DataFrame({"latent": latents, "order": range(len(latents)), "label": names})
    rated = pd.DataFrame({"latent": latents, "concreteness": pd.array(ratings, dtype="Float64")})
    rated["status"] = "ok"
    rated = rated[candidates["label"].notna()]
    pairs = pd.DataFrame([(p, k) for p in "pqr" for k in latents], columns=["prompt_id", "latent"])
    pairs["relevant"] = [p in (relevant or {}).get(k, []) for p, k in pairs.itertuples(index=False)]
    pairs = pairs[~pairs["latent"].isin([unread])]
    return select_latents(
        # Order is in the column, not in the rows.
        candidates.iloc[::-1],
        rated,
        pairs,
        count=count,
        trials=trials,
        criteria=ConcretenessConfig(**criteria),
        scope=scope,
    )


def test_the_first_that_pass_are_selected_in_the_order_of_the_draw() -> None:
    table = select([90, 10, 90, 90], count=2, criterion="minimum", minimum=65)
    assert table["latent"].tolist() == [10, 11, 12, 13]
    assert table["selected"].tolist() == [True, False, True, False]
    assert table["reason"].tolist() == [
        "selected",
        "label not concrete",
        "selected",
        "enough latents before it",
    ]


def test_every_exclusion_has_its_reason() -> None:
    table = select(
        [90, None, None, 10, 80, 70],
        relevant={14: ["q"]},
        names=["a", None, "?", "b", "c", "d"],
        count=2,
        criterion="minimum",
    )
    assert table["reason"].tolist() == [
        "selected",
        "no label",
        "label not rated",
        "label not concrete",
        "relevant to a prompt",
        "selected",
    ]
    assert table["selected"].eq(table["reason"].eq("selected")).all()


def test_the_median_criterion_keeps_the_median_itself() -> None:
    table = select([10, 20, 30, 40, 50], count=3, criterion="median")
    assert table["selected"].tolist() == [False, False, True, True, True]


def test_unlabelled_candidates_do_not_move_the_median() -> None:
    table = select([None, 30, None, 50, 40], names=[None, "a", None, "b", "c"], count=2)
    assert table["selected"].tolist() == [False, False, False, True, True]


def test_an_sae_without_labels_skips_concreteness() -> None:
    table = select([None, None], names=[None, None], count=2)
    assert table["selected"].all()


def test_in_scope_pool_a_latent_relevant_to_any_prompt_is_dropped() -> None:
    table = select([90, 90], relevant={10: ["r"]})
    assert table["reason"].tolist() == ["relevant to a prompt", "selected"]
    assert table["prompts"].tolist() == [["p", "q"], ["p", "q", "r"]]
    assert table["relevant_prompts"].tolist() == [1, 0]


def test_in_scope_pair_it_is_kept_from_its_own_prompts_as_long_as_enough_are_left() -> None:
    relevant = {10: ["p"], 11: ["p", "r"]}
    table = select([90, 90, 90], relevant=relevant, scope="pair", trials=2, count=2)
    assert table["reason"].tolist() == ["selected", "relevant to too many prompts", "selected"]
    assert table["prompts"].iloc[0] == ["q", "r"]


def test_too_few_survivors_is_an_error_with_counts_reasons_and_remedy() -> None:
    with pytest.raises(EsrError) as caught:
        select([90, 10, 20, 90], relevant={13: ["p"]}, count=3, criterion="minimum")
    message = str(caught.value)
    assert "latents.count is 3, but only 1 of 4 candidates survive" in message
    assert "2 label not concrete" in message
    assert "1 relevant to a prompt" in message
    assert "latents.count" in message
    assert "latents.candidates" in message


def test_a_candidate_whose_relevance_was_never_measured_is_an_error() -> None:
    with pytest.raises(EsrError, match="1 candidates have no relevance, first 11"):
        select([90, 90], unread=11)


def test_the_selection_is_a_table(tmp_path: Path) -> None:
    table = select([90, None, 10], names=["a", None, "b"], criterion="minimum")
    write_table(table, tmp_path / "latents.parquet", "latents", {})
