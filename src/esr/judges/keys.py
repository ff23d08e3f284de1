"""API keys: read from the environment, checked for their form, and kept out of every message."""

import os
import re

from esr.errors import EsrError

PRINTABLE = re.compile(r"[!-~]+")
"""What a key may consist of: printable ASCII without blanks, as an HTTP header can carry it."""
HIDDEN = "***"
LONGEST = 500
"""Characters of an error message that are kept."""
SECRET_FORMS = [
    # A password in an address, a bearer token, and the prefixes of common providers.
    (re.compile(r"(?<=://)[^\s/@]+@"), f"{HIDDEN}@"),
    (re.compile(r"(?i)\b(bearer|x-api-key:?|api[_-]key[=:])\s*[^\s'\",;]+"), rf"\1 {HIDDEN}"),
    (re.compile(r"\b(?:sk|pk|rk|hf|gsk|xai|AIza)[-_]?[A-Za-z0-9_\-]{12,}"), HIDDEN),
]


class FatalCallError(EsrError):
    """A call that got no reply, for a reason that holds for every other call."""


def read_key(variable: str | None) -> str:
    """The key in an environment variable; a placeholder for servers that need none.

    Raises:
        FatalCallError: the variable is not set, or its value cannot be a key. The value is not
            shown.
    """
    if variable is None:
        return "none"
    key = os.environ.get(variable, "").strip()
    if not key:
        raise FatalCallError(
            f"the environment variable {variable} is not set; export it with the key, or name "
            "another one (key_variable). A judge of kind vllm, which the workflow runs itself, "
            "needs no key (docs/judges.md)"
        )
    if not PRINTABLE.fullmatch(key):
        raise FatalCallError(
            f"the environment variable {variable} does not hold a key: there is a blank, a line "
            "break or a character outside printable ASCII in it; export the key alone"
        )
    return key


def redact(text: str, key: str = "none") -> str:
    """A message without the key or anything of the form of one, cut to a readable length."""
    if key != "none":
        text = text.replace(key, HIDDEN)
    for form, shown in SECRET_FORMS:
        text = form.sub(shown, text)
    return text[:LONGEST]
