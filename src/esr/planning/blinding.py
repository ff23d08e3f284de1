"""Whether a study tests what its judges are told: one judge told the label, and one not."""

from collections.abc import Iterator

from esr.config import Config
from esr.judges.rubrics import read_rubric


def told_label(config: Config) -> dict[str, bool]:
    """Whether each judge is told the label of the steered latent.

    Judges that are no language models, and people, are told nothing but the prompt.

    Raises:
        EsrError: a rubric cannot be read.
    """
    rubrics = {name: read_rubric(judge.rubric) for name, judge in config.judging.llms.items()}
    return {
        name: name in rubrics and rubrics[name].label is not None for name in config.judging.judges
    }


def check_blinding(config: Config) -> Iterator[str]:
    """A line on whether the second judge shares the primary's blinding."""
    told = told_label(config)
    primary, second = config.judging.primary, config.judging.second
    if not config.judging.llms or not told[primary]:
        return
    shown = f"blinding: judge {primary} is told the label of the steered latent"
    if second is None:
        yield f"{shown}, and there is no second judge; add one with a rubric without `label`"
    elif told[second]:
        yield (
            f"{shown}, and so is the second judge {second}: no verdict tests what that does; give "
            f"judging.judges.{second} rubric: resources/rubrics/blind.yaml"
        )
    else:
        yield f"{shown}, the second judge {second} is not"
