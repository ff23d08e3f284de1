"""Upload to the Hugging Face Hub: a dataset repository, and a model repository an adapter.

Repositories are private until their owner makes them public. The library of the Hub leaves out
files that a repository has already. Files of a repository that the folder lacks are deleted in the
same commit; only the Hub's own `.gitattributes` stays.
"""

import logging
import re
from pathlib import Path
from typing import NamedTuple

from esr.deposit.upload import AGAIN, size_of, token_of, without
from esr.errors import EsrError

log = logging.getLogger(__name__)

VARIABLE = "HF_TOKEN"
OWNER = re.compile(r"[A-Za-z0-9][\w.-]*")


class Repository(NamedTuple):
    """A repository of the Hub and the folder that becomes its contents."""

    name: str
    kind: str
    folder: Path


def repositories(deposit: Path, study: str, owner: str) -> list[Repository]:
    """Repositories of a deposit.

    Raises:
        EsrError: the owner is no name of a user or an organisation.
    """
    if not OWNER.fullmatch(owner):
        raise EsrError(f"--owner {owner!r}: give the name of a user or an organisation of the Hub")
    found = [Repository(f"{owner}/esr-{study}", "dataset", deposit / "dataset")]
    adapters = deposit / "adapters"
    for folder in sorted(adapters.iterdir()) if adapters.is_dir() else []:
        name = re.sub(r"[^\w.-]+", "-", f"esr-{study}-{folder.name}")
        found.append(Repository(f"{owner}/{name}", "model", folder))
    return found


def upload_to_hub(
    deposit: Path, study: str, owner: str, public: bool = False, address: str | None = None
) -> list[str]:
    """Create or update the repositories of a deposit.

    Args:
        deposit: The deposit.
        study: Name of the study.
        owner: User or organisation that owns the repositories.
        public: Make new repositories public.
        address: Of another Hub; None = the library's.

    Returns:
        Addresses of the repositories.

    Raises:
        EsrError: no token, one that may not write, no room on the Hub, no connection.
    """
    from huggingface_hub import HfApi

    listed = repositories(deposit, study, owner)
    token = token_of(VARIABLE, "https://huggingface.co/settings/tokens", "write repositories")
    api = HfApi(endpoint=address, token=token)
    addresses = []
    for repository in listed:
        files, size = size_of(repository.folder)
        log.info("%s %s: %d files, %.1f MB", *repository[1::-1], files, size / 1e6)
        try:
            made = api.create_repo(
                repository.name, repo_type=repository.kind, private=not public, exist_ok=True
            )
            api.upload_folder(
                repo_id=repository.name,
                repo_type=repository.kind,
                folder_path=repository.folder,
                delete_patterns="*",  # of these, what the folder lacks
                commit_message=f"Deposit of study {study}",
            )
        except Exception as error:  # also those of its HTTP library, which has changed before
            raise EsrError(without(token, _explain(repository.name, error))) from None
        addresses.append(str(made))
    return addresses


def _explain(name: str, error: BaseException) -> str:
    """What went wrong with a repository, and the remedy."""
    cause: BaseException | None = error
    status = None
    while cause is not None and status is None:
        status = getattr(getattr(cause, "response", None), "status_code", None)
        cause = cause.__cause__ or cause.__context__
    if status in (401, 403):
        return (
            f"{name}: the Hub does not accept the token in {VARIABLE} for this (HTTP {status}); "
            "make one with write access to this owner at https://huggingface.co/settings/tokens"
        )
    if status in (413, 507):
        return (
            f"{name}: the Hub has no room for a file of this size (HTTP {status}); free some of "
            f"the owner's storage, or use --to zenodo. {AGAIN}"
        )
    return f"{name}: the upload did not end ({type(error).__name__}: {error}). {AGAIN}"
