"""Connections to an API: many at a time, and never to another host than the one configured."""

import asyncio
import socket

import httpx2

from esr.certificates import trusted

POOL = 8
"""Connections of a pool. A pool looks at all of its connections for every request."""
OPTIONS = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))
    if hasattr(socket, name)
]
"""Long replies keep a connection silent for minutes; routers drop silent connections."""


class PooledTransport(httpx2.AsyncBaseTransport):
    """Small pools of connections, each request in the one with the fewest requests.

    One pool of hundreds of connections would spend more time on choosing one than on the request.
    """

    def __init__(self, timeout: float) -> None:
        """Open no connection yet; a request fails after `timeout` seconds in all.

        Raises:
            EsrError: the certificates that connections trust cannot be loaded.
        """
        self._timeout = timeout
        self._trusted = trusted()  # here: an SDK would send a request again that fails so
        self._pools: list[httpx2.AsyncHTTPTransport] = []
        self._loads: list[int] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, and read its response to the end.

        Raises:
            httpx2.ReadTimeout: there is no complete response in time. The timeouts of the library
                are those of single reads, and a server that sends a byte now and then meets them.
        """
        least = min(self._loads, default=POOL)
        if least == POOL:
            self._open_pool()
            least = 0
        chosen = self._loads.index(least)
        self._loads[chosen] += 1
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._pools[chosen].handle_async_request(request)
                return await _read(response)
        except TimeoutError:
            raise httpx2.ReadTimeout(
                f"no complete reply within {self._timeout:g} s", request=request
            ) from None
        finally:
            self._loads[chosen] -= 1

    def _open_pool(self) -> None:
        limits = httpx2.Limits(max_connections=POOL, max_keepalive_connections=POOL)
        self._pools.append(
            httpx2.AsyncHTTPTransport(verify=self._trusted, limits=limits, socket_options=OPTIONS)
        )
        self._loads.append(0)

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools:
            await pool.aclose()


async def _read(response: httpx2.Response) -> httpx2.Response:
    """A response with its content, as it came."""
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    try:
        content = b"".join([part async for part in response.stream])
    finally:
        await response.aclose()
    return httpx2.Response(
        response.status_code,
        headers=response.headers,
        stream=httpx2.ByteStream(content),
        extensions=response.extensions,
    )


def open_http(timeout: float) -> httpx2.AsyncClient:
    """A client for a judge's API.

    It follows no redirect, which would send the key and all prompts to wherever it points.

    Args:
        timeout: Of a whole request (s).
    """
    return httpx2.AsyncClient(
        transport=PooledTransport(timeout), timeout=timeout, follow_redirects=False
    )
