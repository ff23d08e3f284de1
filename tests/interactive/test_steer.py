"""Steering by hand: the response, its parts, the terminal, JSON, errors, and the notebook."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import esr
from esr.engines.base import Intervention, Operation, Window
from esr.errors import EsrError
from esr.interactive import Session
from esr.interactive.cli import app
from esr.interactive.session import Part, Steered, TokenActivation
from esr.interactive.show import compare, condition, overview, strip, wrap
from helpers.checkout import REPO
from helpers.prepared import (
    DETECTORS,
    FAILED,
    LATENT,
    MEANS,
    MODEL,
    THRESHOLD,
    UNSEARCHED,
    add_tables,
    prepare,
)

PROMPT = "Explain how to compose a melody."


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose thresholds and detectors are there."""
    folder = prepare(tmp_path_factory.mktemp("steer"))
    add_tables(folder)
    return folder


@pytest.fixture(scope="module")
def session(project: Path) -> Session:
    return esr.open_study("organism", project).engine(MODEL)


@pytest.fixture(scope="module")
def steered(session: Session) -> Steered:
    return session.generate(PROMPT, latent=LATENT)


def test_a_steered_response_drifts_to_the_topic_of_its_latent(
    session: Session, steered: Steered
) -> None:
    plain = session.generate(PROMPT)
    assert (steered.latent, steered.boost, steered.seed) == (LATENT, THRESHOLD, 44)
    assert steered.label == "fishing: fish, cast, bait"
    assert plain.latent is None
    assert plain.boost == 0
    assert plain.first_score == 100
    assert steered.first_score is not None
    assert steered.first_score < 50
    assert "rod" in steered.response
    assert "rod" not in plain.response


def test_boost_zero_is_the_unsteered_response(session: Session) -> None:
    zero, plain = session.generate(PROMPT, LATENT, 0.0), session.generate(PROMPT)
    assert zero.response == plain.response
    assert zero.detectors == plain.detectors


def test_parts_are_those_of_the_pipeline(session: Session, steered: Steered) -> None:
    assert session.judge is not None
    starts = [part.start for part in steered.attempts]
    assert starts == sorted(starts)
    assert steered.attempts[-1].end <= len(steered.response)
    assert all(0 <= (part.score or 0) <= 100 for part in steered.attempts)
    assert steered.restarts
    assert session.phrases.search(steered.text(steered.restarts[0]).lower())


def test_the_strip_is_the_sum_of_the_detectors_that_the_engine_encodes(
    session: Session, steered: Steered
) -> None:
    from esr.engines.base import EncodeRequest, generate_all

    request = session.request(PROMPT, LATENT)
    (done,) = generate_all(session.engine, [request], session.sampling)
    tokens = (*request.tokens, *done.tokens)
    encode = EncodeRequest(tokens, len(request.tokens), request.intervention)
    (acts,) = session.engine.encode([encode], DETECTORS, pool=None)
    found = [token.activation for token in steered.detectors]
    np.testing.assert_allclose(found, acts.sum(axis=1), rtol=1e-4, atol=1e-3)
    assert len(found) == len(done.tokens)
    assert max(found) > 50, "the response drifts, so the detectors are active"


def test_ablation_changes_the_response_and_names_its_latents(
    session: Session, steered: Steered
) -> None:
    ablated = session.generate(PROMPT, LATENT, ablate="detectors")
    assert ablated.ablated == tuple(sorted(DETECTORS, reverse=True))
    assert ablated.response != steered.response
    assert session.generate(PROMPT, LATENT, ablate=list(ablated.ablated)).ablated == ablated.ablated


def operations(session: Session, **how: Any) -> tuple[int, list[Operation]]:
    """Tokens of the prompt, and what a request of these settings does to the model."""
    request = session.request(PROMPT, LATENT, 300.0, **how)
    return len(request.tokens), list(request.intervention.all_operations())


