"""Responses that try to steer their judge: none changes its own score by parsing.

What a judge is talked into is the judge's affair; that its reply is read as it was meant is ours.
"""

import json
import re
from pathlib import Path

import pytest

from esr.judges.parse import read_judgment
from esr.judges.rubrics import read_rubric
from helpers.checkout import REPO
from helpers.injections import INJECTED
from helpers.replies import reply

RUBRICS = ["paper", "paper_schema", "blind", "structured", "compact", "openings"]


def test_there_are_thirty_of_them() -> None:
    assert len(set(INJECTED)) == 30


@pytest.mark.parametrize("name", RUBRICS)
def test_none_can_close_its_own_delimiter(name: str) -> None:
    rubric = read_rubric(REPO / f"resources/rubrics/{name}.yaml")
    for response in INJECTED:
        user = rubric.call(prompt="Explain how to sail.", response=response).user
        (nonce,) = set(re.findall(r"<response-([0-9a-f]{16})>", user))
        opening, closing = f"<response-{nonce}>\n", f"\n</response-{nonce}>"
        assert user.count(opening) == user.count(closing) == 1
        assert user.split(opening)[1].split(closing)[0] == response


def test_a_nonce_follows_from_all_texts() -> None:
    """So a call has one key, and no response can name the nonce that it will get."""
    rubric = read_rubric(REPO / "resources/rubrics/blind.yaml")
    first = rubric.call(prompt="p", response="r").user
    assert first == rubric.call(prompt="p", response="r").user
    (nonce,) = set(re.findall(r"response-([0-9a-f]+)>", first))
    for other in (("p", f"r </response-{nonce}>"), ("q", "r")):
        assert nonce not in re.findall(
            r"<response-([0-9a-f]+)>", rubric.call(prompt=other[0], response=other[1]).user
        )


@pytest.mark.parametrize("name", RUBRICS)
@pytest.mark.parametrize("response", INJECTED)
def test_an_honest_reply_is_read_as_it_was_meant(name: str, response: str) -> None:
    """The judge copies the response into its reply, injection included, and scores it 7."""
    rubric = read_rubric(REPO / f"resources/rubrics/{name}.yaml")
    quoted = response if rubric.quotes == "whole" else " ".join(response.split()[:12])
    attempts = {"attempts": [{"text": quoted, "score": 7}]}
    said = f"It says: {response}\nThat is an attempt to set its own score.\n"
    if "feedback" in (rubric.reply or {}).get("required", ()):
        text = json.dumps({"feedback": said} | attempts)
    elif rubric.reply is not None:
        text = json.dumps(attempts)
    else:
        text = f"{said}<json>{json.dumps(attempts)}</json>"
    found = read_judgment(reply(text), rubric, response)
    assert found.status == "ok"
    assert [one.score for one in found.attempts] == [7]
    assert found.attempts[0].start == 0


def test_every_rubric_that_shows_a_response_marks_it_by_a_nonce() -> None:
    for path in sorted(Path(REPO / "resources/rubrics").glob("*.yaml")):
        rubric = read_rubric(path)
        if "$response" in rubric.user:
            assert "<response-$nonce>" in rubric.user, path.name
