"""Proxies from the environment that the SDKs of judges cannot use."""

import os
from importlib.util import find_spec

from esr.judges.keys import FatalCallError

VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


def refuse_socks_without_support() -> None:
    """Refuse a SOCKS proxy if the package that connects to it is not installed.

    Raises:
        FatalCallError: naming the variable, not its value, which may hold a password.
    """
    for name in (*VARIABLES, *map(str.lower, VARIABLES)):
        if os.environ.get(name, "").startswith("socks") and find_spec("socksio") is None:
            raise FatalCallError(
                f"the environment variable {name} names a SOCKS proxy, and the package for it is "
                "not installed; run `uv pip install socksio`, or use an HTTP proxy"
            )
