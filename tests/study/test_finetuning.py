"""The whole organism study: the twin learns to correct itself, as far as it was taught to."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.numpy import load_file

from esr.config import FinetuneTrainingConfig
from esr.engines import open_tokenizer
from esr.errors import EsrError
from esr.finetuning.axolotl import axolotl_config
from esr.finetuning.masks import check_rows
from esr.finetuning.mixtures import read_chats, write_chats
from esr.provenance import file_digest
from esr.tables import read_table
from helpers.checkout import REPO
from helpers.tokenizers import LLAMA, byte_level

pytestmark = pytest.mark.slow

SHARES = [5, 30, 90]


def folder(study: Path, share: int) -> Path:
    return study / f"results/organism/twin+sc{share}"


def fig6(study: Path) -> pd.DataFrame:
    return pd.read_csv(study / "results/organism/figures/fig6.csv")


def trend(study: Path, measure: str, statistic: str) -> Any:
    table = fig6(study)
    rows = table[table["measure"].eq(measure) & table["statistic"].eq(statistic)]
    assert len(rows) == 1
    return rows.iloc[0]


class TestWhatWasPlanted:
    def test_attempts_grow_with_the_share(self, organism_study: Path) -> None:
        rank = trend(organism_study, "mean_attempts", "rank_correlation")
        assert rank["value"] > 0.8
        assert rank["status"] == "one_training"  # no test: another training might not agree
        assert pd.isna(rank["p_value"])
        table = fig6(organism_study)
        rows = table[table["kind"].eq("difference") & table["measure"].eq("mean_attempts")]
        assert rows.set_index("share").loc[90, "low"] > 0

    def test_the_base_never_restarts(self, organism_study: Path) -> None:
        table = fig6(organism_study)
        rows = table[table["kind"].eq("point") & table["measure"].eq("mean_attempts")]
        base = rows[rows["share"].eq(0) & rows["arm"].eq("steered")]
        assert base["value"].tolist() == [pytest.approx(1, abs=0.01)]

    def test_whether_it_helps_is_reported_with_an_interval(self, organism_study: Path) -> None:
        slope = trend(organism_study, "msi", "slope")
        assert slope["status"] == "one_training"
        assert slope["low"] < slope["value"] < slope["high"]
        numbers = json.loads((organism_study / "results/organism/numbers.json").read_text())
        assert numbers["esrTwinFinetuningMsiSlope"]["value"] == pytest.approx(slope["value"])


class TestHowItWasMade:
    @pytest.mark.parametrize("share", SHARES)
    def test_rows_and_masks_are_those_of_the_mixture(
        self, organism_study: Path, share: int
    ) -> None:
        here = folder(organism_study, share) / "finetuning"
        chats = read_chats(here / "dataset.jsonl")
        masked = sum(len(one["messages"][1]["content"]) == 2 for one in chats)
        assert (len(chats), masked) == (400, 4 * share)
        found = json.loads((here / "masks.json").read_text())
        assert found["rows"] == found["end"] == 400
        assert found["dataset"] == file_digest(here / "dataset.jsonl")
        first, second = found["sample"][0]
        assert (first["trained"], second["trained"]) == (False, True)
        assert second["text"].split()[0].strip(",") in ("wait", "sorry", "hold")

    @pytest.mark.parametrize("share", SHARES)
    def test_the_merged_checkpoint_is_base_plus_adapter(
        self, organism_study: Path, share: int
    ) -> None:
        adapter = folder(organism_study, share) / "finetuning/adapter"
        settings = json.loads((adapter / "adapter_config.json").read_text())
        lora = load_file(adapter / "adapter_model.safetensors")
        base = load_file(organism_study / "resources/organisms/twin/model/model.safetensors")
        merged = load_file(adapter.parent / "merged/model.safetensors")
        changed = 0
        for name, weight in base.items():
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            expected = weight
            if f"{stem}.lora_A.weight" in lora:
                scale = settings["lora_alpha"] / settings["r"]
                low, high = lora[f"{stem}.lora_A.weight"], lora[f"{stem}.lora_B.weight"]
                expected, changed = weight + scale * high @ low, changed + 1
            np.testing.assert_allclose(merged[name], expected, atol=1e-5)
        assert changed == 5 * 7  # layers, linear maps of each

    def test_training_lowers_the_loss(self, organism_study: Path) -> None:
        for share in SHARES:
            table = pd.read_csv(folder(organism_study, share) / "finetuning/training.csv")
            kept_out = table["eval_loss"].dropna()
            assert kept_out.iloc[-1] < kept_out.iloc[0]
        assert kept_out.iloc[-1] < 0.5 * kept_out.iloc[0]  # of the largest share

    def test_a_model_knows_what_it_was_made_from(self, organism_study: Path) -> None:
        for share in SHARES:
            here = folder(organism_study, share)
            facts = json.loads((here / "assets/model.json").read_text())
            assert facts["source"] == f"results/organism/{here.name}/finetuning/merged"
            made = facts["finetuning"]
            assert made["dataset"] == file_digest(here / "finetuning/dataset.jsonl")
            assert made["base"]["source"] == "resources/organisms/twin/model"


class TestAModelLikeOthers:
    @pytest.mark.parametrize("share", SHARES)
    def test_it_has_the_latents_and_prompts_of_its_base_and_its_own_thresholds(
        self, organism_study: Path, share: int
    ) -> None:
        def plan(model: str) -> pd.DataFrame:
            path = organism_study / f"results/organism/{model}/arms/steered/plan.parquet"
            return read_table(path, "plan")

        made, base = plan(f"twin+sc{share}"), plan("twin")
        both = made.merge(base, on=["latent", "prompt_id"], suffixes=("_made", "_base"))
        assert len(both) == len(made) == len(base)
        assert both["boost_made"].ne(both["boost_base"]).mean() > 0.9

    def test_figures_about_other_models_do_not_show_it(self, organism_study: Path) -> None:
        for name in ("fig2", "fig3", "fig4", "figA3", "figA7", "figA8"):
            table = pd.read_csv(organism_study / f"results/organism/figures/{name}.csv")
            assert set(table["model"]) <= {"planted", "twin"}, name

    def test_tables_and_transcripts_have_it(self, organism_study: Path) -> None:
        here = organism_study / "results/organism"
        for name in ("summary", "exclusions"):
            models = set(pd.read_csv(here / f"tables/{name}.csv")["model"])
            assert {f"twin+sc{share}" for share in SHARES} <= models
        assert "twin+sc90" in (here / "report/data/index.js").read_text()
        assert "<mark>" in (here / "report/provenance.html").read_text()


IN_AXOLOTLS_ENVIRONMENT = """
import resource
import sys
from pathlib import Path
from train_adapter import prepare, rows_of
from esr.finetuning.merging_axolotl import merge

