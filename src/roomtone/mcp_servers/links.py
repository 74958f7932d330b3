"""The ways to a server: a program's standard streams, or streamable HTTP, neither of which it can flood.

A link is a transport of the ``mcp`` package: an async context manager of a stream to read and one to write.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from roomtone.clock import engine_working
from roomtone.core.errors import EngineUnavailable
from roomtone.flow import beside
from roomtone.mcp_servers.offers import sift

if TYPE_CHECKING:
    import httpx2
    from mcp.shared.message import SessionMessage

    from roomtone.settings import McpServer

log = logging.getLogger(__name__)

LARGEST_MESSAGE = 2 * 1024 * 1024
"""Bytes; a server that sends a longer message is hung up on before all of it is read."""

BURST, STEADY = 4_000_000, 1_000_000.0
"""Bytes a server may send at once, and then each second; one that sends more waits."""

MESSAGE_COST = 4_000
"""Bytes that a message counts for at least: it is the number of small ones that costs."""

GRACE_S = 1.0
"""Longest that a program is given to end by itself, and then to end when it is told to; then it is killed."""

CONNECT_S = 5.0
QUIET_S = 3600.0
"""Longest that a server may leave a response open without a word. A call has a bound of its own."""

LINES_LOGGED, LINE_LENGTH = 20, 300
"""Of what a program writes to its standard error, lines that reach the log (debug), and letters of each.

The last line is told when it ends: most often it says why.
"""

INHERITED = ("HOME", "LANG", "LOGNAME", "PATH", "TZ", "USER")
"""Variables that a program is given beside its own: no credential of this service's is among them."""


class Watch:
    """What is noticed on a link: what is wrong, in a line; that the tools changed; that the server is gone.

    ``reached``: what was sent last may have arrived.
    """

    def __init__(self) -> None:
        self.wrong = ""
        self.reached = True
        self.changed = asyncio.Event()
        self.gone = asyncio.Event()

    def end(self, wrong: str) -> None:
        """Take note that the server is gone."""
        self.wrong = wrong
        self.gone.set()


