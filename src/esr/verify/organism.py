"""The organism that the checks compute with: the shipped one, opened as the workflow opens it."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from esr.arms.chat import prompt_tokens
from esr.assets.checkpoints import describe_local_model
from esr.assets.sae import Sae, from_saelens, load_sae
from esr.assets.saelens import load_saelens
from esr.config import Config
from esr.config.files import study_config
from esr.engines import open_engine, open_tokenizer
from esr.engines.base import Engine, Intervention, Request, Sampling

log = logging.getLogger(__name__)

STUDY, MODEL = "organism", "planted"
LATENT, BOOST = 435, 327.2
"""A latent of the shipped SAE (fishing), and its threshold in decoder units."""
ABLATED = (365, 81)
"""Its off-topic detectors."""
SAMPLING = Sampling(temperature=0, max_new_tokens=40)
PROMPTS = (
    "Explain how to compose a melody.",
    "Explain how to bake bread.",
    "Explain how to plant a garden.",
)
INTERVENTIONS = (
    Intervention(),
    Intervention(LATENT, BOOST),
    Intervention(ablated=ABLATED),
    Intervention(LATENT, BOOST / 2, ablated=ABLATED),
)


@dataclass(frozen=True)
class Organism:
    """The shipped model and SAE, prepared in a folder of their own.

    Attributes:
        root: Folder of the project.
        folder: Where the prepared SAE is written.
        open_with: Opens an engine; replaced in tests.
    """

    root: Path
    folder: Path
    open_with: Callable[..., Engine] = open_engine

    @cached_property
    def config(self) -> Config:
        """Configuration of the study that ships with the project."""
        return study_config(self.root, STUDY)

    @cached_property
    def source(self) -> Path:
        """Folder of the checkpoint."""
        return self.root / self.config.models[MODEL].source

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What `prepare_model` writes about the checkpoint."""
        return describe_local_model(self.source) | {"source": str(self.source)}

    @cached_property
    def sae_file(self) -> Path:
        """The SAE as `prepare_sae` writes it."""
        settings = self.config.models[MODEL].sae
        assert settings.path is not None, "the shipped SAE is a folder"
        loaded = load_saelens(settings.model_copy(update={"path": self.root / settings.path}))[0]
        path = self.folder / "sae.safetensors"
        from_saelens(loaded).save(path)
        return path

    @cached_property
    def sae(self) -> Sae:
        """The SAE with its weights."""
        return load_sae(self.sae_file)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer with its chat template."""
        return open_tokenizer(self.manifest)

    @cached_property
    def engine(self) -> Engine:
        """The reference engine."""
        return self.open(self.config)

    def open(self, config: Config) -> Engine:
        """Open the engine of a configuration for the organism."""
        return self.open_with(config, MODEL, self.manifest, self.sae_file)

    @cached_property
    def requests(self) -> list[Request]:
        """Every prompt under every intervention."""
        return [
            Request(prompt_tokens(self.tokenizer, prompt), 44 + i, intervention)
            for i, prompt in enumerate(PROMPTS)
            for intervention in INTERVENTIONS
        ]

    def cfg(self) -> dict[str, Any]:
        """The SAE's own `cfg.json`."""
        path = self.config.models[MODEL].sae.path
        assert path is not None, "the shipped SAE is a folder"
        found: dict[str, Any] = json.loads(
            (self.root / path / "cfg.json").read_text(encoding="utf-8")
        )
        return found
