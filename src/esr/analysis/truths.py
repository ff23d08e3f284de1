"""What is true of each arm if the claims of a file are: worlds for power and error rates.

Rates and scores are those of the claims themselves (resources/claims/*.csv); what these leave open,
such as how far a failed restart falls, is set so that the claimed means come out.
"""

from collections.abc import Mapping
from dataclasses import replace

from esr.analysis.simulation import ArmSpec

_JANUARY = ArmSpec(multi=0.017, success=0.8, gain=43, loss=10, first=50)
_PUBLISHED = ArmSpec(multi=0.074, success=0.51, gain=45, loss=8, first=26.3)
_ORGANISM = ArmSpec(multi=0.35, success=0.75, gain=45, loss=15, first=50)
_NO_RESTART = {"multi": 0.0, "first": 92.0}

_JANUARY_OTHER = replace(_JANUARY, multi=0.002)

TRUTHS: Mapping[str, Mapping[str, Mapping[str, ArmSpec]]] = {
    "january": {
        "llama-3.3-70b": {
            "steered": _JANUARY,
            "unsteered": replace(_JANUARY, **_NO_RESTART),
            "ablate-otd": replace(_JANUARY, multi=0.0083, success=0.75),
            "ablate-random": _JANUARY,
            "meta-self-monitor": replace(_JANUARY, multi=0.098, gain=40),
        },
        **{
            model: {"steered": _JANUARY_OTHER, "unsteered": replace(_JANUARY, **_NO_RESTART)}
            for model in ("llama-3.1-8b", "gemma-2-27b", "gemma-2-9b", "gemma-2-2b")
        },
    },
    "published": {
        "llama-3.3-70b": {
            "steered": _PUBLISHED,
            "unsteered": replace(_PUBLISHED, **{**_NO_RESTART, "first": 90.0}),
            "ablate-otd": replace(_PUBLISHED, multi=0.055, first=27.4),
            "ablate-random": _PUBLISHED,
            "meta-self-monitor": replace(_PUBLISHED, multi=0.317, success=0.467),
        },
        "llama-3.1-8b": {"steered": replace(_PUBLISHED, multi=0.010)},
        "gemma-2-27b": {"steered": replace(_PUBLISHED, multi=0.011, success=0.64)},
        "gemma-2-9b": {"steered": replace(_PUBLISHED, multi=0.010, success=0.5)},
        "gemma-2-2b": {"steered": replace(_PUBLISHED, multi=0.001, success=0.99)},
    },
    "organism": {
        "planted": {
            "steered": _ORGANISM,
            "unsteered": replace(_ORGANISM, multi=0.0, first=99.5),
            "ablate-otd": replace(_ORGANISM, multi=0.084),
            "ablate-random": replace(_ORGANISM, multi=0.30),
            "meta-self-monitor": replace(_ORGANISM, multi=0.55),
        },
        "twin": {
            "steered": replace(_ORGANISM, multi=0.002),
            "unsteered": replace(_ORGANISM, multi=0.0, first=99.5),
        },
        "twin+sc90": {"steered": replace(_ORGANISM, multi=0.8, success=0.15)},
    },
}
"""Worlds by claims file, model and arm."""
