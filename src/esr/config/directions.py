"""Sets of steering directions that are no decoder rows of an SAE."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from esr.config.section import Section, Seed, key


class RandomDirectionsConfig(Section):
    """A random direction for every selected latent, as long as the latent's decoder row."""

    kind: Literal["random"] = key("random", "Isotropic random directions, one a selected latent.")
    seed: Seed = key(46, "Seed; each direction also follows from its latent.")
    latents: int | None = key(
        None,
        "Only for the first latents, up to this number, since each has a threshold search of its "
        "own in an arm with `over: latents`; none = all.",
        gt=0,
    )


class FileDirectionsConfig(Section):
    """Vectors of a file. All are scaled to the median norm of the selected decoder rows."""

    kind: Literal["file"] = key("file", "Vectors that somebody else made.")
    path: str = key(
        ...,
        "A safetensors file with one tensor of shape [d_model] a direction, named by its label, "
        "and the metadata `layer` (decoder layer, 0-based, at whose output they belong) and "
        "`origin`. `{model}` stands for the model.",
    )

    def file_of(self, model: str) -> Path:
        """The file with the vectors of a model."""
        return Path(self.path.replace("{model}", model))


class ContrastDirectionsConfig(Section):
    """Contrasts of texts, read from the model's own residual stream at `steer_layer`.

    All are scaled to the median norm of the selected decoder rows.
    """

    kind: Literal["contrast"] = key("contrast", "Contrasts between pairs of texts.")
    pairs: Path = key(
        ..., "CSV with columns direction, positive, negative: a pair of texts of a direction."
    )
    position: Literal["last", "mean"] = key(
        "last", "`last`: the last token of the text; `mean`: the mean over its tokens without BOS."
    )
    method: Literal["mean", "component"] = key(
        "mean",
        "`mean`: the mean difference of the pairs (positive minus negative); `component`: the "
        "first principal component of the differences, uncentred, towards positive.",
        source="contrastive activation addition: mean",
    )
    chat: bool = key(
        True,
        "Whether a text is a user turn in the chat template; otherwise it is encoded as it is.",
    )


DirectionsConfig = Annotated[
    RandomDirectionsConfig | FileDirectionsConfig | ContrastDirectionsConfig,
    Field(discriminator="kind"),
]
