"""Benchmark of the engines. Makes engines.csv or, for the model of a study, a file in results/.

    PYTHONPATH=tests uv run python benchmarks/engines.py
    PYTHONPATH=tests uv run python benchmarks/engines.py --interventions
    uv run python benchmarks/engines.py --study paper --model gemma-2-9b
    uv run python benchmarks/engines.py --study paper --model gemma-2-9b --calibrate

Without a study, the benchmark runs on the CPU, with a random Llama (width 1024, 8 layers, float32)
and a random ReLU SAE of 16,384 latents. All engines are open at once and the modes take turns for
`--rounds` rounds, so that background load affects all modes equally. Each of the 64 requests of a
batch has a direction and a boost of its own. Our engine is prepared for three layers in all modes.
`--interventions` measures our vLLM engine and plain vLLM alone: engines_interventions.csv.

With a study, the model, its assets (`snakemake downloads`), the batch size and the engine settings
are those of the study. The engines run one after the other, each with the GPUs to itself;
transformers runs only if the model fits on one GPU. The table goes to
results/<study>/<model>/engines.csv. `--calibrate` runs our vLLM engine alone and records its
throughput with all requests steered in resources/throughput.csv, which `snakemake estimate` reads.

The modes of an arm generate four batches of sampled responses of random length. The other modes
generate or encode one batch of sequences of equal length.

Columns: `mode`; `tokens_per_second` (median over rounds; tokens generated or encoded); `relative`,
`lowest` and `highest` (median, minimum and maximum over rounds of the ratio to the mode in `to`);
`to`.
"""

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from engine_work import ABLATED, NEW, PROMPT, Work, ablated, idle, layered, steered, windowed
from plain import Plain

from esr.assets.sae import Sae
from esr.config import Config, load, merge
from esr.engines import open_engine
from esr.engines.base import EncodeRequest, Engine, Request, Sampling, generate_all
from esr.engines.vllm.environment import host_variables
from esr.engines.vllm.launch import vllm_options
from esr.planning.hardware import check_gpu_memory

log = logging.getLogger(__name__)
CSV = Path(__file__).with_suffix(".csv")
THROUGHPUT = Path("resources/throughput.csv")
BATCH = 64
SAMPLING = Sampling(0, NEW)
PLAIN, PROMPTS, ARM = "vLLM, plain", "vLLM, prefill only", "transformers, an arm"
STEERED = "ours, all steered"
COLUMNS = ["mode", "tokens_per_second", "relative", "lowest", "highest", "to"]

Mode = Callable[[], tuple[int, float]]
"""Runs one round and returns the number of tokens and the time (s)."""
Modes = dict[str, tuple[str, Mode]]
"""By name: the mode that it is compared with, and the function to measure."""


def plain_vllm(config: Config, name: str, manifest: dict[str, Any]) -> Plain:
    """VLLM without our code, with a model of a study."""
    eager = config.engine.vllm.eager
    variables = host_variables(config, on_cpu=config.on_cpu(name), eager=eager)
    settings = {
        "model": manifest["source"],
        "revision": manifest["revision"],
        "dtype": config.models[name].dtype,
        "max_model_len": PROMPT + 2 * NEW,
        "max_num_seqs": config.batch_size(name),
        "enable_prefix_caching": False,
        "skip_tokenizer_init": True,
    }
    environment = Path("envs") / str(config.environment(name))
    return Plain(environment, variables, settings | vllm_options(config, name, None))


def measure_generation(
    engine: Engine, requests: Sequence[Request], sampling: Sampling = SAMPLING
) -> tuple[int, float]:
    """Generate in the engine's own groups; generated tokens and seconds."""
    begin = time.perf_counter()
    done = generate_all(engine, requests, sampling)
    return sum(len(one.tokens) for one in done), time.perf_counter() - begin


def arm(engine: Any, requests: Sequence[Request], vocabulary: int) -> Mode:
    """Generate responses that end at each token with probability 1 / `NEW`, or after 2 `NEW`.

    As in the organism study, a little less than half of what a batch of the transformers engine
    computes is then kept; the rest is padding.
    """

    def mode() -> tuple[int, float]:
        stop_tokens = engine.stop_tokens
        engine.stop_tokens = tuple(range(0, vocabulary, NEW))
        try:
            return measure_generation(engine, requests, Sampling(1, 2 * NEW))
        finally:
            engine.stop_tokens = stop_tokens

    return mode


