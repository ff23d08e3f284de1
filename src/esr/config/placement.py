"""Where engines and judges run: shards, GPUs, environments and sizes of their jobs."""

from typing import Any

from esr.config.engine import LINGER, JobSizeConfig
from esr.config.judges import VllmJudgeConfig
from esr.config.sections import Sections


class Placement(Sections):
    """Sections, and where their engines and judges run."""

    def shards(self, arm: str) -> int:
        """Number of jobs that generate the responses of an arm."""
        settings = self.arms[arm]
        return 1 if settings.responses is not None else settings.shards or self.engine.shards

    def on_cpu(self, model: str) -> bool:
        """Whether `vllm` runs a model on the CPU: by `engine.device`, or if `jobs` has no GPU."""
        size = self.job_size(model)
        return self.engine.device == "cpu" or (size is not None and size.gpus == 0)

    def linger(self, *, on_cpu: bool) -> float:
        """Seconds that an engine process waits for its next job; 0 = it ends with its job."""
        if self.engine.linger is not None:
            return self.engine.linger
        return 0 if on_cpu and self.engine.name == "transformers" else LINGER

    def gpus(self, model: str) -> int:
        """Number of GPUs that a model is split over; 0 = it runs on the CPU."""
        if self.on_cpu(model):
            return 0
        if self.engine.name == "transformers":
            return 1  # this engine uses one, whatever `jobs` requests
        size = self.job_size(model)
        return self.models[model].tensor_parallel or (1 if size is None else size.gpus)

    def batch_size(self, model: str) -> int:
        """Rows that a model computes together."""
        return self.models[model].batch_size or self.engine.batch_size

    def serving(self, model: str) -> dict[str, Any]:
        """How `vllm` computes a model, which changes rounding; nothing for `transformers`."""
        if self.engine.name == "transformers":
            return {}
        backend = self.models[model].attention_backend
        return {"attention_backend": backend, "gpus": self.gpus(model)}

    def environment(self, model: str) -> str | None:
        """Environment below `envs/` in which a model's engine runs; None = the main one."""
        if self.engine.name == "transformers":
            return None
        return "serve-cpu" if self.on_cpu(model) else "serve"

    def job_size(self, model: str) -> JobSizeConfig | None:
        """Resources that engine jobs of a model request; None if no size is large enough."""
        return self.size_for(self.models[model].parameters)

    def size_for(self, parameters: float) -> JobSizeConfig | None:
        """Resources that jobs request for a number of parameters; None if no size is enough."""
        fitting = (size for size in self.jobs if parameters <= size.max_parameters)
        return next(fitting, None)

    def judge_gpus(self, judge: VllmJudgeConfig) -> int:
        """Number of GPUs that a judge is split over; 0 = it runs on the CPU."""
        size = self.size_for(judge.parameters)
        if self.engine.device == "cpu" or (size is not None and size.gpus == 0):
            return 0
        return judge.tensor_parallel or (1 if size is None else size.gpus)

    def judge_environment(self, judge: VllmJudgeConfig) -> str:
        """Environment below `envs/` in which a judge runs."""
        return "serve" if self.judge_gpus(judge) else "serve-cpu"

    @property
    def search_gpus(self) -> int:
        """GPUs that a threshold search requests for its judge, beside those of the engine."""
        judge = self.judging.local.get(self.judging.primary)
        if judge is None or judge.gpus_in_search == "shared":
            return 0
        return self.judge_gpus(judge)

    def search_job_gpus(self, model: str) -> int:
        """GPUs that a threshold search of a model requests, for engine and judge together."""
        size = self.job_size(model)
        engine = 0 if size is None else size.gpus
        judge = self.judging.local.get(self.judging.primary)
        if judge is not None and judge.gpus_in_search == "shared":
            return max(engine, self.judge_gpus(judge))
        return engine + self.search_gpus
