"""vLLM's worker with interventions. vLLM loads it by `worker_cls`; nothing is patched globally.

After the model is loaded, the classes of the chosen decoder layers are replaced by subclasses that
apply our operation to their output. A few methods of the model runner are wrapped, on the instance,
because only the runner knows which token of a step belongs to which request. Each of these methods
is first checked by name and signature, and untested configurations are refused: the worker never
falls back to running unsteered. Written for vLLM 0.32, model runners V1 and V2.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from vllm.config import VllmConfig
from vllm.platforms import current_platform

from esr.assets.sae import load_sae
from esr.directions.vectors import load_directions
from esr.engines.base import Intervention, check_shape
from esr.engines.vllm.encoding import EncodeOptions, PromptEncoder
from esr.engines.vllm.interventions import Interventions, Site
from esr.engines.vllm.messages import Setup
from esr.engines.vllm.patches import (
    check_supported,
    decoder_layers,
    install_site,
    job_arguments,
    job_id,
    method,
    not_finite,
    wrap,
)

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as Worker
else:
    from vllm.v1.worker.gpu_worker import Worker


class SteeringWorker(Worker):
    """A worker that changes and encodes the residual stream of each request."""

    serving = False
    """Whether requests come from the client. Earlier ones are vLLM's warm-up, unsteered."""

    def init_device(self) -> None:
        """Initialise the device."""
        with self._record_error():
            super().init_device()

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Load the model, then install the sites."""
        with self._record_error():
            check_supported(self.vllm_config)
            super().load_model(*args, **kwargs)
            self._install()

    @contextlib.contextmanager
    def _record_error(self) -> Iterator[None]:
        """Write an exception to a file: vLLM does not pass on the errors of parallel workers."""
        try:
            yield
        except Exception as error:
            file = Path(self._setup.error_dir) / str(self.rank)
            file.write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
            raise

    @property
    def _setup(self) -> Setup:
        setup = self.vllm_config.additional_config
        assert isinstance(setup, Setup)
        return setup

    def _install(self) -> None:
        setup = self._setup
        model = self.model_runner.get_model()
        device = torch.device("cpu") if current_platform.is_cpu() else self.device
        self.sae_file = Path(setup.sae_file)
        self.interventions = Interventions(
            self.sae_file,
            _max_tokens(self.vllm_config),
            setup.n_requests,
            setup.n_ablated,
            device,
            [load_directions(Path(path)) for path in setup.directions],
            setup.adds,
            setup.encodes,
            contain=not setup.prefix_caching,
        )
        layers = decoder_layers(model)
        named = setup.named_layers()
        width = self.interventions.rows.shape[1]
        check_shape(named, len(layers), width, self.vllm_config.model_config.get_hidden_size())
        self.sites: dict[int, Site] = {}
        for number in sorted(set(named.values())):
            site = Site(
                self.interventions,
                steers=number in setup.adds,
                ablates=number in setup.encodes,
                taps=number == setup.read_layer,
                layer=number,
                tapped=number <= setup.read_layer,
            )
            install_site(site.number, layers[number])
            self.sites[number] = site
        tap = self.sites[setup.read_layer].tap
        assert tap is not None
        self.tap = tap
        self.encoder: PromptEncoder | None = None
        self.preemptions = 0
        if self.use_v2_model_runner:
            self._wrap_v2_runner(self.model_runner)
        else:
            self._wrap_v1_runner(self.model_runner)
        self._wrap_logits(model)

    def compile_or_warm_up_model(self, *args: Any, **kwargs: Any) -> Any:
        """Warm up, and check that every site was called, unless vLLM skips the warm-up."""
        done = super().compile_or_warm_up_model(*args, **kwargs)
        skips = current_platform.is_cpu() and self.vllm_config.model_config.enforce_eager
        uncalled = [number for number, site in self.sites.items() if not site.n_python_calls]
        # A graph from vLLM's cache that was compiled without our layers would never steer.
        if uncalled and not skips:
            raise RuntimeError(
                f"esr: layers {uncalled} did not call our operation during warm-up; a stale "
                "graph? Empty vLLM's cache (VLLM_CACHE_ROOT) and start again"
            )
        for site in self.sites.values():
            site.device_counts.zero_()
        self.serving = True
        return done

    # Hooks into the model runner. Both runners process a step in this order: drop finished
    # requests, add new ones, prepare the inputs, run the model, compute logits, sample.

    def _wrap_v1_runner(self, runner: Any) -> None:
        update = method(runner, "_update_states", ["scheduler_output"])
        prepare = method(runner, "_prepare_inputs", ["scheduler_output", "num_scheduled_tokens"])
        forward = method(runner, "_model_forward", ["input_ids", "positions"])

        def update_states(_: Any, scheduler_output: Any) -> Any:
            self._preempt(scheduler_output.preempted_req_ids or ())
            self._drop(scheduler_output.finished_req_ids)
            self._add(scheduler_output.scheduled_new_reqs)
            return update(scheduler_output)

        def prepare_inputs(_: Any, scheduler_output: Any, counts: np.ndarray) -> Any:
            prepared = prepare(scheduler_output, counts)
            batch = runner.input_batch
            n = batch.num_reqs
            self._start_step(batch.req_ids[:n], counts.tolist(), batch.num_computed_tokens_cpu[:n])
            return prepared

        def model_forward(_: Any, *args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            self._encode_step()
            return output

        wrap(runner, "_update_states", update_states)
        wrap(runner, "_prepare_inputs", prepare_inputs)
        wrap(runner, "_model_forward", model_forward)

    def _wrap_v2_runner(self, runner: Any) -> None:
        add = method(runner, "add_requests", ["scheduler_output"])
        finish = method(runner, "finish_requests", ["scheduler_output"])
        prepare = method(runner, "prepare_inputs", ["scheduler_output", "batch_req_state"])
        execute = method(
            runner, "execute_model", ["scheduler_output", "intermediate_tensors", "dummy_run"]
        )

        def finish_requests(_: Any, scheduler_output: Any) -> Any:
            self._preempt(scheduler_output.preempted_req_ids or ())
            self._drop(scheduler_output.finished_req_ids)
            return finish(scheduler_output)

        def add_requests(_: Any, scheduler_output: Any) -> Any:
            self._add(scheduler_output.scheduled_new_reqs)
            return add(scheduler_output)

        def prepare_inputs(_: Any, *args: Any, **kwargs: Any) -> Any:
            batch = prepare(*args, **kwargs)
            counts = batch.num_scheduled_tokens[: batch.num_reqs].tolist()
            self._start_step(batch.req_ids, counts, batch.num_computed_tokens_np)
            return batch

        def execute_model(_: Any, *args: Any, **kwargs: Any) -> Any:
            output = execute(*args, **kwargs)
            self._encode_step()
            return output

        wrap(runner, "finish_requests", finish_requests)
        wrap(runner, "add_requests", add_requests)
        wrap(runner, "prepare_inputs", prepare_inputs)
        wrap(runner, "execute_model", execute_model)

    def _wrap_logits(self, model: Any) -> None:
        compute = method(model, "compute_logits", ["hidden_states"])

        def compute_logits(_: Any, *args: Any, **kwargs: Any) -> Any:
            logits = compute(*args, **kwargs)
            # Marked on the device: to wait for it here would stall asynchronous scheduling.
            if logits is not None and self.serving:
                flags = self.interventions.flags
                flags.mark_logits(not_finite(logits, flags.n_step))
            return logits

        wrap(model, "compute_logits", compute_logits)

    def _add(self, requests: Sequence[Any]) -> None:
        if not self.serving:
            return
        for new in requests:
            arguments = job_arguments(new)
            request = arguments["id"]
            what = Intervention.from_values(arguments["intervention"])
            # The V2 runner adds a request again after a preemption.
            again = request in self.interventions.flags
            self.interventions.add(request, what)
            if not again:
                options = arguments.get("encode")
                if options is not None and self.encoder is not None:
                    wanted = EncodeOptions(options["latents"], options["pool"])
                    length = len(new.prompt_token_ids)
                    self.encoder.add(request, wanted, options["start"], length)

    def _drop(self, vllm_ids: Iterable[str]) -> None:
        if not self.serving:
            return
        for request in map(job_id, vllm_ids):
            self.interventions.drop(request)
            if self.encoder is not None:
                self.encoder.drop(request)

    def _preempt(self, vllm_ids: Iterable[str]) -> None:
        requests = [job_id(vllm_id) for vllm_id in vllm_ids]
        self.preemptions += len(requests)
        # Preemption frees KV blocks, so clear what non-finite requests leave there. With prefix
        # caching, do not: a preempted request may find its own blocks again, which must be intact.
        if not requests or not self.serving or self._setup.prefix_caching:
            return
        if any(self.interventions.flags.read(requests)):
            self.esr_zero_nonfinite_kv()

    def _start_step(self, vllm_ids: Sequence[str], counts: Sequence[int], computed: Any) -> None:
        if not self.serving:
            return
        requests = [job_id(vllm_id) for vllm_id in vllm_ids]
        before = [int(n) for n in computed]
        self.interventions.fill(requests, counts, before)
        if self.encoder is not None:
            self.encoder.plan(requests, counts, before)

    def _encode_step(self) -> None:
        # Outside the graph: which rows are encoded changes from step to step.
        if self.encoder is not None:
            self.encoder.collect(self.tap)

    # Methods that the host calls by name, on every worker.

    def esr_facts(self) -> dict[str, Any]:
        """Return the patched layers and the counters."""
        layers = decoder_layers(self.model_runner.get_model())
        counts = self.interventions.host_counts
        _, steered, ablated = counts.sum(axis=0).tolist()
        return {
            "layers": {number: type(layers[number]).__name__ for number in self.sites},
            "steps": int(counts[0, 0]),
            "steered_tokens": steered,
            "ablated_tokens": ablated,
            "preemptions": self.preemptions,
            "largest_step": self.interventions.n_tokens,
            "runner": "V2" if self.use_v2_model_runner else "V1",
            "rank": self.rank,
            "pid": os.getpid(),
        }

    def esr_load_encoder(self) -> None:
        """Load the full SAE. Only the first worker encodes: all hold the same residual stream."""
        if self.encoder is None and self.rank == 0:
            self.encoder = PromptEncoder(load_sae(self.sae_file, self.tap.device))

    def esr_zero_nonfinite_kv(self) -> None:
        """Replace non-finite values in the KV cache by 0.

        A block passes to the next request as it is. Attention gives weight 0 to positions beyond
        the end of that request, but 0 times NaN is NaN.
        """
        on_cpu = self.tap.device.type == "cpu"
        if not on_cpu:
            torch.accelerator.synchronize()  # a step may still write to the cache
        for cache in self.model_runner.kv_caches:
            if cache.is_floating_point():  # a quantised cache of 8-bit integers has no NaN
                cache.nan_to_num_(0, 0, 0)
        if not on_cpu:
            torch.accelerator.synchronize()

    def esr_finish(self, requests: Sequence[str], encoded: Sequence[str]) -> dict[str, Any]:
        """Check the counts, and return the results of finished requests.

        Args:
            requests: Ids of all finished requests.
            encoded: Ids of those whose activations are wanted.

        Returns:
            `nonfinite`, one flag a request, and on the first worker `activations`, one pair of
            bytes and shape for each encoded request.

        Raises:
            RuntimeError: the device has steered or ablated fewer or more tokens than it should.
        """
        for number, site in self.sites.items():
            mismatch = site.count_mismatch()
            if mismatch:
                raise RuntimeError(f"esr: layer {number} did not steer as planned ({mismatch})")
        found: dict[str, Any] = {"nonfinite": self.interventions.flags.read(requests)}
        if self.encoder is not None:
            arrays = [self.encoder.result(request) for request in encoded]
            found["activations"] = [(acts.tobytes(), acts.shape) for acts in arrays]
        return found


def _max_tokens(config: VllmConfig) -> int:
    """Return the largest number of tokens in a step, padding to a captured graph included."""
    sizes = config.compilation_config.cudagraph_capture_sizes or []
    return max(config.scheduler_config.max_num_batched_tokens, *sizes, 1)