def measure_encoding(engine: Engine, prompts: Sequence[Sequence[int]]) -> tuple[int, float]:
    """Encode all latents, pooled; encoded tokens and seconds."""
    begin = time.perf_counter()
    engine.encode([EncodeRequest(tuple(prompt)) for prompt in prompts])
    return sum(map(len, prompts)), time.perf_counter() - begin


def plain_modes(plain: Plain, work: Work) -> Modes:
    """The baselines."""
    return {
        PLAIN: (PLAIN, lambda: plain.round(work.prompts, NEW)),
        PROMPTS: (PROMPTS, lambda: plain.round(work.texts, 1)),
    }


def our_modes(engine: Engine, work: Work, layers: Sequence[int]) -> Modes:
    """The engine `vllm`: every kind of intervention, encoding, and an arm of a study."""
    makers = {
        "ours, idle": idle,
        STEERED: steered,
        f"ours, steered, {ABLATED} latents ablated": ablated,
        "ours, steered in windows": windowed,
        f"ours, steered at three layers, {ABLATED} latents ablated": layered(layers),
    }
    modes: Modes = {
        name: (PLAIN, partial(measure_generation, engine, work.requests(make)))
        for name, make in makers.items()
    }
    trials = work.requests(steered, times=4)
    return modes | {
        "ours, an arm": (ARM, arm(engine, trials, work.vocabulary)),
        "ours, encoding all latents": (PROMPTS, lambda: measure_encoding(engine, work.texts)),
    }


def reference_modes(engine: Engine, work: Work) -> Modes:
    """The engine `transformers`."""
    trials = work.requests(steered, times=4)
    return {
        "transformers": (PLAIN, lambda: measure_generation(engine, work.requests(idle))),
        "transformers, all steered": (
            PLAIN,
            lambda: measure_generation(engine, work.requests(steered)),
        ),
        ARM: (ARM, arm(engine, trials, work.vocabulary)),
        "transformers, encoding all latents": (
            PROMPTS,
            lambda: measure_encoding(engine, work.texts),
        ),
    }


def further_layers(steer_layer: int, n_layers: int) -> tuple[int, int]:
    """Two layers beside that of steering: halfway from it to the first and to the last."""
    return steer_layer // 2, (steer_layer + n_layers) // 2


def measure(modes: Modes, rounds: int) -> dict[str, list[float]]:
    """Run the modes in turn; return tokens per second of each mode, round by round."""
    speeds: dict[str, list[float]] = {name: [] for name in modes}
    for number in range(rounds + 1):  # round 0 warms up
        for name, (_, mode) in modes.items():
            tokens, seconds = mode()
            log.info("round %d, %s: %d tokens in %.2f s", number, name, tokens, seconds)
            if number:
                speeds[name].append(tokens / seconds)
    return speeds


def compare(speeds: dict[str, list[float]], bases: dict[str, str]) -> pd.DataFrame:
    """Make the table. A mode whose baseline was not measured has no ratio."""
    rows = []
    for name, speed in speeds.items():
        row = {"mode": name, "tokens_per_second": round(np.median(speed), 1), "to": bases[name]}
        if bases[name] in speeds:
            ratios = np.array(speed) / speeds[bases[name]]
            facts = {"relative": np.median(ratios), "lowest": ratios.min(), "highest": ratios.max()}
            row |= {key: round(fact, 3) for key, fact in facts.items()}
        rows.append(row)
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def benchmark(
    config: Config, name: str, manifest: dict[str, Any], sae_file: Path, chosen: argparse.Namespace
) -> pd.DataFrame:
    """Open the engines, together or (for the model of a study) one by one, and measure."""
    engine = config.engine.model_copy(update={"name": "transformers"})
    other = config.model_copy(update={"engine": engine})
    work = Work.draw(config.batch_size(name), manifest["vocab_size"])
    layers = further_layers(config.models[name].steer_layer, manifest["n_layers"])

    def opened(stack: ExitStack, kind: str) -> Modes:
        if kind == "plain":
            return plain_modes(stack.enter_context(plain_vllm(config, name, manifest)), work)
        if kind == "ours":
            engine = open_engine(config, name, manifest, sae_file, layers=layers)
            return our_modes(stack.enter_context(engine), work, layers)  # pyrefly: ignore[bad-argument-type]
        return reference_modes(open_engine(other, name, manifest, sae_file), work)

    kinds = ["ours"] if chosen.calibrate else ["plain", "ours", "transformers"]
    kinds = ["plain", "ours"] if chosen.interventions else kinds
    if chosen.study and list(check_gpu_memory(other, [name])):
        kinds = [kind for kind in kinds if kind != "transformers"]
    speeds: dict[str, list[float]] = {}
    bases: dict[str, str] = {}
    for together in [[kind] for kind in kinds] if chosen.study else [kinds]:
        with ExitStack() as stack:
            modes = {k: v for kind in together for k, v in opened(stack, kind).items()}
            if chosen.interventions:
                modes = {name: mode for name, mode in modes.items() if mode[0] != ARM}
            speeds |= measure(modes, chosen.rounds)
            bases |= {mode: base for mode, (base, _) in modes.items()}
    return compare(speeds, bases)


