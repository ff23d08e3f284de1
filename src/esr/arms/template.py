"""Arguments of chat templates: a switch for thinking, a fixed date.

Arguments become assignments at the top of the template, so that everything that renders with the
tokenizer uses the same text. Thinking is off where the template has the switch and no argument sets
it. `strftime_now` is the function by which templates read the clock: as an argument, it is the text
that the function returns.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from esr.errors import EsrError

CLOCK = "strftime_now"
THINKING = "enable_thinking"
Argument = bool | int | float | str


def set_template(tokenizer: Any, arguments: Mapping[str, Argument]) -> None:
    """Give a tokenizer the chat template with its arguments set.

    Args:
        tokenizer: A transformers tokenizer; it is changed.
        arguments: Values by name.

    Raises:
        EsrError: there is no default template, or it does not use an argument.
    """
    if not tokenizer.chat_template:
        if arguments:
            raise EsrError(f"template: {sorted(arguments)}, but there is no chat template")
        return
    try:
        template = tokenizer.get_chat_template()
    except ValueError:
        raise EsrError(
            f"the tokenizer has chat templates {sorted(tokenizer.chat_template)}, none of them "
            "called default; put one into chat_template.jinja in a local copy of the checkpoint"
        ) from None
    tokenizer.chat_template = with_arguments(template, arguments)


def with_arguments(template: str, arguments: Mapping[str, Argument]) -> str:
    """A template with arguments set, and with thinking off unless they say otherwise.

    Raises:
        EsrError: the template does not use an argument.
    """
    unused = [name for name in arguments if not _uses(template, name)]
    if unused:
        raise EsrError(
            f"template.{unused[0]}: the chat template does not use this name; correct or remove it"
        )
    values = dict(arguments)
    if _uses(template, THINKING):
        values.setdefault(THINKING, False)
    return "".join(_assignment(name, value) for name, value in values.items()) + template


def clock_remedy(template: str) -> str:
    """What to set so that a template does not read the clock."""
    name = "date_string" if _uses(template, "date_string") else CLOCK
    return f'template: {{{name}: "26 Jul 2024"}}'


def _uses(template: str, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", template) is not None


def _assignment(name: str, value: Argument) -> str:
    literal = json.dumps(value, ensure_ascii=False)  # also a literal of Jinja
    if name == CLOCK:
        return f"{{% macro {CLOCK}(form) %}}{{{{ {literal} }}}}{{% endmacro %}}"
    return f"{{% set {name} = {literal} %}}"
