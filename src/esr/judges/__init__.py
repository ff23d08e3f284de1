"""Judges, by the `kind` of their configuration."""

from collections.abc import Sequence
from pathlib import Path

from esr.config import AnthropicJudge, AnyJudge, Config, HumanJudge, OpenAiJudge
from esr.errors import EsrError
from esr.judges.base import Judge
from esr.judges.human import SheetJudge
from esr.judges.lexical import LexicalJudge, read_lexicon
from esr.judges.sentences import SentenceJudge

WITH_WORDS = {"lexical": LexicalJudge, "sentences": SentenceJudge}


def open_judge(
    settings: AnyJudge,
    replies: Path | None = None,
    *,
    config: Config | None = None,
    others: Sequence[Path] = (),
    live: bool = False,
) -> Judge:
    """Make the judge that a configuration describes.

    Args:
        settings: The judge's.
        replies: Journal of replies, for judges that are asked for them.
        config: The study, whose budget such a judge keeps to.
        others: Journals of other jobs, whose replies are used as well.
        live: Ask live, whatever the settings say.

    Raises:
        EsrError: what the judge works with is missing or not sound.
    """
    if isinstance(settings, AnthropicJudge | OpenAiJudge):
        # Imported here: most studies are judged without these SDKs, which are slow to import.
        from esr.judges.llm import Correspondent, LlmJudge
        from esr.judges.money import study_budget
        from esr.judges.rubric import read_rubric

        if replies is None:
            raise EsrError(f"judge {settings.model}: nowhere to keep its replies")
        budget = study_budget(config) if config else None
        correspondent = Correspondent(settings, replies, others=others, budget=budget, live=live)
        return LlmJudge(read_rubric(settings.rubric), correspondent)
    if isinstance(settings, HumanJudge):
        return SheetJudge(settings.sheet)
    return WITH_WORDS[settings.kind](read_lexicon(settings.lexicon))
