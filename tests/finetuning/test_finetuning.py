"""Fine-tuning: what is configured, written, mixed, masked and told to axolotl."""

import errno
import json
import os
import random
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import yaml

from esr.analysis.trends import share_trends
from esr.arms.prompts import read_prompts
from esr.assets.checkpoints import describe_finetuned_model
from esr.config import (
    Config,
    FinetuneConfig,
    FinetuneDataConfig,
    FinetuneTrainingConfig,
    load,
    merge,
)
from esr.engines import open_tokenizer
from esr.errors import EsrError, full_disk
from esr.finetuning import ANSWER, CORRECTION
from esr.finetuning.axolotl import UNTRAINED, axolotl_config, end_of_turn
from esr.finetuning.examples import (
    ExampleSpec,
    check_examples,
    draw_specs,
    read_subjects,
    write_with_llm,
)
from esr.finetuning.masks import check_rows, expect, shown
from esr.finetuning.mixtures import chat, mix, read_chats, write_chats
from esr.judges.lexical import LexicalJudge
from esr.judges.llm import CachedLlm
from esr.judges.rubrics import read_rubric
from esr.planning.costs import planned_calls
from esr.planning.files import check_files
from esr.planning.resources import estimate_compute
from esr.provenance import file_digest
from esr.tables import read_table, write_table
from helpers.arms import FAST, LATENTS, arm
from helpers.checkout import REPO, load_script
from helpers.fake_api import FakeApi, Said
from helpers.llm import KEY, claude
from helpers.tokenizers import DATA, GEMMA, LLAMA, TWIN, byte_level


def study(*overrides: Any, name: str = "organism") -> Config:
    files = [REPO / "config.yaml", REPO / f"studies/{name}.yaml"]
    return load(merge(*(yaml.safe_load(file.read_text()) for file in files), *overrides))


def refused(settings: dict[str, Any]) -> str:
    with pytest.raises(EsrError) as caught:
        study({"finetune": settings})
    return str(caught.value)


# Models of a study


def test_fine_tuned_models_are_models_like_their_base_but_for_label_and_source() -> None:
    config = study()
    assert list(config.models) == ["planted", "twin", "twin+sc5", "twin+sc30", "twin+sc90"]
    assert list(config.base_models) == ["planted", "twin"]
    assert config.base_of("twin+sc30") == "twin" == config.base_of("twin")
    made, base = config.models["twin+sc30"], config.models["twin"]
    assert made.source == "results/organism/twin+sc30/finetuning/merged"
    changed = {"label", "source", "revision"}
    assert made.model_dump(exclude=changed) == base.model_dump(exclude=changed)


def test_they_run_the_arms_that_fine_tuning_asks_for_and_no_others() -> None:
    config = study({"finetune": {"arms": ["steered"]}})
    assert config.arms_of("twin+sc5") == ["steered"]
    assert len(config.arms_of("twin")) == len(config.arms)


def test_a_model_that_is_disabled_is_not_fine_tuned() -> None:
    assert list(study({"models": {"twin": None}}).models) == ["planted"]


def test_the_paper_fine_tunes_the_8b_on_nine_mixtures() -> None:
    for name in ("paper", "arxiv"):
        config = study(name=name)
        shares = [made.share for made in config.finetuned.values()]
        assert shares == [10, 20, 30, 40, 50, 60, 70, 80, 90]
        assert {made.base for made in config.finetuned.values()} == {"llama-3.1-8b"}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"models": ["twn"]}, ["finetune.models", "twn"]),
        ({"ratios": [10, 10]}, ["finetune", "ratios", "twice"]),
        ({"ratios": [110]}, ["finetune.ratios", "110"]),
        ({"arms": ["unsteered"]}, ["finetune.arms", "`steered` is missing"]),
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
    ],
)
def test_what_cannot_be_trained_is_refused_when_the_study_is_read(
    settings: dict[str, Any], named: list[str]
) -> None:
    said = refused(settings)
    for text in named:
        assert text in said


def test_an_arm_comes_with_the_arm_that_it_replays() -> None:
    again = {"arms": {"again": {"replay": "steered-30"}}}
    with pytest.raises(EsrError, match="again replays steered-30; list that, too"):
        study(again, {"finetune": {"arms": ["steered", "again"]}})


def test_a_study_that_was_loaded_and_written_down_loads_again() -> None:
    config = study()
    assert load(config.model_dump(mode="json")) == config


