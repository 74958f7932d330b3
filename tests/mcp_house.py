"""An MCP server for tests, made of the ``mcp`` package's own classes; a process of its own.

``python mcp_house.py new`` speaks over its standard streams, with ``--port N`` over streamable HTTP on loopback.
Instead of ``new``, ``2025-11-25``: it knows no newer protocol than that.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp import MCPError
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server


async def knows_nothing_newer(context: Any, call_next: Any) -> Any:
    """Answer as servers did before there was ``server/discover``."""
    if context.method == "server/discover":
        raise MCPError(types.METHOD_NOT_FOUND, "Method not found")
    return await call_next(context)


def weather(city: str) -> dict[str, Any]:
    """Tell the weather of a city."""
    return {"city": city, "degrees": 21}


def burn(what: str) -> str:
    """Burn something."""
    return f"{what} is gone"


def fail() -> str:
    """Fail."""
    raise ValueError("the oven is cold")


woken = asyncio.Event()


async def sleep() -> str:
    """Sleep for ever."""
    try:
        await asyncio.sleep(3600)
    finally:
        woken.set()
    return "slept"


async def wake() -> str:
    """Wait until a sleep was ended."""
    await woken.wait()
    return "a sleep was ended"


def die() -> str:
    """Die in the middle of a call."""
    print("out of memory", file=sys.stderr)
    os._exit(3)


def flood(letters: int) -> str:
    """Say very much."""
    return "so much " * (letters // 8)


def picture() -> list[Any]:
    """Draw something."""
    drawn = types.ImageContent(type="image", data="AAAA", mime_type="image/png")
    return [types.TextContent(type="text", text="here it is"), drawn]


async def grow(context: Context) -> str:
    """Get another tool, and say that there is one."""
    context.mcp_server.add_tool(lambda: "better than never", name="late", description="Come late.")
    await context.notify_tools_changed()
    await context.session.send_tool_list_changed()
    return "grown"


async def ask(context: Context) -> str:
    """Ask the person who uses the client something."""
    answer = await context.session.elicit_form("How old are you?", {"type": "object", "properties": {}})
    return str(answer.action)


def environment() -> list[str]:
    """Tell the names of the variables that it was given."""
    return sorted(os.environ)


def house(kind: str) -> MCPServer[Any]:
    middleware = [] if kind == "new" else [knows_nothing_newer]
    server = MCPServer("house", log_level="CRITICAL", middleware=middleware)
    server.add_tool(weather, annotations=types.ToolAnnotations(read_only_hint=True))
    server.add_tool(burn, annotations=types.ToolAnnotations(destructive_hint=True))
    for tool in (fail, sleep, wake, die, flood, picture, grow, ask, environment):
        server.add_tool(tool)
    return server


async def run_old(made: MCPServer[Any]) -> None:
    """Serve over the standard streams, and only who begins as clients did before there was ``server/discover``."""
    server = made._lowlevel_server
    about = server.create_initialization_options()
    async with stdio_server() as (reading, writing), server.lifespan(server) as state:
        await serve_loop(server, reading, writing, lifespan_state=state, init_options=about)


def main(kind: str, *more: str) -> None:
    if "PIDS" in os.environ:
        with Path(os.environ["PIDS"]).open("a") as pids:
            pids.write(f"{os.getpid()}\n")
    server = house(kind)
    if more:
        server.run("streamable-http", port=int(more[1]))
    elif kind == "new":
        server.run()
    else:
        anyio.run(run_old, server)


if __name__ == "__main__":
    main(*sys.argv[1:])
