"""Statistics of rates and means whose trials come in clusters: latents, prompts.

Values are plain numbers; ESR, units and tables are the business of `esr.analysis.measures`.
A NaN value lies outside the denominator and is never counted as 0; an undefined result is NaN.
Formulas and sources: docs/method.md.
"""

from esr.analysis.statistics.clusters import (
    cluster_codes,
    cluster_sums,
    design_effect,
    intracluster_correlation,
    ratio,
)
from esr.analysis.statistics.estimates import (
    Contrast,
    Estimate,
    paired_contrast,
    resampled_mean,
    trial_mean,
    trial_rate,
    unpaired_contrast,
)
from esr.analysis.statistics.intervals import (
    NO_INTERVAL,
    Interval,
    jeffreys,
    mean_interval,
    no_variation_interval,
    rule_of_three,
    wald,
    wilson,
)
from esr.analysis.statistics.multiple_testing import benjamini_hochberg, holm
from esr.analysis.statistics.power import power, sample_size, two_proportions_p
from esr.analysis.statistics.random_sets import SetsContrast, sets_contrast
from esr.analysis.statistics.resampling import (
    Factor,
    Permutation,
    Resampled,
    bootstrap_mean,
    bootstrap_weights,
    is_sparse,
    paired_bootstrap,
    paired_permutation,
    percentile_interval,
    relative_change,
    resample,
    two_sided_p,
    unpaired_bootstrap,
    unpaired_permutation,
)

__all__ = [
    "NO_INTERVAL",
    "Contrast",
    "Estimate",
    "Factor",
    "Interval",
    "Permutation",
    "Resampled",
    "SetsContrast",
    "benjamini_hochberg",
    "bootstrap_mean",
    "bootstrap_weights",
    "cluster_codes",
    "cluster_sums",
    "design_effect",
    "holm",
    "intracluster_correlation",
    "is_sparse",
    "jeffreys",
    "mean_interval",
    "no_variation_interval",
    "paired_bootstrap",
    "paired_contrast",
    "paired_permutation",
    "percentile_interval",
    "power",
    "ratio",
    "relative_change",
    "resample",
    "resampled_mean",
    "rule_of_three",
    "sample_size",
    "sets_contrast",
    "trial_mean",
    "trial_rate",
    "two_proportions_p",
    "two_sided_p",
    "unpaired_bootstrap",
    "unpaired_contrast",
    "unpaired_permutation",
    "wald",
    "wilson",
]