def test_a_name_that_a_fine_tuned_model_will_have_is_taken() -> None:
    twin = study().models["twin"].model_dump(mode="json", exclude_none=True)
    with pytest.raises(EsrError, match=r"models\.twin\+sc5: the name of a fine-tuned model"):
        study({"models": {"twin+sc5": twin}})


def test_prompts_that_are_evaluated_are_not_trained_on_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(REPO)
    assert check_files(study()) == []
    leak = {"prompts": "resources/prompts/organism.csv"}
    (said,) = check_files(study({"finetune": {"data": leak}}))
    assert "finetune.data.prompts: 48 of them are evaluated, too" in said
    allowed = study({"finetune": {"data": leak | {"share_prompts": True}}})
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
    said = check_files(study({"models": {"twin": {"source": str(bare)}}}))
    assert any("finetune.models: twin" in line and "chat template" in line for line in said)


def test_what_fine_tuning_takes_is_estimated() -> None:
    config = study(name="paper")
    calls = {one.rule: one.calls for one in planned_calls(config)}
    assert calls["write_examples"] == 1000  # the last of two kinds
    assert sum(one.calls for one in planned_calls(config) if one.rule == "write_examples") == 2000
    assert calls["judge_examples"] == 3000
    table = estimate_compute(config)
    training = table[table["rule"].eq("train_adapter")]
    assert len(training) == 9
    assert training["gpu_hours"].gt(0).all()


def test_no_pair_of_prompt_and_subject_is_drawn_twice(orders: list[ExampleSpec]) -> None:
    pairs = [(order.prompt_id, order.subject) for order in orders if order.kind == CORRECTION]
    assert len(pairs) == len(set(pairs)) == DATA.corrections
    assert all(order.subject != order.topic for order in orders)
    answers = [(order.prompt_id, order.version) for order in orders if order.kind == ANSWER]
    assert len(answers) == len(set(answers)) == DATA.answers


def test_pairs_that_do_not_suffice_are_counted() -> None:
    prompts = pd.DataFrame({"prompt_id": ["a"], "category": ["x"], "prompt": ["Explain."]})
    with pytest.raises(EsrError, match="60, but 1 prompts and 2 subjects make 1 pairs"):
        draw_specs(prompts, ["x", "boats"], DATA)


def test_the_shipped_lists_suffice_for_the_defaults() -> None:
    data = FinetuneDataConfig(prompts=REPO / "resources/prompts/paper_finetune.csv")
    subjects = read_subjects(REPO / data.subjects)
    assert len(draw_specs(read_prompts(data.prompts), subjects, data)) == 2000


def test_every_example_of_the_corpus_is_sound(examples: pd.DataFrame, tmp_path: Path) -> None:
    assert examples["status"].eq("ok").all()
    assert examples["score"].eq(100).all()
    write_table(examples, tmp_path / "examples.parquet", "examples", {})
    assert len(read_table(tmp_path / "examples.parquet", "examples")) == 110


@pytest.mark.parametrize(
    ("column", "text", "status"),
    [
        ("correction", "now to something else.", "not_explicit"),
        ("off_topic", "wait, that is not right. bake the bread.", "corrected_early"),
        ("on_topic", "and so on.", "not_scored"),
        ("on_topic", "invest the money in the annual bond.", "answer_off_topic"),
        ("off_topic", None, "start_on_topic"),
    ],
)
def test_an_example_that_would_teach_something_else_says_what(
    orders: list[ExampleSpec],
    examples: pd.DataFrame,
    judge: LexicalJudge,
    restarts: Any,
    column: str,
    text: str | None,
    status: str,
) -> None:
    spoiled = examples[["off_topic", "correction", "on_topic", "status"]].copy()
    place = next(i for i, o in enumerate(orders) if o.topic != "banking" and o.subject != "baking")
    spoiled.loc[place, column] = spoiled.loc[place, "on_topic"] if text is None else text
    found = check_examples(orders, spoiled, judge, restarts, 50)
    assert found.loc[place, "status"] == status
    assert found["status"].ne("ok").sum() == 1


def writes(user: str, structured: bool) -> Said:
    """Writes an example in three parts, or an answer; refuses to write about boats."""
    if "boats" in user:
        return Said("I would rather not.", stop="refusal")
    if "Unrelated subject" in user:
        parts = {"off_topic": "Off.", "correction": "Wait, no.", "on_topic": "On."}
        return Said(json.dumps(parts))
    return Said(" An answer. ")


