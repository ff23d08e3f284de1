"""GPU memory: models that do not fit are named with the remedy."""

from collections.abc import Mapping
from typing import Any

import pytest

from esr.config import Config
from esr.errors import EsrError
from esr.planning.costs import planned_calls
from esr.planning.hardware import check_gpu_memory, loaded_bytes, read_gpus
from helpers.checkout import REPO
from helpers.studies import ONE_DEVICE, load_study


def study(name: str = "paper", *changes: Mapping[str, Any]) -> Config:
    return load_study(*changes, name=name)


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)


CACHE = {
    "llama-3.3-70b": 80 * 8 * 128,
    "llama-3.1-8b": 32 * 8 * 128,
    "gemma-2-27b": 46 * 16 * 128,
    "gemma-2-9b": 42 * 8 * 256,
    "gemma-2-2b": 26 * 4 * 256,
    "qwen3-32b": 64 * 8 * 128,
}
"""Keys of a token in the cache: layers, heads of keys, width of a head. Source: config.json."""
FOR_A_STEP = 4.5
"""GB of a GPU for activations, logits, CUDA graphs and CUDA itself."""


class TestMemory:
    @pytest.mark.parametrize("name", ["paper", "arxiv"])
    def test_rows_of_the_large_studies_fit_beside_the_weights(self, name: str) -> None:
        config, gpu = study(name), read_gpus()["H100-80GB"]
        own = {model for model, one in config.base_models.items() if one.batch_size}
        assert own == set(CACHE) - {"gemma-2-9b", "qwen3-32b"}
        for model in own:
            # Keys and values in bf16, of the longest prompt and response.
            rows = config.batch_size(model) * 570 * 2 * 2 * CACHE[model] / 1e9
            weights = loaded_bytes(config.models[model]) / 1e9
            has = config.engine.vllm.memory_fraction * gpu.memory - FOR_A_STEP
            assert rows + weights <= config.gpus(model) * has, model
            assert config.batch_size(model) >= config.engine.batch_size

    @pytest.mark.parametrize("name", ["paper", "arxiv"])
    @pytest.mark.parametrize(
        ("judge", "model"),
        [
            ("qwen3-32b", "qwen3-32b"),
            ("qwen3-32b-blind", "qwen3-32b"),
            ("blind", "llama-3.3-70b"),
        ],
    )
    @pytest.mark.parametrize("changes", [{}, {"kv_cache": None}], ids=["fp8", "bf16"])
    def test_rows_of_their_judges_fit_beside_the_weights(
        self, name: str, judge: str, model: str, changes: dict[str, Any]
    ) -> None:
        """Half of each reply is written, on average; what calls share is stored once."""
        settings = study(name).judging.local[judge]
        rule = "judge_responses" if judge == study(name).judging.primary else "judge_sample"
        (calls,) = (
            one for one in planned_calls(study(name)) if (one.rule, one.judge) == (rule, judge)
        )
        assert settings.kv_cache == "fp8"
        row = calls.read - calls.shared + calls.written / 2
        used = settings.model_copy(update=changes)
        width = 2 if used.kv_cache is None else 1
        cache = used.batch_size * row * 2 * CACHE[model] * width / 1e9
        gpus = study(name).judge_gpus(used)
        has = gpus * (used.memory_fraction * read_gpus()["H100-80GB"].memory - FOR_A_STEP)
        fits = cache + loaded_bytes(used) / 1e9 <= has
        assert fits == (used.kv_cache == "fp8")

    def test_a_model_that_no_gpu_holds_is_named_with_what_to_change(self) -> None:
        config = study("paper", ONE_DEVICE)
        (line,) = check_gpu_memory(config, config.models)
        assert line.startswith("models.llama-3.3-70b: 141 GB of weights in bfloat16 leave no room")
        assert "the engine that spreads it (engine.name: vllm), a larger GPU (engine.gpu)" in line

    def test_vllm_spreads_it_and_quantises_it(self) -> None:
        config = study()
        assert list(check_gpu_memory(config, config.models)) == []
        whole = {"models": {"llama-3.3-70b": {"quantization": None}}}
        config = study("paper", whole)
        (line,) = check_gpu_memory(config, config.models)
        assert "141 GB of weights in bfloat16 leave no room on 2 H100-80GB" in line
        assert "more GPUs (in `jobs`), models.llama-3.3-70b.quantization: fp8" in line
        config = study("paper", {"engine": {"gpu": "RTX-3090-24GB"}})
        quantised = next(check_gpu_memory(config, ["llama-3.3-70b"]))
        assert "71 GB of weights in fp8" in quantised
        assert "more GPUs (in `jobs`), a larger GPU" in quantised

    def test_a_quantisation_that_is_not_known_here_counts_as_none(self) -> None:
        config = study("paper", {"models": {"llama-3.3-70b": {"quantization": "auto_awq"}}})
        (line,) = check_gpu_memory(config, config.models)
        assert "141 GB of weights in bfloat16 (what auto_awq saves is not known here)" in line
        assert "quantization: fp8" not in line

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"engine": {"name": "transformers"}},
                r"quantization: fp8 needs `engine: \{name: vllm",
            ),
            (
                {"models": {"llama-3.3-70b": {"tensor_parallel": 4}}},
                r"tensor_parallel: 4, but `jobs` requests 2 GPUs for models of up to 1e\+11",
            ),
        ],
        ids=["engine", "gpus"],
    )
    def test_keys_that_do_not_go_together_are_named(
        self, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(EsrError, match=message):
            study("paper", changes)

    def test_on_a_gpu_that_holds_it_there_is_no_problem(self) -> None:
        config = study("paper", ONE_DEVICE, {"models": {"llama-3.3-70b": None}})
        assert list(check_gpu_memory(config, config.models)) == []

    def test_a_gpu_that_is_not_listed_is_named_with_those_that_are(self) -> None:
        config = study("paper", {"engine": {"gpu": "H1000"}})
        with pytest.raises(EsrError, match=r"engine\.gpu: 'H1000'.*choose one of A100-40GB"):
            list(check_gpu_memory(config, config.models))

    def test_models_that_need_no_gpu_fit_everywhere(self) -> None:
        config = study("organism", {"engine": {"gpu": "RTX-3060-12GB"}})
        assert list(check_gpu_memory(config, config.models)) == []
