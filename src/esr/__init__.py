"""esr: Endogenous Steering Resistance as a workflow.

A trial is (prompt, latent, boost, seed, meta-prompt, prefill, ablated latents); an arm is a set
of trials under one condition; a judge turns responses into attempts with spans and scores; an
engine generates and reads under steering. `docs/architecture.md` maps these onto the modules.
"""

__version__ = "0.1.0"
