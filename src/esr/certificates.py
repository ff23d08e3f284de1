"""Certificate authorities that connections trust, loaded once a process."""

import os
import ssl
from functools import cache

import httpx2

from esr.errors import EsrError

VARIABLES = ["SSL_CERT_FILE", "SSL_CERT_DIR"]


@cache
def trusted() -> ssl.SSLContext:
    """The settings of encrypted connections that the HTTP library makes for each client by itself.

    Their authorities are those of `SSL_CERT_FILE`, `SSL_CERT_DIR` or the system, as at the first
    call. To load them takes tens of milliseconds of CPU, so all clients of a process share them.

    Raises:
        EsrError: they cannot be loaded.
    """
    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        named = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
        raise EsrError(
            f"{' '.join(named) or 'certificates of the system'}: cannot be loaded ({error}); name "
            "a file of certificates in PEM form, or unset the variable"
        ) from None
