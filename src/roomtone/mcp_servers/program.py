"""A server that is a program of this machine: its standard streams, its environment, its last words and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from roomtone.clock import engine_working
from roomtone.core.errors import EngineUnavailable
from roomtone.flow import beside
from roomtone.mcp_servers import links
from roomtone.mcp_servers.links import LARGEST_MESSAGE, TOO_LONG, Allowance, Watch, sifted
from roomtone.settings import McpServer

log = logging.getLogger(__name__)

LINES_LOGGED, LINE_LENGTH = 20, 300
"""Of what a program writes to its standard error, lines that reach the log (debug), and letters of each.

The last line is told when it ends: most often it says why.
"""

SHORTEST_SECRET = 6
"""Letters of a value of its environment that is taken out of what it says: a shorter one is a word like another."""

INHERITED = ("HOME", "LANG", "LOGNAME", "PATH", "TZ", "USER")
"""Variables that a program is given beside its own: no credential of this service's is among them."""


@asynccontextmanager
async def program(name: str, server: McpServer, watch: Watch) -> AsyncIterator[tuple[Any, Any]]:
    """Run a server as a program of its own, which ends with the context, whatever it does.

    Raises EngineUnavailable where it cannot be started.
    """
    process = None
    with _heard(name, server) as lines:
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
                watch.end(TOO_LONG)
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


async def _end(name: str, process: asyncio.subprocess.Process) -> None:
    """End a program and what it started: by closing its input, by asking it, by killing it."""
    assert process.stdin is not None
    process.stdin.close()
    with engine_working():
        for order in (None, signal.SIGTERM, signal.SIGKILL):
            if order is not None:
                _signal(process, order)
            try:
                async with asyncio.timeout(links.GRACE_S):
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

    def __init__(self, name: str, secrets: Sequence[str] = ()) -> None:
        self.readable, self.writable = os.pipe()
        os.set_blocking(self.readable, False)
        self._name = name
        self._secrets = [secret.encode() for secret in secrets if len(secret) >= SHORTEST_SECRET]
        self._rest = b""
        self._last = b""
        self._logged = 0

    def hear(self) -> bool:
        """Read what is there; return whether there was anything."""
        try:
            content = os.read(self.readable, 65_536)
        except BlockingIOError:
            return False
        heard = self._rest + content
        for secret in self._secrets:
            heard = heard.replace(secret, b"...")
        *lines, self._rest = heard.split(b"\n")
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
def _heard(name: str, server: McpServer) -> Iterator[Lines]:
    secrets = [value.get_secret_value() for value in server.env.values()]
    loop, lines = asyncio.get_running_loop(), Lines(name, secrets)
    loop.add_reader(lines.readable, lines.hear)
    try:
        yield lines
    finally:
        loop.remove_reader(lines.readable)
        os.close(lines.readable)
        os.close(lines.writable)
