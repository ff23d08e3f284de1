"""A study opened from Python: its models, and the files that the workflow made for them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from esr.arms.plan import usable_thresholds
from esr.arms.restarts import read_phrases
from esr.config import Config
from esr.config.files import read_study_file, study_config
from esr.detectors.means import read_means
from esr.engines import open_engine, open_tokenizer, sampling_of
from esr.engines.base import check_latents
from esr.errors import EsrError
from esr.interactive.session import Session
from esr.judges import open_judge
from esr.judges.base import Judge
from esr.paths import results_of
from esr.tables import read_table

NO_JUDGE = "none"
"""Name that stands for no judge: responses then have restart phrases but no attempts."""


def open_study(name: str, project: str | Path = ".", **changes: Any) -> "Study":
    """Open a study of a project.

    Args:
        name: Name of the study: `studies/<name>.yaml`.
        project: Folder with config.yaml and studies/.
        **changes: Sections that replace the study's, merged key by key:
            `engine={"name": "vllm"}`.

    Raises:
        EsrError: `project` is not the folder of the workflow, it has no such study, or the
            configuration is invalid.
    """
    folder = Path(project).absolute()
    if not (folder / "config.yaml").is_file():
        raise EsrError(
            f"{folder} has no config.yaml: work in the folder of the workflow, or name it "
            "(`--project FOLDER`, `open_study(name, project=FOLDER)`)"
        )
    if not (folder / f"studies/{name}.yaml").is_file():
        known = ", ".join(sorted(path.stem for path in (folder / "studies").glob("*.yaml")))
        raise EsrError(f"there is no study {name!r}; choose one of: {known}")
    return Study(folder, study_config(folder, name, **changes))


@dataclass(frozen=True)
class Study:
    """A study: its configuration, and the project's folder, which its paths are relative to."""

    folder: Path
    config: Config

    @property
    def results(self) -> Path:
        """Folder of what the study made."""
        return self.folder / results_of(self.config.study)

    def engine(
        self, model: str | None = None, judge: str | None = None, layers: Sequence[int] = ()
    ) -> Session:
        """Open the study's engine for one of its models.

        Args:
            model: Name in `models`; None if the study has but one.
            judge: Name in `judging.judges`, or `none`; None = `judging.primary`.
            layers: Layers beside `steer_layer` at which latents are to be added; vLLM has to know
                them when it starts.

        Raises:
            EsrError: no such model, judge or layer; the model is not prepared; the engine is not
                installed.
        """
        from esr.assets.sae import read_header  # PyTorch: four seconds of every `esr --help`

        config = self.config
        name = self._model(model)
        manifest = self._file(f"{name}/assets/model.json", "is not prepared")
        sae = self._file(f"{config.base_of(name)}/assets/sae.safetensors", "has no prepared SAE")
        with self._inside():
            described: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
            tokenizer = open_tokenizer(described, config.models[name].template)
            return Session(
                study=self,
                model=name,
                tokenizer=tokenizer,
                engine=open_engine(config, name, described, sae, layers=layers),
                sampling=sampling_of(config, name),
                judge=self._judge(judge or config.judging.primary),
                phrases=read_phrases(config.judging.restart_phrases),
                d_sae=read_header(sae).d_sae,
            )

    def labels(self, model: str) -> Mapping[int, str]:
        """Labels of the model's latents, as far as they are known."""
        path = self.results / self.config.base_of(model) / "labels.parquet"
        if not path.is_file():
            return {}
        table = read_table(path, "labels").dropna(subset=["label"])
        return dict(zip(table["latent"].astype(int), table["label"], strict=True))

    def threshold(self, model: str, latent: int, d_sae: int) -> float:
        """Boost (decoder units) at the threshold that the study found for a latent.

        Raises:
            EsrError: the SAE has no such latent, thresholds were not searched yet, or this latent
                has none.
        """
        check_latents([latent], d_sae)
        path = self._file(f"{model}/thresholds.parquet", "has no thresholds")
        table = read_table(path, "thresholds")
        usable = usable_thresholds(table)
        if latent in usable.index:
            return float(usable[latent])
        mine = table.loc[table["latent"].eq(latent), "status"]
        why = "it was not selected" if mine.empty else f"its search ended with {mine.iloc[0]!r}"
        if usable.empty:
            raise EsrError(f"no latent of {model} has a usable threshold; give a boost as a number")
        raise EsrError(
            f"latent {latent} has no threshold: {why}. Give a boost as a number (the thresholds of "
            f"{len(usable)} latents lie between {usable.min():.4g} and {usable.max():.4g}), or one "
            f"of those latents: {_some(usable.index)}"
        )

    def ablated(self, model: str, ablate: str) -> tuple[int, ...]:
        """Latents that `detectors` or `random-<i>` stands for.

        Raises:
            EsrError: `ablate` is neither, the table is not made yet, or it lists none.
        """
        base = self.config.base_of(model)
        if ablate == "detectors":
            table = self._file(f"{base}/detectors/detectors.parquet", "has no detectors")
            found = self.detectors(model)
        elif ablate.startswith("random-"):
            table = self._file(f"{base}/detectors/controls.parquet", "has no matched latents")
            rows = read_table(table, "controls")
            mine = rows["set"].astype(str).eq(ablate.removeprefix("random-"))
            found = tuple(rows.loc[mine, "latent"].astype(int))
        else:
            raise EsrError(
                f"ablate {ablate!r}: give `detectors`, `random-0` (or another matched set) or the "
                "numbers of latents"
            )
        if not found:
            raise EsrError(f"{ablate}: {table} lists no such latents, so there is none to ablate")
        return found

    def means(self, model: str) -> dict[int, float]:
        """Mean activation of every latent over the tokens of unsteered answers (units of the SAE).

        Raises:
            EsrError: the table is not made yet.
        """
        path = f"{self.config.base_of(model)}/detectors/means.parquet"
        return read_means(self._file(path, "has no mean activations"))

    def detectors(self, model: str) -> tuple[int, ...]:
        """Off-topic detectors of a model; empty if the search was not run or found none."""
        path = self.results / self.config.base_of(model) / "detectors/detectors.parquet"
        if not path.is_file():
            return ()
        table: pd.DataFrame = read_table(path, "detectors")
        return tuple(table.loc[table["detector"], "latent"].astype(int))

    def command(self, path: str) -> str:
        """The command that makes a file below the study's results."""
        default = read_study_file(self.folder / "config.yaml").get("study")
        study = self.config.study
        other = "" if study == default else f" --config study={study} --"
        return f"uv run snakemake{other} {results_of(study).as_posix()}/{path}"

    def _model(self, name: str | None) -> str:
        models = list(self.config.models)
        if name is None and len(models) == 1:
            return models[0]
        if name not in models:
            problem = "name a model" if name is None else f"there is no model {name!r}"
            raise EsrError(f"study {self.config.study}: {problem}; choose one of: {_some(models)}")
        return name

    def _file(self, path: str, lack: str) -> Path:
        """A file below the results that the workflow makes."""
        found = self.results / path
        if not found.is_file():
            model = path.split("/")[0]
            raise EsrError(
                f"{model} {lack} in study {self.config.study}: there is no "
                f"{found.relative_to(self.folder)}. Make it with: {self.command(path)}"
            )
        return found

    def _judge(self, name: str) -> Judge | None:
        judges = self.config.judging.judges
        if name == NO_JUDGE:
            return None
        if name not in judges:
            raise EsrError(
                f"there is no judge {name!r}; choose one of: {NO_JUDGE}, {_some(judges)}"
            )
        if judges[name].kind == "human":
            raise EsrError(
                f"judge {name!r} is a person's sheet and cannot grade a new response; choose "
                "another judge, or `none`"
            )
        replies = self.results / f"replies/steer/{name}.jsonl"
        return open_judge(judges[name], replies, config=self.config, live=True, anchored=False)

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Paths of a configuration are relative to the project's folder."""
        with chdir(self.folder):
            yield


def _some(names: Any, most: int = 12) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")
