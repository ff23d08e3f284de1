"""What is true of each arm if the claims of a file are: worlds for power and error rates.

Rates and scores are those that the claims themselves state (resources/claims/*.csv). What they
leave open is assumed, and set so that the stated means come out:

- january: multi-attempt 1.7 %, MSI 0.55 and a success rate of 80 % at the best boost give a gain of
  43 points if a failed restart falls by 10. Ablation: the MSI of 0.24 and -51 % multi-attempt.
  Random sets: MSI +19 %. Self-monitoring: 9.8 %, MSI 2.94. Other models: 0.2 % (assumed; the
  claim only says MSI below 0.28). Best boost of the sweep: 1.15 attempts, so 12 % restarts if a
  quarter of these restart again (assumed). Fine-tuned 8B: attempts 1.0 to 1.9 in proportion to the
  share, MSI 3.4 at 50 %, success 50 %.
- published: 7.4 % multi-attempt and 3.8 % ESR (70B); the rates of the other models; ablation 5.5 %,
  first score 27.4; random sets 7.9 and 4.2 %; self-monitoring 31.7 and 14.8 %. The 8B's ESR of
  0.5 % is assumed (stated: below 1 %). Fine-tuned 8B at a share of 50: ESR 18.3 %, success as flat
  as stated (51 %).
- published, version 2 and controls of ours: 2.5 % restart after an off-topic prefix under steering
  and 10 % without it (stated: 2 to 3, 7 to 13.5 %), and succeed in 50 and 95 %; wherever steering
  stops they succeed in 95 % (assumed). Random directions at the boosts of latents leave a first
  score of 60 (assumed), at thresholds of their own that of the target. Vectors that are no SAE's:
  ESR 3.6 %, success as with latents.
  On held-out prompts ablation lowers ESR by 37.5 % (stated: 30 to 45). After the model's own
  correction what follows scores 54.5 points, after an on-topic prefix 21.8 (as the source is read).
  Branching: 30 % of the continuations restart again, 22.5 % without the detectors or with them at
  their mean, 35 % without steering (assumed; organism: 23, 7.5 and 19 %).
- organism: rates rounded from the study (docs/organism.md, docs/finetuning.md).
- random sets: the log-odds of their rates differ by a standard deviation of 0.55 in the organism's
  whole responses, of 0.3 in its branching. This is what three sets and three others show (rates of
  12.6, 11.1, 30.4 and 21.5, 11.7, 21.9 %; branching 23.0, 22.3, 36.0 and 35.6, 25.2, 29.5 %; four
  degrees of freedom each), less the chance of single trials. It is known for no language model;
  0.3 is assumed. The stated rates are means over sets.
- introspection: of no arm; what is true of self-report is in `esr.analysis.rehearsals.reports`.
- everywhere: unsteered trials have no restart, and the mean first score that is stated. Arms of one
  model share latents and prompts, but not the chance of single trials (`StudySpec.pairing` 0).
"""

from collections.abc import Mapping
from dataclasses import replace

from esr.analysis.specs import ArmSpec

_JANUARY = ArmSpec(multi=0.017, success=0.8, gain=43, loss=10, first=50)
_JANUARY_OTHER = replace(_JANUARY, multi=0.002)
_JANUARY_TUNED = ArmSpec(success=0.5, gain=35.4, loss=15, first=50, extra=0.5)
_PUBLISHED = ArmSpec(multi=0.074, success=0.51, gain=45, loss=8, first=26.3)
_ORGANISM = ArmSpec(multi=0.12, success=0.75, gain=45, loss=15, first=50)
_ORGANISM_TWIN = replace(_ORGANISM, multi=0.002)
_ORGANISM_TUNED = replace(_ORGANISM, success=0.13, extra=0.45)
_SETS = 0.3
_ORGANISM_SETS = 0.55
_PREFIX = ArmSpec(multi=0.025, success=0.5, gain=45, loss=8, first=15)
_ORGANISM_PREFIX = ArmSpec(multi=0.1, success=0.7, gain=75, loss=5, first=8)


def _unsteered(arm: ArmSpec, first: float) -> ArmSpec:
    return replace(arm, multi=0.0, first=first)


def _other(arm: ArmSpec, first: float) -> Mapping[str, ArmSpec]:
    return {"steered": arm, "unsteered": _unsteered(arm, first)}


