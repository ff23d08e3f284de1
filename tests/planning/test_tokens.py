"""Tokenizer, chat template and stop tokens that belong to the checkpoint, and those that do not."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from esr.arms.chat import read_stop_tokens
from esr.config import ModelConfig
from esr.engines import open_tokenizer
from esr.errors import EsrError
from esr.planning.tokens import check_round_trip, check_vocabulary, end_of_turn, stop_lines
from helpers.studies import load_study
from helpers.tokenizers import GEMMA, LLAMA, TWIN, byte_level

END = "<|end_of_text|>"


@pytest.fixture(scope="module")
def llama() -> Any:
    return byte_level(LLAMA, ["Explain how to bake bread."], END)


@pytest.fixture
def twin(tmp_path: Path) -> ModelConfig:
    """The twin, in a folder that may be changed."""
    shutil.copytree(TWIN["source"], tmp_path / "model")
    model = load_study().models["twin"]
    return model.model_copy(update={"source": str(tmp_path / "model")})


def set_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_the_organisms_end_their_turn_with_the_token_that_ends_a_response() -> None:
    model, tokenizer = load_study().models["twin"], open_tokenizer(TWIN)
    stops = read_stop_tokens(model.source, None)
    assert stops == (tokenizer.eos_token_id,)
    assert end_of_turn(tokenizer) == tokenizer.eos_token_id
    assert list(stop_lines(tokenizer, stops)) == []


@pytest.mark.parametrize("template", [LLAMA, GEMMA])
def test_an_end_of_turn_that_ends_no_response_is_named_with_the_file_to_change(
    llama: Any, template: str
) -> None:
    llama.chat_template = template
    turn, text = llama.convert_tokens_to_ids(["<|eot_id|>", END])
    assert list(stop_lines(llama, (text, turn))) == []
    (line,) = stop_lines(llama, (text,))
    assert f"ends an answer with <|eot_id|> ({turn}), but the stop tokens" in line
    assert f"are [{text}]: responses may run on into further turns" in line
    assert "add it to eos_token_id there" in line


@pytest.mark.parametrize(
    "template",
    [
        "Question: {{ messages[0]['content'] }}\nAnswer: {{ messages[-1]['content'] }}",
        "{{ bos_token }}{{ messages[0]['content'] }}",
        "{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}",
    ],
    ids=["text", "first turn alone", "refuses"],
)
def test_a_template_that_marks_no_end_has_no_line(llama: Any, template: str) -> None:
    llama.chat_template = template
    assert end_of_turn(llama) is None
    assert list(stop_lines(llama, (1,))) == []


def test_without_a_generation_config_the_stop_token_is_that_of_the_model(
    twin: ModelConfig,
) -> None:
    (twin.folder / "generation_config.json").unlink()
    assert read_stop_tokens(twin.source, None) == (2,)
    set_json(twin.folder / "config.json", eos_token_id=None)
    with pytest.raises(EsrError, match="names no eos_token_id, so responses would never end"):
        read_stop_tokens(twin.source, None)


@pytest.mark.parametrize("nested", [False, True])
def test_a_tokenizer_of_another_model_is_refused(nested: bool) -> None:
    config: dict[str, Any] = {"vocab_size": 40}
    config = {"text_config": config} if nested else config
    check_vocabulary([0, 39], config)
    with pytest.raises(EsrError, match=r"gives token 40, but .* the model has tokens 0 to 39"):
        check_vocabulary([3, 40], config)


def test_a_tokenizer_that_loses_blanks_is_refused(twin: ModelConfig) -> None:
    prompts = ["Explain how to bake bread.", "Explain how to frost a sweet cake."]
    check_round_trip(open_tokenizer(TWIN), prompts)
    path = twin.folder / "tokenizer.json"
    set_json(path, decoder={"type": "Fuse"})  # the pieces as they are, without blanks
    with pytest.raises(EsrError, match=r"'Explain how to bake bread.' as 'explainhowtobakebread"):
        check_round_trip(open_tokenizer({"source": str(twin.folder), "revision": None}), prompts)
