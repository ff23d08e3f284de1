"""Judges, by the `kind` of their configuration."""

from esr.config import LexicalJudge as LexicalSettings
from esr.judges.base import Judge
from esr.judges.lexical import LexicalJudge, read_lexicon


def open_judge(settings: LexicalSettings) -> Judge:
    """Make the judge that a configuration describes."""
    return LexicalJudge(read_lexicon(settings.lexicon))
