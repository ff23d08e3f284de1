"""Replies of a language model, as the journal has them."""

from esr.judges.bodies import Reply


def reply(text: str, stop: str = "end") -> Reply:
    return Reply(text, stop, "model-1", "req", "key", 0.0, False, 10, 20)
