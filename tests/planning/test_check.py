"""What `snakemake check` finds in small real files: tokenizer, config.json, tables."""

import json
import shutil
from pathlib import Path
from typing import Any

import httpx2 as httpx
import huggingface_hub
import numpy as np
import pandas as pd
import pytest
from huggingface_hub import errors
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from esr.config import ArmConfig, Config, ModelConfig, WindowConfig, load
from esr.errors import EsrError
from esr.planning import check
from esr.planning.check import check_claims, check_study
from esr.tables import TABLES, write_table
from helpers.checkout import REPO
from helpers.studies import load_study

KNOWN = ["<unk>", "<s>", "user", "model", "explain", "how", "to", "bake", "bread", "sail", "now"]


TEMPLATE = "<s> user {{ messages[-1]['content'] }}{% if add_generation_prompt %} model{% endif %}"
SHAPE = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": len(KNOWN),
    "max_position_embeddings": 600,
}


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of the words above, which splits at blanks; without case and full stops."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(KNOWN)}, "<unk>"))
    words.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(".", "")])
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", unk_token="<unk>", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(folder)


@pytest.fixture
def study(tmp_path: Path) -> Config:
    contents = {
        "prompts.csv": "prompt_id,category,prompt\np,craft,Explain how to bake bread.\n",
        "lexicon.csv": "topic,part,word\nbaking,verb,bake\nbaking,noun,bread\n",
        "phrases.txt": "wait\n",
        "labels.csv": "latent,label\n3,bread\n",
        "cfg.json": '{"d_in": 8, "d_sae": 16}',
    }
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    write_tokenizer(tmp_path / "model")
    (tmp_path / "model/config.json").write_text(json.dumps(SHAPE))
    lexicon = str(tmp_path / "lexicon.csv")
    model = {
        "label": "Tiny",
        "source": str(tmp_path / "model"),
        "parameters": 1e6,
        "sae": {"path": str(tmp_path)},
        "labels": str(tmp_path / "labels.csv"),
        "steer_layer": 1,
        "read_layer": 1,
        "threshold_prior": {"upper": 40, "mean": 12, "sd": 8},
    }
    return load(
        {
            "study": "small",
            "title": "A small study",
            "prompts": str(tmp_path / "prompts.csv"),
            "latents": {"concreteness": {"lexicon": lexicon}},
            "arms": {
                "answers": {"over": "prompts", "trials": 1, "boost": "none"},
                "steered": {"over": "latents", "trials": 1},
                "hinted": {"replay": "answers", "meta_prompt": "{prompt} now now now"},
            },
            "judging": {
                "primary": "words",
                "judges": {"words": {"kind": "lexical", "lexicon": lexicon}},
                "restart_phrases": str(tmp_path / "phrases.txt"),
            },
            "models": {"tiny": model},
        }
    )


def test_a_study_in_order_is_described(study: Config) -> None:
    lines = list(check_study(study))
    assert lines[0].startswith("prompts: 1 in ")
    source = study.models["tiny"].source
    assert lines[-1] == f"model tiny: {source}, longest prompt 11 tokens, 1 labels"
    assert "judge words: lexical/1 places all prompts" in lines


def test_a_prior_that_is_left_out_is_measured(study: Config) -> None:
    model = study.models["tiny"].model_copy(update={"threshold_prior": None})
    lines = list(check_study(study.model_copy(update={"models": {"tiny": model}})))
    assert lines[-1] == (
        "model tiny: no threshold_prior, so it will be measured (`snakemake boosts` does that "
        "alone, from unsteered answers)"
    )


