"""The configuration: what is accepted, what is refused and how, and what it amounts to."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel
from safetensors.numpy import save_file

from esr.config import (
    Config,
    DetectorsConfig,
    EpisodesConfig,
    FinetuneConfig,
    FinetuneTrainingConfig,
    JobSizeConfig,
    ModelConfig,
    SeedsConfig,
    load,
    merge,
    plain_settings,
    random_sets,
)
from esr.config.load import RENAMED
from esr.errors import EsrError
from esr.plain_yaml import load_yaml
from esr.planning.files import check_files, check_shapes
from helpers.checkout import REPO
from helpers.studies import load_study

MINIMAL = """
study: small
title: A small study
prompts: prompts.csv
latents:
  concreteness: {lexicon: lexicon.csv}
arms:
  answers: {over: prompts, trials: 1, boost: none}
  steered: {over: latents, trials: 5}
  unsteered: {replay: steered, boost: none}
judging:
  primary: words
  judges:
    words: {kind: lexical, lexicon: lexicon.csv}
models:
  tiny:
    label: Tiny
    source: model
    parameters: 1.0e+6
    sae: {path: sae}
    steer_layer: 1
    read_layer: 1
    threshold_prior: {upper: 40, mean: 12, sd: 8}
"""


def raw(*overrides: Mapping[str, Any]) -> dict[str, Any]:
    return merge(load_yaml(MINIMAL), *overrides)


def problem(*overrides: Mapping[str, Any]) -> str:
    with pytest.raises(EsrError) as caught:
        load(raw(*overrides))
    return str(caught.value)


def nested(dotted: str, value: Any) -> dict[str, Any]:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value


# What is accepted


def test_missing_keys_have_the_defaults_of_the_protocol() -> None:
    config = load(raw())
    assert (config.thresholds.target, config.generation.temperature) == (50, 0.6)
    assert (config.seeds.latents, config.seeds.thresholds, config.seeds.generation) == (42, 43, 44)
    assert config.models["tiny"].sae.path == Path("sae")


def test_a_loaded_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(raw()).thresholds.target = 30  # pyrefly: ignore[read-only]


def test_values_may_come_as_text_since_snakemake_passes_nested_ones_on_so() -> None:
    config = load(raw({"thresholds": {"target": "30"}, "generation": {"doubled_header": "true"}}))
    assert config.thresholds.target == 30
    assert config.generation.doubled_header is True


@pytest.mark.parametrize("null", [None, "null"])
def test_null_disables_an_arm_a_model_and_a_judge(null: str | None) -> None:
    config = load(
        raw(
            {"arms": {"unsteered": null}, "models": {"spare": null}},
            {"judging": {"judges": {"spare": null}}},
        )
    )
    assert list(config.arms) == ["answers", "steered"]
    assert list(config.models) == ["tiny"]
    assert list(config.judging.judges) == ["words"]


def test_models_may_override_the_repetition_penalty() -> None:
    config = load(raw(nested("models.tiny.repetition_penalty", 1.2)))
    expected = {"temperature": 0.6, "max_new_tokens": 512, "repetition_penalty": 1.2}
    assert config.sampling("tiny") == expected


def test_models_may_have_rows_of_their_own_and_so_do_those_fine_tuned_from_them() -> None:
    config = load_study({"models": {"twin": {"batch_size": 7}}})
    found = {name: config.batch_size(name) for name in config.models}
    tuned = {name for name in config.finetuned if config.base_of(name) == "twin"}
    assert tuned
    assert {name for name, rows in found.items() if rows == 7} == {"twin", *tuned}
    assert found["planted"] == config.engine.batch_size == 192


def test_trials_per_latent_are_those_of_the_largest_arm_over_latents() -> None:
    more = {"arms": {"held-out": {"over": "latents", "trials": 7}, "answers": {"trials": 99}}}
    assert load(raw(more)).trials_per_latent == 7


# What is refused


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (nested("thresholds.targt", 30), ["thresholds.targt", "unknown key", "30"]),
        (nested("models.tiny.layer", 3), ["models.tiny.layer", "unknown key"]),
        (nested("latents.count", "many"), ["latents.count", "integer", "'many'"]),
        (nested("latents.count", 2.5), ["latents.count", "integer", "2.5"]),
        (nested("thresholds.target", 100), ["thresholds.target", "less than 100"]),
        (nested("generation.temperature", -1), ["generation.temperature", "greater than or equal"]),
        (nested("generation.temperature", float("nan")), ["generation.temperature", "nan"]),
        (
            nested("models.tiny.threshold_prior.upper", float("inf")),
            ["models.tiny.threshold_prior.upper", "finite"],
        ),
        (
            nested("models.tiny.threshold_prior.mean", 50),
            ["models.tiny.threshold_prior", "lower < mean < upper"],
        ),
        (nested("engine.name", "abacus"), ["engine.name", "'transformers'", "'abacus'"]),
        (nested("models.tiny.sae.release", "x"), ["models.tiny.sae", "either `path`"]),
        (nested("models.tiny.sae", {"path": None, "release": "x"}), ["`release` and `id`"]),
        (nested("models", None), ["models", "dictionary"]),
        (nested("models.tiny", None), ["models", "at least 1"]),
        (nested("models.my model", {}), ["models.my model", "pattern"]),
        (nested("study", "a/b"), ["study", "pattern", "'a/b'"]),
        (nested("arms.extra", {}), ["arms.extra", "exactly one of `over`", "`replay`"]),
        (nested("arms.steered.replay", "answers"), ["arms.steered", "exactly one of"]),
        (nested("arms.unsteered.trials", 3), ["arms.unsteered", "`trials` goes with `over`"]),
        (nested("arms.steered.seeds", "other"), ["arms.steered", "goes with `replay`"]),
        (nested("arms.steered.trials", None), ["arms.steered", "`trials` goes with `over`"]),
        (nested("arms.answers.boost", "threshold"), ["arms.answers", "set `boost: none`"]),
        (nested("arms.unsteered.replay", "steerd"), ["arms.unsteered", "unknown arm 'steerd'"]),
        (nested("arms.steered", None), ["arms.unsteered", "unknown arm 'steered'"]),
        (nested("arms.unsteered.replay", "unsteered"), ["arms.unsteered", "replays itself"]),
        (nested("arms.steered.meta_prompt", "Focus!"), ["arms.steered", "{prompt}"]),
        (nested("arms.steered.meta_prompt", "{prompt} {topic}"), ["arms.steered", "'topic'"]),
        (nested("arms.steered.ablate", [3, 3]), ["arms.steered", "`ablate` lists a latent twice"]),
        (nested("arms.steered.ablate", [3, -1]), ["arms.steered.ablate.1", "-1"]),
        (nested("judging.judges.c", {"kind": "anthropic"}), ["judging.judges.c.model: missing"]),
        (
            nested("latents.concreteness.rater", "haiku"),
            ["latents.concreteness.rater: 'haiku' is not a judge that is a language model"],
        ),
        (
            nested("episodes.boundaries", "words"),
            ["episodes.boundaries: 'words' is not a judge that is a language model; choose "],
        ),
        (nested("judging.primary", "word"), ["judging", "'word'", "['words']"]),
        (nested("judging.judges.words", None), ["judging", "primary judge 'words'"]),
        (nested("judging.judges.words.kind", "poll"), ["judging.judges.words.kind", "'lexical'"]),
        (nested("judging.judges.words.kind", None), ["judging.judges.words.kind", "'sentences'"]),
        (nested("judging.judges.spare", {}), ["judging.judges.spare.kind", "missing; add it"]),
        (nested("judging.judges.words.model", "x"), ["judging.judges.words.model", "unknown key"]),
        (
            nested("judging.judges.lexical", {"kind": "lexical"}),
            ["judging.judges.lexical.lexicon: missing"],
        ),
        (nested("agreement.arms", ["steerd"]), ["agreement.arms", "'steerd'"]),
        (nested("agreement.arms", []), ["agreement.arms", "at least 1"]),
        (
            nested("arms.held-out", {"over": "latents", "trials": 1, "prompts": "other.csv"}),
            ["arms.held-out.prompts: no unsteered arm answers other.csv", "add an arm `{over"],
        ),
        (nested("arms.unsteered.prompts", "other.csv"), ["arms.unsteered", "goes with `over`"]),
        (nested("latents.relevance.answers", "steered"), ["latents.relevance.answers", "`zero`"]),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_a_mistake_is_refused_with_its_key(override: dict[str, Any], message: list[str]) -> None:
    error = problem(override)
    for text in message:
        assert text in error


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            nested("models.tiny.boosts", {"upper": 40, "mean": 12, "sd": 8}),
            "models.tiny.boosts: unknown key (value {'upper': 40, 'mean': 12, 'sd': 8}); it is now "
            "called `threshold_prior`",
        ),
        (nested("episodes.most", 3), "(value 3); it is now called `max_episodes`"),
        (nested("detectors.nearest", 3), "(value 3); it is now called `matched_pool`"),
        (nested("finetune.training.warm_up", 3), "(value 3); it is now called `warmup_steps`"),
        (nested("finetune.ratios", [3]), "(value [3]); it is now called `shares`"),
        (
            {"jobs": [{"parameters": 3}]},
            "jobs.0.parameters: unknown key (value 3); it is now calle",
        ),
    ],
    ids=["model", "episodes", "detectors", "training", "shares", "jobs"],
)
def test_an_old_key_is_refused_with_its_new_name(override: dict[str, Any], line: str) -> None:
    assert line in problem(override)


@pytest.mark.parametrize("location", RENAMED)
def test_every_renamed_key_exists_under_its_new_name_only(location: str) -> None:
    sections: dict[str, type[BaseModel]] = {
        "seeds": SeedsConfig,
        "models.*": ModelConfig,
        "detectors": DetectorsConfig,
        "episodes": EpisodesConfig,
        "finetune": FinetuneConfig,
        "finetune.training": FinetuneTrainingConfig,
        "jobs.*": JobSizeConfig,
    }
    section, old = location.rsplit(".", 1)
    assert RENAMED[location] in sections[section].model_fields
    assert old not in sections[section].model_fields


def test_an_old_key_is_one_line_although_the_new_one_is_missing() -> None:
    old = raw()
    old["models"]["tiny"]["boosts"] = old["models"]["tiny"].pop("threshold_prior")
    with pytest.raises(EsrError) as caught:
        load(old)
    assert str(caught.value).count("\n  - ") == 1


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (nested("generation.max_new_tokens", 10**9), "generation.max_new_tokens: Input should be"),
        (nested("thresholds.steps", 10**9), "thresholds.steps: Input should be"),
        (nested("statistics.bootstrap", 10**9), "statistics.bootstrap: Input should be"),
        (
            nested("seeds.generation", 2**64),
            "seeds.generation: Input should be less than 4294967296",
        ),
        (nested("statistics.seed", -1), "statistics.seed: Input should be greater than or equal"),
        (nested("models.tiny.threshold_prior.sd", True), "`sd` is True; give a number"),
        (
            nested("models.tiny.threshold_prior.sd", 1e308),
            "sd is 1e+308, but the bounds are 40 apa",
        ),
        (
            nested("models.tiny.threshold_prior.sd", 1e-9),
            "sd is 1e-09, but the bounds are 40 apart",
        ),
        (
            nested("statistics.level", 0.05),
            "statistics.level: Input should be greater than or equal",
        ),
        (
            nested("statistics.bootstrap", 1),
            "statistics.bootstrap: Input should be greater than or",
        ),
        (
            nested("thresholds.target", 0.5),
            "thresholds.target: Input should be greater than or equal",
        ),
        (nested("generation.temperature", 60), "generation.temperature: Input should be less than"),
        (nested("models.tiny.label", ""), "models.tiny.label: String should have at least 1"),
        (nested("models.tiny.detectors", [3, True]), "`detectors` is True; give a number"),
        (nested("arms.steered.ablate", [True]), "`ablate` is True; give a number"),
        (nested("arms.CON", {"replay": "steered"}), "'CON' is a device name on Windows"),
        ({"arms": {"lpt1.x": {"replay": "steered"}}}, "'lpt1.x' is a device name"),
        (nested("arms.1", {"replay": "steered"}), "'1' reads as a number"),
        (nested("arms.yes", {"replay": "steered"}), "'yes' reads as a number, a truth value or nu"),
        (nested("study", "1e3"), "'1e3' reads as a number"),
        (nested("study", "downloads"), "results/downloads/ belongs to all studies; choose another"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_an_implausible_value_is_refused(override: dict[str, Any], line: str) -> None:
    assert line in problem(override)


@pytest.mark.parametrize("name", ["3.5-turbo", "1b", "console", "no-restart", "e5"])
def test_a_name_with_a_word_in_it_is_accepted(name: str) -> None:
    assert name in load(raw({"arms": {name: {"replay": "steered"}}})).arms


def test_a_missing_key_is_refused_with_its_name() -> None:
    small = raw()
    del small["prompts"], small["models"]["tiny"]["steer_layer"]
    with pytest.raises(EsrError) as caught:
        load(small)
    assert "prompts: missing" in str(caught.value)
    assert "models.tiny.steer_layer: missing" in str(caught.value)


def test_several_mistakes_are_named_at_once_with_the_study_and_the_page() -> None:
    message = problem(nested("latents.coutn", 3), nested("thresholds.target", 0))
    assert "study 'small'" in message
    assert "latents.coutn" in message
    assert "thresholds.target" in message
    assert "docs/config.md" in message


def test_replays_that_go_in_a_circle_are_refused_with_the_circle() -> None:
    circle = {"arms": {"a": {"replay": "b"}, "b": {"replay": "a"}}}
    assert "a -> b" in problem(circle)


# Merging


def test_later_mappings_win_key_by_key() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": 1}
    study = {"a": {"y": 3}, "b": {"z": 1}}
    command_line = {"a": {"y": 4}}
    assert merge(base, study, command_line) == {"a": {"x": 1, "y": 4}, "b": {"z": 1}}
    assert base == {"a": {"x": 1, "y": 2}, "b": 1}


def test_lists_are_replaced_whole() -> None:
    assert merge({"a": [1, 2]}, {"a": [3]}) == {"a": [3]}


def test_merging_is_what_snakemake_does() -> None:
    code = (
        "import sys, json; from snakemake.utils import update_config; "
        "parts = json.load(sys.stdin); "
        "[update_config(parts[0], p) for p in parts[1:]]; print(json.dumps(parts[0]))"
    )
    parts: list[dict[str, Any]] = [
        {"a": {"x": 1, "y": [2]}, "b": 1, "c": {"d": 1}},
        {"a": {"y": [3]}, "e": {"f": 1}, "c": None},
        {"a": {"x": {"z": 0}}, "b": None},
    ]
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(parts), capture_output=True, text=True
    )
    assert json.loads(done.stdout) == merge(*parts), done.stderr


# Digest and settings


def test_the_digest_names_the_content_whatever_the_order_and_whoever_wrote_it() -> None:
    config = load(raw())
    assert len(config.digest) == 16
    assert int(config.digest, 16) >= 0
    shuffled = dict(reversed(list(raw().items())))
    spelled_out = raw(nested("thresholds.target", "50.0"), nested("arms.unused", None))
    for same in (shuffled, spelled_out, config.model_dump(mode="json")):
        assert load(same).digest == config.digest


@pytest.mark.parametrize(
    "dotted", ["thresholds.target", "seeds.latents", "generation.max_new_tokens"]
)
def test_the_digest_changes_with_any_value(dotted: str) -> None:
    assert load(raw(nested(dotted, 31))).digest != load(raw()).digest


def test_the_digest_is_that_of_canonical_json() -> None:
    class Fixed(Config):
        def model_dump(self, **_: Any) -> dict[str, Any]:
            return {"b": [1, 2.5], "a": None}

    # sha256 of {"a": null, "b": [1, 2.5]}
    assert Fixed.model_construct().digest == "6b1d84977084473f"


def test_settings_of_a_rule_are_plain_data() -> None:
    config = load(raw())
    found = plain_settings(config, ["thresholds.target", "models.tiny.sae", "arms", "prompts"])
    assert found["thresholds.target"] == 50
    absent = {"release": None, "id": None, "revision": None}
    assert found["models.tiny.sae"] == {"path": "sae", **absent}
    assert found["arms"]["steered"]["trials"] == 5
    assert found["prompts"] == "prompts.csv"
    assert json.loads(json.dumps(found)) == found


def test_settings_that_do_not_exist_are_an_error() -> None:
    with pytest.raises(EsrError, match=r"'models.huge.dtype' \(unknown from 'huge.dtype' on\)"):
        plain_settings(load(raw()), ["models.huge.dtype"])


# Files, as far as they can be checked in a blink


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all files that the minimal study names."""
    monkeypatch.chdir(tmp_path)
    model = {"num_hidden_layers": 3, "hidden_size": 8, "vocab_size": 50, "architectures": ["X"]}
    contents = {
        "prompts.csv": "prompt_id,category,prompt\n",
        "lexicon.csv": "topic,part,word\n",
        "resources/restart_phrases.txt": "wait\n",
        "model/config.json": json.dumps(model),
        "model/tokenizer.json": "{}",
        "model/tokenizer_config.json": "{}",
        "sae/cfg.json": json.dumps({"d_in": 8, "d_sae": 16}),
    }
    for name, text in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    embedding = {"model.embed_tokens.weight": np.zeros((50, 8), np.float32)}
    save_file(embedding, tmp_path / "model/model.safetensors")
    write_sae_weights(tmp_path / "sae", 8, 16)
    return tmp_path


