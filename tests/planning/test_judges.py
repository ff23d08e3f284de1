"""Checks of judges: who is retired, who retires too early, who is another model by now."""

import json
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from esr.config import Config
from esr.errors import EsrError
from esr.judges import llm
from esr.judges.absent import absent_judges
from esr.judges.lifetime import last_day
from esr.planning.hours import estimate_compute
from esr.planning.judges import check_judges, expected_end, is_same_model
from helpers.local_judge import judge_settings, tiny_judge
from helpers.studies import load_study

SONNET, GEMINI = "claude-sonnet-4-5-20250929", "google/gemini-2.5-flash"


@pytest.fixture
def config() -> Config:
    judges = {
        "sonnet": {"kind": "anthropic", "model": SONNET},
        "gemini": {"kind": "openai", "model": GEMINI},
        "haiku": {"kind": "anthropic", "model": "claude-haiku-4-5-20251001"},
    }
    return load_study({"judging": {"judges": judges}})


@pytest.fixture(autouse=True)
def reachable(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Every judge can be reached; the days on which APIs list their shutdown."""
    listed: dict[str, str] = {}
    monkeypatch.setattr(llm, "check_llm", lambda settings: listed.get(settings.model))
    return listed


class TestRetirement:
    def test_a_retired_judge_is_an_error_with_what_to_take_instead(self, config: Config) -> None:
        with pytest.raises(
            EsrError, match=r"judges.gemini: .* retired on 2026-12-01 .*take google"
        ):
            list(check_judges(config, ["gemini"], date(2026, 12, 2)))
        with pytest.raises(EsrError, match=r"judges\.sonnet: .* a judge of `kind: vllm`"):
            list(check_judges(config, ["sonnet"], date(2026, 12, 1)))

    def test_on_its_last_day_it_is_called_with_a_warning(self, config: Config) -> None:
        (line,) = check_judges(config, ["sonnet"], date(2026, 11, 30))
        assert "retires on 2026-11-30, before the study is expected to end (2026-12-01)" in line

    def test_long_before_it_is_no_problem(self, config: Config) -> None:
        (line,) = check_judges(config, ["sonnet"], date(2026, 6, 1))
        assert "retires on 2026-11-30" in line
        assert "expected to end" not in line

    def test_a_day_that_the_api_lists_wins_over_the_file(
        self, config: Config, reachable: dict[str, str]
    ) -> None:
        reachable["claude-haiku-4-5-20251001"] = "2027-03-01"
        (line,) = check_judges(config, ["haiku"], date(2027, 2, 28))
        assert "retires on 2027-03-01, before the study" in line
        with pytest.raises(EsrError, match="retired on 2027-03-01"):
            list(check_judges(config, ["haiku"], date(2027, 3, 2)))

    def test_the_end_follows_from_the_estimate(self) -> None:
        today = date(2026, 11, 28)
        assert expected_end(load_study(), today) == date(2026, 11, 29)
        assert (expected_end(load_study(name="laptop"), today) - today).days >= 1

    @pytest.mark.parametrize("given", ["2026-12-11", "2026-12-11T00:00:00Z", 1796947200])
    def test_lists_give_days_in_several_forms(self, given: object) -> None:
        assert last_day(SimpleNamespace(shutdown_date=given)) == "2026-12-11"

    def test_a_model_without_a_day_has_none(self) -> None:
        assert last_day(SimpleNamespace(id="model", shutdown_date=None)) is None


class TestOtherModels:
    @pytest.mark.parametrize(
        ("served", "same"),
        [
            ("google/gemini-2.5-flash (Google)", True),
            ("gemini-2.5-flash-2026-06-01", True),
            ("gemini-2.5-flash:free", True),
            ("gemini-2.5-flash-lite", False),
            ("gemini-3.5-flash-lite", False),
        ],
    )
    def test_a_date_is_the_same_model_and_another_size_is_not(
        self, served: str, same: bool
    ) -> None:
        assert is_same_model(GEMINI, served) == same

    def test_kept_replies_of_another_model_are_an_error(
        self, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prices = config.judging.prices.read_text()
        monkeypatch.chdir(tmp_path)
        config.judging.prices.parent.mkdir()
        config.judging.prices.write_text(prices)
        journal = tmp_path / "results/organism/replies/judge_sample/gemini.jsonl"
        journal.parent.mkdir(parents=True)
        message = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}
        record: dict[str, object] = {
            "key": "k",
            "identity": {"kind": "openai", "model": GEMINI},
            "batch": None,
        }
        record |= {"temperature": 0, "request_id": None}
        raw = json.dumps(message | {"model": "gemini-3.5-flash-lite"})
        journal.write_text(json.dumps(record | {"raw": raw}) + "\n")
        with pytest.raises(EsrError, match=r"1 as gemini-3\.5-flash-lite.*snakemake bridge"):
            list(check_judges(config, ["gemini"], date(2026, 6, 1)))


class TestOptionalJudges:
    @pytest.fixture
    def optional(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
        judges = {
            "sonnet": {"kind": "anthropic", "model": SONNET, "optional": True},
            "free": {"kind": "openai", "model": "m", "optional": True, "key_variable": None},
        }
        config = load_study({"judging": {"judges": judges}})
        prices = config.judging.prices.read_text()
        monkeypatch.chdir(tmp_path)
        config.judging.prices.parent.mkdir()
        config.judging.prices.write_text(prices)
        return config

    def test_no_key_or_a_retired_model_leaves_it_out(
        self, optional: Config, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
        alive, gone = date(2026, 11, 30), date(2026, 12, 1)
        assert absent_judges(optional, alive) == {"sonnet": "ANTHROPIC_API_KEY is not set"}
        monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
        assert absent_judges(optional, alive) == {}
        assert absent_judges(optional, gone) == {"sonnet": f"{SONNET} retired on 2026-11-30"}

    def test_one_that_has_graded_stays(self, optional: Config) -> None:
        scores = Path("results/organism/agreement/scores/sonnet.parquet")
        scores.parent.mkdir(parents=True)
        scores.write_bytes(b"scores")
        assert absent_judges(optional, date(2027, 1, 1)) == {}

    def test_a_judge_that_is_needed_is_never_optional(self) -> None:
        judge = {"kind": "anthropic", "model": SONNET, "optional": True}
        with pytest.raises(EsrError, match=r"sonnet\.optional: judging\.primary needs it"):
            load_study({"judging": {"primary": "sonnet", "judges": {"sonnet": judge}}})


class TestOpenWeights:
    def test_what_runs_where_is_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = judge_settings(tiny_judge(tmp_path / "judge"))
        config = load_study({"judging": {"judges": {"open": settings.model_dump(mode="json")}}})
        (line,) = check_judges(config, ["open"])
        assert line.endswith("run by the workflow on the CPU: no key, no dollars")

    def test_its_hours_are_those_of_gpus(self) -> None:
        judge: dict[str, object] = {"kind": "vllm", "source": "Qwen/Qwen3-32B"}
        judge |= {"revision": "1" * 40}
        judge |= {"parameters": 32.8e9, "batch_size": 128}
        study = {"judging": {"primary": "open", "judges": {"open": judge}}}
        arm_by_arm = load_study(study, name="paper")
        together = load_study(
            study, {"judging": {"judges": {"open": {"together": True}}}}, name="paper"
        )
        tables = [
            estimate_compute(one).set_index(["rule", "model"]) for one in (arm_by_arm, together)
        ]
        rows = [table.loc[("judge_responses", "open")] for table in tables]
        assert rows[1]["jobs"] == len(together.models) < rows[0]["jobs"]
        assert rows[1]["gpu_hours"] < rows[0]["gpu_hours"]
        assert rows[0]["gpus"] == 2
        assert (tables[0].loc["find_thresholds"]["gpus"] > 2).any()