TRUTHS: Mapping[str, Mapping[str, Mapping[str, ArmSpec]]] = {
    "january": {
        "llama-3.3-70b": {
            **_other(_JANUARY, 92.0),
            "ablate-otd": replace(_JANUARY, multi=0.0083, success=0.75),
            "ablate-random": replace(_JANUARY, multi=0.0199, spread=_SETS),
            "meta-self-monitor": replace(_JANUARY, multi=0.098, gain=40),
            "boost-sweep": replace(_JANUARY, multi=0.12, extra=0.25),
        },
        **{
            model: _other(_JANUARY_OTHER, 92.0)
            for model in ("llama-3.1-8b", "gemma-2-27b", "gemma-2-9b", "gemma-2-2b")
        },
        **{
            f"llama-3.1-8b+sc{share}": {"steered": replace(_JANUARY_TUNED, multi=share / 150)}
            for share in range(10, 100, 10)
        },
    },
    "published": {
        "llama-3.3-70b": {
            **_other(_PUBLISHED, 90.0),
            "ablate-otd": replace(_PUBLISHED, multi=0.055, first=27.4),
            "ablate-random": replace(_PUBLISHED, multi=0.079, success=0.53, spread=_SETS),
            "meta-self-monitor": replace(_PUBLISHED, multi=0.317, success=0.467),
            "held-out-steered": _PUBLISHED,
            "held-out-ablated": replace(_PUBLISHED, multi=0.0463),
            "correction-steered": replace(_PUBLISHED, first=54.5),
            "matched-prefix": replace(_PUBLISHED, first=21.8),
            "prefix-steered": _PREFIX,
            "prefix-unsteered": replace(_PREFIX, multi=0.1, success=0.95),
            "steer-then-stop": replace(_PUBLISHED, success=0.95),
            "steered-random": replace(_PUBLISHED, first=60),
            "steered-random-impact": replace(_PUBLISHED, first=30),
            "contrastive-vectors": replace(_PUBLISHED, multi=0.0706),
            "branch-steered": replace(_PREFIX, multi=0.3),
            "branch-unsteered": replace(_PREFIX, multi=0.35, success=0.95),
            "branch-ablated": replace(_PREFIX, multi=0.225),
            "branch-to-mean": replace(_PREFIX, multi=0.225),
            "branch-half": replace(_PREFIX, multi=0.2625),
            "branch-random": replace(_PREFIX, multi=0.3, spread=_SETS),
        },
        "llama-3.1-8b": _other(replace(_PUBLISHED, multi=0.010), 90.0),
        "gemma-2-27b": _other(replace(_PUBLISHED, multi=0.011, success=0.64), 90.0),
        "gemma-2-9b": _other(replace(_PUBLISHED, multi=0.010, success=0.5), 90.0),
        "gemma-2-2b": _other(replace(_PUBLISHED, multi=0.001, success=0.99), 90.0),
        "llama-3.1-8b+sc50": {"steered": replace(_PUBLISHED, multi=0.359)},
    },
    "organism": {
        "planted": {
            **_other(_ORGANISM, 99.7),
            "ablate-otd": replace(_ORGANISM, multi=0.035),
            "ablate-to-mean": replace(_ORGANISM, multi=0.035),
            "ablate-random": replace(_ORGANISM, multi=0.18, spread=_ORGANISM_SETS),
            "meta-self-monitor": replace(_ORGANISM, multi=0.24),
            "steered-random": replace(_ORGANISM, multi=0.03, first=93),
            "steered-random-impact": replace(_ORGANISM, first=53),
            "steered-response": replace(_ORGANISM, first=71),
            "steer-then-stop": replace(_ORGANISM, multi=0.14, success=0.98, first=58),
            "held-out-steered": _ORGANISM,
            "held-out-ablated": replace(_ORGANISM, multi=0.035),
            "matched-prefix": replace(_ORGANISM, first=80),
            "prefix-steered": _ORGANISM_PREFIX,
            "prefix-unsteered": replace(_ORGANISM_PREFIX, multi=0.12, success=0.98, first=12),
            "prefix-ablated": replace(_ORGANISM_PREFIX, multi=0.025, success=0.4),
            "prefix-on-topic": _unsteered(_ORGANISM_PREFIX, 99.9),
            "branch-steered": replace(_ORGANISM_PREFIX, multi=0.23),
            "branch-unsteered": replace(_ORGANISM_PREFIX, multi=0.19, success=0.98),
            "branch-ablated": replace(_ORGANISM_PREFIX, multi=0.075),
            "branch-half": replace(_ORGANISM_PREFIX, multi=0.15),
            "branch-random": replace(_ORGANISM_PREFIX, multi=0.3, spread=_SETS),
            "branch-on-topic": replace(_ORGANISM_PREFIX, multi=0.037, first=80),
            "correction-steered": replace(_ORGANISM, first=53),
            "correction-unsteered": replace(_ORGANISM, multi=0.014, success=0.98, first=95),
        },
        "twin": {
            **_other(_ORGANISM_TWIN, 99.7),
            "steered-random": replace(_ORGANISM_TWIN, first=98),
            "steered-response": replace(_ORGANISM_TWIN, first=71),
        },
        **{
            f"twin+sc{share}": {"steered": replace(_ORGANISM_TUNED, multi=multi)}
            for share, multi in ((5, 0.12), (30, 0.22), (90, 0.3))
        },
    },
    "introspection": {},
}
"""Worlds by claims file, model and arm."""