def write_sae_weights(folder: Path, d_in: int, d_sae: int) -> None:
    """Weights of zeros, whose header alone is read."""
    shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in)}
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    save_file(weights, folder / "sae_weights.safetensors")


@pytest.mark.usefixtures("files")
def test_files_that_fit_are_no_problem() -> None:
    assert check_files(load(raw())) == []


@pytest.mark.parametrize(
    ("missing", "key"),
    [
        ("prompts.csv", "prompts"),
        ("resources/restart_phrases.txt", "judging.restart_phrases"),
        ("model/config.json", "models.tiny.source"),
        ("model/model.safetensors", "models.tiny.source"),
        ("model/tokenizer.json", "models.tiny.source"),
        ("sae/cfg.json", "models.tiny.sae.path"),
        ("sae/sae_weights.safetensors", "models.tiny.sae.path"),
    ],
)
def test_a_missing_file_is_named_with_its_key(files: Path, missing: str, key: str) -> None:
    (files / missing).unlink()
    assert check_files(load(raw())) == [f"{key}: {missing} does not exist"]


def test_every_missing_file_is_named_at_once(files: Path) -> None:
    for name in ("prompts.csv", "lexicon.csv", "sae/cfg.json"):
        (files / name).unlink()
    problems = check_files(load(raw(nested("models.tiny.labels", "labels.csv"))))
    assert [line.split(":")[0] for line in problems] == [
        "prompts",
        "latents.concreteness.lexicon",
        "judging.judges.words.lexicon",
        "models.tiny.labels",
        "models.tiny.sae.path",
    ]


