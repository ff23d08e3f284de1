"""Costs: prices with their dates, estimates before, a ledger after that agrees with the API's."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from esr.config import ArmConfig, Config, ContinueConfig, load, merge
from esr.errors import EsrError
from esr.judges import open_judge
from esr.judges.costs import COLUMNS, ledger, price_of, read_prices, study_budget
from esr.judges.replies import reply_journals
from esr.planning.check import check_judges
from esr.planning.costs import as_configured, estimate, trials_of
from helpers.checkout import REPO, load_script
from helpers.fake_api import CLAUDE, QWEN, FakeApi
from helpers.llm import KEY, inputs

HEADER = ",".join(COLUMNS)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the project's resources."""
    (tmp_path / "resources").symlink_to(REPO / "resources")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study(url: str = "http://127.0.0.1:9", **judging: Any) -> Config:
    """The organism study, judged by language models."""
    protocol = yaml.safe_load((REPO / "config.yaml").read_text())
    models = yaml.safe_load((REPO / "studies/organism.yaml").read_text())
    claude = {"kind": "anthropic", "model": CLAUDE, "key_variable": "JUDGE_KEY", "base_url": url}
    qwen = {
        "kind": "openai",
        "model": QWEN,
        "key_variable": "JUDGE_KEY",
        "base_url": f"{url}/v1",
        "rubric": "resources/rubrics/compact.yaml",
    }
    judges = {"claude": claude | {"mode": "batch", "poll": 0.001}, "qwen": qwen}
    models["judging"] = {"primary": "claude", "judges": judges} | judging
    return load(merge(protocol, models, {"study": "organism"}))


# Prices


def test_every_price_has_a_date_and_a_source() -> None:
    prices = read_prices(REPO / "resources/prices.csv")
    assert prices[CLAUDE].cost(1e6, 1e6, batch=False) == 6
    assert prices[CLAUDE].cost(1e6, 1e6, batch=True) == 3
    for model, price in prices.items():
        assert pd.Timestamp(price.date), model
        assert price.source, model
        assert price.retires == "" or pd.Timestamp(price.retires), model


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,input\nm,1\n", "has columns"),
        (f"{HEADER}\nm,1,2,,,2026-01-01,s,,,\nm,1,2,,,2026-01-01,s,,,\n", "lists m twice"),
        (f"{HEADER}\nm,a lot,2,,,2026-01-01,s,,,\n", "m: could not convert .*'a lot'"),
        (f"{HEADER}\nm,1,2,,,,s,,,\n", "line 2, m: no date"),
        (f"{HEADER}\nm,1,2,,,last week,s,,,\n", "m: Invalid isoformat .* days as 2026-11-30"),
        (f"{HEADER}\nm,1,2,,,2026-01-01,s,soon,,\n", "m: Invalid isoformat string: 'soon'"),
        (f"{HEADER}\nm,-1,2,,,2026-01-01,s,,,\n", "m: a price of -1"),
        (f"{HEADER}\nm,nan,2,,,2026-01-01,s,,,\n", "m: a price of nan"),
        (f"{HEADER}\nm,1,2,,,2026-01-01,a, b,,,\n", "line 2: 11 fields, .* in quotes"),
        (f"{HEADER}\nm,1,2,,,2026-01-01,prix publi\xe9,,,\n", "line 2: byte 0xe9 is not UTF-8"),
    ],
)
def test_a_price_file_that_is_none_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prices.csv"
    path.write_bytes(text.encode("cp1252"))
    with pytest.raises(EsrError, match=rf"prices\.csv.*{message}"):
        read_prices(path)


