"""vLLM's worker, made to steer: named to vLLM by `worker_cls`, nothing patched globally.

After the model is loaded, the classes of the chosen decoder layers are replaced by subclasses that
call our operation on their output; a few methods of the model runner are wrapped, on the instance,
to tell us which token of a step belongs to which request. Whatever of vLLM this leans on is checked
by name and signature first, and what is not known to work is refused: nothing here falls back to
running unsteered. Written for vLLM 0.32, runners V1 and V2.
"""

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.config import VllmConfig
from vllm.platforms import current_platform

from esr.assets.sae import load_sae
from esr.engines.base import Intervention, check_shape
from esr.engines.vllm.encoding import Readers, Wanted
from esr.engines.vllm.interventions import Interventions, Site, Slots
from esr.engines.vllm.messages import Setup
from esr.engines.vllm.patches import (
    check_supported,
    decoder_layers,
    install_site,
    intervention_of,
    method,
    not_finite,
    wrap,
)

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as Worker
else:
    from vllm.v1.worker.gpu_worker import Worker


class SteeringWorker(Worker):
    """A worker that intervenes in, and reads, the residual stream of each request."""

    serving = False
    """Whether requests are the client's. Those before are vLLM's own, to warm up: unsteered."""

    def init_device(self) -> None:
        """Get hold of the device."""
        with self._note():
            super().init_device()

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Load the model, then put the sites in."""
        with self._note():
            check_supported(self.vllm_config)
            super().load_model(*args, **kwargs)
            self._steer()

    @contextlib.contextmanager
    def _note(self) -> Iterator[None]:
        """Note down an exception: of workers in parallel vLLM says only that one did not start."""
        try:
            yield
        except Exception as error:
            note = Path(self._setup.notes) / str(self.rank)
            note.write_text(f"{type(error).__name__}: {error}")
            raise

    @property
    def _setup(self) -> Setup:
        setup = self.vllm_config.additional_config
        assert isinstance(setup, Setup)
        return setup

    def _steer(self) -> None:
        setup = self._setup
        runner = self.model_runner
        device = torch.device("cpu") if current_platform.is_cpu() else self.device
        self.sae_file = Path(setup.sae_file)
        self.interventions = Interventions(
            self.sae_file, _most_tokens(self.vllm_config), setup.n_requests, setup.n_ablated, device
        )
        layers = decoder_layers(runner.get_model())
        named = {n: getattr(setup, n) for n in ("steer_layer", "ablate_layer", "read_layer")}
        width = self.interventions.rows.shape[1]
        check_shape(named, len(layers), width, self.vllm_config.model_config.get_hidden_size())
        self.sites: dict[int, Site] = {}
        for number in sorted({setup.steer_layer, setup.ablate_layer, setup.read_layer}):
            site = Site(
                self.interventions,
                steers=number == setup.steer_layer,
                ablates=number == setup.ablate_layer,
                taps=number == setup.read_layer,
            )
            install_site(site.number, layers[number])
            self.sites[number] = site
        tap = self.sites[setup.read_layer].tap
        assert tap is not None
        self.tap = tap
        self.readers: Readers | None = None
        self.places = Slots[str](2 * setup.n_requests)
        self.unsound = torch.zeros(2 * setup.n_requests + 1, dtype=torch.bool, device=device)
        """Of each request, by its place: whether logits were not finite."""
        # vLLM has names of its own for requests; the client's numbers come along with them.
        self.names: dict[int, str] = {}
        self.preemptions = 0
        self.rows: Tensor | None = None
        """Places of the requests of a step, in the order of its logits."""
        (self._watch_v2 if self.use_v2_model_runner else self._watch_v1)(runner)
        self._watch_logits(runner.get_model())

    def compile_or_warm_up_model(self, *args: Any, **kwargs: Any) -> Any:
        """Warm up; every site must have been seen, unless vLLM skips this."""
        done = super().compile_or_warm_up_model(*args, **kwargs)
        skips = current_platform.is_cpu() and self.vllm_config.model_config.enforce_eager
        idle = [number for number, site in self.sites.items() if not site.traced]
        if idle and not skips:
            raise RuntimeError(
                f"esr: layers {idle} never called our operation while vLLM warmed up; a stale "
                "graph? Empty vLLM's cache (VLLM_CACHE_ROOT) and start again"
            )
        for site in self.sites.values():
            site.counted.zero_()
        self.serving = True
        return done

    # Requests and steps, as the model runner goes through them.

    def _watch_v1(self, runner: Any) -> None:
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
            self._step(batch.req_ids[:n], counts.tolist(), batch.num_computed_tokens_cpu[:n])
            return prepared

        def model_forward(_: Any, *args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            self._collect()
            return output

        wrap(runner, "_update_states", update_states)
        wrap(runner, "_prepare_inputs", prepare_inputs)
        wrap(runner, "_model_forward", model_forward)

    def _watch_v2(self, runner: Any) -> None:
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
            self._step(batch.req_ids, counts, batch.num_computed_tokens_np)
            return batch

        def execute_model(_: Any, *args: Any, **kwargs: Any) -> Any:
            output = execute(*args, **kwargs)
            self._collect()
            return output

        wrap(runner, "finish_requests", finish_requests)
        wrap(runner, "add_requests", add_requests)
        wrap(runner, "prepare_inputs", prepare_inputs)
        wrap(runner, "execute_model", execute_model)

    def _watch_logits(self, model: Any) -> None:
        compute = method(model, "compute_logits", ["hidden_states"])

        def compute_logits(_: Any, *args: Any, **kwargs: Any) -> Any:
            logits = compute(*args, **kwargs)
            if logits is not None and self.rows is not None:
                self.unsound[self.rows] |= not_finite(logits, len(self.rows))
            return logits

        wrap(model, "compute_logits", compute_logits)

    def _add(self, requests: Sequence[Any]) -> None:
        if not self.serving:
            return
        for new in requests:
            what = intervention_of(new)
            self.interventions.add(new.req_id, Intervention(*what["intervention"]))
            if new.req_id not in self.places:
                self.names[what["order"]] = new.req_id
                place, _ = self.places.take(new.req_id)
                self.unsound[place] = False
                read = what.get("read")
                if read is not None and self.readers is not None:
                    wanted = Wanted(read["latents"], read["pool"])
                    length = len(new.prompt_token_ids)
                    self.readers.add(new.req_id, wanted, read["start"], length)

    def _drop(self, requests: Iterable[str]) -> None:
        if not self.serving:
            return
        for request in requests:
            self.interventions.drop(request)
            if self.readers is not None:
                self.readers.drop(request)
            if request in self.places:
                self.places.give_back(request)

    def _preempt(self, requests: Collection[str]) -> None:
        self.preemptions += len(requests)
        # With prefix caching they may find their blocks again, which had better not be zeros.
        if requests and self.serving and not self._setup.prefix_caching:
            places = [self.places[request] for request in requests]
            if self.unsound[torch.tensor(places, device=self.unsound.device)].any():
                self.esr_cleanse()

    def _step(self, requests: Sequence[str], counts: Sequence[int], computed: Any) -> None:
        if not self.serving:
            return
        self.interventions.fill(requests, counts)
        places = torch.tensor([self.places[request] for request in requests])
        self.rows = places.to(self.unsound.device, non_blocking=True)
        if self.readers is not None:
            self.readers.plan(requests, counts, [int(n) for n in computed])

    def _collect(self) -> None:
        if self.readers is not None:
            self.readers.collect(self.tap)

    # What the host calls, by name, on every worker.

    def esr_facts(self) -> dict[str, Any]:
        """What was put where, and what has been done so far."""
        layers = decoder_layers(self.model_runner.get_model())
        steps, steered, ablated = self.interventions.expected.tolist()
        return {
            "layers": {number: type(layers[number]).__name__ for number in self.sites},
            "steps": steps,
            "steered_tokens": steered,
            "ablated_tokens": ablated,
            "preemptions": self.preemptions,
            "largest_step": self.interventions.n_tokens,
            "runner": "V2" if self.use_v2_model_runner else "V1",
            "rank": self.rank,
            "pid": os.getpid(),
        }

    def esr_open_readers(self) -> None:
        """Get ready to read: the whole encoder on the device, of one worker."""
        if self.readers is None and self.rank == 0:
            self.readers = Readers(load_sae(self.sae_file, self.unsound.device))

    def esr_cleanse(self) -> None:
        """Put zeros in the KV cache where it is not finite, once a request has left that behind.

        A block is given to the next request as it is, and attention weighs by zero what lies
        beyond a request's end: zero times NaN is NaN.
        """
        if self.unsound.device.type != "cpu":
            torch.accelerator.synchronize()  # nothing may be written meanwhile
        for cache in self.model_runner.kv_caches:
            if cache.is_floating_point():  # one of 8 bits is not
                cache.nan_to_num_(0, 0, 0)
        if self.unsound.device.type != "cpu":
            torch.accelerator.synchronize()

    def esr_finished(self, orders: Sequence[int], readings: Sequence[int]) -> dict[str, Any]:
        """Account for finished orders: whose logits were not finite, what was read.

        Raises:
            RuntimeError: the device did not do what the host told it.
        """
        for number, site in self.sites.items():
            wrong = site.discrepancy()
            if wrong:
                raise RuntimeError(f"esr: layer {number} did not do as it was told ({wrong})")
        names = {number: self.names.pop(number) for number in orders}
        places = [self.places[name] for name in names.values()]
        found: dict[str, Any] = {
            "unsound": self.unsound[torch.tensor(places, device=self.unsound.device)].tolist()
        }
        if self.readers is not None:
            read = [self.readers.result(names[number]) for number in readings]
            found["read"] = [(acts.tobytes(), acts.shape) for acts in read]
        return found


def _most_tokens(config: VllmConfig) -> int:
    """Tokens of a step at most, padding to a captured graph included."""
    sizes = config.compilation_config.cudagraph_capture_sizes or []
    return max(config.scheduler_config.max_num_batched_tokens, *sizes, 1)