def test_checking_files_needs_no_pandas_which_every_job_would_wait_for() -> None:
    code = "import sys, esr.config, esr.planning.files; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_detectors_are_not_looked_for_on_prompts_that_are_evaluated(files: Path) -> None:
    head = "prompt_id,category,prompt\n"
    (files / "prompts.csv").write_text(head + "a,x,Explain how to bake bread.\n")
    discovery = {"over": "prompts", "trials": 1, "boost": "none", "prompts": "own.csv"}
    ablated = {"replay": "steered", "ablate": "detectors"}
    config = load(raw({"arms": {"discovery": discovery, "ablated": ablated}}))
    (files / "own.csv").write_text(head + "b,x,Explain how to sail.\n")
    assert check_files(config) == []
    (files / "own.csv").write_text(head + "b,x,explain how  to bake bread\n")
    (problem,) = check_files(config)
    assert problem.startswith("arms.discovery.prompts: detectors are searched on prompts that")
    assert "Explain how to bake bread." in problem


@pytest.mark.usefixtures("files")
def test_missing_prompts_of_an_arm_are_named() -> None:
    (problem,) = check_files(load(raw(nested("arms.answers.prompts", "others.csv"))))
    assert problem == "arms.answers.prompts: others.csv does not exist"


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("layer", ["steer_layer", "read_layer"])
def test_a_layer_that_the_model_does_not_have_is_named(layer: str) -> None:
    assert check_files(load(raw(nested(f"models.tiny.{layer}", 2)))) == []
    problems = check_files(load(raw(nested(f"models.tiny.{layer}", 3))))
    assert problems == [f"models.tiny.{layer}: 3, but the model has layers 0 to 2"]


