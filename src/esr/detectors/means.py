"""Mean activations over unsteered answers, to which arms can clamp latents."""

from pathlib import Path

from esr.tables import read_table


def read_means(path: Path) -> dict[int, float]:
    """Mean activation of every latent (units of the SAE), from the table `means`."""
    table = read_table(path, "means")
    return dict(zip(table["latent"].tolist(), table["mean"].tolist(), strict=True))
