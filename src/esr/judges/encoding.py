"""Calls to a judge that the workflow runs, as tokens of its chat template."""

from collections.abc import Mapping
from typing import Any

from esr.config import VllmJudgeConfig
from esr.errors import EsrError
from esr.judges.replies import Call

SYSTEM, USER = "<<system text of the call>>", "<<user text of the call>>"


def open_tokenizer(settings: VllmJudgeConfig) -> Any:
    """The tokenizer of a judge, from its folder or the hub's cache.

    Raises:
        EsrError: it is in neither, or it has no chat template.
    """
    from transformers import AutoTokenizer

    where = f"judge {settings.source}"
    try:
        found = AutoTokenizer.from_pretrained(
            settings.source, revision=settings.revision, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise EsrError(
            f"{where}: cannot load its tokenizer ({error}); run `snakemake downloads` where there "
            "is a network"
        ) from None
    if not getattr(found, "chat_template", None):
        raise EsrError(f"{where}: its tokenizer has no chat template; take an instructed model")
    return found


class CallEncoder:
    """Turns calls into tokens by a model's chat template, up to the opened turn of the model.

    Special tokens come from the template alone. In the texts of a call their names are plain text,
    so that a response cannot end its turn and open another. What calls share is encoded once.
    """

    def __init__(self, tokenizer: Any, template: Mapping[str, Any]) -> None:
        """Render the template once.

        Args:
            tokenizer: A transformers tokenizer with a chat template.
            template: Further arguments of the template.

        Raises:
            EsrError: the template does not show both texts of a call.
        """
        self._tokenizer = tokenizer
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
        try:
            rendered = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, **template
            )
        except Exception as error:  # whatever the template raises
            raise EsrError(f"the judge's chat template refuses a call: {error}") from None
        before, found, rest = rendered.partition(SYSTEM)
        between, shown, after = rest.partition(USER)
        if not found or not shown:
            raise EsrError(
                "the judge's chat template drops the system or the user turn; take another model"
            )
        parts = (before, between, after)
        self._before, self._between, self._after = (self._encode(one, False) for one in parts)
        self._systems: dict[str, tuple[int, ...]] = {}

    def __call__(self, call: Call) -> tuple[int, ...]:
        """Tokens of a call."""
        if call.system not in self._systems:
            self._systems[call.system] = self._encode(call.system, True)
        system, user = self._systems[call.system], self._encode(call.user, True)
        return (*self._before, *system, *self._between, *user, *self._after)

    def _encode(self, text: str, plain: bool) -> tuple[int, ...]:
        if not text:
            return ()
        found = self._tokenizer(text, add_special_tokens=False, split_special_tokens=plain)
        return tuple(found["input_ids"])