def test_an_sae_of_another_width_is_named(files: Path) -> None:
    (files / "sae/cfg.json").write_text(json.dumps({"d_in": 9, "d_sae": 16}))
    write_sae_weights(files / "sae", 9, 16)
    (problem,) = check_files(load(raw()))
    assert problem.startswith("models.tiny.sae.path: the SAE has input width 9")
    assert "8" in problem


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("sae/cfg.json", '{"d_sae": 16}', "sae.path: sae/cfg.json: d_in is None, not the width"),
        ("sae/cfg.json", '{"d_in": 8, "d_sae": true}', "sae.path: sae/cfg.json: d_sae is True"),
        ("sae/cfg.json", '{"d_in": 8, "d_', "sae.path: sae/cfg.json is not valid JSON"),
        ("sae/cfg.json", "[8, 16]", "sae.path: sae/cfg.json holds no JSON object"),
        ("model/config.json", '{"num_hidden_', "source: model/config.json is not valid JSON"),
        (
            "model/config.json",
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "source: model/config.json is a git-lfs pointer, not the file; run `git lfs pull`",
        ),
        (
            "model/config.json",
            '{"model_type": "no-such-model"}',
            "source: model/config.json: transformers cannot read model_type 'no-such-model'",
        ),
        (
            "sae/cfg.json",
            '{"d_in": 8, "d_sae": 20}',
            "sae.path: sae/sae_weights.safetensors: W_enc",
        ),
        (
            "sae/sae_weights.safetensors",
            "torn",
            "sae.path: sae/sae_weights.safetensors was cut or changed",
        ),
        (
            "model/model.safetensors",
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "source: model/model.safetensors is a git-lfs pointer, not the file; run `git lfs",
        ),
        (
            "model/config.json",
            '{"num_hidden_layers": 3, "hidden_size": 4, "vocab_size": 50}',
            "source: model: model.embed_tokens.weight has shape (50, 8), but by config.json",
        ),
        (
            "model/model.safetensors.index.json",
            '{"weight_map": 3}',
            "source: model/model.safetensors.index.json has no weight_map of file names",
        ),
    ],
)
def test_a_file_from_outside_that_is_not_as_expected_is_one_line_with_its_name(
    files: Path, file: str, content: str, line: str
) -> None:
    (files / file).write_text(content)
    (problem,) = check_files(load(raw()))
    assert problem.startswith(f"models.tiny.{line}")
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("metadata", "line"),
    [
        ({"hook_name": "blocks.1.hook_mlp_out"}, "trained on the MLP output (blocks.1.hook_mlp"),
        ({"hook_name": "model.layers.2"}, "output of layer 2 (model.layers.2), but read_layer"),
        ({"hook_layer": 0}, "output of layer 0"),
    ],
)
def test_an_sae_whose_own_metadata_contradict_the_study_is_refused_unless_accepted(
    files: Path, metadata: dict[str, Any], line: str
) -> None:
    cfg = {"d_in": 8, "d_sae": 16, "metadata": metadata}
    (files / "sae/cfg.json").write_text(json.dumps(cfg))
    (problem,) = check_files(load(raw(nested("models.tiny.read_layer", 1))))
    assert problem.startswith("models.tiny.sae.path: sae/cfg.json: the SAE was trained on the ")
    assert line in problem
    assert problem.endswith("accept_sae: [metadata]`")
    accepted = nested("models.tiny.accept_sae", ["metadata"])
    assert check_files(load(raw(nested("models.tiny.read_layer", 1), accepted))) == []


