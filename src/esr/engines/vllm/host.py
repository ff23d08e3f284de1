"""The process that runs vLLM: receives jobs from the client and sends back their replies.

`esr.engines.vllm.client` starts it as `python -m esr.engines.vllm.host <file descriptor>`, in the
environment that has vLLM. `esr.engines.hosts.serving` has the loop.
"""

import gc
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # The engine runs in this process: it has the device to itself and leaves no orphans behind.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
for _name, _value in VARIABLES.items():
    os.environ.setdefault(_name, _value)  # before the import: vLLM reads some of them then
gc.disable()  # until all is imported, which is no garbage: to look for some takes 4 CPU seconds

import vllm  # noqa: E402
from vllm import SamplingParams  # noqa: E402
from vllm.engine.arg_utils import EngineArgs  # noqa: E402
from vllm.lora.request import LoRARequest  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402
from vllm.sampling_params import RequestOutputKind  # noqa: E402
from vllm.usage.usage_lib import UsageContext  # noqa: E402
from vllm.v1.engine.llm_engine import LLMEngine  # noqa: E402

from esr.engines.hosts import serving  # noqa: E402
from esr.engines.hosts.serving import StartError, describe  # noqa: E402
from esr.engines.vllm.messages import (  # noqa: E402
    Activations,
    Encode,
    Generate,
    Generated,
    Read,
    Readout,
    Reply,
    Setup,
    SteeredJob,
    WriterSetup,
)
from esr.engines.vllm.writer import Writer  # noqa: E402

gc.freeze()
gc.enable()


