"""Benchmark of the engines; makes engines.csv.

    PYTHONPATH=tests uv run python benchmarks/engines.py
    uv run python benchmarks/engines.py --study paper --model gemma-2-9b

Without a study it makes a random Llama (width 1024, 8 layers, float32) with a ReLU SAE of 16,384
latents and runs on the CPU; with one it takes the model, its assets (`snakemake downloads`) and the
engine's settings from there, and `--calibrate` adds what vLLM reaches, all steered, to
resources/throughput.csv for `snakemake estimate`.

All modes take turns, `--rounds` times, so that what else the machine does meets them alike. Those
of an arm write four batches of sampled responses that end by themselves; the others one batch whose
responses have all the same length. Columns: `mode`, `tokens_per_second` (median; written, or read
where the mode reads), `relative` (median over rounds of the ratio, in the same round, to the mode
that `to` names), `lowest`, `highest` (of these), `to`.
"""

import argparse
import csv
import json
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from esr.config import Config, load, merge
from esr.engines import open_engine
from esr.engines.base import Engine, Intervention, Reading, Request, Sampling, generate
from esr.engines.vllm.opening import vllm_options
from esr.sae import Sae

log = logging.getLogger(__name__)
CSV = Path(__file__).with_suffix(".csv")
THROUGHPUT = Path("resources/throughput.csv")
PROMPT, NEW, BATCH, ABLATED, BOOST = 32, 64, 32, 64, 3.0
SAMPLING = Sampling(0, NEW)
PLAIN, PROMPTS, ARM = "vLLM, plain", "vLLM, prompts alone", "transformers, an arm"

Mode = Callable[[], tuple[int, float]]
"""Runs a round: tokens, and seconds that they took."""