@pytest.mark.usefixtures("files")
def test_parameters_that_the_checkpoint_exceeds_by_far_are_named() -> None:
    assert check_files(load(raw(nested("models.tiny.parameters", 700)))) == []
    (problem,) = check_files(load(raw(nested("models.tiny.parameters", 2.6))))
    assert problem.startswith("models.tiny.parameters: 2.6, but 3 layers of width 8 and 50 tokens")
    assert problem.endswith("so write it out, as in 2.6e+9")


@pytest.mark.usefixtures("files")
def test_an_ablated_latent_that_the_sae_does_not_have_is_named() -> None:
    assert check_files(load(raw(nested("arms.steered.ablate", [0, 15])))) == []
    (problem,) = check_files(load(raw(nested("arms.steered.ablate", [0, 16]))))
    assert problem == "arms.steered.ablate: latent 16 is not in the SAE (0 to 15) (model tiny)"


@pytest.mark.parametrize("study", ["paper", "arxiv"])
def test_the_paper_is_computed_with_models_and_saes_at_pinned_commits(study: str) -> None:
    models = load_yaml((REPO / f"studies/{study}.yaml").read_text())["models"]
    assert len(models) == 5
    for model in models.values():
        for commit in (model["revision"], model["sae"]["revision"]):
            assert re.fullmatch(r"[0-9a-f]{40}", commit)


@pytest.mark.usefixtures("files")
def test_a_hub_model_needs_a_revision() -> None:
    sae = {"path": None, "release": "r", "id": "i"}
    hub = {"models": {"tiny": {"source": "lab/tiny", "sae": sae}}}
    (problem,) = check_files(load(raw(hub)))
    assert problem.startswith("models.tiny.revision: lab/tiny is not a local folder")
    pinned = nested("models.tiny.revision", "0" * 40)
    assert check_files(load(raw(hub, pinned))) == []


@pytest.mark.usefixtures("files")
def test_a_folder_that_is_not_there_is_not_taken_for_a_hub_model() -> None:
    (problem,) = check_files(load(raw(nested("models.tiny.source", "./elsewhere"))))
    assert problem == "models.tiny.source: folder ./elsewhere does not exist"


def test_a_key_in_the_place_of_its_variable_is_not_repeated() -> None:
    judge = {"kind": "anthropic", "model": "m", "key_variable": "sk-secret"}
    with pytest.raises(EsrError, match=r"judging\.judges\.c\.key_variable") as error:
        load(raw(nested("judging.judges.c", judge)))
    assert "sk-secret" not in str(error.value)


def test_a_setting_is_found_below_a_name_with_dots() -> None:
    model = raw()["models"][next(iter(raw()["models"]))]
    other = model | {"label": "Larger"}
    config = load(raw({"models": {"llama-3": other, "llama-3.1-8b": model | {"label": "Other"}}}))
    keys = ["models.llama-3.1-8b.dtype", "models.llama-3.dtype"]
    assert plain_settings(config, keys) == dict.fromkeys(keys, config.models["llama-3"].dtype)
    with pytest.raises(EsrError, match=r"models\.llama-3\.2\.dtype"):
        plain_settings(config, ["models.llama-3.2.dtype"])


SIZES = [
    {"max_parameters": up_to, "gpus": g, "memory": 4, "generate": 1, "thresholds": 1, "encode": 1}
    for up_to, g in ((1e8, 0), (1e10, 1))
]


def test_a_job_size_is_the_smallest_that_holds_the_model() -> None:
    config = load(raw({"jobs": SIZES}))
    name = next(iter(config.models))
    assert config.job_size(name) == config.jobs[config.models[name].parameters > 1e8]
    assert load(raw()).job_size(name) is None


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        ([SIZES[1], SIZES[0]], "sort the sizes by `max_parameters`, smallest first"),
        ([{**SIZES[0], "max_parameters": 10}], "larger than any `max_parameters` in `jobs`"),
    ],
)
def test_job_sizes_that_leave_a_model_out_are_refused(jobs: list[Any], message: str) -> None:
    assert message in problem({"jobs": jobs})


def test_a_retry_requests_more_time_only_without_a_journal() -> None:
    size = load(raw({"jobs": [{**SIZES[1], "generate": 3, "encode": 2, "train": 5}]})).jobs[0]
    assert [size.hours("generate_responses", attempt) for attempt in (1, 2, 3)] == [3, 3, 3]
    assert [size.hours("read_episodes", attempt) for attempt in (1, 2, 3)] == [2, 4, 6]
    assert size.hours("train_adapter", 2) == 10


def test_scheduler_resources_are_not_part_of_the_digest() -> None:
    assert load(raw({"jobs": SIZES})).digest == load(raw()).digest


def test_labels_are_a_file_or_an_export_of_neuronpedia() -> None:
    name = next(iter(raw()["models"]))
    export = {"neuronpedia": "gemma-2-2b/16-gemmascope-res-16k"}
    model = load(raw({"models": {name: {"labels": export}}})).models[name]
    expected = Path("results/downloads/neuronpedia/gemma-2-2b/16-gemmascope-res-16k.csv")
    assert model.labels_file == expected
    assert "labels" in problem({"models": {name: {"labels": {"neuronpedia": "../evil"}}}})


