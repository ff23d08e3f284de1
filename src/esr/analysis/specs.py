"""Design and truth of a simulated study: its arms, its judges, its size."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class ArmSpec:
    """True rates (fractions) and scores (points) of an arm.

    Attributes:
        multi: Share of trials that restart.
        success: Share of restarts after which the score is higher.
        gain: Mean rise of the score in these.
        loss: Mean fall of the score in the other restarts.
        first: Mean score of the first attempt.
        extra: Mean number of attempts beyond the second in trials that restart.
        low_first: How far restarts prefer low first scores. 0: not at all; 1: their rate falls from
            twice the mean to 0 along the first scores of a latent.
        redraw: Whether the last score is that of a new draw from the latent, whatever the success
            and the gain: the null of recovery.
        spread: Standard deviation of the log-odds of `multi` between versions of the arm, such as
            random sets of latents: each study draws another version. `multi` is the mean of all.
    """

    multi: float = 0.02
    success: float = 0.6
    gain: float = 40.0
    loss: float = 15.0
    first: float = 50.0
    extra: float = 0.0
    low_first: float = 0.0
    redraw: bool = False
    spread: float = 0.0

    @property
    def esr(self) -> float:
        """Share of trials that restart and improve."""
        return self.multi * self.success

    @property
    def msi(self) -> float:
        """Mean score improvement, points."""
        return self.multi * (self.success * self.gain - (1 - self.success) * self.loss)


@dataclass(frozen=True)
class JudgeSpec:
    """Sensitivity and specificity of a judge for several attempts, by arm if they differ."""

    sensitivity: float | Mapping[str, float] = 1.0
    specificity: float | Mapping[str, float] = 1.0

    def rates(self, arm: str) -> tuple[float, float]:
        """Sensitivity and specificity in an arm; one that a mapping does not name has 1."""
        pair = (self.sensitivity, self.specificity)
        first, second = (x if isinstance(x, float | int) else x.get(arm, 1.0) for x in pair)
        return float(first), float(second)


@dataclass(frozen=True)
class StudySpec:
    """Design and truth of a study.

    Attributes:
        latents: Steered latents.
        trials: Trials of each, on different prompts.
        prompts: Prompts that they are drawn from.
        arms: What is true in each arm. All replay the same (latent, prompt, seed).
        rho: Intra-latent correlation of restarts.
        rho_prompt: The same of two trials on one prompt.
        pairing: Share of trials whose chance the arms have in common (0: only the clusters).
        score_sd: Standard deviation of first scores between latents, points.
        sweep: Latents of a boost sweep, and trials of each at a level.
        sizes: Latents and trials of each, of other arms that differ from these.
        trainings: Trainings of each share of self-corrections.
        sampled: Trials of an arm that a second judge grades; of another arm, as large a share.
        per_stratum: Flagged trials among these, at most.
        judges: Judges by name; the first is the primary one.
        detector: Errors of the judge-free restart detector.
        common: Share of trials in which all judges, and the detector, err together or not at all
            (as far as their errors are equally frequent).
    """

    latents: int
    trials: int
    prompts: int = 38
    arms: Mapping[str, ArmSpec] = field(default_factory=lambda: {"steered": ArmSpec()}, hash=False)
    rho: float = 0.1
    rho_prompt: float = 0.01
    pairing: float = 0.0
    score_sd: float = 10.0
    sweep: tuple[int, int] = (50, 10)
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)
    trainings: int = 1
    sampled: int = 130
    per_stratum: int = 100
    judges: Mapping[str, JudgeSpec] = field(
        default_factory=lambda: {"primary": JudgeSpec()}, hash=False
    )
    detector: JudgeSpec = field(default=JudgeSpec(), hash=False)
    common: float = 0.0

    def sized(self, latents: int, trials: int, arms: int = 1) -> "StudySpec":
        """The study with other numbers of latents and trials, of which as large a share is sampled.

        Args:
            latents: Steered latents.
            trials: Trials of each.
            arms: Arms of that size from which the sample of one is drawn together.
        """
        share = self.sampled / (self.latents * self.trials)
        sampled = round(share * latents * trials * arms)
        return replace(self, latents=latents, trials=trials, sampled=sampled)

    def changed(self, arm: str, **truth: Any) -> "StudySpec":
        """The same study with another truth in one arm."""
        return replace(self, arms={**self.arms, arm: replace(self.arms[arm], **truth)})
