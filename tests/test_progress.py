"""Progress in a log: about ten lines, however the units end."""

import logging

import pytest

from esr.progress import progress


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "esr.progress")
    return caplog


@pytest.mark.parametrize("step", [1, 7, 250])
def test_a_log_has_ten_lines_at_most_and_ends_with_all(
    logged: pytest.LogCaptureFixture, step: int
) -> None:
    with progress(1000, "replies") as advance:
        for _ in range(1000 // step):
            advance(step)
        advance(1000 % step)
    assert logged.messages[-1] == "1000 of 1000 replies"
    assert len(logged.messages) == min(10, -(-1000 // step))
    assert logged.messages == sorted(set(logged.messages), key=lambda m: int(m.split()[0]))


@pytest.mark.parametrize("total", [0, 1])
def test_one_unit_or_none_needs_no_line(logged: pytest.LogCaptureFixture, total: int) -> None:
    with progress(total, "replies") as advance:
        advance(total)
    assert logged.messages == []


def test_what_fails_is_raised() -> None:
    with pytest.raises(ValueError, match="lost"), progress(3, "replies"):
        raise ValueError("lost")