def test_an_arm_may_have_shards_of_its_own() -> None:
    name = next(iter(raw()["arms"]))
    config = load(raw({"engine": {"shards": 4}, "arms": {name: {"shards": 1}}}))
    assert config.shards(name) == 1
    assert {config.shards(arm) for arm in config.arms if arm != name} == {4}


@pytest.mark.parametrize(
    ("end", "effect"), [("start", "nothing is steered"), ("stop", "the boost is never off")]
)
def test_a_window_whose_end_no_response_reaches_is_refused(end: str, effect: str) -> None:
    def windowed(at: int) -> dict[str, Any]:
        arm = {"late": {"replay": "steered", "window": {end: at}}}
        return {"generation": {"max_new_tokens": 80}, "arms": arm}

    load_study(windowed(79))
    named = rf"arms\.late\.window\.{end}: 80, .* at most 80 tokens .* so that {effect}"
    with pytest.raises(EsrError, match=named):
        load_study(windowed(80))


def test_the_window_of_a_continuation_may_lie_after_its_prefix() -> None:
    def windowed(start: int) -> dict[str, Any]:
        texts = {"arm": "steered", "cuts": [10, 15], "tokens": 30}
        return {"arms": {"late": {"continue": texts, "window": {"start": start}}}}

    load_study(windowed(4 * 15 + 30 - 1))
    with pytest.raises(EsrError, match=r"arms\.late\.window\.start: 90, .* at most 90 tokens"):
        load_study(windowed(90))


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"start": "continuation", "stop": 1}, r"window\.stop: 1, but the continuation begins at"),
        ({"start": 60, "stop": "continuation"}, r"window\.start: 60, but a prefix has at most 60"),
    ],
)
def test_a_window_that_no_prefix_can_fill_is_refused(window: dict[str, Any], message: str) -> None:
    late = {"continue": {"arm": "steered", "cuts": [10, 15]}, "window": window}
    with pytest.raises(EsrError, match=message):
        load_study({"arms": {"late": late}})


def test_a_window_of_an_arm_that_steers_nothing_is_refused() -> None:
    late = {"replay": "unsteered", "window": {"start": 5}}
    with pytest.raises(EsrError, match=r"arms\.late\.window: unsteered steers nothing; remove"):
        load_study({"arms": {"late": late}})


def test_a_set_of_directions_is_not_called_latents() -> None:
    with pytest.raises(EsrError, match=r"directions\.latents: tables and figures call decoder"):
        load_study({"directions": {"latents": {"kind": "random"}}})


PREFIXED = {"continue": {"arm": "steered", "cuts": [80]}}
ON_TOPIC = {"arm": "unsteered", "where": "on_topic"}


@pytest.mark.parametrize(
    ("arms", "line"),
    [
        ({"p": {"continue": {"arm": "steerd", "cuts": [80]}}}, "arms.p: continues unknown arm"),
        ({"p": {"continue": {"arm": "p", "cuts": [80]}}}, "arms.p: continues itself through p"),
        (
            {"p": {"continue": {"arm": "q", "cuts": [8]}}, "q": {"replay": "p"}},
            "arms.p: continues itself through p -> q",
        ),
        ({"p": {"continue": {"arm": "steered"}}}, "`cuts` go with `where: off_topic`"),
        ({"p": {"continue": {"arm": "steered", "cuts": [8, 8]}}}, "`cuts` must increase"),
        ({"p": {"continue": {"arm": "steered", "cuts": [0]}}}, "greater than 0"),
        ({"p": PREFIXED | {"over": "latents", "trials": 1}}, "give exactly one of `over`"),
        ({"p": {"continue": ON_TOPIC}}, "`continue: {where: on_topic}` goes with `replay`"),
        ({"p": {"replay": "steered", "continue": ON_TOPIC}}, "steered has no prefixes"),
        (
            {"p": PREFIXED, "q": {"replay": "p", "continue": ON_TOPIC | {"arm": "steered"}}},
            "the arm whose off-topic texts p continues",
        ),
        (
            {"p": PREFIXED, "q": {"replay": "p", "continue": ON_TOPIC | {"arm": "answers"}}},
            "answers does not replay steered",
        ),
        (
            {"p": PREFIXED, "q": {"replay": "p", "continue": ON_TOPIC | {"samples": 3}}},
            "takes samples from the replayed arm",
        ),
        (
            {
                "theirs": {"responses": "t", "model": "planted"},
                "p": {"continue": {"arm": "theirs", "cuts": [80]}},
            },
            "theirs is imported, and a text without tokens",
        ),
        (
            {"p": {"replay": "steered", "window": {"start": "continuation"}}},
            "arms.p.window: `continuation` begins after a prefix",
        ),
        (
            {"p": PREFIXED | {"window": {"start": "continuation", "stop": "continuation"}}},
            "need start < stop",
        ),
        (
            {"p": {"continue": {"arm": "boost-sweep", "cuts": [80]}}},
            "arms.p: continues boost-sweep, whose levels share seeds",
        ),
        (
            {"p": {"replay": "boost-sweep", "ablate": [1]}},
            "arms.p: replays boost-sweep, whose levels share seeds",
        ),
        (
            {"p": PREFIXED, "q": {"replay": "p", "seeds": "other", "continue": ON_TOPIC}},
            "`seeds: other` goes with `replay` alone",
        ),
    ],
    ids=str,
)
def test_texts_that_cannot_be_continued_are_refused(arms: dict[str, Any], line: str) -> None:
    with pytest.raises(EsrError, match=re.escape(line)):
        load_study({"arms": arms})


def test_two_models_of_one_label_are_refused_since_figures_would_join_them() -> None:
    twin = load_study().models["twin"].label
    with pytest.raises(
        EsrError,
        match=rf"planted.label: '{twin}' is the label of twin, too|"
        rf"twin.label: '{twin}' is the label of planted, too",
    ):
        load_study({"models": {"planted": {"label": twin}}})


