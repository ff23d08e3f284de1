"""What every upload shares: the deposit that is sent, the token, and errors without secrets."""

import logging
import os
from pathlib import Path

from esr.errors import EsrError
from esr.paths import results_of

log = logging.getLogger(__name__)

AGAIN = "Run the same command again: what has arrived is not sent once more"


def deposit_of(study: str, root: Path) -> Path:
    """Folder of a study's deposit.

    Args:
        study: Name of the study.
        root: Folder of the project.

    Raises:
        EsrError: there is none.
    """
    folder = root / results_of(study) / "deposit"
    if not (folder / "crate/ro-crate-metadata.json").is_file():
        raise EsrError(
            f"study {study!r} has no deposit ({results_of(study) / 'deposit'}); make it first: "
            f"uv run snakemake --config study={study} -- deposit"
        )
    return folder


def send(
    to: str, deposit: Path, study: str, owner: str | None, public: bool, address: str | None
) -> list[str]:
    """Send a deposit to `hub` or `zenodo`; addresses of what was made.

    Raises:
        EsrError: another place, no owner for the Hub, an option of the other place, or the upload
            fails.
    """
    # Imported here: `esr steer` needs neither.
    from esr.deposit.hub import upload_to_hub
    from esr.deposit.zenodo import ADDRESS, upload_to_zenodo

    if to == "hub":
        if owner is None:
            raise EsrError("--owner is missing: give your user name on the Hub, or an organisation")
        return upload_to_hub(deposit, study, owner, public, address)
    if to == "zenodo":
        if owner is not None or public:
            raise EsrError("--owner and --public belong to --to hub; Zenodo makes a draft of yours")
        return [upload_to_zenodo(deposit, study, address or ADDRESS)]
    raise EsrError(f"--to {to!r}: give `hub` or `zenodo`")


def token_of(variable: str, page: str, scope: str) -> str:
    """A token from the environment.

    Args:
        variable: Its variable.
        page: Where tokens are made.
        scope: What the token must allow.

    Raises:
        EsrError: the variable is not set.
    """
    token = os.environ.get(variable, "").strip()
    if not token:
        raise EsrError(
            f"{variable} is not set: make a token that may {scope} at {page}, then "
            f"`export {variable}=...`. Nothing was sent"
        )
    return token


def without(token: str, text: str) -> str:
    """A text in which a token does not stand."""
    return text.replace(token, "<token>")


def size_of(folder: Path) -> tuple[int, int]:
    """Number of files below a folder, and their bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)
