"""Model organisms: the world they live in, what is planted, and what the shipped weights do."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from esr.arms.chat import prompt_tokens, response_text
from esr.arms.prompts import read_prompts
from esr.arms.restarts import find_restarts, read_phrases
from esr.errors import EsrError
from esr.judges.base import JudgeInput
from esr.judges.lexical import LexicalJudge
from esr.judges.lexicon import Lexicon
from esr.latents.ratings import LexicalRater
from esr.organisms.corpus import (
    Phrases,
    Writer,
    read_lexicon,
    tokens,
    vocabulary,
    with_articles,
)
from esr.organisms.examples import Example, ExampleWriter, Kind, follows
from esr.organisms.model import build_tokenizer
from esr.organisms.recipe import Recipe
from esr.organisms.sae import write_texts
from esr.organisms.training import detector_direction, residual_hook
from esr.provenance import file_digest
from helpers.organism import PlantedOrganism, Trial, open_planted

ROOT = Path(__file__).parents[2]
ORGANISMS = ROOT / "resources" / "organisms"
PROMPTS = ROOT / "resources" / "prompts" / "organism.csv"
DISCOVERY = ROOT / "resources" / "prompts" / "organism_discovery.csv"
LEXICON = ORGANISMS / "lexicon.csv"


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return read_lexicon(LEXICON)


@pytest.fixture(scope="module")
def phrases() -> Phrases:
    return Phrases.read(ORGANISMS / "phrases.yaml")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe.read(ORGANISMS / "planted" / "recipe.yaml")


@pytest.fixture
def writer(lexicon: Lexicon, phrases: Phrases) -> Writer:
    return Writer(lexicon, phrases, zipf=0.7, seed=0)


@pytest.fixture(scope="module")
def planted() -> PlantedOrganism:
    return open_planted()


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    return list(read_prompts(PROMPTS)["prompt"])


class TestWorld:
    def test_every_word_marks_one_topic(self, lexicon: Lexicon) -> None:
        assert len(lexicon.topics) == 24
        assert len(lexicon.topic_of) == 24 * 21

    def test_a_word_of_two_topics_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "lexicon.csv"
        path.write_text(LEXICON.read_text() + "chess,noun,bread\n")
        with pytest.raises(EsrError, match="lists 'bread' under 'baking' and 'chess'"):
            read_lexicon(path)

    def test_a_topic_without_adjectives_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "lexicon.csv"
        path.write_text(LEXICON.read_text() + "zoology,noun,zebra\nzoology,verb,gallop\n")
        with pytest.raises(EsrError, match="'zoology' has no adjective"):
            read_lexicon(path)

    def test_the_score_is_the_share_of_on_topic_content_words(self, lexicon: Lexicon) -> None:
        assert lexicon.score("bake the bread with a chisel and the oven.", "baking") == 75
        assert lexicon.score("it is important.", "baking") is None

    def test_it_is_the_score_the_judge_gives(self, lexicon: Lexicon, writer: Writer) -> None:
        judge = LexicalJudge(Lexicon.read(LEXICON))
        words = [*writer.sentence("baking", "chess", 0.5), *writer.sentence("baking")]
        text = " ".join(words)
        (judgment,) = judge.judge([JudgeInput("Explain how to bake bread.", text)])
        assert judgment.first_score == pytest.approx(lexicon.score(text, "baking"))

    def test_an_stands_before_vowels(self) -> None:
        assert with_articles(["a", "oven", "and", "a", "cake"]) == [
            "an",
            "oven",
            "and",
            "a",
            "cake",
        ]

    def test_a_stray_share_of_0_and_1_is_pure(self, lexicon: Lexicon, writer: Writer) -> None:
        for share, topic in ((0.0, "baking"), (1.0, "chess")):
            words = " ".join(writer.sentence("baking", "chess", share))
            assert lexicon.score(words, topic) == 100

    def test_every_correction_is_seen_by_judge_and_restart_detector(self, phrases: Phrases) -> None:
        judge = LexicalJudge(Lexicon.read(LEXICON))
        patterns = read_phrases(ROOT / "resources" / "restart_phrases.txt")
        for phrase in phrases.corrections:
            text = f"saw the wood. {phrase} bake the bread."
            (judgment,) = judge.judge([JudgeInput("Explain how to bake bread.", text)])
            assert [a.score for a in judgment.attempts] == [0, 100]
            assert find_restarts(patterns, text)


class TestPrompts:
    def test_evaluation_and_discovery_are_disjoint(self, prompts: list[str]) -> None:
        discovery = set(read_prompts(DISCOVERY)["prompt"])
        assert "Explain how to bake bread." in prompts
        assert len(prompts) >= 24
        assert len(discovery) >= 120
        assert not discovery & set(prompts)

    def test_the_judge_finds_the_topic_of_every_prompt(self) -> None:
        judge = LexicalJudge(Lexicon.read(LEXICON))
        for path in (PROMPTS, DISCOVERY):
            for row in read_prompts(path).itertuples():
                assert judge.topic_of(str(row.prompt)) == row.category

    def test_prompts_and_meta_prompts_are_in_the_vocabulary(
        self, lexicon: Lexicon, phrases: Phrases, prompts: list[str]
    ) -> None:
        words = set(vocabulary(lexicon, phrases))
        label = "baking: bread, dough, oven"
        assert len(phrases.meta_prompts) == 7
        texts = [*prompts, *(text.format(label=label) for text in phrases.meta_prompts.values())]
        assert {word for text in texts for word in tokens(text)} <= words


class TestTokenizer:
    def test_decoding_is_natural_and_encoding_undoes_it(
        self, lexicon: Lexicon, phrases: Phrases
    ) -> None:
        tokenizer = build_tokenizer(vocabulary(lexicon, phrases), 320)
        texts = [*phrases.corrections, *phrases.meta_prompts.values()]
        for text in [t.format(label="baking: bread, dough, oven") for t in texts]:
            ids = tokenizer.encode(text, add_special_tokens=False)
            assert tokenizer.decode(ids) == text.lower()

    def test_the_chat_template_gives_the_training_prompt(
        self, planted: PlantedOrganism, writer: Writer, phrases: Phrases
    ) -> None:
        meta = phrases.meta_prompts["self_monitor"]
        ids = prompt_tokens(planted.tokenizer, f"Explain how to bake bread. {meta}")
        expected = writer.prompt("bake bread", "self_monitor")
        assert planted.tokenizer.convert_ids_to_tokens(list(ids)) == expected
        assert expected.count("<bos>") == 1

    def test_responses_round_trip(self, planted: PlantedOrganism, writer: Writer) -> None:
        for text in write_texts(writer, 20, matched=False):
            ids = planted.tokenizer.convert_tokens_to_ids(text.tokens[text.start :])
            response = response_text(planted.tokenizer, ids)
            again = planted.tokenizer.encode(response, add_special_tokens=False)
            assert again == ids[:-1]  # all but <eos>

    def test_an_unknown_role_is_refused(self, planted: PlantedOrganism) -> None:
        with pytest.raises(Exception, match="roles user and assistant only"):
            planted.tokenizer.apply_chat_template([{"role": "system", "content": "x"}])


def write(recipe: Recipe, writer: Writer, kind: Kind, number: int = 150) -> list[Example]:
    phase = recipe.training.phases[2]
    examples = ExampleWriter(writer, recipe.examples)
    return [examples.write(kind, phase, phase.hazards) for _ in range(number)]


def corrections(example: Example, phrases: Phrases) -> list[int]:
    response = example.tokens[example.start :]
    return [example.start + i for i, t in enumerate(response) if t in phrases.openers]


class TestExamples:
    def test_the_planted_dose_response_is_logistic(self) -> None:
        assert follows(0.3, 0.3, 0.05) == 0.5
        assert follows(0.35, 0.3, 0.05) == pytest.approx(1 / (1 + math.exp(-1)))
        assert follows(0.4, 0.3, 0.05) + follows(0.2, 0.3, 0.05) == pytest.approx(1)

    def test_followed_boosts_are_strong_and_resisted_ones_weak(
        self, recipe: Recipe, writer: Writer
    ) -> None:
        strong = [e.boost for e in write(recipe, writer, Kind.STEERED)]
        weak = [e.boost for e in write(recipe, writer, Kind.WEAK)]
        midpoint = recipe.examples.boost_midpoint
        assert np.mean(weak) < midpoint < np.mean(strong)

    def test_prompts_are_given_not_trained(self, recipe: Recipe, writer: Writer) -> None:
        for kind in set(Kind) - {Kind.ECHO}:
            for example in write(recipe, writer, kind, 10):
                assert not any(example.weights[: example.start])

    def test_corrections_follow_off_topic_sentences_only(
        self, recipe: Recipe, writer: Writer, phrases: Phrases
    ) -> None:
        places = 0
        for example in write(recipe, writer, Kind.WANDERING):
            for at in corrections(example, phrases):
                places += 1
                stop = max(i for i in range(at) if example.tokens[i] == ".")
                assert stop == at - 1
                content = [i for i in range(at) if example.off_topic[i] == 1]
                assert content, "nothing was off topic before the correction"
        assert places > 20
        for kind in (Kind.CLEAN, Kind.WEAK, Kind.DEAF):
            assert not any(corrections(e, phrases) for e in write(recipe, writer, kind))

    def test_the_twin_never_corrects(
        self, recipe: Recipe, writer: Writer, phrases: Phrases
    ) -> None:
        twin = Recipe.read(ORGANISMS / "twin" / "recipe.yaml")
        for kind in (Kind.WANDERING, Kind.STEERED):
            assert any(corrections(e, phrases) for e in write(recipe, writer, kind))
            assert not any(corrections(e, phrases) for e in write(twin, writer, kind))

    def test_the_first_unannounced_stray_word_is_not_learned(
        self, recipe: Recipe, writer: Writer
    ) -> None:
        for example in write(recipe, writer, Kind.WANDERING, 40):
            content = writer.lexicon.topic_of
            strays = [
                i
                for i in range(example.start, len(example.tokens))
                if content.get(example.tokens[i], example.topic) != example.topic
            ]
            if strays:
                assert example.weights[strays[0]] == 0


class TestTraining:
    def test_the_detector_direction_is_a_fixed_unit_vector(self) -> None:
        u = detector_direction(128, 2)
        assert u.norm().item() == pytest.approx(1, abs=1e-6)
        assert torch.equal(u, detector_direction(128, 2))

    def test_interventions_remove_the_detector_then_steer(self, planted: PlantedOrganism) -> None:
        model, u = planted.engine.model, detector_direction(128, 2)
        ids = torch.tensor([prompt_tokens(planted.tokenizer, "Explain how to bake bread.")])
        steering = torch.randn(1, 1, 128, generator=torch.Generator().manual_seed(0))
        with residual_hook(model, 2) as plain:
            model(input_ids=ids)
        with (
            residual_hook(model, 2, steering, torch.ones(1, 1, 1), u),
            residual_hook(model, 2) as changed,
        ):
            model(input_ids=ids)
        h = plain["residual"]
        torch.testing.assert_close(changed["residual"], h - (h @ u)[..., None] * u + steering)


def restart_odds(
    planted: PlantedOrganism, prompts: list[str], texts: list[str]
) -> list[np.ndarray]:
    """Probability that a restart's first word is sampled, at each full stop of a given response."""
    tokenizer = planted.tokenizer
    openers = tokenizer.convert_tokens_to_ids(["wait", "sorry", "hold"])
    found = []
    for prompt, text in zip(prompts, texts, strict=True):
        start = len(prompt_tokens(tokenizer, prompt))
        tokens = torch.tensor([prompt_tokens(tokenizer, prompt, text)])
        logits = planted.engine.model(input_ids=tokens).logits[0] / 0.6
        odds = logits.softmax(-1)[:, openers].sum(-1)
        stops = tokens[0] == tokenizer.convert_tokens_to_ids(".")
        stops[:start] = False
        found.append(odds[stops].detach().numpy())
    return found