@pytest.mark.parametrize(
    ("arm", "key"),
    [
        ({"replay": "steered", "seeds": "other"}, "seeds"),
        ({"continue": {"arm": "steered", "cuts": [60], "samples": 2}}, "continue.samples"),
    ],
)
def test_greedy_sampling_makes_no_trials_of_copies(arm: dict[str, Any], key: str) -> None:
    load(raw(nested("arms.x", arm)))
    with pytest.raises(EsrError, match=rf"arms.x.{key}: at generation.temperature 0 another seed"):
        load(raw(nested("arms.x", arm), nested("generation.temperature", 0)))


INSTEAD: dict[str, dict[str, Any]] = {
    "answers": {"latents": {"relevance": {"criterion": "zero"}}},
    "steered": {"episodes": {"arm": "steered-30"}, "finetune": {"models": []}},
}
"""What else a study changes that lacks an arm, beside the arms that need it."""


@pytest.mark.parametrize("arm", load_study().arms)
def test_each_arm_of_a_study_can_be_removed_with_those_that_the_error_names(arm: str) -> None:
    gone = {arm}
    for _ in range(3):  # those that replay or continue it, or need detectors
        try:
            assert not gone & set(
                load_study(INSTEAD.get(arm, {}), {"arms": dict.fromkeys(gone)}).arms
            )
            return
        except EsrError as error:
            (named,) = re.findall(r"set arms to null that need it: (.*)", str(error))
            assert not gone & set(named.split(", "))
            gone |= set(named.split(", "))
    pytest.fail(f"after {gone} there are others")


def test_detectors_are_searched_on_plain_answers_alone() -> None:
    with pytest.raises(EsrError, match=r"detectors.arm: 'steered' is not an arm over prompts"):
        load(raw({"detectors": {"arm": "steered"}}))


def test_episodes_are_not_taken_from_texts_that_were_given() -> None:
    with pytest.raises(EsrError, match=r"episodes\.arm: p continues texts of another arm"):
        load_study({"arms": {"p": PREFIXED}, "episodes": {"arm": "p"}})
    own = {"over": None, "trials": None, "continue": {"arm": "steered-30", "cuts": [80]}}
    with pytest.raises(EsrError, match=r"arms: steered continues texts of another arm"):
        load_study({"arms": {"steered": own}, "episodes": {"arm": "steered-30"}})


def test_an_arm_may_name_its_models_and_arms_that_take_its_trials_follow() -> None:
    arms = {
        "few": {"replay": "steered", "boost": "none", "models": ["planted"]},
        "again": {"replay": "few"},
        "prefixed": {"continue": {"arm": "again", "cuts": [80]}},
        "texts": {
            "replay": "prefix",
            "continue": {"arm": "few", "where": "on_topic"},
        },
        "prefix": PREFIXED,
    }
    config = load_study({"arms": arms})
    own = {"few", "again", "prefixed", "texts"}
    assert own & set(config.arms_of("planted")) == own
    assert own & set(config.arms_of("twin")) == set()
    assert "prefix" in config.arms_of("twin")
    with pytest.raises(EsrError, match=r"arms.few.models: no such models: \['plantd'\]"):
        load_study({"arms": {"few": {"replay": "steered", "models": ["plantd"]}}})
    without = load_study({"arms": arms, "models": {"planted": None}})
    assert "few" not in without.arms_of("twin")


def test_arms_whose_plans_read_judgments_are_judged_in_a_later_round() -> None:
    arms = {
        "p": PREFIXED,
        "again": {"replay": "p", "boost": "none"},
        "text": {"replay": "p", "continue": ON_TOPIC},
        "q": {"continue": {"arm": "again", "cuts": [200]}},
    }
    config = load_study({"arms": arms})
    names = ("steered", "unsteered", "p", "again", "text", "q")
    assert [config.judged_after(arm) for arm in names] == [0, 0, 1, 1, 1, 2]
    rounds = [config.judging_round("planted", number) for number in range(3)]
    assert sorted(arm for found in rounds for arm in found) == sorted(config.arms_of("planted"))


def test_a_continuing_arm_has_the_condition_of_its_source() -> None:
    arms = {
        "ablated": {"continue": {"arm": "ablate-otd", "cuts": [80], "tokens": 30}},
        "plain": {"replay": "ablated", "boost": "none"},
        "along": {"replay": "steered", "directions": "random"},
        "vectors": {"continue": {"arm": "along", "where": "correction"}},
    }
    config = load_study({"directions": DIRECTIONS, "arms": arms})
    assert config.needs_detectors("plain")
    assert config.is_steered("ablated")
    assert not config.is_steered("plain")
    assert config.directions_of("vectors") == "random"
    assert [config.new_tokens(arm) for arm in ("plain", "vectors", None)] == [30, 120, 120]
    assert config.sampling("planted", "plain")["max_new_tokens"] == 30


DIRECTIONS = {
    "random": {"kind": "random"},
    "few": {"kind": "random", "latents": 2},
    "file": {"kind": "file", "path": "{model}.safetensors"},
}


@pytest.mark.parametrize(
    ("arm", "line"),
    [
        (
            {"over": "latents", "trials": 1, "directions": "mine"},
            "there is no set 'mine' (there is: few, file, random, random-few); add it to "
            "`directions`",
        ),
        ({"replay": "steered", "directions": "file"}, "'file' is of kind file"),
        ({"replay": "steered", "directions": "few"}, "stands in for the first 2 latents alone"),
        ({"replay": "unsteered", "directions": "random"}, "arm unsteered does not steer latents"),
        ({"replay": "answers", "directions": "random"}, "arm answers does not steer latents"),
    ],
    ids=str,
)
def test_directions_that_do_not_fit_are_refused(arm: dict[str, Any], line: str) -> None:
    with pytest.raises(EsrError, match=re.escape(line)):
        load_study({"directions": DIRECTIONS, "arms": {"other": arm}})


