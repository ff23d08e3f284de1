"""Judges, by the `kind` of their configuration."""

from esr.config import AnyJudge
from esr.judges.base import Judge
from esr.judges.lexical import LexicalJudge, read_lexicon
from esr.judges.sentences import SentenceJudge

KINDS = {"lexical": LexicalJudge, "sentences": SentenceJudge}


def open_judge(settings: AnyJudge) -> Judge:
    """Make the judge that a configuration describes."""
    return KINDS[settings.kind](read_lexicon(settings.lexicon))