def test_without_a_batch_price_batches_cost_the_same(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(f"{HEADER}\nm,1,2,,,2026-01-01,s,,,\n")
    price = price_of("m", read_prices(path), path)
    assert price.cost(10, 10, batch=True) == price.cost(10, 10, batch=False)


# Estimates


def continuing(settings: ContinueConfig) -> ArmConfig:
    return ArmConfig.model_validate({"continue": settings})


def test_a_replay_of_a_continuing_arm_has_trials_of_its_first_latents_alone(here: Path) -> None:
    """Texts are those of all latents in turn, so a latent has its share of them."""
    chosen = ContinueConfig(arm="steered", cuts=(40, 80), texts=72, samples=2)
    config = study().model_copy(update={"arms": study().arms | {"prefix": continuing(chosen)}})
    assert trials_of(config, config.arms["prefix"], 48) == 72 * 2 * 2
    for latents, texts in ((3, 6), (36, 72), (100, 72)):
        few = ArmConfig(replay="prefix", boost="none", latents=latents)
        assert trials_of(config, few, 48) == texts * 2 * 2
    uneven = chosen.model_copy(update={"texts": 40})
    arms = config.arms | {"prefix": continuing(uneven)}
    few = ArmConfig(replay="prefix", boost="none", latents=3)
    assert trials_of(config.model_copy(update={"arms": arms}), few, 48) == 3 * 2 * 2 * 2
    own = continuing(chosen).model_copy(update={"latents": 3})
    assert trials_of(config, own, 48) == 3 * 16 * 2 * 2, "more texts of each, as many as it has"


def test_calls_are_counted_from_the_configuration(here: Path) -> None:
    config = study()
    table = estimate(config).set_index(["rule", "judge"])
    latents, models, prompts = 36, 2, 48
    finetuned = len(config.finetuned)
    assert len(pd.read_csv(config.prompts)) == prompts
    calls = table["calls"].to_dict()
    searched = (models + finetuned) * latents + 12  # and random directions of `planted`
    assert calls["find_thresholds", "claude"] == searched * 10 * 4
    assert calls["judge_sample", "qwen"] == config.agreement.size == 16040
    assert ("judge_sample", "claude") not in calls, "the primary judge has judged the arms"
    steered, sweep = latents * 16, 16 * 5 * 8
    assert trials_of(config, config.arms["steered"], prompts) == steered
    assert trials_of(config, config.arms["meta-self-monitor"], prompts) == steered
    assert trials_of(config, config.arms["boost-sweep"], prompts) == sweep
    assert trials_of(config, config.arms["answers"], prompts) == prompts
    few = ArmConfig(replay="steered", seeds="other", latents=3)
    assert trials_of(config, few, prompts) == 3 * (config.arms["steered"].trials or 0)
    chosen = ContinueConfig(arm="steered", cuts=(40, 80), texts=30, samples=2)
    assert trials_of(config, continuing(chosen), prompts) == 30 * 2 * 2
    every = chosen.model_copy(update={"texts": 10**6})
    assert trials_of(config, continuing(every), prompts) == steered * 2 * 2
    prefixes = [name for name in config.arms if config.continues(name) is not None]
    replays = sum(
        arm.replay is not None for name, arm in config.arms.items() if name not in prefixes
    )
    replays -= 2 + 6
    again = 12 * 16 + 18 * 16  # `other-seeds`, `steered-response` replay the first latents alone
    again += (6 + 1) * 18 * 16  # so do six meta-prompts, and `steered-30` has them
    discovery = 3 * len(pd.read_csv(config.arms["discovery"].prompts or ""))
    held_out = len(pd.read_csv("resources/prompts/organism_finetune.csv")) + 2 * latents * 8
    of_planted = held_out + 18 * 16 + 36 * 16 + 12 * 16  # partial, to the mean, random directions
    of_planted += 3 * steered  # random sets
    replays -= 3 + 3
    arms = (1 + replays) * steered + again + sweep + prompts + discovery
    continued = 4 * 150 * 2 * 2 + 8 * 100 * 4 + 3 * 100  # off-topic texts, restarts, corrections
    assert len(prefixes) == 4 + 8 + 3
    expected = models * arms + continued + of_planted + finetuned * steered  # of one model
    assert calls["judge_responses", "claude"] == expected
    cells = sum(len(config.arms_of(model)) for model in config.models)
    jobs = len(config.models) + 1 + cells + 2  # thresholds, arms, examples, retest
    assert calls["anchors", "claude"] == 2 * 60 * jobs
    assert calls["anchors", "qwen"] == 2 * 60, "at both ends of the sample"
    assert calls["judge_examples", "claude"] == 400 + 2 * 400, "answers, both ends of corrections"


def test_batches_cost_half_and_thresholds_are_found_live(here: Path) -> None:
    table = estimate(study()).set_index("rule")
    arms = table.loc["judge_responses"]
    assert arms["mode"] == "batch"
    assert arms["dollars_batch"] == pytest.approx(arms["dollars_live"] / 2)
    assert table.loc["find_thresholds", "mode"] == "live"
    assert math.isnan(table.loc["find_thresholds", "dollars_batch"])
    total = as_configured(estimate(study()))
    live = table["dollars_live"]
    expected = live["find_thresholds"] + live["judge_responses"] / 2 + live["judge_sample"]
    expected += (live["judge_examples"] + live["retest_sample"]) / 2
    expected += live["anchors"].sum()
    assert total == pytest.approx(expected)


def test_quoting_only_openings_is_about_60_percent_cheaper(here: Path) -> None:
    def cost(rubric: str) -> float:
        judge = {"kind": "anthropic", "model": "claude-sonnet-4-5-20250929", "rubric": rubric}
        protocol = {"generation": {"max_new_tokens": 512}, "judging": {"judges": {"claude": judge}}}
        config = study()
        raw = merge(config.model_dump(mode="json", exclude_unset=True), protocol)
        raw["judging"]["judges"]["claude"] = judge
        return float(estimate(load(raw)).iloc[0]["dollars_live"])

    saved = 1 - cost("resources/rubrics/compact.yaml") / cost("resources/rubrics/paper.yaml")
    assert 0.55 < saved < 0.7


def test_a_missing_price_is_missing_and_not_nothing(here: Path) -> None:
    judge = {"kind": "openai", "model": "my-own", "base_url": "http://127.0.0.1:9"}
    table = estimate(study(primary="mine", judges={"mine": judge}))
    assert table["dollars_live"].isna().all()
    assert math.isnan(as_configured(table))


# Before a run


def test_a_judge_in_order_is_described_with_its_retirement_and_price(here: Path) -> None:
    sonnet = "claude-sonnet-4-5-20250929"
    with FakeApi(key=KEY, models=(sonnet, QWEN)) as api:
        config = study(api.url, primary="qwen")
        settings = config.judging.judges["claude"].model_copy(update={"model": sonnet})
        judges = {**config.judging.judges, "claude": settings}
        judging = config.judging.model_copy(update={"judges": judges})
        config = config.model_copy(update={"judging": judging})
        first, second = check_judges(config, ["claude", "qwen", "lexical"])
        assert "which retires on 2026-11-30" in first
        assert "price of 2026-11-22" in first
        assert second.startswith(f"judge qwen: {QWEN} at {api.url}")
        assert all(sent.method == "GET" for sent in api.requests)


def test_a_budget_without_a_price_is_found_before_the_run(here: Path) -> None:
    with FakeApi(key=KEY, models=("my-own",)) as api:
        url = f"{api.url}/v1"
        judge = {"kind": "openai", "model": "my-own", "base_url": url, "key_variable": "JUDGE_KEY"}
        (line,) = check_judges(study(primary="mine", judges={"mine": judge}), ["mine"])
        assert "no price in resources/prices.csv" in line
        with pytest.raises(EsrError, match=r"judging\.judges\.mine: .* no price of model my-own"):
            list(check_judges(study(primary="mine", judges={"mine": judge}, budget=5), ["mine"]))


# The ledger


def test_the_ledger_agrees_with_what_the_api_delivered(here: Path) -> None:
    with FakeApi(key=KEY, fault_rate=0.1) as api:
        config = study(api.url, anchors=0)
        before = ledger(config)
        assert before.empty
        journals = {(rule, judge): path for rule, judge, path in reply_journals(config)}
        for (rule, name), path in journals.items():
            judge = open_judge(
                config.judging.judges[name], path, live=rule == "find_thresholds", config=config
            )
            judge.judge(inputs(5, f"{rule} {name} Wait, that's not right."))
        table = ledger(config)
        for column in ("calls", "input_tokens", "output_tokens"):
            assert table[column].sum() == api.usage[column]
        assert table["dollars"].gt(0).all()
        assert set(table["price_date"]) == {"2026-11-22"}
        rows = table.set_index(["rule", "judge"])
        assert rows.loc[("judge_responses", "claude"), "mode"] == "batch"
        assert rows.loc[("find_thresholds", "claude"), "mode"] == "live"
        assert rows.loc[("judge_sample", "qwen"), "served_as"] == f"{QWEN} (Fake)"
        budget = study_budget(study(api.url, budget=5.0, anchors=0))
        assert budget is not None
        assert budget.spent == pytest.approx(table["dollars"].sum())
        printed = load_script("tabulate_ledger").printed(table)
        assert printed.iloc[-1]["calls"] == api.usage["calls"]


def test_judges_that_cost_nothing_are_in_the_ledger_as_free(here: Path) -> None:
    lexicon = "resources/organisms/lexicon.csv"
    config = study(primary="words", judges={"words": {"kind": "lexical", "lexicon": lexicon}})
    (row,) = ledger(config).to_dict("records")
    assert (row["judge"], row["mode"], row["calls"], row["dollars"]) == ("words", "free", 0, 0)


def test_without_a_price_the_ledger_has_tokens_and_no_dollars(here: Path) -> None:
    with FakeApi(key=KEY, models=("my-own",)) as api:
        url = f"{api.url}/v1"
        judge = {"kind": "openai", "model": "my-own", "base_url": url, "key_variable": "JUDGE_KEY"}
        config = study(api.url, primary="mine", judges={"mine": judge})
        (path,) = (p for rule, _, p in reply_journals(config) if rule == "judge_sample")
        open_judge(config.judging.judges["mine"], path).judge(inputs(2))
        (row,) = ledger(config).to_dict("records")
    assert row["calls"] == 2
    assert math.isnan(row["dollars"])
