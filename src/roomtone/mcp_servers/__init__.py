"""MCP servers: each has a task that opens it, lists its tools, and opens it again when it was lost.

A session of the ``mcp`` package is entered and left in that one task; calls of its tools may come from any. What is
configured for a server stands in ``settings.McpServer``; with none configured nothing of this is imported.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from roomtone import __version__, installed, outbound
from roomtone.clock import engine_working
from roomtone.core.errors import RoomtoneError, ToolError
from roomtone.core.persona import Egress
from roomtone.core.tooling import ToolSpec
from roomtone.engines import lacking
from roomtone.engines.tools import Result, Tool, Traits
from roomtone.flow import Worker, beside, keep_trying, task_group, worker
from roomtone.mcp_servers import offers
from roomtone.mcp_servers.links import Watch
from roomtone.mcp_servers.offers import Offer
from roomtone.settings import McpServer

if TYPE_CHECKING:
    from mcp import Client

__all__ = ["RemoteTool", "Servers"]

log = logging.getLogger(__name__)

OPEN_S = 30.0
"""Longest that a server may take to start and say which protocol it speaks, and then to list its tools."""

FIRST_S, LONGEST_S = 0.5, 60.0
"""Wait before a lost server is tried again: it doubles from the one to the other, until the server had stayed up."""

STEADY_S = 30.0
"""A server that stayed up for so long is tried again at once when it is lost."""

RELIST_S = 1.0
"""Pause between two lists of a server's tools, however often it says that they changed."""

LOOK_S = 300.0
"""How often the tools of a server over HTTP are listed that tells of no changes, as Home Assistant's."""

PAGES = 20
LINES_TOLD = 10
FORGOTTEN = "Session terminated"
"""What the ``mcp`` package makes of the 404 with which a restarted server answers to a session it does not know."""

NOISY = ("mcp", "client", "httpx2", "httpcore2")
"""Loggers of the libraries that write a traceback for whatever a server sends; what matters is told here."""

CLOSED, UNNAMED = "Connection closed", "Server returned an error response"
"""What it makes of a link that broke, and of every other HTTP status that is an error."""

OnEvent = Callable[[str, Mapping[str, Any]], None]


class Servers:
    """All servers of a household; their tools come and go with them.

    ``on_event`` is told ``mcp.up`` (server, tools, version) and ``mcp.down`` (server, reason). ``offline``: those
    beyond the house are left alone.
    """

    def __init__(self, settings: Mapping[str, McpServer], on_event: OnEvent, *, offline: bool = False) -> None:
        self._servers = [Server(name, one, on_event, offline) for name, one in settings.items()]

    async def run(self) -> None:
        """Keep every server open until cancelled; whatever one of them does, the others go on."""
        if not self._servers:
            return
        with worker("mcp") as hand:
            reason = lacking("mcp", "mcp") or await hand.call(_load)
            if reason is not None:
                log.warning("no MCP server can be used: %s", reason)
                for server in self._servers:
                    server.trouble = reason
                    server.tried.set()
                return
            async with task_group() as tasks:
                for server in self._servers:
                    tasks.create_task(server.run(hand), name=f"MCP server {server.name}")

    async def tried(self) -> None:
        """Wait until each server is there, or was once found not to be."""
        for server in self._servers:
            await server.tried.wait()

    def tools(self) -> list[Tool]:
        """List the tools that can be called at this moment. Of two that models could not tell apart the first."""
        found: dict[str, Tool] = {}
        for server in self._servers:
            for tool in server.tools():
                found.setdefault(tool.spec.name.replace(".", "__"), tool)
        return list(found.values())

    def health(self) -> Iterator[tuple[str, str]]:
        """List each server with ``ok``, or what is wrong with it."""
        for server in self._servers:
            yield server.name, server.trouble or "ok"


def _load() -> str | None:
    """Import what is needed, which takes most of a second, away from the loop; return why that cannot be done."""
    try:
        import jsonschema  # noqa: F401

        from roomtone.mcp_servers import program, web  # noqa: F401
    except ImportError as error:
        return f"{error}; run: {installed.bringing('mcp')}"
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return None


class Lost(Exception):
    """A server is not there, or not any more."""


@dataclass(slots=True)
class RemoteTool:
    """A tool of a server."""

    spec: ToolSpec
    traits: Traits
    name: str
    server: Server

    async def run(self, arguments: Mapping[str, Any], house: Any) -> Result:  # noqa: ARG002
        """Have the server do it; what it answers was written by strangers.

        Raises ToolError (``late`` in its details where there was no answer in time), EgressRefused where the
        arguments may not travel there.
        """
        return await self.server.call(self.name, arguments)


