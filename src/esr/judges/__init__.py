"""Judges, by the `kind` of their configuration."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from esr.config import Config, HumanJudgeConfig, JudgeConfig, LlmConfig
from esr.errors import EsrError
from esr.judges.base import Judge
from esr.judges.human import SheetJudge
from esr.judges.lexical import LexicalJudge
from esr.judges.lexicon import Lexicon
from esr.judges.sentences import SentenceJudge
from esr.judges.windows import TextScorer
from esr.latents.ratings import LexicalRater, Rater


@runtime_checkable
class Finishing(Protocol):
    """A judge that has something to do at the end of a job."""

    def finish(self) -> None:
        """Do it."""
        ...


LEXICAL: dict[str, Callable[[Lexicon], Judge]] = {
    "lexical": LexicalJudge,
    "sentences": SentenceJudge,
}


def open_judge(
    settings: JudgeConfig,
    replies: Path | None = None,
    *,
    config: Config | None = None,
    others: Sequence[Path] = (),
    live: bool = False,
    repetition: int = 0,
    beside: int = 0,
    anchored: bool = True,
) -> Judge:
    """Open the judge that a configuration describes.

    Args:
        settings: Settings of the judge.
        replies: Journal of replies, for judges that are language models.
        config: The study, whose budget a language model keeps to.
        others: Journals of other jobs, whose replies are used as well.
        live: Send calls live, whatever the settings.
        repetition: Other than 0: send the calls of a language model again, as other calls.
        beside: GPUs of this job that belong to an engine, not to the judge.
        anchored: Whether a language model grades the anchors at both ends of the job.

    Raises:
        EsrError: a file of the judge is missing or invalid.
    """
    if isinstance(settings, LlmConfig):
        # Imported here: most studies are judged without the SDKs, which are slow to import.
        from esr.judges.anchors import AnchorGrading, read_anchors
        from esr.judges.llm import CachedLlm, open_llm
        from esr.judges.rubric_judge import LlmJudge
        from esr.judges.rubrics import read_rubric

        rubric = read_rubric(settings.rubric)
        if replies is None:
            raise EsrError(f"judge {settings.model}: no journal is given for its replies")
        if config is None:
            llm = CachedLlm(settings, replies, others=others, live=live)
        else:
            llm = open_llm(config, settings, replies, others=others, live=live, beside=beside)
        size = config.judging.anchors if config is not None and anchored else 0
        anchors = AnchorGrading(rubric, llm, read_anchors(size)) if size else None
        return LlmJudge(rubric, llm, repetition, anchors)
    if isinstance(settings, HumanJudgeConfig):
        return SheetJudge(settings.sheet)
    return LEXICAL[settings.kind](Lexicon.read(settings.lexicon))


def open_scorer(settings: JudgeConfig) -> TextScorer | None:
    """The judge that a configuration describes, if it scores any text by itself; else None."""
    if settings.kind not in LEXICAL:
        return None
    judge = open_judge(settings)
    return judge if isinstance(judge, TextScorer) else None


def finish_judging(judge: Judge) -> None:
    """End a job's judging: a language model grades the anchors again (`esr.judges.anchors`)."""
    if isinstance(judge, Finishing):
        judge.finish()


def open_rater(config: Config, replies: Path) -> Rater:
    """Open the rater of labels that a study names (`latents.concreteness.rater`).

    Args:
        config: The study.
        replies: Journal of replies, for a rater that is a language model.
    """
    settings = config.latents.concreteness
    if settings.rater == "lexical":
        assert settings.lexicon is not None  # validated with the configuration
        return LexicalRater(frozenset(Lexicon.read(settings.lexicon).topic_of))
    from esr.judges.llm import open_llm
    from esr.judges.rubrics import read_rubric
    from esr.judges.tasks import LlmRater

    model = config.judging.llms[settings.rater]
    rubric = read_rubric(settings.rubric).for_model(model)
    return LlmRater(rubric, open_llm(config, model, replies), settings.batch)
