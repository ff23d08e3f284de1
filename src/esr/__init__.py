"""esr: Endogenous Steering Resistance as a workflow.

A trial is (prompt, latent, boost, seed, meta-prompt, prefill, ablated latents); an arm is a set
of trials under one condition; a judge turns responses into attempts with spans and scores; an
engine generates and reads under steering. `docs/architecture.md` maps these onto the modules.

`esr.open_study` opens a study's models for steering by hand.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esr.interactive.study import open_study as open_study

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    # Imported when used: every job of a run imports `esr`, and engines take seconds to import.
    if name == "open_study":
        from esr.interactive.study import open_study

        return open_study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
