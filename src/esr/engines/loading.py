"""What the transformers engine loads, as plain data, and where: in the job, or in a host."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esr.engines.base import Engine, Reach
from esr.engines.hosts.linger import CPU, devices_of, stay_of
from esr.provenance import versions

if TYPE_CHECKING:
    from esr.assets.sae import SaeHeader
    from esr.config import Config


@dataclass(frozen=True)
class Load:
    """Arguments of `esr.engines.transformers.load_engine`; SAE and directions are files."""

    source: str
    revision: str | None
    sae_file: str
    directions: tuple[str, ...]
    dtype: str
    device: str
    steer_layer: int
    read_layer: int
    ablate_layer: int | None
    batch_size: int
    threads: int


def open_transformers(
    config: "Config",
    model: str,
    manifest: dict[str, Any],
    sae_file: Path,
    sae: "SaeHeader",
    identity: dict[str, Any],
    directions: Sequence[Path] = (),
) -> Engine:
    """Open the engine of a model of the study; see `esr.engines.open_engine`."""
    settings = config.models[model]
    load = Load(
        source=manifest["source"],
        revision=manifest["revision"],
        sae_file=str(sae_file.absolute()),
        directions=tuple(str(path.absolute()) for path in directions),
        dtype=settings.dtype,
        device=config.engine.device,
        steer_layer=settings.steer_layer,
        read_layer=settings.read_layer,
        ablate_layer=settings.ablate_layer,
        batch_size=config.batch_size(model),
        threads=config.engine.threads,
    )
    devices = devices_of(load.device)
    files = [sae_file, *directions, Path(load.source)]
    stay = stay_of(
        config.linger(on_cpu=devices == (CPU,)), devices, files, load, identity, versions()
    )
    if stay is None:
        from esr.engines.host import load_here

        return load_here(load, identity)
    from esr.directions.vectors import load_directions, rows_of
    from esr.engines.remote import RemoteEngine

    reach = Reach(
        sae.d_sae,
        rows_of({found.name: found for found in map(load_directions, directions)}),
        load.steer_layer,
        load.steer_layer if load.ablate_layer is None else load.ablate_layer,
        adds=range(manifest["n_layers"]),
        encodes=range(manifest["n_layers"]),
    )
    return RemoteEngine(load, stay, reach, identity)
