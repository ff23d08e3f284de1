"""Fine-tuning in a study: its models, arms, prompts and cost."""

from pathlib import Path
from typing import Any

import pytest

from esr.config import FineTuned, load
from esr.errors import EsrError
from esr.planning.costs import planned_calls
from esr.planning.files import check_files
from esr.planning.hours import estimate_compute
from helpers.checkout import REPO
from helpers.studies import load_study
from helpers.tokenizers import TWIN


def refused(settings: dict[str, Any]) -> str:
    with pytest.raises(EsrError) as caught:
        load_study({"finetune": settings})
    return str(caught.value)


def test_fine_tuned_models_are_models_like_their_base_but_for_label_and_source() -> None:
    config = load_study()
    assert list(config.models) == ["planted", "twin", "twin+sc5", "twin+sc30", "twin+sc90"]
    assert list(config.base_models) == ["planted", "twin"]
    assert config.base_of("twin+sc30") == "twin" == config.base_of("twin")
    made, base = config.models["twin+sc30"], config.models["twin"]
    assert made.source == "results/organism/twin+sc30/finetuning/merged"
    changed = {"label", "source", "revision"}
    assert made.model_dump(exclude=changed) == base.model_dump(exclude=changed)


def test_they_run_only_the_arms_of_fine_tuning() -> None:
    config = load_study({"finetune": {"arms": ["steered"]}})
    assert config.arms_of("twin+sc5") == ["steered"]
    planted = ("planted",)
    of_planted = {
        name
        for name, arm in config.arms.items()
        if planted in (arm.models, config.origin_of(name).models)
    }
    assert set(config.arms_of("twin")) == set(config.arms) - of_planted, "twin continues no texts"


def test_a_model_that_is_disabled_is_not_fine_tuned() -> None:
    assert list(load_study({"models": {"twin": None}}).models) == ["planted"]


def test_the_paper_fine_tunes_the_8b_on_nine_mixtures() -> None:
    for name in ("paper", "arxiv"):
        config = load_study(name=name)
        shares = [made.share for made in config.finetuned.values()]
        assert shares == [10, 20, 30, 40, 50, 60, 70, 80, 90]
        assert {made.base for made in config.finetuned.values()} == {"llama-3.1-8b"}


def test_several_trainings_of_a_share_are_models_of_their_own() -> None:
    config = load_study({"finetune": {"shares": [5, 90], "seeds": 2}})
    assert config.finetuned == {
        "twin+sc5": FineTuned("twin", 5, 1),
        "twin+sc5-2": FineTuned("twin", 5, 2),
        "twin+sc90": FineTuned("twin", 90, 1),
        "twin+sc90-2": FineTuned("twin", 90, 2),
    }
    assert set(config.finetuned) < set(config.models)
    assert config.models["twin+sc5-2"].label == "Plain twin, 5 % corrections, training 2"
    assert "twin+sc5-2/finetuning" in config.models["twin+sc5-2"].source
    assert config.base_of("twin+sc90-2") == "twin"


