"""esr.arms.chat: prompts as tokens in the model's own chat template, and responses as text."""

import re
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from esr.arms.chat import (
    is_unfinished_thought,
    prompt_tokens,
    prompts_digest,
    response_text,
    thought_tokens,
)
from esr.arms.responses import response_status
from esr.arms.restarts import find_restarts, read_phrases
from esr.arms.template import set_template
from esr.engines.base import Generation
from esr.episodes.tokens import token_spans
from esr.errors import EsrError
from esr.organisms.model import build_tokenizer
from helpers.checkout import REPO
from helpers.studies import load_study
from helpers.tiny import LLAMA_SPECIAL, LLAMA_TEMPLATE, LLAMA_WORDS, llama_tokenizer

TOKENIZER = llama_tokenizer()
BOS = "<|begin_of_text|>"
HEADER = ["<|start_header_id|>", "assistant", "<|end_header_id|>"]
USER = [BOS, "<|start_header_id|>", "user", "<|end_header_id|>", "\n\n"]
PLAIN = [*USER, "explain", "how", "to", "bake", "bread", "<|eot_id|>", *HEADER, "\n\n"]
PROMPT = "explain how to bake bread"


def words(prompt: str = PROMPT, prefill: str = "", doubled_header: bool = False) -> list[str]:
    tokens = prompt_tokens(TOKENIZER, prompt, prefill, doubled_header)
    return TOKENIZER.convert_ids_to_tokens(list(tokens))


class TestPrompt:
    def test_is_a_user_turn_and_an_opened_assistant_turn_after_one_bos(self) -> None:
        assert words() == PLAIN

    def test_is_what_the_template_gives_when_it_tokenizes_itself(self) -> None:
        turn = [{"role": "user", "content": PROMPT}]
        expected = TOKENIZER.apply_chat_template(turn, add_generation_prompt=True)
        assert list(prompt_tokens(TOKENIZER, PROMPT)) == expected["input_ids"]

    def test_has_one_bos_though_the_tokenizer_would_add_another(self, tmp_path: Path) -> None:
        from tokenizers.processors import TemplateProcessing
        from transformers import PreTrainedTokenizerFast

        TOKENIZER.save_pretrained(tmp_path)
        adding = PreTrainedTokenizerFast.from_pretrained(tmp_path)
        bos = (BOS, adding.bos_token_id)
        adding.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[bos]
        )
        assert adding.encode(PROMPT)[0] == adding.bos_token_id
        assert prompt_tokens(adding, PROMPT) == prompt_tokens(TOKENIZER, PROMPT)

    def test_prefill_follows_the_assistant_header(self) -> None:
        assert words(prefill="wait , that is wrong .") == [
            *PLAIN,
            *["wait", ",", "that", "is", "wrong", "."],
        ]

    def test_doubled_header_repeats_bos_and_header_without_the_empty_line(self) -> None:
        assert words(doubled_header=True) == [*PLAIN, BOS, *HEADER]
        assert words(prefill="wait", doubled_header=True) == [*PLAIN, BOS, *HEADER, "wait"]

    def test_works_for_a_model_without_bos(self) -> None:
        tokenizer = llama_tokenizer(LLAMA_TEMPLATE.replace("{{ bos_token }}", ""))
        tokenizer.bos_token = None
        assert tokenizer.convert_ids_to_tokens(list(prompt_tokens(tokenizer, PROMPT))) == PLAIN[1:]