def test_the_measured_scale_of_boosts_is_shown_with_the_prior(
    study: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = dict.fromkeys(TABLES["sae_fit"].columns) | {
        "model": "tiny",
        "layer": 1,
        "is_read_layer": True,
        "is_steer_layer": True,
        "text": "answers",
        "tokens": 100,
        "sink_tokens": 0,
        "l0": 4.0,
        "dead_share": 0.1,
        "usual_norm": 12.0,
        "massive_dimensions": 1,
        "boost_scale": 100.0,
    }
    monkeypatch.chdir(tmp_path)
    write_table(pd.DataFrame([row]), Path("results/small/tiny/sae_fit.parquet"), "sae_fit", {})
    model = study.models["tiny"].model_copy(update={"threshold_prior": None})
    lines = list(check_study(study.model_copy(update={"models": {"tiny": model}})))
    assert lines[-1] == (
        "model tiny: median norm at steer_layer 12 without BOS and 1 massive dimensions, scale of "
        "boosts 100; prior 60 +- 50, 0 to 200 (measured)"
    )
    probes = {"latent": [3, 3], "boost": [40.0, 90.0], "divergence": [0.0, 0.4], "tokens": [9, 9]}
    path = Path("results/small/tiny/boost_probes.parquet")
    write_table(pd.DataFrame(probes), path, "boost_probes", {})
    lines = list(check_study(study.model_copy(update={"models": {"tiny": model}})))
    assert "boosts 100; predictions begin to change at 60; prior 60 +- 36, 0 to 240" in lines[-1]


@pytest.mark.parametrize(
    ("family", "dtype", "warned"),
    [
        ("gemma3_text", "float16", True),
        ("gemma3_text", "bfloat16", False),
        ("llama", "float16", False),
    ],
)
def test_float16_of_a_family_that_overflows_is_mentioned(
    study: Config, tmp_path: Path, family: str, dtype: str, warned: bool
) -> None:
    config = json.dumps(SHAPE | {"model_type": family, "head_dim": 4, "intermediate_size": 8})
    (tmp_path / "model/config.json").write_text(config)
    model = study.models["tiny"].model_copy(update={"dtype": dtype})
    lines = list(check_study(study.model_copy(update={"models": {"tiny": model}})))
    line = f"model tiny: {family} overflows in float16 (activations are NaN); set models.tiny.dtype"
    assert any(each.startswith(line) for each in lines) is warned


def test_a_prefill_counts_towards_the_context(study: Config) -> None:
    arms = study.arms | {"begun": study.arms["answers"].model_copy(update={"prefill": "now " * 9})}
    lines = list(check_study(study.model_copy(update={"arms": arms})))
    assert "longest prompt 17 tokens" in lines[-1]


@pytest.mark.parametrize(("stop", "steered"), [(-7, True), (-8, False), (-500, False)])
def test_a_window_that_ends_before_the_shortest_prompt_begins_is_named(
    study: Config, stop: int, steered: bool
) -> None:
    window = WindowConfig(stop=stop)  # the prompt has 8 tokens: BOS, role, five words, role
    arms = study.arms | {"windowed": ArmConfig(over="latents", trials=1, window=window)}
    changed = study.model_copy(update={"arms": arms})
    if steered:
        assert list(check_study(changed))[-1].startswith("model tiny")
        return
    with pytest.raises(EsrError, match=r"arms\.windowed\.window\.stop: .* nothing is steered"):
        list(check_study(changed))


def test_a_lexical_judge_of_english_prompts_names_the_judges_that_fit(study: Config) -> None:
    study.prompts.write_text("prompt_id,category,prompt\np,craft,Explain how to sail.\n")
    with pytest.raises(EsrError) as caught:
        list(check_study(study))
    message = str(caught.value)
    assert message.startswith("judge words finds no word of its lexicon")
    assert "in 1 of 1 prompts, e.g. 'Explain how to sail.'" in message
    assert "know the planted organisms' language alone" in message
    assert "kind: anthropic or openai" in message
    assert "reword" not in message


def test_claims_about_other_models_are_named_with_the_remedy(study: Config) -> None:
    january = REPO / "resources/claims/january.csv"
    (line,) = check_claims(study.model_copy(update={"claims": (january,)}))
    assert line.startswith("claims: 0 in 0 files. ")
    assert "january.csv is left out: its 32 claims are about gemma-2-27b" in line
    assert line.endswith("name a file of yours under `claims`.")


def test_a_word_that_the_tokenizer_does_not_know_is_named_with_the_model(study: Config) -> None:
    study.prompts.write_text("prompt_id,category,prompt\np,craft,Explain baguette bread.\n")
    with pytest.raises(EsrError, match=r"models\.tiny: the tokenizer does not know .*baguette"):
        list(check_study(study))


def test_labels_of_another_sae_are_named_with_the_model(study: Config, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("latent,label\n16,bread\n")
    with pytest.raises(EsrError, match=r"models\.tiny: labels: .*latent 16, but the SAE has"):
        list(check_study(study))


def test_claims_that_cannot_be_read_are_named(study: Config, tmp_path: Path) -> None:
    (tmp_path / "claims.csv").write_text("claim,says\na,b\n")
    with pytest.raises(EsrError, match=r"claims\.csv: columns are"):
        list(check_study(study.model_copy(update={"claims": (tmp_path / "claims.csv",)})))


@pytest.mark.parametrize(
    ("engine", "limit", "remedy"),
    [
        ({"name": "transformers"}, 600, "lower generation.max_new_tokens"),
        (
            {"name": "vllm", "vllm": {"max_model_len": 522}},
            522,
            "or raise engine.vllm.max_model_len",
        ),
    ],
    ids=["transformers", "vllm"],
)
def test_a_response_that_the_context_cannot_hold_is_named_for_both_engines(
    study: Config, engine: dict[str, Any], limit: int, remedy: str
) -> None:
    def of_length(tokens: int) -> Config:
        raw = study.model_dump(mode="json") | {"engine": engine}
        return load(raw | {"generation": {"max_new_tokens": tokens}})

    assert list(check_study(of_length(limit - 11)))[-1].startswith("model tiny")
    with pytest.raises(EsrError) as caught:
        list(check_study(of_length(limit - 10)))
    message = str(caught.value)
    assert message.startswith(
        f"models.tiny: 11 tokens of the longest prompt and {limit - 10} new tokens"
    )
    assert f"exceed the context of {limit} tokens; lower generation.max_new_tokens" in message
    assert remedy in message


def test_a_cut_beyond_the_longest_text_is_named(study: Config) -> None:
    def cut_at(cut: int) -> Config:
        raw = study.model_dump(mode="json")
        arms = {"steered": {"over": "latents", "trials": 1}} | raw["arms"]
        late = {"continue": {"arm": "steered", "cuts": [5, cut]}}
        return load(raw | {"generation": {"max_new_tokens": 10}, "arms": arms | {"late": late}})

    assert list(check_study(cut_at(40)))[-1].startswith("model tiny")
    with pytest.raises(EsrError, match=r"arms\.late\.continue\.cuts: 9000 characters, but a resp"):
        list(check_study(cut_at(9000)))


def test_a_continued_response_is_as_long_as_its_prefix_and_what_follows() -> None:
    """A cut is in characters, of which one may be four tokens; no prefix exceeds its source."""
    cut = {"arm": "steered", "cuts": [20], "tokens": 30}
    study = load_study(
        {
            "generation": {"max_new_tokens": 100},
            "arms": {
                "short": {"continue": cut},
                "long": {"continue": cut | {"cuts": [20, 400]}},
                "again": {"continue": cut | {"arm": "long", "cuts": [1000]}},
                "on-topic": {
                    "replay": "short",
                    "continue": {"arm": "unsteered", "where": "on_topic"},
                },
                "correction": {"continue": {"arm": "steered", "where": "correction"}},
            },
        }
    )
    lengths = {"steered": 100, "short": 80 + 30, "long": 100 + 30, "again": 130 + 30}
    lengths |= {"on-topic": 80 + 30, "correction": 100 + 100}
    assert {arm: study.response_tokens(arm) for arm in lengths} == lengths


def test_candidates_beyond_the_width_of_the_sae_are_mentioned(study: Config) -> None:
    few = study.model_dump(mode="json") | {
        "latents": study.latents.model_dump(mode="json") | {"count": 6, "candidates": 3}
    }
    lines = list(check_study(load(few)))
    assert (
        "model tiny: latents.count x latents.candidates is 18, but the SAE has 16 latents: all of "
        "them are candidates" in lines
    )


class TestHub:
    """Replies of the hub about a repository, without a request to it."""

    @pytest.fixture
    def model(self, study: Config, monkeypatch: pytest.MonkeyPatch) -> ModelConfig:
        monkeypatch.setattr(check, "_is_available", lambda model: False)
        changes = {"source": "lab/model", "revision": "c0ffee"}
        return study.models["tiny"].model_copy(update=changes)

    def fails(self, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise error

        for name in ("auth_check", "model_info"):
            answer = fail if name == method else lambda *_, **__: None
            monkeypatch.setattr(huggingface_hub.HfApi, name, answer)

    @pytest.mark.parametrize(
        ("method", "kind", "message"),
        [
            (
                "auth_check",
                errors.GatedRepoError,
                "lab/model is gated: accept its terms at .*HF_TO",
            ),
            ("auth_check", errors.RepositoryNotFoundError, "the hub has no such repository"),
            ("model_info", errors.RevisionNotFoundError, "lab/model has no commit c0ffee"),
        ],
    )
    def test_what_cannot_be_had_is_named_with_its_remedy(
        self,
        model: ModelConfig,
        monkeypatch: pytest.MonkeyPatch,
        method: str,
        kind: type[Exception],
        message: str,
    ) -> None:
        response = httpx.Response(403, request=httpx.Request("GET", "https://hub"))
        self.fails(monkeypatch, method, kind("no", response=response))  # pyrefly: ignore[unexpected-keyword]
        with pytest.raises(EsrError, match=message):
            check._check_hub(model)

    def test_without_a_network_the_target_to_run_elsewhere_is_named(
        self, model: ModelConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.fails(monkeypatch, "auth_check", OSError("no route"))
        with pytest.raises(
            EsrError, match="on a node that has a network run `snakemake downloads`"
        ):
            check._check_hub(model)

    def test_files_in_the_cache_are_not_requested(
        self, model: ModelConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.fails(monkeypatch, "auth_check", OSError("no route"))
        monkeypatch.setattr(check, "_is_available", lambda model: True)
        check._check_hub(model)


class TestCommitOfAnSae:
    """SAELens lists a release with its repository; the hub is not called."""

    @pytest.fixture
    def model(self, study: Config) -> ModelConfig:
        sae = {
            "release": "gemma-scope-2b-pt-res-canonical",
            "id": "layer_16/width_16k/canonical",
        }
        labels = {"neuronpedia": "gemma-2-2b/16-gemmascope-res-16k"}
        model = study.models["tiny"].model_dump() | {"sae": sae, "labels": labels, "read_layer": 16}
        return ModelConfig.model_validate(model)

    def pinned(self, model: ModelConfig) -> ModelConfig:
        sae = model.sae.model_copy(update={"revision": "1" * 40})
        return model.model_copy(update={"sae": sae})

    def test_an_sae_without_a_commit_is_reported_at_the_newest(self, model: ModelConfig) -> None:
        line = check._check_release(model)
        assert "google/gemma-scope-2b-pt-res at its newest commit (sae.revision" in line

    def test_one_of_another_layer_is_refused_unless_it_is_accepted(
        self, model: ModelConfig
    ) -> None:
        other = model.model_copy(update={"read_layer": 15})
        with pytest.raises(EsrError, match=r"layer 16 .*but read_layer is 15.*accept_sae: \[meta"):
            check._check_release(other)
        check._check_release(other.model_copy(update={"accept_sae": ("metadata",)}))

    def test_one_in_the_cache_needs_no_network(
        self, model: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit = "models--google--gemma-scope-2b-pt-res/snapshots/" + "1" * 40
        (tmp_path / commit).mkdir(parents=True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        assert check._check_release(self.pinned(model)).endswith("gemma-scope-2b-pt-res at 1111111")

    def test_one_that_the_hub_does_not_have_is_named(
        self, model: ModelConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            response = httpx.Response(404, request=httpx.Request("GET", "https://hub"))
            raise errors.RevisionNotFoundError("no", response=response)

        monkeypatch.setattr(huggingface_hub.HfApi, "auth_check", lambda *_: None)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
        with pytest.raises(EsrError, match=r"sae\.revision: google/.* has no commit 1111"):
            check._check_release(self.pinned(model))


REVISION = "2" * 40
RELEASE = {"release": "gemma-scope-9b-pt-res-canonical", "id": "layer_20/width_16k/canonical"}
UNKNOWN = {"release": "gemma-scope-2-270m-it-res", "id": "layer_12_width_16k_l0_medium"}
"""SAELens does not know the shape of this one without asking the hub."""
WIDTH, LATENTS = 3584, 16_384  # of RELEASE
LAYERS = {"hidden_size": WIDTH, "num_hidden_layers": 46}
PLAIN = {"model_type": "llama", **LAYERS}
NESTED = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **LAYERS}}


class TestShapes:
    """Layers, width and latents of what lies on the hub, with the cache in its place."""

    @pytest.fixture(params=[PLAIN, NESTED], ids=["plain", "nested"])
    def hub(
        self,
        request: pytest.FixtureRequest,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Path:
        """A hub's cache that has lab/model at a commit, no weights; no network, much room."""
        disk = shutil.disk_usage("/")._replace(free=10**15)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: disk)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.chdir(tmp_path)
        folder = tmp_path / f"hub/models--lab--model/snapshots/{REVISION}"
        write_tokenizer(folder)
        (folder / "config.json").write_text(json.dumps(request.param))
        return tmp_path

    def study(self, study: Config, **changes: Any) -> Config:
        """The study with a hub model that has another value in some keys."""
        model = study.models["tiny"].model_dump() | {
            "source": "lab/model",
            "revision": REVISION,
            "parameters": 2.7e10,
            "sae": RELEASE,
            "labels": None,
            "accept_sae": ["metadata"],  # lab/model is no Gemma
            **changes,
        }
        return study.model_copy(update={"models": {"tiny": ModelConfig.model_validate(model)}})

    def problems(self, config: Config) -> list[str]:
        with pytest.raises(EsrError) as caught:
            list(check_study(config))
        return str(caught.value).splitlines()

    @pytest.mark.usefixtures("hub")
    def test_layers_and_latents_that_are_there_are_no_problem(self, study: Config) -> None:
        last = {"steer_layer": 45, "read_layer": 45, "ablate_layer": 45}
        latents = {"detectors": [LATENTS - 1], "backtracking": [0]}
        lines = list(check_study(self.study(study, **last, **latents)))
        assert lines[-1].startswith("model tiny: lab/model")

    @pytest.mark.usefixtures("hub")
    @pytest.mark.parametrize("layer", ["steer_layer", "read_layer", "ablate_layer"])
    def test_a_layer_that_the_model_does_not_have_is_named(self, study: Config, layer: str) -> None:
        lines = self.problems(self.study(study, **{layer: 60}))
        assert lines == [f"models.tiny.{layer}: 60, but the model has layers 0 to 45"]

    @pytest.mark.usefixtures("hub")
    def test_the_sae_of_another_model_is_named(self, study: Config) -> None:
        other = {"release": "gemma-scope-27b-pt-res-canonical"}
        sae = other | {"id": "layer_22/width_131k/canonical"}
        assert self.problems(self.study(study, sae=sae)) == [
            "models.tiny.sae.id: the SAE has input width 4608, but the model's residual is 3584 "
            "wide; use an SAE of this model"
        ]

    @pytest.mark.usefixtures("hub")
    @pytest.mark.parametrize("key", ["detectors", "backtracking"])
    def test_latents_that_the_sae_does_not_have_are_named(self, study: Config, key: str) -> None:
        lines = self.problems(self.study(study, **{key: [3, LATENTS]}))
        assert lines == [
            f"models.tiny.{key}: latent 16384 is not in the SAE (0 to 16383) (model tiny)"
        ]

    @pytest.mark.usefixtures("hub")
    def test_so_are_those_that_an_arm_ablates(self, study: Config) -> None:
        config = self.study(study)
        ablating = config.arms["steered"].model_copy(update={"ablate": (LATENTS,)})
        config = config.model_copy(update={"arms": config.arms | {"steered": ablating}})
        (line,) = self.problems(config)
        assert line.startswith("arms.steered.ablate: latent 16384 is not in the SAE")

    def made(self, folder: Path, source: dict[str, Any]) -> None:
        """Put an SAE of width 8 among the assets that was made from these settings."""
        file = folder / "results/small/tiny/assets/sae.safetensors"
        file.parent.mkdir(parents=True)
        header = {"sae": json.dumps({"source": json.dumps(source)})}
        save_file({"W_dec": np.zeros((16, 8), np.float32)}, file, metadata=header)

    def test_an_sae_among_the_assets_is_looked_at_itself(self, hub: Path, study: Config) -> None:
        config = self.study(study, sae=UNKNOWN)
        assert list(check_study(config))[-1].startswith("model tiny")
        self.made(hub, UNKNOWN | {"path": None, "revision": None})
        (line,) = self.problems(config)
        assert "the SAE has input width 8, but the model's residual is 3584" in line

    def test_one_that_was_made_from_other_settings_is_not(self, hub: Path, study: Config) -> None:
        self.made(hub, RELEASE | {"path": None, "revision": None})
        lines = list(check_study(self.study(study, sae=UNKNOWN)))
        assert lines[-1].startswith("model tiny")

    @pytest.mark.usefixtures("hub")
    def test_a_commit_that_is_not_at_hand_is_named_without_a_network(self, study: Config) -> None:
        (line, *_) = self.problems(self.study(study, revision="3" * 40))
        assert line.startswith("models.tiny: source: lab/model: not complete in the hub's cache")
        assert line.endswith("on a node that has a network run `snakemake downloads`")
