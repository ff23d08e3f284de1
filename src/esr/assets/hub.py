"""The hub: whether it can be reached, and whether a repository exists there."""

import logging
from pathlib import Path

from esr.assets.checkpoints import hub_remedy
from esr.errors import EsrError

log = logging.getLogger(__name__)

PATIENCE = 5
"""Seconds until the hub counts as unreachable."""


def go_offline_without_network() -> None:
    """Have this process use the hub's cache alone if the hub cannot be reached.

    The hub's library would repeat every request for half a minute, file by file.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception as error:  # of its HTTP library, which has changed before
        constants.HF_HUB_OFFLINE = True
        log.warning(
            "%s cannot be reached (%s): only the hub's cache is used", constants.ENDPOINT, error
        )


def check_repository(key: str, repository: str, pin: str, revision: str | None) -> None:
    """Check that a repository exists on the hub at a commit and can be downloaded."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{key}: {repository}"
    try:
        HfApi().auth_check(repository)
        HfApi().model_info(repository, revision=revision)
    except GatedRepoError:
        raise EsrError(
            f"{where} is gated: accept its terms at https://huggingface.co/{repository} and set "
            "HF_TOKEN to a token of that account"
        ) from None
    except RepositoryNotFoundError:
        raise EsrError(f"{where}: the hub has no such repository; check its spelling") from None
    except RevisionNotFoundError:
        raise EsrError(f"{pin}: {repository} has no commit {revision}") from None
    except Exception as error:  # also those of its HTTP library, which has changed before
        raise EsrError(f"{where}: {hub_remedy(repository, error)}") from None


def is_commit_at_hand(repository: str, revision: str) -> bool:
    """Whether the hub's cache has files of a repository at a commit."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = f"models--{repository.replace('/', '--')}"
    return (Path(HF_HUB_CACHE) / folder / "snapshots" / revision).is_dir()
