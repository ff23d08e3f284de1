"""Facts in the metadata of SAEs, read from real names, and compared with a study."""

import re
from typing import Any

import pytest

from esr.assets.sae_origin import (
    SaeOrigin,
    contradictions,
    origin_of,
    origin_of_metadata,
    origin_of_release,
    same_model,
)
from esr.config import ModelConfig, SaeConfig
from helpers.studies import load_study


@pytest.mark.parametrize(
    ("hook", "stream", "layer"),
    [
        ("blocks.12.hook_resid_post", "residual", 12),
        ("blocks.12.hook_resid_pre", "residual", 11),
        ("blocks.12.hook_resid_mid", "residual stream between attention and MLP", 12),
        ("blocks.0.hook_mlp_out", "MLP output", 0),
        ("blocks.7.attn.hook_z", "attention output", 7),
        ("model.layers.2", "residual", 2),
        ("model.language_model.layers.9.output", "residual", 9),
        ("model.layers.2.mlp", "mlp", 2),
        ("transformer.h.5", "residual", 5),
        ("resid_post_layer_15/trainer_1", "residual", 15),
        ("hook_embed", "embeddings", None),
        ("some place", None, None),
    ],
)
def test_a_hook_names_a_stream_and_the_layer_at_whose_output_it_is(
    hook: str, stream: str | None, layer: int | None
) -> None:
    found = origin_of_metadata({"hook_name": hook})
    assert (found.stream, found.layer) == (stream, layer)


@pytest.mark.parametrize(
    ("release", "id_", "expected"),
    [
        (
            "gemma-scope-2b-pt-res-canonical",
            "layer_16/width_16k/canonical",
            ("residual", 16, "gemma-2-2b", 78),
        ),
        (
            "gemma-scope-2b-pt-mlp-canonical",
            "layer_16/width_16k/canonical",
            ("MLP output", 16, "gemma-2-2b", None),
        ),
        (
            "gemma-scope-2b-pt-att-canonical",
            "layer_16/width_16k/canonical",
            ("attention output", 16, "gemma-2-2b", None),
        ),
        (
            "gemma-scope-2-270m-it-res",
            "layer_12_width_16k_l0_medium",
            ("residual", 12, "google/gemma-3-270m-it", 60),
        ),
        (
            "gemma-scope-2-270m-it-transcoders",
            "transcoder/layer_5_width_16k_l0_big",
            ("transcoder", 5, "google/gemma-3-270m-it", 135),
        ),
        ("llama_scope_lxr_8x", "l15r_8x", ("residual", 15, None, None)),
        ("gpt2-small-res-jb", "blocks.8.hook_resid_pre", ("residual", 7, "gpt2-small", None)),
        ("goodfire-llama-3.3-70b-instruct", "layer_50", ("residual", 50, None, None)),
    ],
)
def test_a_release_names_stream_layer_model_and_l0(
    release: str, id_: str, expected: tuple[Any, ...]
) -> None:
    found = origin_of_release(release, id_)
    named = (found.stream, found.layer, found.model, found.l0)
    assert [a for a, b in zip(named, expected, strict=True) if b is not None] == [
        b for b in expected if b is not None
    ]


def test_a_release_that_is_not_listed_has_no_facts() -> None:
    assert origin_of_release("lab/saes", "layer_1") == SaeOrigin()


def test_the_listed_l0_counts_and_metadata_count_before_the_list() -> None:
    source = SaeConfig(release="gemma-scope-2-270m-it-res", id="layer_12_width_16k_l0_medium")
    found = origin_of(source, {"hook_name": "blocks.9.hook_resid_post", "l0": 1.5})
    assert (found.layer, found.l0, found.model) == (9, 60, "google/gemma-3-270m-it")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("gemma-2-2b", "google/gemma-2-2b-it", True),
        ("google/gemma-3-270m-pt", "google/gemma-3-270m-it", True),
        ("Llama-3.1-8B-Base", "meta-llama/Llama-3.1-8B-Instruct", True),
        ("llama-3-8b-instruct", "meta-llama/Meta-Llama-3-8B", True),
        ("Qwen/Qwen3-1.7B-Base", "Qwen/Qwen3-1.7B", True),
        ("gemma-2-9b", "google/gemma-2-2b-it", False),
        ("gemma-2b", "google/gemma-2-2b-it", False),
    ],
)
def test_a_base_and_its_instruction_tuned_version_are_one_model(
    first: str, second: str, same: bool
) -> None:
    assert same_model(first, second) is same


def model(**changes: Any) -> ModelConfig:
    """Gemma 2 2B, steered and read at layer 16."""
    config = load_study({"models": {"gemma-2-2b": changes}}, name="laptop")
    return config.models["gemma-2-2b"]


def test_an_sae_as_configured_contradicts_nothing() -> None:
    assert list(contradictions(origin_of(model().sae), model())) == []


@pytest.mark.parametrize(
    ("sae", "line"),
    [
        (
            {"release": "gemma-scope-2b-pt-mlp-canonical", "id": "layer_16/width_16k/canonical"},
            "on the MLP output .*not on the residual stream",
        ),
        (
            {"release": "gemma-scope-2b-pt-res-canonical", "id": "layer_20/width_16k/canonical"},
            "output of layer 20 .*but read_layer is 16; set read_layer to 20",
        ),
        (
            {"release": "gemma-scope-9b-pt-res-canonical", "id": "layer_16/width_16k/canonical"},
            "trained on gemma-2-9b, but source is google/gemma-2-2b-it",
        ),
    ],
)
def test_an_sae_of_another_stream_layer_or_model_is_a_contradiction(
    sae: dict[str, str], line: str
) -> None:
    settings = model(sae=sae | {"revision": None})
    (found,) = contradictions(origin_of(settings.sae), settings)
    assert re.search(line, found)


def test_the_name_of_a_folder_proves_nothing() -> None:
    settings = model(source="resources/organisms/twin/model", revision=None)
    assert list(contradictions(SaeOrigin(model="gemma-2-9b"), settings)) == []
