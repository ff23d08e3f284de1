"""What `snakemake check` finds, with a tokenizer that splits at blanks."""

from pathlib import Path
from typing import Any

import httpx2 as httpx
import huggingface_hub
import pytest
from huggingface_hub import errors

from esr import check
from esr.check import check_study
from esr.config import Config, Model, load
from esr.errors import EsrError

KNOWN = ["<unk>", "<s>", "user", "model", "explain", "how", "to", "bake", "bread", "sail", "now"]


class Tokenizer:
    """Knows the words above; its template is BOS, user, the prompt, model."""

    chat_template: str | None = "..."
    bos_token_id, eos_token_id, unk_token_id = 1, None, 0
    all_special_ids = (1,)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        words = text.lower().replace(".", "").split()
        return [KNOWN.index(word) if word in KNOWN else 0 for word in words]

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> dict[str, Any]:
        return {"input_ids": [1, 2, *self.encode(messages[-1]["content"]), 3]}

    def decode(self, tokens: list[int], **_: Any) -> str:
        return " ".join(KNOWN[token] for token in tokens)


@pytest.fixture
def tokenizer(monkeypatch: pytest.MonkeyPatch) -> Tokenizer:
    found = Tokenizer()
    monkeypatch.setattr(check, "_tokenizer", lambda model: found)
    monkeypatch.setattr(check, "_is_at_hand", lambda model: True)
    # Token counts are this module's concern, rendering is esr.chat's.
    monkeypatch.setattr(check, "prompt_tokens", lambda t, shown, *_: (1, 2, *t.encode(shown), 3))
    monkeypatch.setattr(check, "response_text", lambda t, tokens: t.decode(tokens))
    return found


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
    lexicon = str(tmp_path / "lexicon.csv")
    model = {
        "label": "Tiny",
        "source": "model",
        "parameters": 1e6,
        "sae": {"path": str(tmp_path)},
        "labels": str(tmp_path / "labels.csv"),
        "steer_layer": 1,
        "read_layer": 1,
        "boosts": {"upper": 40, "mean": 12, "sd": 8},
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
                "told": {"replay": "answers", "meta_prompt": "{prompt} now now now"},
            },
            "judging": {
                "primary": "words",
                "judges": {"words": {"kind": "lexical", "lexicon": lexicon}},
                "restart_phrases": str(tmp_path / "phrases.txt"),
            },
            "models": {"tiny": model},
        }
    )


@pytest.mark.usefixtures("tokenizer")
def test_a_study_in_order_is_described(study: Config) -> None:
    lines = list(check_study(study))
    assert lines[0].startswith("prompts: 1 in ")
    assert lines[-1] == "model tiny: model, longest prompt 11 tokens, 1 labels"
    assert "judge words: lexical/1 places all prompts" in lines


@pytest.mark.usefixtures("tokenizer")
def test_a_prompt_that_the_judge_cannot_place_is_named(study: Config) -> None:
    study.prompts.write_text("prompt_id,category,prompt\np,craft,Explain how to sail.\n")
    with pytest.raises(EsrError, match="judge words cannot place the prompt 'Explain how to sail"):
        list(check_study(study))


@pytest.mark.usefixtures("tokenizer")
def test_a_word_that_the_tokenizer_does_not_know_is_named_with_the_model(study: Config) -> None:
    study.prompts.write_text("prompt_id,category,prompt\np,craft,Explain baguette bread.\n")
    with pytest.raises(EsrError, match=r"models\.tiny: the tokenizer does not know .*baguette"):
        list(check_study(study))


@pytest.mark.usefixtures("tokenizer")
def test_labels_of_another_sae_are_named_with_the_model(study: Config, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("latent,label\n16,bread\n")
    with pytest.raises(EsrError, match=r"models\.tiny: labels: .*latent 16, but the SAE has"):
        list(check_study(study))


@pytest.mark.usefixtures("tokenizer")
def test_claims_that_cannot_be_read_are_named(study: Config, tmp_path: Path) -> None:
    (tmp_path / "claims.csv").write_text("claim,says\na,b\n")
    with pytest.raises(EsrError, match=r"claims\.csv: columns are"):
        list(check_study(study.model_copy(update={"claims": (tmp_path / "claims.csv",)})))


class TestHub:
    """What the hub may say of a repository, without asking it."""

    @pytest.fixture
    def model(self, study: Config, monkeypatch: pytest.MonkeyPatch) -> Model:
        monkeypatch.setattr(check, "_is_at_hand", lambda model: False)
        changes = {"source": "lab/model", "revision": "c0ffee"}
        return study.models["tiny"].model_copy(update=changes)

    def says(self, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise error

        for name in ("auth_check", "model_info"):
            answer = fail if name == method else lambda *_, **__: None
            monkeypatch.setattr(huggingface_hub.HfApi, name, answer)

    @pytest.mark.parametrize(
        ("method", "kind", "said"),
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
        model: Model,
        monkeypatch: pytest.MonkeyPatch,
        method: str,
        kind: type[Exception],
        said: str,
    ) -> None:
        response = httpx.Response(403, request=httpx.Request("GET", "https://hub"))
        self.says(monkeypatch, method, kind("no", response=response))  # type: ignore[call-arg]
        with pytest.raises(EsrError, match=said):
            check._check_hub(model)

    def test_without_a_network_the_target_to_run_elsewhere_is_named(
        self, model: Model, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.says(monkeypatch, "auth_check", OSError("no route"))
        with pytest.raises(
            EsrError, match="on a node that has a network run `snakemake downloads`"
        ):
            check._check_hub(model)

    def test_what_is_there_already_is_not_asked_for(
        self, model: Model, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.says(monkeypatch, "auth_check", OSError("no route"))
        monkeypatch.setattr(check, "_is_at_hand", lambda model: True)
        check._check_hub(model)


class TestCommitOfAnSae:
    """SAELens lists a release with its repository; the hub is not asked."""

    @pytest.fixture
    def model(self, study: Config) -> Model:
        sae = {
            "release": "gemma-scope-2b-pt-res-canonical",
            "id": "layer_16/width_16k/canonical",
        }
        labels = {"neuronpedia": "gemma-2-2b/16-gemmascope-res-16k"}
        model = study.models["tiny"].model_dump() | {"sae": sae, "labels": labels}
        return Model.model_validate(model)

    def pinned(self, model: Model) -> Model:
        sae = model.sae.model_copy(update={"revision": "1" * 40})
        return model.model_copy(update={"sae": sae})

    def test_an_sae_without_one_is_said_to_be_the_newest(self, model: Model) -> None:
        said = check._check_release(model)
        assert "google/gemma-scope-2b-pt-res at its newest commit (sae.revision" in said

    def test_one_in_the_cache_needs_no_network(
        self, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit = "models--google--gemma-scope-2b-pt-res/snapshots/" + "1" * 40
        (tmp_path / commit).mkdir(parents=True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        assert check._check_release(self.pinned(model)).endswith("gemma-scope-2b-pt-res at 1111111")

    def test_one_that_the_hub_does_not_have_is_named(
        self, model: Model, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            response = httpx.Response(404, request=httpx.Request("GET", "https://hub"))
            raise errors.RevisionNotFoundError("no", response=response)

        monkeypatch.setattr(huggingface_hub.HfApi, "auth_check", lambda *_: None)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
        with pytest.raises(EsrError, match=r"sae\.revision: google/.* has no commit 1111"):
            check._check_release(self.pinned(model))
