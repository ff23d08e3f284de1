"""Judges, by the `kind` of their configuration."""

from collections.abc import Sequence
from pathlib import Path

from esr.config import Config, HumanJudgeConfig, JudgeConfig, LlmConfig
from esr.errors import EsrError
from esr.judges.base import Judge
from esr.judges.human import SheetJudge
from esr.judges.lexical import LexicalJudge, read_lexicon
from esr.judges.sentences import SentenceJudge
from esr.latents.ratings import LexicalRater, Rater

WITH_WORDS = {"lexical": LexicalJudge, "sentences": SentenceJudge}


def open_judge(
    settings: JudgeConfig,
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
    if isinstance(settings, LlmConfig):
        # Imported here: most studies are judged without the SDKs, which are slow to import.
        from esr.judges.costs import study_budget
        from esr.judges.llm import CachedLlm, LlmJudge
        from esr.judges.rubrics import read_rubric

        if replies is None:
            raise EsrError(f"judge {settings.model}: nowhere to keep its replies")
        budget = study_budget(config) if config else None
        correspondent = CachedLlm(settings, replies, others=others, budget=budget, live=live)
        return LlmJudge(read_rubric(settings.rubric), correspondent)
    if isinstance(settings, HumanJudgeConfig):
        return SheetJudge(settings.sheet)
    return WITH_WORDS[settings.kind](read_lexicon(settings.lexicon))


def open_rater(config: Config, replies: Path) -> Rater:
    """Make the rater of labels that a study names (`latents.concreteness.rater`).

    Args:
        config: The study.
        replies: Journal of replies, for a rater that is a language model.
    """
    settings = config.latents.concreteness
    if settings.rater == "lexical":
        assert settings.lexicon is not None  # the configuration makes sure of it
        return LexicalRater(frozenset(read_lexicon(settings.lexicon)))
    from esr.judges.costs import study_budget
    from esr.judges.llm import CachedLlm
    from esr.judges.rubrics import read_rubric
    from esr.judges.tasks import LlmRater

    llm = config.judging.llms[settings.rater]
    correspondent = CachedLlm(llm, replies, budget=study_budget(config))
    return LlmRater(read_rubric(settings.rubric), correspondent, settings.batch)
