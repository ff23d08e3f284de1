"""How latents are selected."""

from pathlib import Path
from typing import Literal

from esr.config.section import Name, Section, key


class ConcretenessConfig(Section):
    """Which labels name something concrete enough to be told from the prompt."""

    rater: Name = key(
        "lexical",
        "Who rates labels 0-100: `lexical` = share of the label's words in `lexicon`, or a judge "
        "that is a language model.",
        source="paper: Claude",
    )
    rubric: Path = key(
        Path("resources/rubrics/concreteness.yaml"), "What a language model is told about rating."
    )
    batch: int = key(50, "Labels shown to a language model at a time.", gt=0, source="code")
    lexicon: Path | None = key(None, "CSV with columns topic, part, word, for `lexical`.")
    criterion: Literal["median", "minimum"] = key(
        "median",
        "Drop latents rated below the median of the candidates, or below `minimum`.",
        source="January: median; released code: minimum 65",
    )
    minimum: float = key(65, "Lowest rating kept by `minimum`.", unit="points", ge=0, le=100)


class RelevanceConfig(Section):
    """Which latents are on topic for a prompt, and so unfit as distractors."""

    criterion: Literal["top_n", "zero"] = key(
        "top_n",
        "`top_n`: relevant = among the N latents most active on the prompt's unsteered answer; "
        "`zero`: relevant = active at all on the prompt.",
        source="paper 2.2: top 100 per prompt; released code: zero on all prompts",
    )
    top_n: int = key(100, "N of `top_n`.", unit="latents", gt=0, source="paper 2.2")
    answers: Name = key("answers", "Arm (`over: prompts`) whose responses `top_n` reads.")
    scope: Literal["pool", "pair"] = key(
        "pool",
        "`pool`: a latent relevant to any prompt is dropped; `pair`: it is only never paired with "
        "the prompts it is relevant to (for small SAEs, where every topic is some prompt's).",
        source="paper 2.2: pool",
    )


class LatentsConfig(Section):
    """Which latents are steered."""

    count: int = key(500, "Latents steered per model.", gt=0, source="released code: 500")
    candidates: int = key(
        3, "Candidates drawn per latent asked for, before filtering.", gt=0, source="released code"
    )
    concreteness: ConcretenessConfig = key(ConcretenessConfig(), "Filter on labels.")
    relevance: RelevanceConfig = key(RelevanceConfig(), "Filter on prompts.")