class TestOperationsOfArms:
    def test_a_boost_is_added_at_every_layer_that_is_named(self, session: Session) -> None:
        _, found = operations(session, layers=[1, 2])
        assert [(one.kind, one.layer, one.amount) for one in found] == [
            ("add", 1, 300.0),
            ("add", 2, 300.0),
        ]

    @pytest.mark.parametrize(
        ("window", "start", "stop"),
        [((0, 40), 0, 40), ((None, 3), None, 3), ((-2, None), -2, None)],
    )
    def test_a_window_counts_from_the_first_token_of_the_response(
        self, session: Session, window: Any, start: int | None, stop: int | None
    ) -> None:
        n_prompt, (one,) = operations(session, window=window)
        first = 0 if start is None else n_prompt + start
        assert one.window == Window(first, None if stop is None else n_prompt + stop)

    def test_latents_are_clamped_to_a_number_or_to_their_mean(self, session: Session) -> None:
        for value, values in ((12.5, (12.5, 12.5)), ("mean", (MEANS[365], MEANS[81]))):
            _, found = operations(session, ablate=[365, 81], ablate_to=value)
            clamped = {one.target: one.amount for one in found if one.kind == "clamp"}
            assert clamped == dict(zip((365, 81), values, strict=True))

    def test_a_share_of_their_contribution_is_removed(self, session: Session) -> None:
        _, found = operations(session, ablate=[365], strength=0.5)
        assert [(one.kind, one.amount) for one in found] == [("add", 300.0), ("ablate", 0.5)]

    def test_a_response_is_unsteered_up_to_its_window(self, session: Session) -> None:
        plain = session.generate(PROMPT)
        late = session.generate(PROMPT, LATENT, window=(8, None))
        same = [a == b for a, b in zip(plain.response.split(), late.response.split(), strict=False)]
        assert all(same[:5])
        assert not all(same)
        assert late.window == (8, None)
        assert "from token 8" in condition(late)
        early = session.generate(PROMPT, LATENT, window=(None, 8))
        assert "up to token 8" in condition(early)

    def test_what_was_done_is_in_the_response(self, session: Session) -> None:
        how: dict[str, Any] = {"layers": [1, 2], "window": (0, 30), "ablate_to": 12.5}
        found = session.generate(PROMPT, LATENT, 200.0, ablate=[365, 81], **how)
        assert (found.latent, found.boost, found.label) == (
            LATENT,
            200.0,
            "fishing: fish, cast, bait",
        )
        assert (found.layers, found.window) == ((1, 2), (0, 30))
        assert (found.ablated, found.ablated_to) == ((365, 81), (12.5, 12.5))
        shown = "layers 1, 2, tokens 0 to 30, 2 latents clamped to 12.5, seed 44"
        assert condition(found).endswith(shown)

    def test_a_study_that_steers_no_prompt_begins_at_the_response(self, session: Session) -> None:
        config = session.study.config.model_copy(deep=True)
        steering = config.steering.model_copy(update={"prompt": False})
        study = replace(session.study, config=config.model_copy(update={"steering": steering}))
        bare = replace(session, study=study)
        n_prompt, (one,) = operations(bare)
        assert one.window == Window(n_prompt, None)
        assert operations(bare, window=(-1, None))[1][0].window == Window(n_prompt - 1, None)
        assert bare.request(PROMPT).intervention == Intervention()

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"window": (5, 5)}, "window: need start < stop, got 5 and 5"),
            ({"window": (5,)}, "window: (5,); give two ends such as (0, 40)"),
            ({"window": (None, None)}, "give `start`, `stop` or both"),
            ({"window": (None, -99)}, "lies before the first token of a prompt"),
            ({"window": (9999, None)}, "window: starts at token 9999, but a response has at most"),
            ({"boost": "nan"}, f"boost nan of latent {LATENT} is not a finite number"),
            ({"latent": None}, "boost 300.0: multiplies the row of a latent, but none is steered"),
            ({"layers": []}, "`layers` lists no layer"),
            ({"layers": [1, 1]}, "lists a layer twice, whose boosts would add up"),
            ({"layers": [99]}, "layer 99: this engine adds directions at layers 0 to"),
            ({"layers": [1], "latent": None}, "layers: places the boost of a latent, but none is"),
            ({"window": (0, 9), "latent": None}, "window: places the boost of a latent"),
            ({"ablate_to": "mean"}, "`ablate_to` clamps latents: name them in `ablate`"),
            ({"ablate_to": 0.0, "ablate": [365]}, "`ablate_to: 0` is what `ablate` does"),
            ({"ablate_to": 2.0, "strength": 0.5, "ablate": [365]}, "give one of them"),
            ({"ablate_to": "mean", "ablate": [12]}, "no mean activation of latents [12] is known"),
            ({"strength": 0.5}, "`strength` is that of an ablation"),
            ({"strength": 1.5, "ablate": [365]}, "strength: Input should be less than or equal to"),
        ],
    )
    def test_what_an_arm_could_not_have_is_refused(
        self, session: Session, settings: dict[str, Any], message: str
    ) -> None:
        given: dict[str, Any] = {"prompt": PROMPT, "latent": LATENT, "boost": 300.0} | settings
        with pytest.raises(EsrError) as error:
            session.generate(**given)
        assert message in str(error.value)