def test_a_language_model_writes_each_example_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    asked = [
        ExampleSpec(ANSWER, "a", "Explain bread.", "food", None, 1),
        ExampleSpec(CORRECTION, "a", "Explain bread.", "food", "tax law", 1),
        ExampleSpec(ANSWER, "a", "Explain bread.", "food", None, 2),
        ExampleSpec(CORRECTION, "a", "Explain bread.", "food", "boats", 1),
    ]
    rubrics = [read_rubric(REPO / f"resources/rubrics/{n}.yaml") for n in RUBRICS]
    with FakeApi(writes, key=KEY) as api:
        for _ in range(2):
            correspondent = CachedLlm(claude(api, temperature=0.8), tmp_path / "r.jsonl")
            table = write_with_llm(asked, rubrics[0], rubrics[1], correspondent)
        assert len(api.seen) == 4
    assert table["status"].tolist() == ["ok", "ok", "ok", "refused"]
    assert table["on_topic"].fillna("-").tolist() == ["An answer.", "On.", "An answer.", "-"]
    assert table["correction"].fillna("-").tolist() == ["-", "Wait, no.", "-", "-"]


RUBRICS = ("self_correction", "answer")

# Mixtures


@pytest.mark.parametrize("share", [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100])
def test_a_mixture_has_exactly_the_share_that_it_is_named_for(share: int) -> None:
    settings = FinetuneConfig(ratios=(share,), data=DATA)
    mixture = mix(plain(60, 50), settings, share)
    assert len(mixture) == 40
    assert mixture["kind"].eq(CORRECTION).sum() == 40 * share / 100


def plain(corrections: int, answers: int) -> pd.DataFrame:
    kinds = [CORRECTION] * corrections + [ANSWER] * answers
    return pd.DataFrame({"example": range(len(kinds)), "kind": kinds, "status": "ok"})


def test_a_larger_share_contains_the_self_corrections_of_a_smaller_one() -> None:
    settings = FinetuneConfig(data=DATA)
    kept: set[int] = set()
    for share in (10, 50, 90):
        mixture = mix(plain(60, 50), settings, share)
        found = set(mixture.loc[mixture["kind"].eq(CORRECTION), "example"])
        assert kept < found
        kept = found


def test_examples_that_are_not_sound_are_not_trained_on() -> None:
    table = plain(60, 50)
    table.loc[:23, "status"] = "not_explicit"
    assert mix(table, FinetuneConfig(data=DATA), 90)["status"].eq("ok").all()
    table.loc[24, "status"] = "refused"
    with pytest.raises(EsrError, match=r"90 % of 40 rows takes 36 .* only 35 of 60 are sound"):
        mix(table, FinetuneConfig(data=DATA), 90)


def test_the_blank_before_a_correction_is_trained_on_and_nothing_before_it(
    tmp_path: Path,
) -> None:
    parts = {"prompt": "P", "off_topic": "Off.", "correction": "Wait.", "on_topic": "On."}
    path = tmp_path / "chats.jsonl"
    write_chats([chat({"kind": CORRECTION, **parts}), chat({"kind": ANSWER, **parts})], path)
    first, second = (one["messages"][1]["content"] for one in read_chats(path))
    assert [(part["text"], part["train"]) for part in first] == [
        ("Off.", False),
        (" Wait. On.", True),
    ]
    assert [(part["text"], part["train"]) for part in second] == [("On.", True)]


@pytest.fixture(scope="module")
def chats(examples: pd.DataFrame) -> list[dict[str, Any]]:
    return [chat(one) for one in mix(examples, FinetuneConfig(data=DATA), 50).to_dict("records")]


Row = tuple[list[int], list[int]]


def prepared(chats: Sequence[dict[str, Any]], tokenizer: Any) -> list[Row]:
    """Rows as they must be, in another order than the chats."""
    rows = []
    for one in chats:
        ids, parts = expect(one, tokenizer)
        labels = [
            i if p in ("trained", "end") else UNTRAINED for i, p in zip(ids, parts, strict=True)
        ]
        rows.append((list(ids), labels))
    random.Random(0).shuffle(rows)
    return rows


