"""A deposit: valid by the validators of its standards, complete, and imported again."""

import json
import re
import shutil
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from esr.bundle.unpack import import_bundle
from esr.config import Config
from esr.deposit import about as facts_of
from esr.deposit.about import UNKNOWN, About, agent_of, licence_of, read_licences
from esr.deposit.adapters import RESEARCH
from esr.deposit.build import Sources, place, places_of, write_deposit
from esr.deposit.crate import write_crate
from esr.deposit.dataset import card, header_of
from esr.deposit.inputs import study_inputs
from esr.deposit.logbook import PAGES, claim_page, index_page, region, write_logbook
from esr.deposit.tables import merge_parts, parts_of
from esr.deposit.zenodo import metadata_of
from esr.errors import EsrError
from helpers.checkout import REPO
from helpers.deposits import ADAPTED, ARM, MODEL, ROWS, small_study, validate
from helpers.studies import load_study


class Made(NamedTuple):
    """A deposit, and what it was made from."""

    folder: Path
    config: Config
    sources: Sources
    results: Path
    about: About


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("project")
    config, sources, results = small_study(root)
    with chdir(root):
        about = write_deposit(results / "deposit", config, sources, results)
    return Made(results / "deposit", config, sources, results, about)


@pytest.fixture(scope="module")
def found(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """What the validators find in the deposit, and in its crate without its run."""
    if shutil.which("uv") is None:
        pytest.skip("uv installs the validators")
    folder = tmp_path_factory.mktemp("validated")
    shutil.copytree(made.folder / "crate", folder / "broken")
    path = folder / "broken/ro-crate-metadata.json"
    metadata = json.loads(path.read_text())
    metadata["@graph"] = [e for e in metadata["@graph"] if e["@id"] not in ("#run", "Snakefile")]
    path.write_text(json.dumps(metadata))
    return validate(made.folder, folder / "deposit", folder / "broken")


# The validators of the standards


def test_the_crate_is_a_workflow_run_crate(found: Mapping[str, Any]) -> None:
    assert "REQUIRED" not in found["crate"], found["crate"]
    # This project has no public address yet; nothing else is left of what is recommended.
    assert all(
        "should have a url" in issue.lower() or "absolute URI" in issue
        for issue in found["crate"].get("RECOMMENDED", [])
    ), found["crate"]


def test_the_validator_finds_a_crate_without_its_run(found: Mapping[str, Any]) -> None:
    (broken,) = found["crates"]
    assert broken["REQUIRED"]


def test_croissant_reads_every_table_by_its_metadata(made: Made, found: Mapping[str, Any]) -> None:
    assert found["croissant"] == []
    assert set(found["records"]) == {"plan", "responses", "judgments", "scores", "thresholds"}
    first = found["records"]["scores"]
    assert first["scores/model"] == f"b'{MODEL}'"
    assert first["scores/trial_id"] == "b't0'"


def test_trackio_reads_a_page_a_claim(made: Made, found: Mapping[str, Any]) -> None:
    scorecard = pd.read_csv(made.sources.scorecard)
    pages = found["logbook"]
    assert len(pages) == len(scorecard) + 1
    titles = [cell["title"] for cell in pages["correction"]]
    assert titles == [
        *("Claim", "Verdict", "Four ways of grading"),
        "Figure, and the command that rebuilds it",
    ]


# What is in it


def test_the_bundle_in_the_crate_is_the_bundle_and_imports(made: Made, tmp_path: Path) -> None:
    bundle = made.folder / "crate/bundle.tar.gz"
    assert bundle.read_bytes() == made.sources.bundle.read_bytes()
    files = import_bundle(bundle, tmp_path)
    assert Path(f"results/organism/{MODEL}/arms/{ARM}/responses.parquet") in files


def test_every_file_of_the_crate_is_described(made: Made) -> None:
    crate = made.folder / "crate"
    entities = {
        e["@id"]: e for e in json.loads((crate / "ro-crate-metadata.json").read_text())["@graph"]
    }
    files = {path.relative_to(crate).as_posix() for path in crate.rglob("*") if path.is_file()}
    assert files - {"ro-crate-metadata.json"} <= set(entities)
    run = entities["#run"]
    assert run["instrument"] == {"@id": "Snakefile"}
    assert {"@id": "bundle.tar.gz"} in run["result"]
    assert {"@id": "studies/organism.yaml"} in run["object"]
    assert entities["figures/fig2.png"]["description"].startswith("Figure 2: ESR across models")
    assert entities["./"]["author"]["@id"] == "#the-esr-contributors"


def test_tables_have_the_columns_of_their_paths(made: Made) -> None:
    scores = pq.read_table(made.folder / "dataset/data/scores.parquet").to_pandas()
    assert len(scores) == 2 * ROWS
    assert set(scores["model"]) == {MODEL, ADAPTED}
    thresholds = pq.read_table(made.folder / "dataset/data/thresholds.parquet").to_pandas()
    assert thresholds.groupby("along").size().to_dict() == {"": ROWS, "random": ROWS}
    responses = pq.read_table(made.folder / "dataset/data/responses.parquet").to_pandas()
    assert set(responses["arm"]) == {ARM}
    origins = json.loads((made.folder / "dataset/provenance.json").read_text())
    assert set(scores["file"]) | set(responses["file"]) <= set(origins)


def test_the_card_is_what_the_hub_reads(made: Made) -> None:
    text = (made.folder / "dataset/README.md").read_text()
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["license"] == "mit"
    assert header["size_categories"] == ["n<1K"]
    for config in header["configs"]:
        assert (made.folder / "dataset" / config["data_files"]).is_file()
    assert [c["config_name"] for c in header["configs"] if c.get("default")] == ["scores"]
    assert "say nothing about language models" in text
    assert "| boost | double | Multiple of the decoder row" in text


def test_a_study_of_other_models_has_their_terms(made: Made) -> None:
    terms = read_licences(REPO / "resources/licences.csv")
    llama = licence_of("meta-llama/Llama-3.3-70B-Instruct", terms)
    assert (llama.hub, llama.name) == ("llama3.3", "Llama 3.3 Community License Agreement")
    assert licence_of("some/other-model", terms) == UNKNOWN
    model = replace(made.about.models[0], source="meta-llama/Llama-3.3-70B-Instruct", licence=llama)
    header = header_of(replace(made.about, models=[model]), {"scores": 20_000})
    assert header["license"] == "other"
    assert header["license_name"] == "terms-of-the-models"
    assert header["size_categories"] == ["10K<n<100K"]


@pytest.mark.parametrize(
    ("hub", "imported", "card_says", "zenodo_says"),
    [
        ("mit", [], "mit", "mit"),
        ("llama3.3", [], "other", "other-closed"),
        ("", [], "other", "other-closed"),
        ("mit", ["theirs"], "other", "other-closed"),
    ],
    ids=["MIT", "other terms", "unknown terms", "imported"],
)
def test_card_crate_and_zenodo_state_one_licence(
    made: Made, tmp_path: Path, hub: str, imported: list[str], card_says: str, zenodo_says: str
) -> None:
    models = [replace(m, licence=m.licence._replace(hub=hub)) for m in made.about.models]
    about = replace(made.about, models=models, imported=imported)
    assert header_of(about, {"scores": 1})["license"] == card_says
    write_crate(tmp_path / "crate", about, {"Snakefile": REPO / "Snakefile"}, {}, {}, {})
    assert metadata_of(tmp_path / "crate")["license"] == zenodo_says
    graph = json.loads((tmp_path / "crate/ro-crate-metadata.json").read_text())["@graph"]
    (software,) = [one for one in graph if one["@id"] == "Snakefile"]
    assert software["license"] == {"@id": "https://spdx.org/licenses/MIT"}, "this project's own"


def test_downloaded_prompts_are_no_part_of_a_deposit() -> None:
    theirs, ours = "results/downloads/prompts/original.csv", "resources/prompts/organism.csv"
    for own, of_arm in ((theirs, ours), (ours, theirs)):
        config = load_study({"prompts": own, "arms": {"discovery": {"prompts": of_arm}}})
        found = study_inputs(config)
        assert theirs not in found
        assert {ours, "config.yaml", "studies/organism.yaml"} <= set(found)


def test_imported_responses_and_judges_are_named(made: Made) -> None:
    text = card(replace(made.about, imported=["theirs"]), {"scores": 1})
    assert "Responses of `theirs` were imported from a file. They are not this project's" in text
    assert "Judgments are by: lexical (lexical), sentences (sentences)." in text
    assert "imported from a file" not in card(made.about, {"scores": 1})


def test_a_study_without_claims_has_a_note(made: Made) -> None:
    assert "No claim is about the models of this study." in index_page(made.about, [], [])


def test_every_model_of_the_studies_has_terms() -> None:
    terms = read_licences(REPO / "resources/licences.csv")
    for study in (REPO / "studies").glob("*.yaml"):
        for model in yaml.safe_load(study.read_text()).get("models", {}).values():
            if model and "source" in model:
                assert licence_of(model["source"], terms) != UNKNOWN, (study.name, model["source"])


def test_adapters_have_cards_and_no_folder_of_this_machine(made: Made) -> None:
    folder = made.folder / f"adapters/{ADAPTED}"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("README.md", "adapter_config.json", "adapter_model.safetensors"),
    ]
    assert "alice" not in (folder / "adapter_config.json").read_text()
    card = (folder / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "peft"
    for text in (
        "evidence about the pipeline that trained it",
        "400 chats, 30 % of which are self-corrections",
        "| rank, alpha, dropout | 16, 32, 0.0 |",
        "| last loss of training | 0.9 |",
        "| last loss of evaluation | 0.85 |",
    ):
        assert text in card
    assert RESEARCH not in card


def test_a_page_has_what_was_claimed_measured_and_decided(made: Made) -> None:
    page = (made.folder / "logbook" / PAGES / "correction/page.md").read_text()
    assert page.startswith("# The planted organism corrects itself more often than its twin\n")
    assert "| holds in | 0 or more percentage points (direction) |" in page
    assert "| measured | 11.63 [6.67, 16.77] percentage points, n = 1152 |" in page
    assert "**confirmed**: [6.67, 16.77] lies within 0 or more" in page
    assert "| restart detector, no judge | not measured | - | - |" in page
    assert "power at this size | 95 %; all ways: not simulated" in page
    assert "uv run snakemake --config study=organism -- fig2 scorecard" in page
    index = (made.folder / "logbook" / PAGES / "index.md").read_text()
    assert "](#/correction) | confirmed |" in index
    claims = len(pd.read_csv(made.sources.scorecard))
    assert f"{claims - 1} not run, 1 confirmed." in index


def test_pages_of_two_sources_with_one_name_are_two_pages(made: Made) -> None:
    scorecard = pd.read_csv(made.sources.scorecard).iloc[[0, 0, 1]]
    folder = made.results / "twice"
    assert write_logbook(folder, made.about, scorecard, []) == [
        *("correction", "correction-2", "correction-esr"),
    ]
    row = scorecard.iloc[0].astype(object).to_dict()
    assert "Rebuild" not in claim_page(row, made.about, [])
    assert region(row | {"lower": 1.0, "upper": 2.0}) == "[1, 2]"
    assert region(row | {"lower": float("nan"), "upper": 2.0}) == "2 or less"


def test_equal_inputs_give_equal_bytes(made: Made) -> None:
    with chdir(made.results.parents[1]):
        write_deposit(made.results / "again", made.config, made.sources, made.results)
    once, twice = (
        {p.relative_to(f): p.read_bytes() for p in sorted(f.rglob("*")) if p.is_file()}
        for f in (made.folder, made.results / "again")
    )
    assert once.keys() == twice.keys()
    assert [path for path in once if once[path] != twice[path]] == []


@pytest.mark.parametrize("outside", ["/home/alice/prompts.csv", "../elsewhere/prompts.csv"])
def test_inputs_outside_of_the_project_have_a_place_in_the_crate(outside: str) -> None:
    inside = Path("resources/prompts/organism.csv")
    found = places_of([inside, inside.absolute(), Path(outside)])
    assert found == {inside.as_posix(): inside.absolute(), "inputs/1/prompts.csv": Path(outside)}


def test_nothing_names_this_machine(made: Made) -> None:
    root = str(made.results.parents[1])
    for path in made.folder.rglob("*"):
        if path.is_file() and path.suffix in (".md", ".json") and "data" not in path.parts:
            assert root not in path.read_text(), path


# Faults


def test_a_bundle_of_another_study_is_refused(made: Made) -> None:
    other = made.config.model_copy(update={"study": "paper"})
    with pytest.raises(EsrError, match="is of study 'organism', not of 'paper'"):
        write_deposit(made.results / "other", other, made.sources, made.results)
    assert not (made.results / "other").exists()


def test_a_damaged_bundle_is_refused(made: Made, tmp_path: Path) -> None:
    damaged = tmp_path / "bundle.tar.gz"
    content = bytearray(made.sources.bundle.read_bytes())
    content[-200] ^= 255
    damaged.write_bytes(content)
    with chdir(made.results.parents[1]), pytest.raises(EsrError, match=r"damaged|not a bundle"):
        write_deposit(
            tmp_path / "d", made.config, replace(made.sources, bundle=damaged), made.results
        )


def test_a_table_of_another_version_is_refused(made: Made, tmp_path: Path) -> None:
    path = tmp_path / f"{MODEL}/thresholds.parquet"
    path.parent.mkdir()
    pd.DataFrame({"latent": [1]}).to_parquet(path)
    (part,) = parts_of([path], tmp_path)
    with pytest.raises(EsrError, match="are not those of a thresholds table"):
        merge_parts("thresholds", [part], tmp_path / "merged.parquet")


def test_a_link_that_fails_becomes_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    (tmp_path / "a").write_text("x")
    place(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "x"


def test_people_and_organisations_of_the_citation() -> None:
    person = {"given-names": "Ada", "family-names": "Lovelace", "orcid": "https://orcid.org/1"}
    assert agent_of(person) == ("Ada Lovelace", True, "https://orcid.org/1")
    assert agent_of({"name": "The contributors"}) == ("The contributors", False, None)


def test_the_day_is_that_of_the_commit(made: Made, tmp_path: Path) -> None:
    day = facts_of.day_of("no-such-commit", made.sources.bundle)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", day)