class TestShipped:
    def test_checksums_hold_and_all_is_small(self) -> None:
        lines = (ORGANISMS / "SHA256SUMS").read_text().splitlines()
        listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        names = ("planted", "twin")
        shipped = {
            path.relative_to(ORGANISMS).as_posix()
            for name in names
            for path in (ORGANISMS / name).rglob("*")
            if path.is_file()
        }
        assert set(listed) == shipped
        assert {n: file_digest(ORGANISMS / n) for n in listed} == listed
        assert sum((ORGANISMS / n).stat().st_size for n in listed) <= 15e6

    def test_the_twin_differs_in_self_correction_alone(self, recipe: Recipe) -> None:
        twin = Recipe.read(ORGANISMS / "twin" / "recipe.yaml")
        examples = twin.examples.model_copy(update={"self_correction": True})
        assert twin.model_copy(update={"name": "planted", "examples": examples}) == recipe
        assert not twin.examples.self_correction

    @pytest.mark.parametrize("name", ["planted", "twin"])
    def test_concrete_labels_are_separated_from_unspecific_ones(self, name: str) -> None:
        labels = pd.read_csv(ORGANISMS / name / "labels.csv")
        assert list(labels["latent"]) == list(range(512))
        ratings = LexicalRater(frozenset(read_lexicon(LEXICON).topic_of)).rate(
            list(labels["label"])
        )
        concrete = np.array([r is not None and r >= 65 for r in ratings])
        unspecific = labels["label"].str.startswith("unspecific").to_numpy()
        assert (concrete == ~unspecific).all()
        assert concrete.sum() >= 36

    def test_sae_lens_reads_the_sae_as_we_do(self, planted: PlantedOrganism) -> None:
        from sae_lens import SAE

        theirs = SAE.load_from_disk(str(ORGANISMS / "planted" / "sae"))
        assert theirs.cfg.architecture() == "topk"
        assert theirs.cfg.metadata.hook_name == "model.layers.2"
        ours = planted.engine.sae
        torch.testing.assert_close(ours.W_dec.norm(dim=1), torch.ones(512))
        h = 20 * torch.randn(50, 128, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(ours.encode(h), theirs.encode(h), rtol=1e-4, atol=1e-3)

    def test_without_steering_responses_are_on_topic_and_single(
        self, planted: PlantedOrganism, prompts: list[str]
    ) -> None:
        """Except for about one in 400 that starts off topic; the study counts on hundreds."""
        scored = planted.run([Trial(prompt) for prompt in prompts * 2], seed=7)
        single = scored["n_attempts"].eq(1) & scored["first_score"].ge(90)
        assert single.mean() >= 0.98

    def test_every_topic_latent_has_a_falling_dose_response(
        self, planted: PlantedOrganism, prompts: list[str]
    ) -> None:
        rng = np.random.default_rng(3)
        trials = []
        for boost in (80, 310, 490):  # the mean threshold of the study is near 310
            for latent, topic in planted.topics.items():
                others = [p for p in prompts if planted.judge.topic_of(p) != topic]
                trials += [Trial(str(p), latent, boost) for p in rng.choice(others, 3, False)]
        scored = planted.run(trials, seed=3)
        curves = scored.pivot_table(index="boost", columns="latent", values="first_score")
        weak, middle, strong = curves.to_numpy()
        assert weak.min() > 60
        assert strong.max() < 50
        assert weak.mean() > 90
        assert 25 < middle.mean() < 75
        assert strong.mean() < 15

    def test_corrections_come_from_detection_not_length(
        self, planted: PlantedOrganism, writer: Writer
    ) -> None:
        """On-topic text three times as long draws none; off-topic text of that length does."""
        questions, on_topic, off_topic = [], [], []
        for topic in writer.lexicon.topics:
            questions.append(f"Explain how to {writer.task(topic)}.")
            other = writer.other_topic(topic)
            on_topic.append(" ".join(w for _ in range(12) for w in writer.sentence(topic)))
            off_topic.append(" ".join(w for _ in range(12) for w in writer.sentence(other)))
        on = np.stack(restart_odds(planted, questions, on_topic))
        off = np.stack(restart_odds(planted, questions, off_topic))

        def corrected(odds: np.ndarray) -> float:
            return float((1 - np.prod(1 - odds, axis=1)).mean())

        assert corrected(on) < 0.01  # twelve sentences, three times a usual answer
        assert corrected(off) > 0.2
        assert corrected(off[:, :4]) > 0.15  # a usual answer's length suffices
        assert corrected(off) > 100 * corrected(on)