class Host:
    """A vLLM engine and its unfinished jobs."""

    def __init__(self, setup: Setup) -> None:
        """Start vLLM.

        Raises:
            StartError: with the message of the first worker that failed, if one did.
        """
        self.setup = setup
        with tempfile.TemporaryDirectory(prefix="esr-vllm-") as error_dir:
            try:
                self.engine = _engine(replace(setup, error_dir=error_dir))
            except Exception as error:
                raise StartError(_first_error(Path(error_dir)) or describe(error)) from error
        self.adapter = LoRARequest("adapter", 1, setup.adapter) if setup.adapter else None
        self.jobs: dict[str, SteeredJob] = {}
        self.can_encode = False
        self.cached_tokens = 0

    def facts(self) -> dict[str, Any]:
        """Return the counters of the first worker, the device, and the prefix cache hits."""
        return self.engine.collective_rpc("esr_facts")[0] | {
            "platform": current_platform.device_name,
            "cached_tokens": self.cached_tokens,
        }

    def submit(self, job: SteeredJob) -> None:
        """Add a job to vLLM's queue."""
        self.jobs[job.id] = job
        intervention = job.request.intervention
        extra: dict[str, Any] = {
            "id": job.id,
            "intervention": astuple(intervention),
        }
        if isinstance(job, Encode):
            # The full encoder takes memory, so it is loaded only if a job needs it.
            if not self.can_encode:
                self.engine.collective_rpc("esr_load_encoder")
                self.can_encode = True
            extra["encode"] = {
                "latents": job.latents,
                "pool": job.pool,
                "start": job.request.start,
            }
        params = self.sampling_params(job)
        params.extra_args = {"esr": extra}
        params.output_kind = RequestOutputKind.FINAL_ONLY
        prompt: dict[str, Any] = {"prompt_token_ids": list(job.request.tokens)}
        if self.setup.prefix_caching:
            # A cached block depends on the intervention. The salt keeps others from reusing it.
            prompt["cache_salt"] = repr(extra["intervention"])
        self.engine.add_request(job.id, prompt, params, lora_request=self.adapter)

    def step(self) -> list[Reply]:
        """Run one step of the engine and return the replies to the jobs that it finished.

        Raises:
            RuntimeError: a worker found a discrepancy; see `SteeringWorker.esr_finish`.
        """
        finished = [output for output in self.engine.step() if output.finished]
        if not finished:
            return []
        self.cached_tokens += sum(output.num_cached_tokens or 0 for output in finished)
        jobs = [self.jobs.pop(output.request_id) for output in finished]
        ids = [job.id for job in jobs]
        encoded = [job.id for job in jobs if isinstance(job, Encode)]
        # One entry a worker: under tensor parallelism all of them hold logits.
        workers = self.engine.collective_rpc("esr_finish", args=(ids, encoded))
        flags = zip(*(worker["nonfinite"] for worker in workers), strict=True)
        nonfinite = [any(flag) for flag in flags]
        if any(nonfinite):
            self._clear_nonfinite()
        acts = iter(workers[0].get("activations", ()))
        replies: list[Reply] = []
        for output, job, failed in zip(finished, jobs, nonfinite, strict=True):
            if isinstance(job, Encode):
                data, shape = next(acts)
                replies.append(Activations(job.id, data, tuple(shape)))
            elif isinstance(job, Read):
                replies.append(self.readout(job, output.outputs[0], failed))
            else:
                replies.append(self.response(job, output.outputs[0], failed))
        return replies

    def rest(self) -> None:
        """Forget the prefixes that are cached."""
        if self.setup.prefix_caching:
            self.engine.reset_prefix_cache()

    def sampling_params(self, job: SteeredJob) -> SamplingParams:
        """Translate the sampling settings of a job; to encode or read is to prefill and sample."""
        if isinstance(job, Encode):
            return SamplingParams(
                temperature=0,
                max_tokens=1,
                detokenize=False,
                # A cached prefix is not computed, so its activations would be missing.
                skip_reading_prefix_cache=True,
            )
        if isinstance(job, Read):
            return SamplingParams(
                temperature=0,
                max_tokens=1,
                detokenize=False,
                logprob_token_ids=list(job.request.targets),
            )
        return SamplingParams(
            temperature=job.sampling.temperature,
            max_tokens=job.sampling.max_new_tokens,
            repetition_penalty=job.sampling.repetition_penalty,
            seed=job.request.seed,
            stop_token_ids=list(job.stop_tokens),
            ignore_eos=True,  # only `stop_tokens` end a response
            detokenize=False,
        )

    def response(self, job: Generate, output: Any, nonfinite: bool) -> Generated:
        """Make the reply to a job from vLLM's output."""
        if nonfinite:
            return Generated(job.id, (), "error")
        reason = output.finish_reason
        if reason not in ("stop", "length"):
            raise RuntimeError(f"esr: vLLM ended request {job.id} with reason {reason!r}")
        return Generated(job.id, tuple(output.token_ids), reason)

    def readout(self, job: Read, output: Any, nonfinite: bool) -> Readout:
        """Make the reply to a readout: vLLM returns its targets and the token that it samples."""
        if nonfinite:
            return Readout(job.id, None)
        (found,) = output.logprobs
        return Readout(job.id, tuple(found[token].logprob for token in job.request.targets))

    def _clear_nonfinite(self) -> None:
        """Remove non-finite values from the caches, so that they cannot reach other requests."""
        if self.setup.prefix_caching and not self.engine.reset_prefix_cache(True):
            raise RuntimeError("esr: vLLM did not reset its prefix cache")
        self.engine.collective_rpc("esr_zero_nonfinite_kv")


def _engine(setup: Setup) -> LLMEngine:
    settings: dict[str, Any] = {
        "model": setup.source,
        "revision": setup.revision,
        "dtype": setup.dtype,
        "max_model_len": setup.max_model_len,
        "max_num_seqs": setup.n_requests,
        "enable_prefix_caching": setup.prefix_caching,
        "enable_lora": setup.adapter is not None,
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "language_model_only": True,  # of a multimodal model, load neither tower nor processor
        "worker_cls": "esr.engines.vllm.worker.SteeringWorker",
        "disable_log_stats": True,
    }
    arguments = EngineArgs(**settings | setup.options, additional_config=setup)
    # The usage context sets the number of tokens in a step. That of the `LLM` class, meant for
    # offline batches, computes two to eight times as many as the default.
    return LLMEngine.from_engine_args(arguments, UsageContext.LLM_CLASS)


def _first_error(folder: Path) -> str:
    """Return the message of the worker that failed first; empty if none did."""
    files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime)
    return next((text for text in (file.read_text(encoding="utf-8") for file in files) if text), "")


def load(setup: Setup | WriterSetup) -> serving.Host:
    """Start vLLM for a steered model, or for a judge."""
    return Writer(setup) if isinstance(setup, WriterSetup) else Host(setup)


def main(arguments: Sequence[str]) -> None:
    """Serve the clients of a file descriptor."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    serving.serve(int(arguments[0]), load, vllm.__version__)


if __name__ == "__main__":
    main(sys.argv[1:])