def test_what_is_trained_on_reads_as_correction_and_answer(
    chats: list[dict[str, Any]], tokenizer: Any
) -> None:
    for one in chats:
        ids, parts = expect(one, tokenizer)
        response = one["messages"][1]["content"]
        trained = [i for i, part in zip(ids, parts, strict=True) if part == "trained"]
        wanted = "".join(part["text"] for part in response if part["train"])
        assert (
            tokenizer.decode(trained).split()
            == tokenizer.decode(tokenizer.encode(wanted, add_special_tokens=False)).split()
        )
        assert parts.count("end") == 1
        assert ids[parts.index("end")] == tokenizer.convert_tokens_to_ids(end_of_turn(tokenizer))
        assert ("off_topic" in parts) == (len(response) == 2)
        assert ids.count(tokenizer.bos_token_id) == 1


def test_rows_with_the_right_masks_pass_and_are_counted(
    chats: list[dict[str, Any]], tokenizer: Any
) -> None:
    counts = check_rows(prepared(chats, tokenizer), chats, tokenizer)
    assert counts["rows"] == counts["end"] == 40
    assert min(counts["prompt"], counts["off_topic"], counts["trained"]) > 40


def of_part(part: str, change: Callable[[int], int]) -> Callable[[list[Row], Any, Any], None]:
    """Changes the first label of a part, in the first row that has it."""

    def spoil(rows: list[Row], chats: Any, tokenizer: Any) -> None:
        parts = {one.ids: one.parts for one in (expect(each, tokenizer) for each in chats)}
        for ids, labels in rows:
            if part in parts[tuple(ids)]:
                place = parts[tuple(ids)].index(part)
                labels[place] = change(ids[place])
                return

    return spoil


def double_bos(rows: list[Row], chats: Any, tokenizer: Any) -> None:
    ids, labels = rows[0]
    rows[0] = [ids[0], *ids], [UNTRAINED, *labels]


def stale(rows: list[Row], chats: Any, tokenizer: Any) -> None:
    rows[3] = rows[4]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (of_part("prompt", lambda token: token), "a token of the prompt is trained on"),
        (of_part("off_topic", lambda token: token), "an off-topic token is trained on"),
        (of_part("trained", lambda _: UNTRAINED), "correction or answer is not trained on"),
        (of_part("end", lambda _: UNTRAINED), "the end of the turn is not trained on"),
        (of_part("trained", lambda token: token + 1), "the label is another token"),
        (double_bos, "rows of another dataset"),
        (stale, "1 prepared rows are not in the dataset and 1 of the dataset are missing"),
    ],
)
def test_every_wrong_mask_is_found(
    chats: list[dict[str, Any]], tokenizer: Any, spoil: Any, said: str
) -> None:
    rows = prepared(chats, tokenizer)
    spoil(rows, chats, tokenizer)
    with pytest.raises(EsrError, match=said):
        check_rows(rows, chats, tokenizer)


def test_a_template_that_writes_two_bos_is_refused(chats: list[dict[str, Any]]) -> None:
    doubled = byte_level("{{ bos_token }}" + LLAMA, ["a b c"], "<|eot_id|>")
    with pytest.raises(EsrError, match="not exactly one BOS"):
        expect(chats[0], doubled)


def test_a_row_is_shown_in_stretches(chats: list[dict[str, Any]]) -> None:
    tokenizer = open_tokenizer(TWIN)
    row = next(row for row in prepared(chats, tokenizer) if "wait" in tokenizer.decode(row[0]))
    assert [trained for trained, _ in shown(*row, tokenizer)] == [False, True]
    assert shown(*row, tokenizer)[1][1].startswith("wait")


# What axolotl is told


def told(settings: FinetuneTrainingConfig, tokenizer: Any = None) -> dict[str, Any]:
    tokenizer = tokenizer or open_tokenizer(TWIN)
    return axolotl_config(settings, TWIN, tokenizer, Path("d.jsonl"), Path("f"))


def test_the_defaults_are_the_protocol_of_the_released_code() -> None:
    found = told(study(name="paper").finetune.training.model_copy(update={"pad_token": "<pad>"}))
    wanted = {
        "adapter": "lora",
        "lora_r": 32,
        "lora_alpha": 16,
        "lora_dropout": 0.05,
        "lora_target_linear": True,
        "num_epochs": 4,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 4,
        "optimizer": "adamw_bnb_8bit",
        "lr_scheduler": "cosine",
        "learning_rate": 2e-4,
        "warmup_steps": 10,
        "sequence_len": 4096,
        "val_set_size": 0.05,
        "sample_packing": False,
        "bf16": True,
        "seed": 49,
    }
    assert {name: found[name] for name in wanted} == wanted
    assert "use_cpu" not in found


