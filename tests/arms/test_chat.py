"""esr.arms.chat: prompts as tokens in the model's own chat template, and responses as text."""

import re
from pathlib import Path

import pytest

from esr.arms.chat import prompt_tokens, response_text
from esr.errors import EsrError
from esr.organisms.model import build_tokenizer
from helpers.tiny import LLAMA_TEMPLATE, llama_tokenizer

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
        with pytest.raises(EsrError, match="no chat template; use an instruction-tuned"):
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
        with pytest.raises(EsrError, match="writes today's date"):
            prompt_tokens(llama_tokenizer(dated), PROMPT)

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
