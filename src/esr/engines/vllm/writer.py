"""A plain language model in the host process: texts by a JSON Schema, without steering.

Judges of `kind: vllm` are written by it. Runs in the environment that has vLLM.
"""

from collections.abc import Sequence
from typing import Any

from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.llm_engine import LLMEngine

from esr.engines.vllm.messages import Write, WriterSetup, Written


class Writer:
    """vLLM with a plain model, and its unfinished jobs; same interface as `Host`."""

    def __init__(self, setup: WriterSetup) -> None:
        """Start vLLM."""
        settings: dict[str, Any] = {
            "model": setup.source,
            "revision": setup.revision,
            "dtype": setup.dtype,
            "max_model_len": setup.max_model_len,
            "max_num_seqs": setup.n_requests,
            # Calls of a rubric share their first few hundred tokens.
            "enable_prefix_caching": True,
            "language_model_only": True,
            "disable_log_stats": True,
            # A model may otherwise write blanks between two tokens of JSON until the limit.
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        }
        arguments = EngineArgs(**settings | setup.options)
        self.engine = LLMEngine.from_engine_args(arguments, UsageContext.LLM_CLASS)
        self.jobs: dict[str, Write] = {}
        self._rows = setup.n_requests
        self._passes = 0

    def facts(self) -> dict[str, Any]:
        """Return the device, and how many tokens its cache of keys and values holds."""
        cache = self.engine.vllm_config.cache_config
        return {
            "platform": current_platform.device_name,
            "cache_tokens": cache.kv_cache_size_tokens,
        }

    def submit(self, job: Write) -> None:
        """Add a job to vLLM's queue."""
        self.jobs[job.id] = job
        params = SamplingParams(
            temperature=job.temperature,
            max_tokens=job.max_tokens,
            seed=job.seed,
            output_kind=RequestOutputKind.FINAL_ONLY,
            structured_outputs=None
            if job.schema is None
            else StructuredOutputsParams(json=job.schema),
        )
        self.engine.add_request(job.id, {"prompt_token_ids": list(job.tokens)}, params)

    def rest(self) -> None:
        """Keep the cache: calls of the next job begin with the same rubric."""

    def step(self) -> Sequence[Written]:
        """Run one step of the engine and return the texts that it finished."""
        self._passes += min(len(self.jobs), self._rows)
        finished = [output for output in self.engine.step() if output.finished]
        written = []
        for output in finished:
            del self.jobs[output.request_id]
            one, passes = output.outputs[0], self._passes
            self._passes = 0
            end, number = str(one.finish_reason), len(one.token_ids)
            written.append(Written(output.request_id, one.text, end, number, passes))
        return written