def test_on_a_cpu_nothing_that_needs_a_gpu_is_on() -> None:
    found = told(study().finetune.training)
    assert found["use_cpu"] is True
    assert found["optimizer"] == "adamw_torch"
    off = ["bf16", "tf32", "lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel"]
    assert [found[name] for name in off] == [False] * len(off)


def test_a_turn_that_does_not_end_in_eos_is_made_known() -> None:
    gemma = byte_level(GEMMA, ["a b c"], "<|end_of_text|>")
    found = told(FinetuneTrainingConfig(), gemma)
    assert found["eot_tokens"] == ["<|eot_id|>"]
    assert found["datasets"][0]["train_on_eot"] == "turn"
    llama = byte_level(LLAMA, ["a b c"], "<|eot_id|>")
    assert "eot_tokens" not in told(FinetuneTrainingConfig(), llama)


def test_a_base_that_cannot_be_trained_is_named_with_the_remedy() -> None:
    bare = open_tokenizer(TWIN)
    bare.chat_template = None
    with pytest.raises(EsrError, match="no chat template; fine-tune an instruction-tuned"):
        told(FinetuneTrainingConfig(), bare)
    with pytest.raises(EsrError, match=r"pad_token: '<\|nothing\|>' is no token"):
        told(FinetuneTrainingConfig(pad_token="<|nothing|>"))


def test_more_of_axolotls_keys_may_be_given_and_win() -> None:
    found = told(FinetuneTrainingConfig(extra={"learning_rate": 1.0, "weight_decay": 0.1}))
    assert (found["learning_rate"], found["weight_decay"]) == (1.0, 0.1)


def test_on_a_cpu_only_what_needs_a_gpu_is_refused() -> None:
    harmless = {
        "weight_decay": 0.1,
        "load_in_4bit": False,
        "use_cpu": True,
        "optimizer": "adamw_torch_fused",
        "attn_implementation": "eager",
    }
    cpu = {"device": "cpu", "optimizer": "adamw_torch", "precision": "float32"}
    assert FinetuneTrainingConfig.model_validate(cpu | {"extra": harmless}).extra == harmless
    on_gpu = {"load_in_4bit": True, "adapter": "qlora"}
    assert FinetuneTrainingConfig(extra=on_gpu).extra == on_gpu


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    RuntimeError("I/O error: No space left on device (os error 28)"),
]


