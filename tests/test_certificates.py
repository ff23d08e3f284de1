"""esr.certificates: what connections trust, loaded once, and named where it cannot be loaded."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from esr.certificates import trusted
from esr.errors import EsrError
from esr.judges.transport import PooledTransport


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    trusted.cache_clear()
    yield
    trusted.cache_clear()


def test_all_clients_of_a_process_share_one_verifying_context() -> None:
    assert trusted() is trusted()
    assert trusted().verify_mode is ssl.CERT_REQUIRED
    assert trusted().check_hostname


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["no file", "no certificate"])
def test_certificates_that_cannot_be_loaded_are_named_before_any_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    path = tmp_path / "authorities.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(EsrError, match=rf"^SSL_CERT_FILE={path}.*: cannot be loaded .*unset"):
        PooledTransport(1)