def test_a_sweep_shares_prompt_and_seed(session: Session) -> None:
    found = session.sweep(PROMPT, LATENT, [0.0, 600.0], seed=3)
    assert [one.boost for one in found] == [0.0, 600.0]
    assert {one.seed for one in found} == {3}
    first, last = (one.first_score for one in found)
    assert first is not None
    assert first > (last or 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent": 9999}, "latent 9999 is not in the SAE (latents 0 to 511)"),
        ({"latent": -1, "boost": 3}, "latent -1 is not in the SAE"),
        ({"latent": UNSEARCHED}, "latent 12 has no threshold: it was not selected. Give a boost"),
        ({"latent": FAILED}, "latent 131 has no threshold: its search ended with 'out_of_bounds'"),
        ({"latent": LATENT, "boost": "much"}, "boost 'much': give a number or `threshold`"),
        ({"latent": LATENT, "boost": "nan"}, "boost nan of latent 435 is not a finite number"),
        ({"latent": LATENT, "ablate": "detector"}, "ablate 'detector': give `detectors`"),
        ({"latent": LATENT, "ablate": "random-0"}, "Make it with: uv run snakemake results/"),
        ({"latent": LATENT, "ablate": [512]}, "latent 512 is not in the SAE"),
        ({"prompt": " "}, "the prompt is empty"),
    ],
)
def test_wrong_settings_are_named_before_anything_is_generated(
    session: Session, settings: dict[str, Any], message: str
) -> None:
    settings = {"prompt": PROMPT, **settings}
    with pytest.raises(EsrError) as error:
        session.generate(**settings)
    assert message in str(error.value)


def test_what_is_not_made_yet_is_named_with_its_command(tmp_path: Path) -> None:
    study = esr.open_study("organism", prepare(tmp_path))
    session = study.engine(MODEL, judge="none")
    with pytest.raises(EsrError, match=r"snakemake results/organism/planted/thresholds\.parquet"):
        session.threshold(LATENT)
    with pytest.raises(EsrError, match=r"snakemake results/organism/planted/detectors/means\.par"):
        session.generate(PROMPT, ablate=[365], ablate_to="mean")
    found = session.generate(PROMPT, LATENT, 300.0)
    assert (found.status, found.attempts, found.detectors) == ("ok", (), ())
    with pytest.raises(EsrError, match=r"Make it with: .*/twin/assets/model\.json"):
        study.engine("twin")
    with pytest.raises(EsrError, match=r"--config study=laptop -- results/laptop/"):
        esr.open_study("laptop", tmp_path).engine("gemma-3-270m")


def test_unknown_names_are_listed_with_those_that_exist(project: Path) -> None:
    with pytest.raises(EsrError, match=r"no study 'organisms'; choose one of: arxiv, .*organism"):
        esr.open_study("organisms", project)
    with pytest.raises(EsrError, match="has no config"):
        esr.open_study("organism", project / "results")
    study = esr.open_study("organism", project)
    with pytest.raises(EsrError, match="no model 'plant'; choose one of: planted, twin"):
        study.engine("plant")
    with pytest.raises(EsrError, match="no judge 'haiku'; choose one of: none, lexical"):
        study.engine(MODEL, judge="haiku")


def run(project: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["steer", "--project", str(project), *arguments, PROMPT])


def test_the_command_shows_both_responses(project: Path) -> None:
    done = run(project, "--model", MODEL, "--latent", str(LATENT))
    assert done.exit_code == 0, done.output
    for shown in ("unsteered, seed 44", "latent 435, boost 327.2, seed 44", "fishing: fish"):
        assert shown in done.output
    for shown in ("attempt 1: 100 of 100 points", "restart phrases: ", "detectors (red)", "▁"):
        assert shown in done.output


def test_the_command_writes_json(project: Path) -> None:
    arguments = ["--model", MODEL, "--latent", str(LATENT), "--json", "--samples", "2"]
    done = run(project, *arguments)
    found = json.loads(done.stdout)
    assert [(one["latent"], one["seed"]) for one in found] == [
        (None, 44),
        (None, 45),
        (LATENT, 44),
        (LATENT, 45),
    ]
    attempt = found[2]["attempts"][0]
    assert attempt["text"] == found[2]["response"][attempt["start"] : attempt["end"]]
    assert found[2]["detectors"][0].keys() == {"start", "end", "activation"}