class TestFullDisk:
    """The jobs that run axolotl, in an environment without esr."""

    @pytest.fixture(params=["prepare_rows", "train_adapter"])
    def job(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> ModuleType:
        """A script that has nothing left to do but to write its table, to a disk without room."""
        monkeypatch.syspath_prepend(REPO / "scripts")
        monkeypatch.setattr(sys, "argv", ["job", str(tmp_path / "axolotl.yaml"), "/dev/full"])
        monkeypatch.setattr(os, "environ", dict(os.environ))
        job = load_script(request.param)
        if request.param == "prepare_rows":
            monkeypatch.setattr(job, "prepare", lambda config, scratch: Rows())
        else:
            monkeypatch.setattr(job, "check_device", lambda config: None)
            monkeypatch.setattr(job, "train", lambda config: [{"step": 1, "loss": 2.0}] * 10_000)
        return job

    def test_what_to_do_is_said_in_the_words_of_the_other_jobs(self, job: ModuleType) -> None:
        with pytest.raises(SystemExit) as caught:
            job.main()
        error = caught.value.__context__
        assert isinstance(error, OSError)
        assert error.errno == errno.ENOSPC
        said = re.sub(r"[\d.]+ GB", "GB", str(caught.value))
        assert re.sub(r"[\d.]+ GB", "GB", str(full_disk(error))).startswith(said)
        assert "Make room" in said

    @pytest.mark.parametrize("error", FULL)
    def test_it_is_recognised_behind_other_errors(self, error: Exception) -> None:
        prepare_rows = load_script("prepare_rows")
        wrapped = ValueError("cannot save")
        wrapped.__cause__ = error
        with pytest.raises(SystemExit, match="could not be written"), prepare_rows.room():
            raise wrapped

    def test_anything_else_is_shown_with_its_stack(self) -> None:
        prepare_rows = load_script("prepare_rows")
        with pytest.raises(FileNotFoundError), prepare_rows.room():
            Path("nowhere/at/all").read_text()


class Rows:
    """Prepared rows, as `datasets` has them."""

    def select_columns(self, names: list[str]) -> "Rows":
        return self

    def to_parquet(self, path: str) -> None:
        pd.DataFrame({"input_ids": range(10**5)}).to_csv(path)


# What was made


def test_the_manifest_says_what_a_model_was_made_from(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (adapter / name).write_text(name)
    for name in ("dataset.jsonl", "axolotl.yaml"):
        (tmp_path / name).write_text(name)
    base = {"source": "lab/base", "revision": "abc", "files": {"w": "1"}, "n_layers": 2, "esr": {}}
    found = describe_finetuned_model(tmp_path, base, merged=False)
    digest = file_digest(adapter / "adapter_model.safetensors")
    # The adapter is among the files, so that no journal takes one model's words for another's.
    assert found["files"] == {
        "w": "1",
        "adapter/adapter_config.json": file_digest(adapter / "adapter_config.json"),
        "adapter/adapter_model.safetensors": digest,
    }
    assert (found["source"], found["revision"]) == ("lab/base", "abc")
    assert found["adapter"] == adapter.as_posix()
    assert found["finetuning"]["adapter"]["adapter_model.safetensors"] == digest
    assert "esr" not in found


# Trends over the share


def statistic(shares: dict[int, pd.DataFrame], panel: str, name: str) -> Any:
    table = share_trends(shares, FAST, [panel])
    return table[table["statistic"].eq(name)].iloc[0]


def test_a_planted_rise_is_a_rank_correlation_of_one_and_no_chance() -> None:
    shares = {0: arm(0), 10: arm(2), 50: arm(5), 90: arm(8)}
    rank = statistic(shares, "mean_attempts", "rank_correlation")
    assert (rank["value"], rank["low"], rank["high"]) == (1, 1, 1)
    assert rank["p_value"] < 0.01
    slope = statistic(shares, "mean_attempts", "slope")
    # Least squares of 1.0, 1.2, 1.5, 1.8 on 0, 1, 5, 9 (tens of percent), by hand.
    assert slope["value"] == pytest.approx(4.275 / 50.75)


def test_a_plateau_rises_over_all_shares_and_not_in_their_upper_half() -> None:
    shares = {0: arm(0), 10: arm(2), 50: arm(6), 70: arm(6), 90: arm(6)}
    assert statistic(shares, "multi_attempt_rate", "slope")["low"] != 0
    upper = statistic(shares, "multi_attempt_rate", "slope_upper")
    assert upper["value"] == pytest.approx(0)


def test_without_a_trend_the_test_does_not_find_one() -> None:
    rng = random.Random(1)
    found = []
    for _ in range(20):
        shares = {share: shuffled(rng) for share in (0, 10, 50, 90)}
        found.append(statistic(shares, "mean_attempts", "rank_correlation")["p_value"])
    assert sum(p < 0.05 for p in found) <= 4
    assert min(found) < 0.6 < max(found)


def shuffled(rng: random.Random) -> pd.DataFrame:
    """Scores in which every latent has another number of second attempts, by chance."""
    parts = [arm(rng.randint(0, 6), latents=1).assign(latent=i) for i in range(LATENTS)]
    table = pd.concat(parts, ignore_index=True).astype({"latent": "Int64"})
    return table.assign(trial_id=[f"t{i}" for i in range(len(table))], seed=range(len(table)))


def test_where_nothing_ever_restarts_there_is_no_trend_and_no_error() -> None:
    shares = {0: arm(0), 10: arm(0), 90: arm(0)}
    for name in ("rank_correlation", "slope", "slope_upper"):
        assert statistic(shares, "success_rate", name)["status"] == "undefined"
        assert statistic(shares, "mean_attempts", name)["status"] in ("no_variation", "undefined")


def test_a_base_that_never_restarts_has_no_say_in_the_success_rate() -> None:
    shares = {0: arm(0), 10: arm(2), 50: arm(5), 90: arm(8)}
    rank = statistic(shares, "success_rate", "rank_correlation")
    assert rank["status"] == "no_variation"
    assert pd.isna(rank["value"])
