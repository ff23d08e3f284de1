"""docs/add-a-model.md, word by word: its study, for a model and an SAE from outside the project."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from esr.arms.chat import prompt_tokens
from esr.config import Config, load, merge
from esr.errors import EsrError
from esr.planning.check import check_study
from esr.planning.files import check_files
from helpers.checkout import REPO
from helpers.tokenizers import byte_level

PAGE = (REPO / "docs/add-a-model.md").read_text()
LEFT_OUT = ["labels", "threshold_prior"]
"""Keys of the model that the page allows to leave out."""


def blocks(language: str) -> list[str]:
    """Code of a language on the page, without its indent in a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def documented(changes: dict[str, Any] | None = None, without: list[str] | None = None) -> Config:
    """The page's study, with changes of its model."""
    study = yaml.safe_load(blocks("yaml")[0])
    model = study["models"]["mine"] | (changes or {})
    study["models"]["mine"] = {key: model[key] for key in model if key not in (without or [])}
    protocol = yaml.safe_load((REPO / "config.yaml").read_text())
    return load(merge(protocol, study, {"study": "mine"}))


@pytest.fixture
def outside(tmp_path: Path) -> dict[str, Any]:
    """A checkpoint without a chat template and an SAE in folders of one's own."""
    for name in ("model", "sae"):
        shutil.copytree(REPO / f"resources/organisms/twin/{name}", tmp_path / f"my {name}")
    (tmp_path / "my model/chat_template.jinja").unlink()
    return {"source": str(tmp_path / "my model"), "sae": {"path": str(tmp_path / "my sae")}}


def test_the_study_of_the_page_is_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    study = documented()
    assert check_files(study) == []
    lines = list(check_study(study))
    assert any("labels" in line for line in lines)
    assert any("january.csv is left out" in line for line in lines)


def test_what_may_be_left_out_may_be_left_out(
    monkeypatch: pytest.MonkeyPatch, outside: dict[str, Any]
) -> None:
    """No labels, no prior, files from elsewhere; the template is the only thing that is missing."""
    monkeypatch.chdir(REPO)
    study = documented(outside, without=LEFT_OUT)
    assert check_files(study) == []
    with pytest.raises(EsrError, match=r"put a chat_template\.jinja into a local copy"):
        list(check_study(study))
    template = REPO / "resources/organisms/twin/model/chat_template.jinja"
    shutil.copy(template, outside["source"])
    lines = list(check_study(study))
    assert any("no labels" in line for line in lines)
    assert any("no threshold_prior, so it will be measured" in line for line in lines)


def test_the_template_of_the_page_renders_prompts_for_a_base_model() -> None:
    (template,) = blocks("jinja")
    tokenizer = byte_level(template.strip(), [template], "<|end_of_text|>")
    text = tokenizer.decode(prompt_tokens(tokenizer, "Explain how to bake bread."))
    expected = "<|begin_of_text|>Question: Explain how to bake bread.\nAnswer:"
    assert text == expected


def test_the_keys_for_folders_of_ones_own_are_a_study(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(REPO)
    block = yaml.safe_load(blocks("yaml")[1])
    for name, folder in (("model", "source"), ("sae", "sae")):
        block["models"]["mine"][folder] = f"resources/organisms/twin/{name}"
    block["models"]["mine"] |= {"sae": {"path": "resources/organisms/twin/sae"}}
    block["models"]["mine"] |= {"steer_layer": 2, "read_layer": 2}
    first = yaml.safe_load(blocks("yaml")[0])
    for key in LEFT_OUT:
        del first["models"]["mine"][key]
    protocol = yaml.safe_load((REPO / "config.yaml").read_text())
    study = load(merge(protocol, first, block, {"study": "mine"}))
    assert check_files(study) == []
    assert study.judging.primary == "served"
    assert study.judging.llms["served"].model_dump()["key_variable"] is None


@pytest.mark.parametrize("block", blocks("yaml")[2:])
def test_every_other_block_is_settings_of_models(block: str) -> None:
    assert list(yaml.safe_load(block)) == ["models"]
