"""The scale of a model's boosts, and where the prior of its thresholds is from, as text."""

from collections.abc import Iterator

from esr.config import Config
from esr.paths import results_of


def boost_lines(config: Config, name: str) -> Iterator[str]:
    """The scale of a model's boosts, if it was measured, and the prior of its thresholds."""
    # Imported here: `check` and `boosts` alone read this table, and pandas is slow to import.
    from esr.tables import read_table
    from esr.thresholds.prior import measured_prior, probed_centre

    model = config.models[name]
    path = results_of(config.study) / name / "sae_fit.parquet"
    if not path.is_file():
        if model.threshold_prior is None:
            yield (
                f"model {name}: no threshold_prior, so it will be measured (`snakemake boosts` "
                "does that alone, from unsteered answers)"
            )
        return
    table = read_table(path, "sae_fit")
    (row,) = table[table["layer"].eq(model.steer_layer)].to_dict("records")
    probed = path.with_name("boost_probes.parquet")
    probes = read_table(probed, "boost_probes") if probed.is_file() else None
    prior = model.threshold_prior or measured_prior(row["boost_scale"], probes)
    centre = None if probes is None else probed_centre(probes)
    change = "" if centre is None else f"predictions begin to change at {centre:.3g}; "
    yield (
        f"model {name}: median norm at steer_layer {row['usual_norm']:.3g} without BOS and "
        f"{row['massive_dimensions']} massive dimensions, scale of boosts "
        f"{row['boost_scale']:.3g}; {change}prior {prior.mean:.3g} +- {prior.sd:.3g}, "
        f"{prior.lower:.3g} to {prior.upper:.3g}"
        f"{'' if model.threshold_prior else ' (measured)'}"
    )