class TestRefusals:
    @pytest.mark.parametrize("template", [None, ""])
    def test_no_chat_template(self, template: str | None) -> None:
        with pytest.raises(EsrError, match=r"no chat template: put a chat_template\.jinja"):
            prompt_tokens(llama_tokenizer(template), PROMPT)

    @pytest.mark.parametrize(
        ("template", "count"),
        [
            (LLAMA_TEMPLATE.replace("{{ bos_token }}", ""), 0),
            ("{{ bos_token }}" + LLAMA_TEMPLATE, 2),
            (LLAMA_TEMPLATE.replace("{{ bos_token }}", "") + "{{ bos_token }}", 1),
            ("", 0),
        ],
        ids=["none", "two", "at the end", "an empty prompt"],
    )
    def test_not_exactly_one_bos_at_the_beginning(self, template: str, count: int) -> None:
        tokenizer = llama_tokenizer(template or "{# nothing #}")
        with pytest.raises(EsrError, match=f"has {count} BOS tokens .*need exactly one BOS"):
            prompt_tokens(tokenizer, PROMPT)

    def test_a_bos_smuggled_in_by_the_prompt(self) -> None:
        with pytest.raises(EsrError, match="has 2 BOS tokens"):
            prompt_tokens(TOKENIZER, f"explain {BOS}")

    def test_a_special_token_in_the_prompt(self) -> None:
        with pytest.raises(EsrError, match=r"contains the special token <\|eot_id\|>"):
            prompt_tokens(TOKENIZER, "explain <|eot_id|>")

    def test_a_template_that_loops_over_parts_drops_the_prompt(self) -> None:
        parts = (
            "{% for part in message['content'] %}"
            "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
        )
        template = re.sub(r"\{\{ ?message\['content'\].*?\}\}", parts, LLAMA_TEMPLATE)
        assert template != LLAMA_TEMPLATE
        with pytest.raises(EsrError, match="drops or changes the prompt 'explain how"):
            prompt_tokens(llama_tokenizer(template), PROMPT)

    def test_a_template_that_opens_no_assistant_turn(self) -> None:
        template = LLAMA_TEMPLATE.replace("add_generation_prompt", "false")
        with pytest.raises(EsrError, match="opens no assistant turn"):
            prompt_tokens(llama_tokenizer(template), PROMPT)

    def test_a_template_that_reads_the_clock(self) -> None:
        dated = LLAMA_TEMPLATE.replace(
            "{{ bos_token }}", "{{ bos_token }}{{ strftime_now('%Y') }} ", 1
        )
        with pytest.raises(EsrError, match=r"writes today's date.*template: \{strftime_now: "):
            prompt_tokens(llama_tokenizer(dated), PROMPT)

    def test_a_template_that_opens_a_thought(self) -> None:
        header = "assistant <|end_header_id|>\n\n"
        thinking = LLAMA_TEMPLATE.replace(header, header + "<think>\n")
        with pytest.raises(EsrError, match=r"opens a thought.*enable_thinking: false"):
            prompt_tokens(llama_tokenizer(thinking), PROMPT)

    def test_a_template_that_needs_a_system_turn(self) -> None:
        asking = "{{ raise_exception('need a system turn') }}"
        with pytest.raises(EsrError, match="cannot render a single user turn: need a system turn"):
            prompt_tokens(llama_tokenizer(asking), PROMPT)

    def test_a_template_with_a_date_of_its_own_is_no_clock(self) -> None:
        dated = LLAMA_TEMPLATE.replace("{{ bos_token }}", "{{ bos_token }}26 Jul 2024 ", 1)
        prompt_tokens(llama_tokenizer(dated), PROMPT)

    def test_doubled_header_of_a_tokenizer_that_is_not_llamas(self) -> None:
        vocabulary = ["<pad>", "<bos>", "<eos>", "<unk>", "<user>", "<assistant>", "explain"]
        tokenizer = build_tokenizer(vocabulary, 64)
        assert len(prompt_tokens(tokenizer, "explain")) == 4
        with pytest.raises(EsrError, match="doubled_header is for Llama-3 tokenizers only"):
            prompt_tokens(tokenizer, "explain", doubled_header=True)


class TestResponse:
    def test_special_tokens_are_left_out(self) -> None:
        tokens = ["\n\n", "bake", "bread", "<|eot_id|>"]
        assert (
            response_text(TOKENIZER, TOKENIZER.convert_tokens_to_ids(tokens)).strip()
            == "bake bread"
        )
        assert response_text(TOKENIZER, TOKENIZER.convert_tokens_to_ids(["<|eot_id|>"])) == ""

    def test_prefill_and_response_are_one_text(self) -> None:
        tokens = TOKENIZER.convert_tokens_to_ids(["is", "wrong", "<|eot_id|>"])
        assert response_text(TOKENIZER, tokens, "wait , that") == "wait , that is wrong"


WORDS = [*LLAMA_SPECIAL, *LLAMA_WORDS.split(), "\n\n", "<think>", "</think>", "<unk>"]
PHRASES = read_phrases(REPO / "resources/restart_phrases.txt")


def thinking_tokenizer(special: bool) -> Any:
    """A tokenizer whose tags of a thought are special tokens (left out by decoding), or words."""
    ids = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tags = ["<think>", "</think>"] if special else []
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", additional_special_tokens=tags
    )


