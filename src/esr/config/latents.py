"""How latents are selected."""

from pathlib import Path
from typing import Literal

from esr.config.section import Name, Section, key


class ConcretenessConfig(Section):
    """Which labels are concrete enough for a judge to distinguish them from the prompt."""

    rater: Name = key(
        "lexical",
        "What rates labels 0-100: `lexical`, the share of the label's words in `lexicon`; or a "
        "judge that is a language model.",
        source="paper: Claude",
    )
    rubric: Path = key(
        Path("resources/rubrics/concreteness.yaml"),
        "Instructions of a language model that rates labels.",
    )
    batch: int = key(50, "Labels per call to a language model.", gt=0, le=10_000, source="code")
    lexicon: Path | None = key(None, "CSV with columns topic, part, word; rater `lexical`.")
    criterion: Literal["median", "minimum"] = key(
        "median",
        "Drop latents rated below the median of the candidates, or below `minimum`.",
        source="January: median; released code: minimum 65",
    )
    minimum: float = key(
        65, "Lowest rating that criterion `minimum` keeps.", unit="points", ge=0, le=100
    )


class RelevanceConfig(Section):
    """Which latents are on topic for a prompt, so that they cannot serve as distractors."""

    criterion: Literal["top_n", "zero"] = key(
        "top_n",
        "`top_n`: a latent is relevant if it is among the N latents most active on the prompt's "
        "unsteered answer; `zero`: if it is active at all on the prompt.",
        source="paper 2.2: top 100 per prompt; released code: zero on all prompts",
    )
    top_n: int = key(100, "N of criterion `top_n`.", unit="latents", gt=0, source="paper 2.2")
    answers: Name = key(
        "answers", "Arm (`over: prompts`) whose responses criterion `top_n` encodes."
    )
    scope: Literal["pool", "pair"] = key(
        "pool",
        "`pool`: a latent that is relevant to any prompt is dropped; `pair`: it is kept, but never "
        "paired with the prompts it is relevant to (for small SAEs, in which every latent is "
        "relevant to some prompt).",
        source="paper 2.2: pool",
    )


class LatentsConfig(Section):
    """How the latents to steer are selected."""

    count: int = key(
        500, "Latents steered per model.", gt=0, le=10_000_000, source="released code: 500"
    )
    candidates: int = key(
        3,
        "Candidates drawn per latent of `count`, before filtering.",
        gt=0,
        le=100_000,
        source="released code",
    )
    concreteness: ConcretenessConfig = key(ConcretenessConfig(), "Filter on labels.")
    relevance: RelevanceConfig = key(RelevanceConfig(), "Filter on prompts.")