class Allowance:
    """How much a server may still send now."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at = asyncio.get_running_loop().time()

    async def spend(self, size: int, messages: int) -> None:
        """Take note of what came, and wait for as long as it was too much."""
        now = asyncio.get_running_loop().time()
        self._left = min(BURST, self._left + (now - self._at) * STEADY) - max(size, messages * MESSAGE_COST)
        self._at = now
        if self._left < 0:
            await asyncio.sleep(-self._left / STEADY)


# ------------------------------------------------------------------------------------------ a program


@asynccontextmanager
async def program(name: str, server: McpServer, watch: Watch) -> AsyncIterator[tuple[Any, Any]]:
    """Run a server as a program of its own, which ends with the context, whatever it does.

    Raises EngineUnavailable where it cannot be started.
    """
    import anyio

    process = None
    with _heard(name) as lines:
        try:
            process = await _start(name, server, lines.writable)
            news, reading = anyio.create_memory_object_stream[Any](0)
            writing, orders = anyio.create_memory_object_stream[Any](0)
            async with (
                beside(_read(process, news, watch, lines), "MCP reader"),
                beside(_write(process, orders), "MCP writer"),
            ):
                yield reading, writing
        finally:
            if process is not None:
                await _end(name, process)


async def _start(name: str, server: McpServer, stderr: int) -> asyncio.subprocess.Process:
    assert server.command is not None
    own = {key: value.get_secret_value() for key, value in server.env.items()}
    try:
        return await asyncio.create_subprocess_exec(
            server.command,
            *server.args,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env={**{key: os.environ[key] for key in INHERITED if key in os.environ}, **own},
            limit=LARGEST_MESSAGE,
            start_new_session=True,  # what it starts itself ends with it
        )
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise EngineUnavailable(f"{server.command} cannot be started ({why}); see mcp.{name}.command") from error


async def _read(process: asyncio.subprocess.Process, news: Any, watch: Watch, lines: Lines) -> None:
    """Hand on each line that is a message, until the program ends or sends what nobody can read."""
    from mcp.shared.message import SessionMessage
    from mcp_types import jsonrpc_message_adapter

    assert process.stdout is not None
    allowance = Allowance()
    async with news:
        while True:
            try:
                line = await process.stdout.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                watch.end(f"it ended{lines.last_words()}")
                return
            except asyncio.LimitOverrunError:
                watch.end(f"it sent a message of more than {LARGEST_MESSAGE // 1024**2} MB")
                return
            await allowance.spend(len(line), 1)
            try:
                message = SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
            except ValueError:
                continue  # servers print this and that
            await news.send(sifted(message))


async def _write(process: asyncio.subprocess.Process, orders: Any) -> None:
    assert process.stdin is not None
    async with orders:
        async for order in orders:
            text = order.message.model_dump_json(by_alias=True, exclude_unset=True)
            process.stdin.write(text.encode() + b"\n")
            try:
                await process.stdin.drain()
            except ConnectionError:
                return


def sifted(message: SessionMessage) -> SessionMessage:
    """Take out of a list of tools what is none: one wrong entry would cost all the others."""
    result = getattr(message.message, "result", None)
    if isinstance(result, dict) and isinstance(result.get("tools"), list):
        result["tools"] = sift(result["tools"])
    return message


async def _end(name: str, process: asyncio.subprocess.Process) -> None:
    """End a program and what it started: by closing its input, by asking it, by killing it."""
    assert process.stdin is not None
    process.stdin.close()
    with engine_working():
        for order in (None, signal.SIGTERM, signal.SIGKILL):
            if order is not None:
                _signal(process, order)
            try:
                async with asyncio.timeout(GRACE_S):
                    while process.stdout is not None and await process.stdout.read(65_536):
                        pass  # its pipe counts as open until it was read to the end
                    await process.wait()
                    return
            except TimeoutError:
                continue
            except asyncio.CancelledError:
                _signal(process, signal.SIGKILL)
                raise
    log.error("the MCP server %s (process %d) cannot be killed and is left behind", name, process.pid)


def _signal(process: asyncio.subprocess.Process, order: signal.Signals) -> None:
    try:
        os.killpg(process.pid, order)
    except ProcessLookupError:
        return


class Lines:
    """What a program writes to its standard error: read at once, so that it never waits, and mostly dropped."""

    def __init__(self, name: str) -> None:
        self.readable, self.writable = os.pipe()
        os.set_blocking(self.readable, False)
        self._name = name
        self._rest = b""
        self._last = b""
        self._logged = 0

    def hear(self) -> bool:
        """Read what is there; return whether there was anything."""
        try:
            content = os.read(self.readable, 65_536)
        except BlockingIOError:
            return False
        *lines, self._rest = (self._rest + content).split(b"\n")
        self._rest = self._rest[:LINE_LENGTH]
        for line in filter(bytes.strip, lines):
            self._last = line[:LINE_LENGTH]
            if self._logged < LINES_LOGGED:
                self._logged += 1
                log.debug("MCP server %s: %s", self._name, _text(self._last))
        return True

    def last_words(self) -> str:
        """Return what was written last, in brackets; "" where there was nothing."""
        for _ in range(16):
            if not self.hear():
                break
        last = _text(self._rest if self._rest.strip() else self._last)
        return f" ({last})" if last else ""


def _text(line: bytes) -> str:
    return " ".join(line.decode("utf-8", "replace").split())


@contextmanager
def _heard(name: str) -> Iterator[Lines]:
    loop, lines = asyncio.get_running_loop(), Lines(name)
    loop.add_reader(lines.readable, lines.hear)
    try:
        yield lines
    finally:
        loop.remove_reader(lines.readable)
        os.close(lines.readable)
        os.close(lines.writable)


# ---------------------------------------------------------------------------------------------- a URL


@asynccontextmanager
async def web(name: str, server: McpServer, watch: Watch) -> AsyncIterator[tuple[Any, Any]]:
    """Speak to a server over streamable HTTP: through no proxy, and led to no other host."""
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    assert server.url is not None
    headers = {key: _whole(key, value.get_secret_value().strip()) for key, value in server.headers.items()}
    client = httpx2.AsyncClient(
        transport=_bounded(name, watch),
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
        import anyio

        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> _Sifted:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _bounded(name: str, watch: Watch) -> httpx2.AsyncBaseTransport:
    """Make the HTTP transport: it tells of refusals, and reads no more than a server may send."""
    import httpx2

    class Bounded(httpx2.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.method == "DELETE":  # a farewell, which nobody waits for
                request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), GRACE_S)
            try:
                response = await super().handle_async_request(request)
            except httpx2.TransportError as error:
                watch.reached = not isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout))
                watch.end(f"it cannot be reached ({str(error) or type(error).__name__}); see mcp.{name}.url")
                raise
            if response.headers.get("content-encoding", "identity") != "identity":
                watch.end("it sent a compressed answer, which nobody asked for")
                raise httpx2.RemoteProtocolError("compressed")
            watch.wrong = refusal(name, response.status_code, str(response.headers.get("location", "")))
            response.stream = _Counted(response.stream, response.headers)
            return response

    class _Counted(httpx2.AsyncByteStream):
        def __init__(self, stream: Any, headers: Mapping[str, str]) -> None:
            self._stream = stream
            self._endless = headers.get("content-type", "").startswith("text/event-stream")

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size, allowance = 0, Allowance()
            async for piece in self._stream:
                size += len(piece)
                if size > LARGEST_MESSAGE and not self._endless:
                    watch.end(f"it sent a message of more than {LARGEST_MESSAGE // 1024**2} MB")
                    raise httpx2.RemoteProtocolError("too long")
                await allowance.spend(len(piece), piece.count(b"data:"))
                yield piece

        async def aclose(self) -> None:
            await self._stream.aclose()

    return Bounded()


def refusal(name: str, status: int, location: str = "") -> str:
    """Say what an HTTP status means for whoever set the server up; "" where all is well."""
    if status in (401, 403):
        return f"it refuses this key (HTTP {status}); see mcp.{name}.headers"
    if status in (404, 405):
        return f"no MCP server is at that address (HTTP {status}); see mcp.{name}.url"
    if 300 <= status < 400:
        return f"it sends us elsewhere ({location[:200]}); write that in mcp.{name}.url if it is meant"
    return f"it answers HTTP {status}" if status >= 400 else ""


def link(name: str, server: McpServer, watch: Watch) -> AbstractAsyncContextManager[tuple[Any, Any]]:
    """Return the way to a server."""
    return program(name, server, watch) if server.command is not None else web(name, server, watch)