@pytest.mark.parametrize("special", [True, False], ids=["special", "words"])
class TestThoughts:
    def response(self, special: bool, text: str) -> tuple[Any, list[int]]:
        tokenizer = thinking_tokenizer(special)
        return tokenizer, tokenizer.convert_tokens_to_ids(text.split())

    def test_a_restart_in_a_thought_is_no_part_of_the_response(self, special: bool) -> None:
        thought = "wait , that is wrong"
        response = self.response(special, f"<think> {thought} </think> bake bread")
        assert find_restarts(PHRASES, thought)
        assert response_text(*response).strip() == "bake bread"
        assert not is_unfinished_thought(*response)

    def test_a_later_thought_is_none_either(self, special: bool) -> None:
        response = self.response(special, "bake <think> wait </think> bread")
        assert response_text(*response).split() == ["bake", "bread"]

    def test_an_unfinished_thought_is_a_status(self, special: bool) -> None:
        tokenizer, tokens = self.response(special, "<think> wait , that is")
        assert response_text(tokenizer, tokens) == ""
        generation = Generation(tuple(tokens), "length")
        assert response_status(generation, tokenizer) == "unfinished_thought"

    def test_tokens_of_a_thought_have_no_characters(self, special: bool) -> None:
        response = self.response(special, "<think> wait </think> bake bread")
        assert thought_tokens(*response) == [True, True, True, False, False]
        text = response_text(*response)
        spans = token_spans(*response)
        assert [text[start:end].strip() for start, end in spans] == ["", "", "", "bake", "bread"]


class TestArguments:
    SWITCH = (
        "{% if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}"
        "</think>{% endif %}"
    )
    DATED = (
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d') %}{% endif %}"
    )

    def rendered(self, template: str, **arguments: Any) -> str:
        tokenizer = llama_tokenizer(template)
        set_template(tokenizer, arguments)
        prompt_tokens(tokenizer, PROMPT)
        turn = [{"role": "user", "content": PROMPT}]
        text: str = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        return text

    def test_thinking_is_off_where_the_template_has_the_switch(self) -> None:
        assert self.rendered(LLAMA_TEMPLATE + self.SWITCH).endswith("</think>")
        switched = self.rendered(LLAMA_TEMPLATE + self.SWITCH, enable_thinking=True)
        assert not switched.endswith("</think>")
        assert self.rendered(LLAMA_TEMPLATE) == self.rendered(LLAMA_TEMPLATE + "{# nothing #}")

    def test_a_fixed_date_takes_the_place_of_the_clock(self) -> None:
        template = LLAMA_TEMPLATE.replace(
            "{{ bos_token }}", "{{ bos_token }}" + self.DATED + "{{ date_string }} ", 1
        )
        with pytest.raises(EsrError, match=r'template: \{date_string: "26 Jul 2024"\}'):
            self.rendered(template)
        assert f"{BOS}26 Jul 2024 " in self.rendered(template, date_string="26 Jul 2024")
        by_clock = self.rendered(template, strftime_now='the "26th"')
        assert f'{BOS}the "26th" ' in by_clock

    def test_a_name_that_the_template_does_not_use_is_refused(self) -> None:
        with pytest.raises(EsrError, match=r"template\.enable_thinkin: the chat template does not"):
            self.rendered(LLAMA_TEMPLATE + self.SWITCH, enable_thinkin=False)

    def test_templates_by_name_need_a_default(self) -> None:
        tokenizer = llama_tokenizer(LLAMA_TEMPLATE)
        tokenizer.chat_template = {"rag": LLAMA_TEMPLATE, "tools": LLAMA_TEMPLATE}
        with pytest.raises(EsrError, match=r"templates \['rag', 'tools'\], none .*default"):
            set_template(tokenizer, {})

    def test_text_from_the_command_line_is_a_truth_value(self) -> None:
        model = {"template": {"enable_thinking": "false", "date_string": "26 Jul 2024"}}
        found = load_study({"models": {"twin": model}}).models["twin"].template
        assert found == {"enable_thinking": False, "date_string": "26 Jul 2024"}


def test_the_digest_of_prompts_depends_on_their_tokens_alone() -> None:
    assert prompts_digest([(1, 2), (3,)]) == prompts_digest([(3,), (1, 2), (3,)])
    assert prompts_digest([(1, 2), (3,)]) != prompts_digest([(1, 2), (4,)])