def test_a_second_training_reruns_nothing_of_the_first() -> None:
    one, two = (load_study({"finetune": {"seeds": seeds}}) for seeds in (1, 2))
    assert {name: two.finetuned[name] for name in one.finetuned} == one.finetuned
    for name in one.finetuned:
        assert one.models[name] == two.models[name]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"models": ["twn"]}, ["finetune.models", "twn"]),
        ({"shares": [10, 10]}, ["finetune", "shares", "twice"]),
        ({"shares": [110]}, ["finetune.shares", "110"]),
        ({"arms": ["unsteered"]}, ["finetune.arms", "add `steered`"]),
        ({"arms": ["steered", "twice"]}, ["finetune.arms", "twice"]),
        ({"arms": ["steered", "ablate-otd"]}, ["ablate-otd needs detectors"]),
        ({"serve": "lora"}, ["finetune.serve", "vllm", "transformers"]),
        ({"data": {"size": 500}}, ["5 % of 500 rows takes 475 answers", "data.answers"]),
        ({"data": {"writer": "claude"}}, ["finetune.data.writer", "claude", "corpus"]),
        ({"training": {"optimizer": "adamw_bnb_8bit"}}, ["finetune.training", "needs a GPU"]),
        ({"training": {"precision": "bfloat16"}}, ["finetune.training", "float32 on a CPU"]),
        (
            {"training": {"extra": {"load_in_4bit": True, "weight_decay": 0.1}}},
            ["finetune.training", "`extra`: {load_in_4bit: True} needs a GPU; leave it out, or"],
        ),
        ({"training": {"extra": {"lora_mlp_kernel": True}}}, ["lora_mlp_kernel: True"]),
        ({"training": {"extra": {"flash_attention": True}}}, ["flash_attention: True"]),
        ({"training": {"extra": {"bf16": "auto"}}}, ["bf16: auto"]),
        ({"training": {"extra": {"use_cpu": False}}}, ["use_cpu: False"]),
        ({"training": {"extra": {"optimizer": "adamw_8bit"}}}, ["optimizer: adamw_8bit"]),
        ({"training": {"extra": {"adapter": "qlora"}}}, ["adapter: qlora"]),
        (
            {"training": {"extra": {"trust_remote_code": True}}},
            ["finetune.training", "`extra`: trust_remote_code would run code from a checkpoint"],
        ),
        (
            {"training": {"extra": {"plugins": ["axolotl.integrations.lm_eval.LMEvalPlugin"]}}},
            ["`extra`: plugins: axolotl.integrations.lm_eval.LMEvalPlugin needs lm-eval", "leave"],
        ),
        ({"training": {"extra": {"lm_eval_tasks": ["a"]}}}, ["`extra`: lm_eval_tasks needs"]),
    ],
)
def test_what_cannot_be_trained_is_refused_when_the_study_is_read(
    settings: dict[str, Any], named: list[str]
) -> None:
    lines = refused(settings)
    for text in named:
        assert text in lines


def test_an_arm_comes_with_the_arm_that_it_replays() -> None:
    again = {"arms": {"again": {"replay": "steered-30"}}}
    with pytest.raises(EsrError, match="again replays steered-30; list steered-30 as well"):
        load_study(again, {"finetune": {"arms": ["steered", "again"]}})


def test_a_study_that_was_loaded_and_written_down_loads_again() -> None:
    config = load_study()
    assert load(config.model_dump(mode="json")) == config


def test_a_name_that_a_fine_tuned_model_will_have_is_taken() -> None:
    twin = load_study().models["twin"].model_dump(mode="json", exclude_none=True)
    twin["label"] = "Another"
    with pytest.raises(
        EsrError, match=r"models\.twin\+sc5: this name belongs to a fine-tuned model"
    ):
        load_study({"models": {"twin+sc5": twin}})


def test_evaluated_prompts_are_trained_on_only_with_share_prompts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(REPO)
    assert check_files(load_study()) == []
    leak = {"prompts": "resources/prompts/organism.csv"}
    (lines,) = check_files(load_study({"finetune": {"data": leak}}))
    assert "finetune.data.prompts: 48 of them are evaluated, too" in lines
    allowed = load_study({"finetune": {"data": leak | {"share_prompts": True}}})
    assert check_files(allowed) == []


def test_a_base_without_a_chat_template_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPO)
    bare = tmp_path / "model"
    bare.mkdir()
    for path in Path(TWIN["source"]).iterdir():
        if path.name != "chat_template.jinja":
            (bare / path.name).symlink_to(path)
    lines = check_files(load_study({"models": {"twin": {"source": str(bare)}}}))
    assert any("finetune.models: twin" in line and "chat template" in line for line in lines)


def test_what_fine_tuning_takes_is_estimated() -> None:
    config = load_study(name="paper")
    calls = {one.rule: one.calls for one in planned_calls(config)}
    assert calls["write_examples"] == 1000  # the last of two kinds
    assert sum(one.calls for one in planned_calls(config) if one.rule == "write_examples") == 2000
    assert calls["judge_examples"] == 3000
    table = estimate_compute(config)
    training = table[table["rule"].eq("train_adapter")]
    assert len(training) == 9
    assert training["gpu_hours"].gt(0).all()