class Server:
    """One server: the task that keeps it open, and calls of its tools."""

    def __init__(self, name: str, settings: McpServer, on_event: OnEvent, offline: bool = False) -> None:
        self.name = name
        self.host = host_of(name, settings)
        self.trouble = "it is being opened"
        self._settings = settings
        self._on_event = on_event
        self._offline = offline
        self._client: Client | None = None
        self._opened_at: float | None = None
        self._offers: Sequence[Offer] = ()
        self._told: list[str] = []
        self._noticed = ""
        self.tried = asyncio.Event()
        self._up = asyncio.Event()
        self._watch = Watch()
        if settings.reach is not None:
            outbound.declare(self.host, settings.reach)

    def tools(self) -> list[RemoteTool]:
        """List its tools, none while it is not there."""
        if self._watch.gone.is_set():
            return []
        return [RemoteTool(one.spec, one.traits, one.name, self) for one in self._offers]

    # ------------------------------------------------------------------------------- keeping it open

    async def run(self, hand: Worker) -> None:
        """Open it, and again whenever it is lost, until cancelled."""
        while True:
            try:
                await keep_trying(
                    partial(self._attend, hand), on=Lost, first_s=FIRST_S, longest_s=LONGEST_S, notice=self._notice
                )
            except Exception:  # a mistake of ours must not take the others along, nor the room
                log.exception("the MCP server %s could not be kept open", self.name)
                await asyncio.sleep(LONGEST_S)

    def _notice(self, error: Exception, _: float = 0) -> None:
        self.tried.set()
        level = logging.DEBUG if str(error) == self._noticed else logging.WARNING  # once, not at every further try
        self._noticed = str(error)
        log.log(level, "the MCP server %s is not there: %s", self.name, error)

    async def _attend(self, hand: Worker) -> None:
        """Keep it open for as long as it is there; return if that was long, else raise Lost."""
        loop = asyncio.get_running_loop()
        self._watch = Watch()
        self._opened_at = None
        try:
            if self._settings.url is not None and await outbound.look_up(self.host) is Egress.ANY and self._offline:
                self.trouble = f"{self.host} is beyond the house, and features.offline_mode is on"
                raise Lost(self.trouble)
            # A task of its own: what a library raises while it is cancelled would take the place of the cancellation.
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._session(self._watch, hand), name=f"session of {self.name}")
        finally:
            self._client, self._offers = None, ()
            self._up.clear()
        self.trouble = self.trouble or "it ended"
        lived = loop.time() - self._opened_at if self._opened_at is not None else 0.0
        if self._opened_at is not None:
            self._on_event("mcp.down", {"server": self.name, "reason": self.trouble})
        if lived < STEADY_S:
            raise Lost(self.trouble)
        self._notice(Lost(self.trouble))

    async def _session(self, watch: Watch, hand: Worker) -> None:
        """Enter a session and leave it when the server is gone; ``trouble`` says why, whatever was raised."""
        try:
            async with self._connected(watch) as client:
                await self._list(client, hand)
                self._open(client)
                await self._stay(client, watch, hand)
        except Exception as error:
            self.trouble = watch.wrong or _reason(error)

    @asynccontextmanager
    async def _connected(self, watch: Watch) -> AsyncIterator[Client]:
        from mcp import Client
        from mcp_types import Implementation, ToolListChangedNotification

        async def hear(message: object) -> None:
            if isinstance(message, ToolListChangedNotification):
                watch.changed.set()

        client = Client(
            _link(self.name, self._settings, watch),
            message_handler=hear,
            client_info=Implementation(name="roomtone", version=__version__),
            cache=None,
        )
        async with AsyncExitStack() as stack:
            with engine_working():
                async with asyncio.timeout(OPEN_S):
                    await stack.enter_async_context(client)
            yield client

    def _open(self, client: Client) -> None:
        self._client, self.trouble, self._noticed = client, "", ""
        self._opened_at = asyncio.get_running_loop().time()
        self._up.set()
        self.tried.set()
        if self._settings.url is not None:
            outbound.leaving(self.host, 0, "text", f"asking what tools {self.name} has")
        log.info("the MCP server %s is there; tools: %d", self.name, len(self._offers))
        self._tell_of_tools(client)

    def _tell_of_tools(self, client: Client) -> None:
        names = [one.spec.name for one in self._offers]
        self._on_event("mcp.up", {"server": self.name, "tools": names, "version": client.protocol_version})

    async def _stay(self, client: Client, watch: Watch, hand: Worker) -> None:
        """Keep the list of tools true until the server is gone; raise then."""
        tools = client.server_capabilities.tools
        subscribes = client.session.discover_result is not None and tools is not None and bool(tools.list_changed)
        look_s = None if subscribes or self._settings.command is not None else LOOK_S
        async with (
            beside(self._listen(client, watch) if subscribes else _nothing(), f"changes of {self.name}"),
            beside(self._list_anew(client, watch, hand, look_s), f"tools of {self.name}"),
        ):
            await watch.gone.wait()
            raise Lost(watch.wrong)

    async def _list_anew(self, client: Client, watch: Watch, hand: Worker, look_s: float | None) -> None:
        """List the tools whenever the server says that they changed, and every ``look_s`` seconds."""
        while True:
            try:
                async with asyncio.timeout(look_s):
                    await watch.changed.wait()
            except TimeoutError:
                log.debug("looking what tools %s has now", self.name)
            watch.changed.clear()
            before = self._offers
            await self._list(client, hand)
            if self._offers != before:
                self._tell_of_tools(client)
            await asyncio.sleep(RELIST_S)

    async def _listen(self, client: Client, watch: Watch) -> None:
        """Wait for changes as servers since 2026-07-28 tell of them; a stream that was lost is opened again."""
        from mcp import MCPError
        from mcp.client.subscriptions import SubscriptionLost

        while True:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    watch.changed.set()  # what changed before it listened is told to nobody
                    async for _ in changes:
                        watch.changed.set()
            except SubscriptionLost as error:
                log.debug("the MCP server %s: %s", self.name, error)
            except MCPError as error:
                log.debug("the MCP server %s tells of no changes: %s", self.name, error)
                return
            await asyncio.sleep(RELIST_S)

    async def _list(self, client: Client, hand: Worker) -> None:
        listed: list[Any] = []
        cursor: str | None = None
        with engine_working():
            async with asyncio.timeout(OPEN_S):
                for _ in range(PAGES):
                    page = await client.list_tools(cursor=cursor)
                    listed += page.tools
                    cursor = page.next_cursor
                    if cursor is None or len(listed) >= offers.MOST_LISTED:
                        break
        found, left_out = await hand.call(
            offers.read, self.name, self._settings, self.host, listed[: offers.MOST_LISTED], timeout=OPEN_S
        )
        self._offers = found
        for line in left_out[:LINES_TOLD] if left_out != self._told else ():
            log.warning("the MCP server %s: left out: %s", self.name, line)
        self._told = left_out

    # ---------------------------------------------------------------------------------------- a call

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Result:
        """Call a tool; see RemoteTool.run. Cancelling the caller tells the server to stop."""
        if self._client is None or self._watch.gone.is_set():
            raise ToolError(f"{self.name} is not there just now: {_fact(self._watch.wrong or self.trouble)}")
        bound = self._settings.timeout_s
        try:
            with engine_working():
                async with asyncio.timeout(bound):
                    return offers.result_of(await self._answer(tool, dict(arguments)))
        except TimeoutError:
            raise ToolError(f"{self.name} gave no answer within {bound:g} s", late=True) from None
        except RoomtoneError:
            raise
        except Exception as error:  # whatever a library makes of what a server sends
            raise ToolError(f"{self.name} could not do it: {self._told_of(error)}") from error

    async def _answer(self, tool: str, arguments: dict[str, Any]) -> Any:
        from mcp import MCPError

        try:
            return await self._ask(tool, arguments)
        except MCPError as error:
            if error.message != FORGOTTEN:
                raise
        # It was restarted and knows nothing of this session, so nothing was done: once more in a new one.
        self._up.clear()
        self._watch.end("it was restarted")
        await self._up.wait()
        return await self._ask(tool, arguments)

    async def _ask(self, tool: str, arguments: dict[str, Any]) -> Any:
        assert self._client is not None
        size = len(json.dumps(arguments, ensure_ascii=False, default=str).encode())
        outbound.leaving(self.host, size, "text", f"tool {self.name}.{tool}")
        return await self._client.call_tool(tool, arguments)

    def _told_of(self, error: Exception) -> str:
        reason = _reason(error)
        if reason == UNNAMED:
            return _fact(self._watch.wrong) or reason
        if reason != CLOSED:
            return reason
        fact = _fact(self._watch.wrong or "it ended")
        return f"{fact}, and it is not known whether it was done" if self._watch.reached else fact


def _link(name: str, server: McpServer, watch: Watch) -> AbstractAsyncContextManager[tuple[Any, Any]]:
    """Return the way to a server; what it needs is imported only now."""
    if server.command is not None:
        from roomtone.mcp_servers.program import program

        return program(name, server, watch)
    from roomtone.mcp_servers.web import web

    return web(name, server, watch)


def host_of(name: str, settings: McpServer) -> str:
    """Return where what a server is told goes: its URL's host; for a program its own name, since who knows where."""
    if settings.url is None:
        return f"{name} ({PurePath(settings.command or '').name})"
    return urlsplit(settings.url).netloc.rpartition("@")[2]


def _reason(error: BaseException) -> str:
    """Return the line of an error, or of the first of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return f"it did not answer within {OPEN_S:g} s"
    line = error.message if isinstance(error, RoomtoneError) else " ".join(str(error).split())
    return line[: offers.LONGEST_REASON] or type(error).__name__


def _fact(line: str) -> str:
    """Return what is wrong, without what mends it, which no model can do."""
    return line.partition("; ")[0]


async def _nothing() -> None:
    pass