class Plain:
    """vLLM in the same environment, without any of our code."""

    def __init__(self, config: Config, name: str, manifest: dict[str, Any]) -> None:
        python = Path("envs") / str(config.environment(name)) / ".venv/bin/python"
        variables = {"OMP_NUM_THREADS": str(config.engine.threads)}
        if config.on_cpu(name):
            variables["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        self._process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name("plain_vllm.py"))],
            env=os.environ | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        settings = {
            "model": manifest["source"],
            "revision": manifest["revision"],
            "dtype": config.models[name].dtype,
            "max_model_len": 512,
            "max_num_seqs": config.engine.batch_size,
            "enable_prefix_caching": False,
            "skip_tokenizer_init": True,
        }
        self._say(settings | vllm_options(config, name, None))

    def round(self, prompts: Sequence[Sequence[int]], new: int) -> tuple[int, float]:
        """Generate; with one new token, the prompts are what counts."""
        self._say({"prompts": [list(prompt) for prompt in prompts], "new": new})
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline())
        return answer["tokens"], answer["seconds"]

    def _say(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()


def written(
    engine: Engine, requests: Sequence[Request], sampling: Sampling = SAMPLING
) -> tuple[int, float]:
    """Generate in the engine's own groups."""
    begin = time.perf_counter()
    groups = [[requests[i] for i in group] for group in engine.partition(requests)]
    done = list(generate(engine, groups, sampling))
    return sum(len(g.tokens) for group in done for g in group), time.perf_counter() - begin


def arm(engine: Engine, ends: str, requests: Sequence[Request], vocabulary: int) -> Mode:
    """Generate responses that end with odds of 1 in `NEW` a token, after `2 NEW` at the latest.

    Batches of the transformers engine then keep as much of what they compute as in the organism
    study, somewhat under half.

    Args:
        engine: Either.
        ends: Its attribute with the tokens that end a response.
        requests: What is asked.
        vocabulary: Number of tokens.
    """

    def mode() -> tuple[int, float]:
        ending = getattr(engine, ends)
        setattr(engine, ends, tuple(range(0, vocabulary, NEW)))
        try:
            return written(engine, requests, Sampling(1, 2 * NEW))
        finally:
            setattr(engine, ends, ending)

    return mode


def read(engine: Engine, prompts: Sequence[Sequence[int]]) -> tuple[int, float]:
    """Read all latents, pooled."""
    begin = time.perf_counter()
    engine.encode([Reading(tuple(prompt)) for prompt in prompts])
    return sum(map(len, prompts)), time.perf_counter() - begin


def modes(
    config: Config, name: str, manifest: dict[str, Any], sae_file: Path
) -> dict[str, tuple[str, Mode]]:
    """What is measured, by name, each with the name of what it is related to."""
    draw = np.random.default_rng(0)
    vocabulary = manifest["vocab_size"]
    prompts = [tuple(draw.integers(3, vocabulary, PROMPT).tolist()) for _ in range(BATCH)]
    texts = [tuple(draw.integers(3, vocabulary, PROMPT + NEW).tolist()) for _ in range(BATCH)]
    plain = Plain(config, name, manifest)
    other = config.model_copy(
        update={"engine": config.engine.model_copy(update={"name": "transformers"})}
    )
    vllm = open_engine(config, name, manifest, sae_file)
    transformers = open_engine(other, name, manifest, sae_file)
    ablated = tuple(range(ABLATED))

    def requests(steered: bool, ablating: bool, times: int = 1) -> list[Request]:
        return [
            Request(
                prompt,
                i,
                Intervention(
                    1000 + i if steered else None,
                    BOOST if steered else 0.0,
                    ablated if ablating else (),
                ),
            )
            for i, prompt in enumerate(prompts * times)
        ]

    trials = requests(True, False, times=4)
    return {
        PLAIN: (PLAIN, lambda: plain.round(prompts, NEW)),
        "ours, idle": (PLAIN, lambda: written(vllm, requests(False, False))),
        "ours, all steered": (PLAIN, lambda: written(vllm, requests(True, False))),
        "ours, steered and 64 latents ablated": (
            PLAIN,
            lambda: written(vllm, requests(True, True)),
        ),
        "transformers": (PLAIN, lambda: written(transformers, requests(False, False))),
        "transformers, all steered": (PLAIN, lambda: written(transformers, requests(True, False))),
        ARM: (ARM, arm(transformers, "stop_tokens", trials, vocabulary)),
        "ours, an arm": (ARM, arm(vllm, "stops", trials, vocabulary)),
        PROMPTS: (PROMPTS, lambda: plain.round(texts, 1)),
        "ours, reading all latents": (PROMPTS, lambda: read(vllm, texts)),
        "transformers, reading all latents": (PROMPTS, lambda: read(transformers, texts)),
    }


def measure(modes: dict[str, tuple[str, Mode]], rounds: int) -> pd.DataFrame:
    """Alternate; the table described above."""
    speeds: dict[str, list[float]] = {name: [] for name in modes}
    for number in range(rounds + 1):  # the first warms up
        for name, (_, mode) in modes.items():
            tokens, seconds = mode()
            log.info("round %d, %s: %d tokens in %.2f s", number, name, tokens, seconds)
            if number:
                speeds[name].append(tokens / seconds)
    rows = []
    for name, (base, _) in modes.items():
        ratios = np.array(speeds[name]) / speeds[base]
        facts = (np.median(ratios), ratios.min(), ratios.max())
        speed = round(np.median(speeds[name]), 1)
        rows.append([name, speed, *(round(fact, 3) for fact in facts), base])
    columns = ["mode", "tokens_per_second", "relative", "lowest", "highest", "to"]
    return pd.DataFrame(rows, columns=columns)


def random_llama(folder: Path) -> tuple[Config, str, dict[str, Any], Path]:
    """A study with a random Llama and SAE, made in a folder."""
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
    study = read_study("organism", {"engine": {"name": "vllm", "threads": os.cpu_count()}})
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
    """Add a line to the throughput that `snakemake estimate` goes by."""
    speed = table.set_index("mode").loc["ours, all steered", "tokens_per_second"]
    line = [config.models[name].source, config.engine.gpu, "vllm", speed, datetime.now(UTC).date()]
    with THROUGHPUT.open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow([*line, "benchmarks/engines.py"])


def main() -> None:
    """Measure, and write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--study", help="study whose model is measured")
    parser.add_argument("--model", help="its model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calibrate", action="store_true", help="add to resources/throughput.csv")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        if chosen.study is None:
            config, name, manifest, sae_file = random_llama(Path(made))
        else:
            # Both engines are on the GPU at a time.
            share = {"engine": {"name": "vllm", "vllm": {"memory_fraction": 0.4}}}
            config, name = load(read_study(chosen.study, share)), chosen.model
            assets = Path(f"results/{chosen.study}/{name}/assets")
            manifest = json.loads((assets / "model.json").read_text())
            sae_file = assets / "sae.safetensors"
        table = measure(modes(config, name, manifest, sae_file), chosen.rounds)
    table.to_csv(CSV, index=False)
    log.info("%s", table.to_string(index=False))
    if chosen.calibrate:
        calibrate(table, config, name)


if __name__ == "__main__":
    main()
