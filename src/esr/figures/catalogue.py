"""Every figure of the workflow: its title, and what it shows.

The one list that targets, captions, the report and the documents read. A figure `NAME` is made by
the rule `plot_NAME` in `rules/figures.smk`, by `scripts/figures/plot_NAME.py`, and has its caption
in `resources/captions/NAME.rst`.
"""

from typing import NamedTuple


class FigureSpec(NamedTuple):
    """A figure's title, as the report lists it, and one sentence on what it shows."""

    title: str
    shows: str


FIGURES = {
    "fig2": FigureSpec(
        "Figure 2: ESR across models",
        "Score change, multi-attempt rate, ESR rate and MSI of every model.",
    ),
    "fig3": FigureSpec(
        "Figure 3: dependence on the boost",
        "Multi-attempt, success rate, MSI and ESR rate against the boost, and their peaks.",
    ),
    "fig4": FigureSpec(
        "Figure 4: meta-prompts", "What each meta-prompt changes on the steered trials."
    ),
    "fig5": FigureSpec(
        "Figure 5: off-topic detectors", "Off-topic detectors, and ESR with and without them."
    ),
    "fig6": FigureSpec(
        "Figure 6: fine-tuning",
        "Attempts and improvement against the share of self-corrections trained on.",
    ),
    "fig6_losses": FigureSpec(
        "Figure 6: losses of training", "Losses while adapters were trained."
    ),
    "fig7": FigureSpec(
        "Figure 7: one self-correction",
        "Detectors and backtracking latents over the tokens of one self-correction.",
    ),
    "figA2": FigureSpec(
        "Figure A2: judges on attempts",
        "Whether judges find several attempts in the same responses.",
    ),
    "figA3": FigureSpec("Figure A3: judges' rankings", "How each judge ranks the models."),
    "figA4": FigureSpec(
        "Figure A4: judge against judge", "Attempts and first scores, judge against judge."
    ),
    "figA5": FigureSpec(
        "Figure A5: around the correction",
        "Activations around the start of the correction, beside responses without one.",
    ),
    "figA6": FigureSpec(
        "Figure A6: by region", "Activations by region of the response, and their contrasts."
    ),
    "figA7": FigureSpec(
        "Figure A7: without steering", "Attempts and improvement with and without steering."
    ),
    "figA8": FigureSpec(
        "Figure A8: first attempts", "Scores of first attempts with and without steering."
    ),
    "figA9": FigureSpec(
        "Figure A9: random ablation",
        "Ablation of random latents, matched to the detectors by activation, as a control.",
    ),
    "figB1": FigureSpec(
        "Figure B1: thresholds",
        "Score achieved at every threshold, and the responses from which thresholds are estimated.",
    ),
    "figB2": FigureSpec(
        "Figure B2: controls",
        "Steering along other directions than decoder rows, and for a part of the tokens.",
    ),
    "figB3": FigureSpec(
        "Figure B3: continued prefixes",
        "Restarts and scores after prefixes that were cut from steered and from on-topic texts.",
    ),
}
SELF_REPORT_FIGURES = {
    "figI1": FigureSpec(
        "Figure I1: self-report",
        "Log-odds with which models report an injected direction; thresholds beside behaviour.",
    ),
}
"""Figures of studies with a section `introspection`; they are targets in every study."""
ALL_FIGURES = FIGURES | SELF_REPORT_FIGURES
