"""Make tables/thresholds.{csv,tex}: thresholds of every latent, and how their searches ended.

CSV, one row a model, direction and target: model, directions (`latents`, or a set), latent, label,
target (points), threshold, low, high (its 90 % interval), lower, upper (bounds at the end; all five
in decoder units), achieved (points, re-estimated from all data), n_samples, n_missing (responses
with and without a score), n_widened, status, norm (of the direction), dose (threshold times norm,
in medians of the norm of the residual stream at `steer_layer`; missing where it was not measured),
kl (nats, of the first generated token against unsteered; missing for further targets). The LaTeX
counts directions by status, with their median dose and kl.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from esr.analysis.summaries import write_tables
from esr.job import config_of, output, start
from esr.tables import read_table
from esr.thresholds.dose import usual_norm_of, with_dose
from esr.thresholds.outcomes import count_statuses, threshold_table


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """One row a model, set and target; a mean without a value is `n/a`."""
    counts = count_statuses(table)
    shown = {
        name: counts[name].map(form.format, na_action="ignore").fillna("n/a")
        for name, form in {"achieved": "{:.1f}", "dose": "{:.2f}", "kl": "{:.2g}"}.items()
    }
    return counts.assign(**shown, target=counts["target"].map("{:g}".format))


def main(job: Any) -> None:
    """Write the table."""
    config = config_of(job)
    inputs = zip(job.input.thresholds, job.input.fit, strict=True)
    found = []
    for (model, name), paths in zip(job.params.searches, inputs, strict=True):
        thresholds, fit = map(Path, paths)
        each = read_table(thresholds, "thresholds")
        usual = usual_norm_of(read_table(fit, "sae_fit"), config.models[model].steer_layer)
        found.append((model, name, with_dose(each, usual)))
    table = threshold_table(found)
    write_tables(output(job, "csv"), output(job, "tex"), table, printed(table))


if __name__ == "__main__":
    main(start(snakemake))