def test_layers_are_those_of_an_arm_or_of_its_source() -> None:
    several = {"replay": "steered", "layers": [1, 3]}
    arms = {
        "several": several,
        "again": {"replay": "several", "ablate": "detectors"},
        "bare": {"replay": "several", "boost": "none"},
        "other": {"replay": "several", "layers": [0]},
    }
    config = load_study({"arms": arms})
    found = {name: config.layers_of(name) for name in ("steered", *arms)}
    assert found == {"steered": (), "several": (1, 3), "again": (1, 3), "bare": (), "other": (0,)}
    line = "layers: 3, but planted has layers 0 to 2; choose others, or name the arm's `models`"
    problems = check_shapes(
        config, "planted", {"n_layers": 3, "d_model": 128, "vocab_size": 512}, None
    )
    assert problems == [f"arms.{name}.{line}" for name in ("several", "again")]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"arms": {"x": {"replay": "unsteered", "layers": [1]}}},
            "arms.x.layers: unsteered steers nothing",
        ),
        ({"arms": {"steered": {"layers": [1]}}}, "steered steers at `layers` of its own"),
    ],
    ids=["unsteered", "steered"],
)
def test_layers_that_do_not_fit_are_refused(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(EsrError) as caught:
        load_study(changes)
    assert line in str(caught.value)


def test_a_clamp_to_the_mean_needs_unsteered_answers() -> None:
    arms: dict[str, Any] = {"clamped": {"replay": "steered", "ablate": [3], "ablate_to": "mean"}}
    arms |= {"held-out-steered": None, "held-out-ablated": None, "ablate-to-mean": None}
    config = load_study({"arms": arms})
    assert config.arms["clamped"].ablate_to == "mean"
    without = {name: {"prefill": "Sure"} for name, arm in config.arms.items() if arm.is_unsteered}
    with pytest.raises(EsrError, match=r"arms\.clamped\.ablate_to: means .* no unsteered arm"):
        load_study({"arms": arms | without})


ALONG = {"replay": "steered", "directions": "random"}


@pytest.mark.parametrize(
    ("arms", "line"),
    [
        (
            {"plain": {"replay": "unsteered"}, "other": {**ALONG, "replay": "plain"}},
            "arm plain does not steer latents",
        ),
        (
            {"other": ALONG, "told": {"replay": "other", "meta_prompt": "{prompt} {label}"}},
            "arms.told.meta_prompt: names the label, but random directions have none",
        ),
        (
            {
                "theirs": {"responses": "t", "model": "planted"},
                "other": {**ALONG, "replay": "theirs"},
            },
            "arm theirs is imported",
        ),
        (
            {
                "steered": {"over": "latents", "trials": 1, "directions": "file"},
                "steered-random": None,
            },
            "steered steers along directions, but detectors and episodes are about latents",
        ),
    ],
    ids=["unsteered two arms back", "label", "imported", "steered"],
)
def test_directions_are_checked_through_the_arms_that_are_replayed(
    arms: dict[str, Any], line: str
) -> None:
    with pytest.raises(EsrError, match=re.escape(line)):
        load_study({"directions": DIRECTIONS, "arms": arms})


def test_episodes_are_those_of_latents() -> None:
    changes = {"directions": DIRECTIONS, "arms": {"other": ALONG}, "episodes": {"arm": "other"}}
    with pytest.raises(EsrError, match=r"episodes.arm: other steers along directions"):
        load_study(changes)


def test_an_arm_without_a_boost_steers_along_nothing() -> None:
    arms = {
        "along": ALONG,
        "plain": {"replay": "along", "boost": "none"},
        "again": {"replay": "plain"},
    }
    config = load_study({"directions": DIRECTIONS, "arms": arms})
    assert [config.directions_of(arm) for arm in ("along", "plain", "again")] == [
        "random",
        None,
        None,
    ]


def test_each_set_of_directions_has_a_search_of_its_own() -> None:
    along = {"over": "latents", "trials": 1, "directions": "file"}
    config = load_study(
        {
            "directions": DIRECTIONS,
            "arms": {
                "vectors": along,
                "vectors-30": along | {"target": 30},
                "again": {"replay": "vectors"},
                "random": {"replay": "steered", "directions": "random"},
            },
        }
    )
    assert config.searches("planted") == {None: [30], "file": [30], "random-few": []}
    assert config.searches("twin+sc5") == {None: []}
    assert [config.directions_of(arm) for arm in ("again", "random", "steered")] == [
        "file",
        "random",
        None,
    ]


def test_a_study_without_labels_needs_no_lexicon_for_them() -> None:
    bare = {"latents": {"concreteness": {"lexicon": None}}}
    unlabelled = {"models": {"planted": {"labels": None}, "twin": {"labels": None}}}
    load_study(bare, unlabelled)
    with pytest.raises(EsrError, match=r"rates the labels of planted.* by it; name a file"):
        load_study(bare)


def test_arms_that_ablate_what_detectors_decide_are_known() -> None:
    chained = {"arms": {"both": {"replay": "ablate-otd", "meta_prompt": "{prompt} Stay."}}}
    listed = {"arms": {"listed": {"replay": "ablate-otd", "ablate": [3]}}}
    config = load_study(chained, listed)
    found = {name for name in config.arms if config.needs_detectors(name)}
    random = {f"{where}-random-{number}" for where in ("ablate", "branch") for number in range(3)}
    assert found == {f"{where}-ablated" for where in ("prefix", "branch", "held-out")} | random | {
        "ablate-otd",
        "ablate-half",
        "branch-half",
        "ablate-to-mean",
        "both",
    }


def test_random_sets_are_compared_on_the_trials_that_they_share() -> None:
    other = {"replay": "steered", "ablate": "random-0", "meta_prompt": "{prompt} Stay."}
    found = random_sets(load_study({"arms": {"meta-random": other}}).arms)
    assert {name: sets.against for name, sets in found.items()} == {
        "ablate-random": ["steered", "ablate-otd"],
        "branch-random": ["branch-steered", "branch-ablated"],
        "meta-random": ["steered"],
    }
    assert found["branch-random"].arms == [f"branch-random-{number}" for number in range(3)]
