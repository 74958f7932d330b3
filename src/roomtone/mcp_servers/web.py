"""A server somewhere, over streamable HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
from mcp.client.streamable_http import streamable_http_client

from roomtone.mcp_servers import links
from roomtone.mcp_servers.links import LARGEST_MESSAGE, TOO_LONG, Allowance, Watch, sifted
from roomtone.settings import McpServer

CONNECT_S = 5.0
QUIET_S = 3600.0
"""Longest that a server may leave a response open without a word. A call has a bound of its own."""


@asynccontextmanager
async def web(name: str, server: McpServer, watch: Watch) -> AsyncIterator[tuple[Any, Any]]:
    """Speak to a server over streamable HTTP: through no proxy, and led to no other host."""
    assert server.url is not None
    headers = {key: _whole(key, value.get_secret_value().strip()) for key, value in server.headers.items()}
    client = httpx2.AsyncClient(
        transport=_Bounded(name, watch),
        headers={"Accept-Encoding": "identity", **headers},
        timeout=httpx2.Timeout(CONNECT_S, read=QUIET_S),
        trust_env=False,
    )
    link = streamable_http_client(server.url, http_client=client, max_sse_event_size=LARGEST_MESSAGE)
    async with client, link as (reading, writing):
        yield _Sifted(reading), writing


def _whole(header: str, value: str) -> str:
    """Return a header's value; a token on its own, as it is copied from a web page, is a bearer's."""
    return f"Bearer {value}" if header.lower() == "authorization" and len(value.split()) == 1 else value


class _Sifted:
    """A stream of messages whose lists of tools are sifted."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def last_context(self) -> Any:
        """The context variables of whoever sent the last message."""
        return self._stream.last_context

    async def receive(self) -> Any:
        """Return the next message or failure."""
        item = await self._stream.receive()
        return item if isinstance(item, Exception) else sifted(item)

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()

    def __aiter__(self) -> _Sifted:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> _Sifted:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Bounded(httpx2.AsyncHTTPTransport):
    """An HTTP transport that takes note of refusals, and reads no more than a server may send."""

    def __init__(self, name: str, watch: Watch) -> None:
        super().__init__()
        self._name = name
        self._watch = watch

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. Raises httpx2.TransportError where there is no answer, or none that may be read."""
        if request.method == "DELETE":  # a farewell, which nobody waits for
            request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), links.GRACE_S)
        try:
            response = await super().handle_async_request(request)
        except httpx2.TransportError as error:
            self._watch.reached = not isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout))
            why = str(error) or type(error).__name__
            self._watch.end(f"it cannot be reached ({why}); see mcp.{self._name}.url")
            raise
        if response.headers.get("content-encoding", "identity") != "identity":
            self._watch.end("it sent a compressed answer, which nobody asked for")
            raise httpx2.RemoteProtocolError("compressed")
        if request.method == "POST":  # many servers have nothing to tell of their own accord, and refuse a GET
            location = str(response.headers.get("location", ""))
            self._watch.wrong = refusal(self._name, response.status_code, location)
        response.stream = _Counted(response.stream, response.headers, self._watch)
        return response


class _Counted(httpx2.AsyncByteStream):
    """The body of a response, read no faster and no further than is good."""

    def __init__(self, stream: Any, headers: Mapping[str, str], watch: Watch) -> None:
        self._stream = stream
        self._watch = watch
        self._endless = headers.get("content-type", "").startswith("text/event-stream")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, allowance = 0, Allowance()
        async for piece in self._stream:
            size += len(piece)
            if size > LARGEST_MESSAGE and not self._endless:
                self._watch.end(TOO_LONG)
                raise httpx2.RemoteProtocolError(TOO_LONG)
            await allowance.spend(len(piece), piece.count(b"data:"))
            yield piece

    async def aclose(self) -> None:
        """Close the body."""
        await self._stream.aclose()


def refusal(name: str, status: int, location: str = "") -> str:
    """Say what an HTTP status means for whoever set the server up; "" where all is well."""
    if status in (401, 403):
        return f"it refuses this key (HTTP {status}); see mcp.{name}.headers"
    if status in (404, 405):
        return f"no MCP server is at that address (HTTP {status}); see mcp.{name}.url"
    if 300 <= status < 400:
        return f"it sends us elsewhere ({location[:200]}); write that in mcp.{name}.url if it is meant"
    return f"it answers HTTP {status}" if status >= 400 else ""