def random_llama(folder: Path) -> tuple[Config, str, dict[str, Any], Path]:
    """Make a study with a random Llama and a random SAE in a folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {
        "vocab_size": 4096,
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 8,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "max_position_embeddings": 1024,
        "initializer_range": 0.04,
        "eos_token_id": 0,
    }
    model = LlamaForCausalLM(LlamaConfig(**shape))
    model.generation_config.eos_token_id = 0
    model.save_pretrained(folder / "model")
    W_dec = torch.nn.functional.normalize(torch.randn(16384, 1024), dim=1)
    sae = Sae("relu", W_dec.T.contiguous(), torch.full((16384,), -0.1), W_dec, torch.zeros(1024))
    sae.save(folder / "sae.safetensors")
    layers = {"steer_layer": 4, "read_layer": 4}
    study = read_study(
        "organism", {"engine": {"name": "vllm", "threads": os.cpu_count(), "batch_size": BATCH}}
    )
    planted = study["models"]["planted"]
    own = planted | layers | {"source": str(folder / "model"), "parameters": 9e7}
    config = load(merge(study, {"models": {"planted": own}}))
    manifest: dict[str, Any] = {
        "source": str(folder / "model"),
        "revision": None,
        "files": {},
        "n_layers": 8,
        "d_model": 1024,
        "vocab_size": 4096,
    }
    return config, "planted", manifest, folder / "sae.safetensors"


def read_study(study: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Configuration of a study, with changes."""
    files = [Path("config.yaml"), Path(f"studies/{study}.yaml")]
    parts = [yaml.safe_load(path.read_text()) for path in files]
    return merge(*parts, {"study": study}, changes)


def calibrate(table: pd.DataFrame, config: Config, name: str) -> None:
    """Record the measured throughput for `snakemake estimate`, one row for each model."""
    speed = table.set_index("mode").loc[STEERED, "tokens_per_second"]
    key = [config.models[name].source, config.engine.gpu, "vllm"]
    known = pd.read_csv(THROUGHPUT)
    others = known[~known[["model", "gpu", "engine"]].eq(key).all(axis=1)]
    line = [*key, speed, datetime.now(UTC).date(), "benchmarks/engines.py"]
    row = pd.DataFrame([line], columns=known.columns)
    pd.concat([others, row] if len(others) else [row]).to_csv(THROUGHPUT, index=False)


def main() -> None:
    """Measure, and write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--study", help="study of the model to measure")
    parser.add_argument("--model", help="model to measure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--calibrate", action="store_true", help="record the throughput in resources/throughput.csv"
    )
    parser.add_argument(
        "--interventions", action="store_true", help="leave out the transformers engine"
    )
    chosen = parser.parse_args()
    if bool(chosen.study) != bool(chosen.model) or (chosen.calibrate and not chosen.study):
        parser.error("--study and --model need each other; --calibrate needs both")
    with tempfile.TemporaryDirectory() as made:
        target = CSV.with_stem("engines_interventions") if chosen.interventions else CSV
        if chosen.study is None:
            config, name, manifest, sae_file = random_llama(Path(made))
        else:
            engine = {"engine": {"name": "vllm"}}
            config, name = load(read_study(chosen.study, engine)), chosen.model
            folder = Path(f"results/{chosen.study}/{name}")
            manifest = json.loads((folder / "assets/model.json").read_text())
            sae_file, target = folder / "assets/sae.safetensors", folder / "engines.csv"
        table = benchmark(config, name, manifest, sae_file, chosen)
    log.info("%s", table.to_string(index=False))
    if chosen.calibrate:
        calibrate(table, config, name)
    else:
        table.to_csv(target, index=False)


if __name__ == "__main__":
    main()
