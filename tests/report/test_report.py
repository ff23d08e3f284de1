"""The report's parts without a browser: trials as scripts, compute, pages, colours."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from esr.analysis.claims import VERDICTS
from esr.analysis.ways import WAYS
from esr.arms.files import ArmFiles
from esr.report.jobs import compute_table
from esr.report.site import TABLE_TITLES, markdown, measured, number, table_title
from esr.report.transcripts import (
    CHUNK,
    FLAGS,
    full_bars,
    read_traces,
    read_trials,
    write_transcripts,
)
from esr.tables import TABLES, write_table
from helpers.checkout import REPO
from helpers.report_fixture import HOSTILE, MODELS, PHRASES, trials, write_site

CSS = (REPO / "resources/report/style.css").read_text()
RESPONSE = "Violins. Wait, that is not right. Knead it."


def data(path: Path) -> Any:
    """What a data script hands to the page."""
    found = re.fullmatch(r"\w+\((?:\d+, )?(.*)\);\n", path.read_text())
    assert found is not None
    return json.loads(found.group(1))


def table(name: str, **values: Any) -> pd.DataFrame:
    """A table of one row, missing where a value may be and none is given."""
    row = {column: values.get(column) for column in TABLES[name].columns}
    return pd.DataFrame([row])


@pytest.fixture
def arm(tmp_path: Path) -> ArmFiles:
    """An arm of one trial that corrects itself."""
    trial: dict[str, Any] = {"model": "m", "arm": "steered", "trial_id": "t", "prompt_id": "p"}
    trial |= {"latent": 7, "boost": 3.0, "seed": 1}
    shown = {"label": "violins", "prefill": "", "ablated": [], "prompt": "Explain bread"}
    write_table(table("plan", **trial, **shown), tmp_path / "plan.parquet", "plan", {})
    generated = {"status": "ok", "response": RESPONSE, "tokens": [1, 2], "n_prompt_tokens": 4}
    responses = table("responses", trial_id="t", finish_reason="stop", **generated)
    write_table(responses, tmp_path / "responses.parquet", "responses", {})
    judged = {"trial_id": "t", "status": "ok", "located": "exact", "judge": "j"}
    attempts = [
        table("judgments", attempt=1, start=9, end=43, score=80.0, **judged),
        table("judgments", attempt=0, start=0, end=9, score=10.0, **judged),
    ]
    write_table(pd.concat(attempts), tmp_path / "judgments.parquet", "judgments", {})
    scores = {"status": "ok", "n_attempts": 2, "first_score": 10.0, "last_score": 80.0}
    scores |= {"score_change": 70.0, "multi_attempt": True, "improved": True}
    scores |= {"restart_detected": True, "degraded": False}
    scored = table(
        "scores", **trial, judge="lexical", **scores, label="violins", prefill="", ablated=[]
    )
    write_table(scored, tmp_path / "scores.parquet", "scores", {})
    paths = [tmp_path / f"{name}.parquet" for name in ("plan", "responses", "judgments", "scores")]
    return ArmFiles("m", "steered", *paths)


class TestTrials:
    def test_a_trial_has_its_text_attempts_in_order_and_restart_phrases(
        self, arm: ArmFiles
    ) -> None:
        (row,) = read_trials(arm, PHRASES, {})
        text = row["text"]
        assert text["response"] == RESPONSE
        assert text["prompt"] == "Explain bread"
        assert text["attempts"] == [[0, 9, 10.0], [9, 43, 80.0]]
        assert next(RESPONSE[a:b] for a, b in text["restarts"]).startswith("Wait, that")
        assert row["index"]["traced"] is False

    def test_what_was_read_on_a_trial_goes_with_it(self, arm: ArmFiles) -> None:
        (row,) = read_trials(arm, PHRASES, {"t": {"detector": [[0, 7, 2.5]]}})
        assert row["index"]["traced"]
        assert row["text"]["heat"] == {"detector": [[0, 7, 2.5]]}

    def test_the_index_has_every_trial_and_chunks_have_their_texts(self, tmp_path: Path) -> None:
        count = write_transcripts(tmp_path, trials(900), MODELS, {})
        index = data(tmp_path / "index.js")
        assert count == index["count"] == 900
        assert {len(column) for column in index["columns"].values()} == {900}
        assert index["labels"] == list(MODELS.values())
        texts = [data(tmp_path / f"chunk-{i}.js") for i in range(-(-900 // CHUNK))]
        ids = [each["id"] for chunk in texts for each in chunk]
        assert ids == index["columns"]["id"]
        assert not (tmp_path / f"chunk-{len(texts)}.js").exists()

    def test_a_missing_score_is_null_and_flags_are_bits(self, tmp_path: Path) -> None:
        write_transcripts(tmp_path, trials(60), MODELS, {})
        columns = data(tmp_path / "index.js")["columns"]
        assert columns["first"][7] is None
        assert columns["attempts"][7] is None
        assert columns["flags"][0] == FLAGS["restart_detected"] + FLAGS["traced"]
        assert columns["flags"][1] == 0

    def test_data_are_plain_characters_whatever_a_model_wrote(self, tmp_path: Path) -> None:
        write_transcripts(tmp_path, trials(6), MODELS, {})
        text = (tmp_path / "chunk-0.js").read_bytes()
        assert text.isascii()
        assert text.count(b"\n") == 1
        assert data(tmp_path / "chunk-0.js")[0]["response"].startswith(HOSTILE)

    def test_traces_sum_the_latents_of_a_kind_at_each_token_with_text(self, tmp_path: Path) -> None:
        episode = table(
            "episodes",
            **{"model": "m", "trial_id": "t", "prompt_id": "p"},
            **{"latent": 7, "boost": 3.0, "seed": 1},
            **{"group": "episode", "first_score": 10.0, "last_score": 80.0, "status": "ok"},
        )
        other = episode.assign(trial_id="u", status="not_drawn")
        write_table(pd.concat([episode, other]), tmp_path / "e.parquet", "episodes", {})
        rows = [("t", 0, 0, 7, 11, 2.0), ("t", 0, 0, 7, 12, 3.0), ("t", 1, 7, 7, 11, 9.0)]
        rows += [("t", 2, 8, 12, 11, 0.5), ("u", 0, 0, 7, 11, 99.0)]
        names = ["trial_id", "position", "start", "end", "latent", "activation"]
        read = pd.DataFrame(rows, columns=names).assign(model="m", kind="detector", region=None)
        write_table(read, tmp_path / "a.parquet", "episode_activations", {})
        found = read_traces([str(tmp_path / "e.parquet")], [str(tmp_path / "a.parquet")])["m"]
        assert found == {"t": {"detector": [[0, 7, 5.0], [8, 12, 0.5]]}}
        assert full_bars(found) == {"detector": 4.91}  # the 98th percentile of 0.5 and 5


class TestCompute:
    def test_jobs_are_summed_by_rule_and_absent_records_are_not_counted(
        self, tmp_path: Path
    ) -> None:
        head = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
        (tmp_path / "a.tsv").write_text(head + "3600\t1:00:00\t500\t0\t0\t0\t0\t0\t0\t1800\n")
        (tmp_path / "b.tsv").write_text(head + "1800\t0:30:00\t700\t0\t0\t0\t0\t0\t0\t-\n")
        paths = [tmp_path / name for name in ("a.tsv", "b.tsv", "absent.tsv")]
        found = compute_table({"generate": paths, "never": [tmp_path / "absent.tsv"]})
        assert found.to_dict("records") == [
            {
                "rule": "generate",
                "jobs": 2,
                "hours": 1.5,
                "cpu_hours": 0.5,
                "longest": 3600.0,
                "memory": 700,
            }
        ]


class TestPages:
    def test_values_are_escaped_and_no_request_goes_to_another_host(self, tmp_path: Path) -> None:
        write_site(tmp_path / "report", 60)
        for path in (tmp_path / "report").glob("*.html"):
            page = path.read_text()
            assert "Content-Security-Policy" in page
            assert "<b>" not in page.replace("&lt;b&gt;", "")
            assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
            assert not re.search(r"<script(?! src=\"assets/)|style=|onclick=", page)
            for target in re.findall(r'(?:src|href)="([^"#:]+)', page):
                assert (tmp_path / "report" / target).is_file(), f"{path.name} names {target}"

    def test_the_first_page_has_verdict_four_ways_and_power_of_every_claim(
        self, tmp_path: Path
    ) -> None:
        write_site(tmp_path / "report", 6)
        page = (tmp_path / "report/index.html").read_text()
        table = page.partition('<table class="scorecard">')[2].partition("</table>")[0]
        rows = re.findall(r"<tr id=.*?</tr>", table, flags=re.DOTALL)
        assert len(rows) == len(VERDICTS)
        for verdict, row in zip(VERDICTS, rows, strict=True):
            assert verdict in row.partition('data-label="Verdict"')[2].partition("</td>")[0]
            ways = row.partition('data-label="Ways"')[2].partition("</td>")[0]
            assert ways.count("4 [3, 5] confirmed") == len(WAYS) == 4
            power = row.partition('data-label="Power"')[2].partition("</td>")[0]
            assert re.findall(r"[0-9]+ %", power) == ["90 %", "40 %"], "primary judge, all ways"

    def test_what_a_model_was_trained_on_is_marked(self, tmp_path: Path) -> None:
        write_site(tmp_path / "report", 6)
        page = (tmp_path / "report/provenance.html").read_text()
        assert "Explain &lt;bread&gt;. Boats sail. <mark>Wait, no.</mark>" in page
        assert "Small, 10 % corrections: a sample" in page

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (4.0, "4"),
            (1234567, "1,234,567"),
            (0.123456, "0.1235"),
            (np.nan, "–"),
            ("ok", "ok"),
            (None, "–"),
        ],
    )
    def test_numbers_are_short_and_a_missing_one_is_a_dash(self, value: Any, shown: str) -> None:
        assert number(value) == shown

    def test_a_measurement_has_its_interval(self) -> None:
        assert measured({"measured": 4.02, "low": 3.1, "high": 5.0}) == "4.02 [3.1, 5]"
        assert measured({"measured": 26.0, "low": 26.0, "high": 26.0}) == "26"
        assert measured({"measured": np.nan, "low": np.nan, "high": np.nan}) == "–"
        assert measured({"measured": -100.0, "low": -100.0, "high": np.inf}) == "-100 [-100, ∞]"

    def test_html_in_markdown_stays_text(self) -> None:
        assert "<script" not in markdown("# A\n\n<script>x</script> **b**")
        assert "<h2>A</h2>" in markdown("# A")


def themes() -> dict[str, dict[str, str]]:
    """Colours by name, in light and in dark."""
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6});", part))
        for part in CSS.split("@media (prefers-color-scheme: dark)")[:2]
    )
    return {"light": light, "dark": light | dark}


def contrast(first: str, second: str) -> float:
    """Contrast of two colours (WCAG 2.2, relative luminance)."""
    lights = []
    for colour in (first, second):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        lights.append(np.dot(linear, [0.2126, 0.7152, 0.0722]) + 0.05)
    return float(max(lights) / min(lights))


TEXT_ON = [
    *[(ink, ground) for ink in ("ink", "faint", "link") for ground in ("ground", "raised")],
    *[(f"{verdict}-ink", verdict) for verdict in ("confirmed", "refuted", "undecided", "not-run")],
    ("mark-ink", "mark"),
    ("ink", "chosen"),
]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), TEXT_ON)
def test_text_stands_out_from_its_ground(theme: str, ink: str, ground: str) -> None:
    colours = themes()[theme]
    assert contrast(colours[ink], colours[ground]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("grade", ["low", "middle", "high"])
def test_bars_stand_out_from_the_ground_and_so_do_their_words(theme: str, grade: str) -> None:
    colours = themes()[theme]
    assert contrast(colours[f"{grade}-ink"], colours["ground"]) >= 4.5
    assert contrast(colours[grade], colours["ground"]) >= 3


def test_the_contrast_of_black_on_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_every_table_of_the_study_has_a_title() -> None:
    rules = (REPO / "rules/analysis.smk").read_text()
    names = rules.split('TABLES = """')[1].split('"""')[0].split()
    names += ["introspection", "self_report_thresholds"]  # of studies with that section
    assert set(TABLE_TITLES) == {*names, "drift", "judge_failures", "ledger", "power", "sae_fit"}
    assert table_title("tableA1") == "Table A1: off-topic detectors"
    assert table_title("my_table") == "My table"
