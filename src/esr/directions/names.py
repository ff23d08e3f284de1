"""Names of directions, which are the labels of the forced choice and of figures."""

import unicodedata

from esr.errors import EsrError


class Names:
    """Names that have been read, compared without case, blanks and Unicode form."""

    def __init__(self) -> None:
        """Start without a name."""
        self._known: dict[str, str] = {}

    def add(self, name: str, where: str) -> None:
        """Add a name; the same spelling may come again.

        Raises:
            EsrError: it is blank, or differs from another one in case, blanks or Unicode form
                alone.
        """
        folded = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        if not folded:
            raise EsrError(f"{where}: the name {name!r} is blank; name the direction")
        if (other := self._known.setdefault(folded, name)) != name:
            raise EsrError(
                f"{where}: {name!r} and {other!r} would be two directions; spell both the same, or "
                "rename one"
            )