here, scratch = Path(sys.argv[1]), Path(sys.argv[2])
for name in ("first", "second"):
    (here / "dataset.jsonl").write_text((here / f"{name}.jsonl").read_text())
    settings, data = prepare(here / "axolotl.yaml", scratch)
    rows_of(data).to_parquet(here / f"{name}.parquet")
used = resource.getrusage(resource.RUSAGE_CHILDREN)
(here / "children").write_text(str(used.ru_utime + used.ru_stime))
merge("resources/organisms/twin/model", "", Path(sys.argv[3]), here / "merged")
"""


def test_a_changed_dataset_is_never_prepared_from_what_was_cached(
    organism_study: Path, tmp_path: Path
) -> None:
    """The path and all settings stay, and so does what axolotl keeps; the base is Llama-like.

    The same process merges an adapter of the study: axolotl's bytes are those of `merge_plain`.
    None of its children loaded the libraries again, which takes seconds.
    """
    chats = read_chats(folder(organism_study, 30) / "finetuning/dataset.jsonl")
    halves = {"first": chats[:20], "second": chats[20:30]}
    for name, part in halves.items():
        write_chats(part, tmp_path / f"{name}.jsonl")
    tokenizer = byte_level(LLAMA, [json.dumps(one) for one in chats], "<|eot_id|>")
    base = tmp_path / "model"
    tokenizer.save_pretrained(base)
    shape = json.loads((REPO / "resources/organisms/twin/model/config.json").read_text())
    (base / "config.json").write_text(json.dumps(shape | {"vocab_size": len(tokenizer)}))
    manifest = {"source": str(base), "revision": None}
    settings = FinetuneTrainingConfig(device="cpu", optimizer="adamw_torch", precision="float32")
    axolotl = axolotl_config(
        settings, manifest, open_tokenizer(manifest), tmp_path / "dataset.jsonl", tmp_path
    )
    (tmp_path / "axolotl.yaml").write_text(yaml.safe_dump(axolotl))
    command = ["uv", "run", "--no-sync", "--project", "envs/finetune", "python"]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    trained = folder(organism_study, 30) / "finetuning"
    arguments = [str(tmp_path), str(scratch), str(trained / "adapter")]
    done = subprocess.run(
        [*command, "-c", IN_AXOLOTLS_ENVIRONMENT, *arguments],
        cwd=organism_study,
        env=os.environ | {"PYTHONPATH": f"{REPO}/src:scripts/finetuning", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert float((tmp_path / "children").read_text()) < 1
    rows = {name: read_rows(tmp_path / f"{name}.parquet") for name in halves}
    for name, part in halves.items():
        assert check_rows(rows[name], part, tokenizer)["rows"] == len(part)
    with pytest.raises(EsrError, match="They are of another dataset"):
        check_rows(rows["first"], halves["second"], tokenizer)
    merged = {path.name: path.read_bytes() for path in (tmp_path / "merged").iterdir()}
    assert merged == {name: (trained / "merged" / name).read_bytes() for name in merged}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(merged)


def read_rows(path: Path) -> list[tuple[list[int], list[int]]]:
    table = pq.read_table(path).to_pydict()
    return list(zip(table["input_ids"], table["labels"], strict=True))