def test_the_command_has_the_operations_of_arms(project: Path) -> None:
    arguments = ["--model", MODEL, "--latent", str(LATENT), "--boost", "200", "--json"]
    arguments += ["--layers", "1,2", "--window", "0:30", "--ablate", "365", "--ablate-to", "mean"]
    plain, steered = json.loads(run(project, *arguments).stdout)
    assert (plain["latent"], plain["layers"], plain["window"]) == (None, [], None)
    assert plain["ablated_to"] == steered["ablated_to"] == [MEANS[365]]
    assert (steered["boost"], steered["layers"], steered["window"]) == (200.0, [1, 2], [0, 30])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--window", "5"], "--window '5': give two tokens such as 0:40"),
        (["--layers", "a"], "--layers 'a': give layers such as 1,2"),
        (["--layers", "99"], "layer 99: the model has layers 0 to"),
        (["--ablate-to", "much"], "--ablate-to 'much': give `mean` or an activation"),
    ],
)
def test_an_option_that_cannot_be_read_is_named(
    project: Path, arguments: list[str], message: str
) -> None:
    done = run(project, "--model", MODEL, "--latent", str(LATENT), *arguments)
    assert done.exit_code == 1
    assert message in " ".join(done.stderr.split())


def test_an_error_of_the_command_is_one_message(project: Path) -> None:
    done = run(project, "--model", MODEL, "--latent", "9999")
    assert done.exit_code == 1
    assert "error: latent 9999 is not in the SAE" in " ".join(done.stderr.split())
    assert "Traceback" not in done.output
    assert run(project, "--model", MODEL, "--sweep").exit_code == 1
    assert "--boost 5 is that of a latent" in run(project, "--model", MODEL, "--boost", "5").stderr


def test_the_command_is_installed() -> None:
    script = Path(sys.executable).with_name("esr")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == esr.__version__


def made(response: str, attempts: tuple[Part, ...] = (), **changes: Any) -> Steered:
    fields: dict[str, Any] = {
        "model": "m",
        "prompt": "p",
        "latent": 7,
        "label": "[red] label",
        "boost": 2.0,
        "ablated": (),
        "seed": 1,
        "status": "ok",
        "response": response,
        "finish_reason": "stop",
        "attempts": attempts,
        "restarts": (),
        "detectors": (),
    }
    return Steered(**(fields | changes))


@pytest.mark.parametrize("width", [3, 7, 20, 80])
def test_wrapping_keeps_every_character_that_is_not_blank(width: int) -> None:
    text = "one two\n\nthree  fourteenlettersandmore five\n- six"
    lines = wrap(text, width)
    assert all(end - start <= width for start, end in lines)
    assert "".join("".join(text[a:b].split()) for a, b in lines) == "".join(text.split())
    starts = [start for start, _ in lines]
    assert starts == sorted(starts)


def test_the_strip_has_a_block_for_every_character() -> None:
    tokens = (TokenActivation(0, 2, 8.0), TokenActivation(2, 3, 0.0), TokenActivation(3, 5, 0.01))
    assert strip(made("ab cd", detectors=tokens), peak=8.0) == "██ ▁▁"
    assert strip(made("ab cd", detectors=tokens), peak=0.0) == "▁▁ ▁▁"


def test_a_correction_is_a_later_attempt_that_scores_higher() -> None:
    text = "fish. wait, melody"
    assert made(text, (Part(0, 5, 0.0), Part(6, 18, 90.0))).corrected
    assert not made(text, (Part(0, 5, 90.0), Part(6, 18, 90.0))).corrected
    assert not made(text, (Part(0, 18, 90.0),)).corrected
    assert not made(text).corrected


def test_text_of_a_model_is_no_markup() -> None:
    console = Console(width=60, record=True, file=io.StringIO())
    one = made("a [bold]word[/bold] and [/] more", (Part(0, 30, 50.0),))
    console.print(compare([one], 60), overview([one]))
    shown = console.export_text()
    assert "[bold]word[/bold] and [/]" in shown
    assert "[red] label" in shown


def test_the_notebook_runs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    notebook = json.loads((REPO / "docs/steer.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        exec(compile("".join(cell["source"]), "docs/steer.ipynb", "exec"), names)
    assert len(cells) >= 5
    assert names["late"].window == (10, None)
    assert names["clamped"].ablated_to == (0.5, 0.5)
    assert names["steered"].boost == THRESHOLD
    assert names["by_boost"]["first_score"].iloc[0] == 100
