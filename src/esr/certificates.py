"""Certificate authorities that connections trust, loaded once a process."""

import ssl
from functools import cache

import httpx2


@cache
def trusted() -> ssl.SSLContext:
    """The settings of encrypted connections that the HTTP library makes for each client by itself.

    Their authorities are those of `SSL_CERT_FILE`, `SSL_CERT_DIR` or the system, as at the first
    call. To load them takes tens of milliseconds of CPU, so all clients of a process share them.
    """
    return httpx2.create_ssl_context()
