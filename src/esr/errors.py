"""The one exception that a user of esr is meant to read."""


class EsrError(Exception):
    """Something a user can mend: names the thing, the value and the remedy."""
