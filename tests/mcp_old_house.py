"""MCP servers for tests that speak the protocol of 2025-06-18, written out by hand, and misbehave as they are told.

``python mcp_old_house.py KIND`` speaks over its standard streams, with ``--port N`` over streamable HTTP on loopback.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OBJECT = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def tool(name: Any, schema: Any = OBJECT, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": f"Do {name}.", "inputSchema": schema, **more}


LISTS: dict[str, list[Any]] = {
    "old": [tool("weather")],
    "odd": [
        tool("weather", outputSchema="none", annotations={"destructiveHint": "perhaps", "readOnlyHint": True}),
        tool("weather"),
        tool("text", "a string"),
        tool("list", {"type": "array"}),
        tool("nonsense", {"type": "object", "properties": {"a": {"type": "wobbly"}}}),
        tool("elsewhere", {"type": "object", "properties": {"a": {"$ref": "http://example.com/schema.json"}}}),
        tool("huge", {"type": "object", "description": "x" * 9_000}),
        tool("with a space"),
        tool("x" * 70),
        tool("wordy", description="word " * 400),
        tool(7),
        "not even a tool",
    ],
    "many": [tool(f"tool_{number}") for number in range(5_000)],
}


def answers(kind: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Answer as a server of 2025-06-18 does."""
    number, method = request.get("id"), request.get("method")
    if method == "initialize":
        about = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}}
        yield {"id": number, "result": {**about, "serverInfo": {"name": kind, "version": "1"}}}
    elif method == "tools/list":
        yield {"id": number, "result": {"tools": LISTS.get(kind, LISTS["old"])}}
    elif method == "tools/call":
        told = {"type": "text", "text": json.dumps(request["params"]["arguments"])}
        yield {"id": number, "result": {"content": [told]}}
    elif number is not None:
        yield {"id": number, "error": {"code": -32601, "message": "Method not found"}}


def run(kind: str) -> None:
    def send(message: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()

    for line in sys.stdin:
        request = json.loads(line)
        if kind == "endless" and request.get("method") == "tools/call":
            while True:
                sys.stdout.write("x" * 65_536)
        if kind == "chatty" and request.get("method") == "tools/call":
            for _ in range(3_000):
                send({"method": "notifications/message", "params": {"level": "info", "data": "chat"}})
                sys.stdout.write("this is no message\n")
                sys.stderr.write("neither is this\n")
        for answer in answers(kind, request):
            send(answer)
    if kind == "stubborn":
        hang()


def hang() -> None:
    """Do nothing, for ever, and end for no polite request."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)


def run_over_http(kind: str, port: int) -> None:
    """Serve as a house's server does that knows one message at a time: each answered at once, as JSON."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, RedirectResponse, Response
    from starlette.routing import Route

    sessions = itertools.count(1)

    async def post(request: Request) -> Response:
        if kind == "elsewhere":
            return RedirectResponse("http://127.0.0.2:1/mcp", 307)
        if request.headers.get("authorization") != "Bearer sesame":
            return Response(status_code=401)
        message = await request.json()
        calls, session = message.get("method") == "tools/call", request.headers.get("mcp-session-id")
        if calls and kind == "revoking":
            return Response(status_code=401)
        if calls and kind == "forgetful" and session == "1":
            return Response(status_code=404)
        begins = message.get("method") == "initialize" and kind == "forgetful"
        headers = {"mcp-session-id": str(next(sessions))} if begins else {}
        if kind == "endless" and message.get("method") == "tools/call":
            return Response(b"x" * 8_000_000, media_type="application/json")
        for answer in answers(kind, message):
            return JSONResponse({"jsonrpc": "2.0", **answer}, headers=headers)
        return Response(status_code=202)

    app = Starlette(routes=[Route("/mcp", post, methods=["POST"])])
    uvicorn.run(app, port=port, log_level="critical")


def main(kind: str, *more: str) -> None:
    port = int(more[1]) if more[:1] == ("--port",) else None
    if "PIDS" in os.environ:
        with Path(os.environ["PIDS"]).open("a") as pids:
            pids.write(f"{os.getpid()}\n")
    if kind == "hanging":
        hang()
    elif port is None:
        run(kind)
    else:
        run_over_http(kind, port)


if __name__ == "__main__":
    main(*sys.argv[1:])
