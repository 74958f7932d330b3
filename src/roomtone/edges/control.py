"""The control socket's server: ``roomtone ask`` and the other commands reach the running daemon here."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from roomtone.control import LONGEST_REQUEST, line, listens, short_address
from roomtone.core.errors import ConfigError, RoomtoneError, StateBusy, UsageError
from roomtone.flow import close

log = logging.getLogger(__name__)

Answer = Callable[[dict[str, Any]], AsyncIterator[dict[str, Any]]]
"""Takes a request; yields events, and ``{"result": ...}`` last. What it raises goes to the client alone."""

CLIENTS = 32
"""Served at once; more wait in the socket's queue."""

REQUEST_WAIT_S = 10.0
FLUSH_WAIT_S = 5.0
ACCEPT_AGAIN_S = 0.5


async def serve(path: Path, answer: Answer) -> None:
    """Serve the control socket until cancelled; its file has mode 0660.

    A socket left behind by a daemon that died is replaced. Raises StateBusy where somebody listens there already,
    ConfigError where the socket cannot be made.
    """
    async with listening(path) as server:
        await serve_on(server, answer)


@asynccontextmanager
async def listening(path: Path) -> AsyncIterator[socket.socket]:
    """Make the socket and listen on it; its file goes when the context ends. Raises as ``serve`` does."""
    if _occupied(path):
        if await listens(path):
            raise StateBusy(
                f"another daemon listens at {path}; stop it: sudo systemctl stop roomtone", socket=str(path)
            )
        _remove(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        made = _listen(server, path)
        try:
            yield server
        finally:
            _remove(path, made)


async def serve_on(server: socket.socket, answer: Answer) -> None:
    """Serve a listening socket until cancelled."""
    room = asyncio.Semaphore(CLIENTS)
    async with asyncio.TaskGroup() as group:
        while True:
            await room.acquire()
            client = await _accept(server)
            task = group.create_task(_serve_client(client, answer), name="control client")
            task.add_done_callback(partial(_leave, client, room))


async def _accept(server: socket.socket) -> socket.socket:
    """Wait for a client. (The loop's own sock_accept loses one where it is cancelled in the wrong moment.)"""
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(server, news.set)
    try:
        while True:
            await news.wait()
            news.clear()
            try:
                client, _ = server.accept()
            except BlockingIOError:
                continue  # it hung up before it was taken
            except OSError as error:  # out of file descriptors, mostly: it passes
                log.warning("the control socket cannot take a client: %s", error.strerror)
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            client.setblocking(False)
            return client
    finally:
        loop.remove_reader(server)


def _leave(client: socket.socket, room: asyncio.Semaphore, _: asyncio.Task[None]) -> None:
    """End a client also where its task was cancelled before it began."""
    client.close()
    room.release()


def _occupied(path: Path) -> bool:
    if not os.path.lexists(path):
        return False
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ConfigError(f"{path} is in the way and is no socket; move it elsewhere")
    return True


def _listen(server: socket.socket, path: Path) -> int:
    """Bind and listen; return the inode of the socket's file."""
    server.setblocking(False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with short_address(path) as address:
            server.bind(address)
        path.chmod(0o660)  # before listen: nobody can connect earlier
        server.listen(CLIENTS)
        return path.stat().st_ino
    except OSError as error:
        raise ConfigError(f"{path} cannot be made ({error.strerror}); mend its folder's permissions") from None


def _remove(path: Path, inode: int | None = None) -> None:
    """Remove a socket's file; with ``inode``, only where it is still the one that was made."""
    if path.exists() and inode in (None, path.stat().st_ino):
        path.unlink()


async def _serve_client(client: socket.socket, answer: Answer) -> None:
    try:
        async with _streams(client) as (reader, writer):
            await _converse(reader, writer, answer)
    except OSError as error:
        log.debug("a client of the control socket went away: %s", error)
    except Exception:
        log.exception("a client of the control socket could not be served")


@asynccontextmanager
async def _streams(client: socket.socket) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Read and write a client; what was written is delivered before it is closed, unless this is cancelled."""
    reader, writer = await asyncio.open_unix_connection(sock=client, limit=LONGEST_REQUEST)
    try:
        yield reader, writer
        writer.close()
        async with asyncio.timeout(FLUSH_WAIT_S):
            await writer.wait_closed()
    finally:
        writer.transport.abort()


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
    try:
        request = await _request(reader)
    except UsageError as error:
        writer.write(line({"error": error.as_dict()}))
        return
    if request is None:
        return
    async with asyncio.TaskGroup() as group:
        answering = group.create_task(_answer(request, writer, answer), name="control answer")
        watching = group.create_task(_until_gone(reader, answering), name="control client's end")
        answering.add_done_callback(lambda _: watching.cancel())


async def _request(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """Read the request; None where the client only looked whether anybody listens."""
    try:
        async with asyncio.timeout(REQUEST_WAIT_S):
            text = await reader.readline()
        request = json.loads(text) if text else None
    except TimeoutError:
        raise UsageError(f"no request came within {REQUEST_WAIT_S:.0f} s") from None
    except (ValueError, RecursionError) as error:
        problem = "is too long" if "limit" in str(error) else "is not JSON"
        raise UsageError(f"the request {problem}; send one line of at most {LONGEST_REQUEST} bytes") from None
    if text and not (isinstance(request, dict) and isinstance(request.get("command"), str)):
        raise UsageError('the request names no command; send an object such as {"command": "ask", "text": "hello"}')
    return request


async def _answer(request: dict[str, Any], writer: asyncio.StreamWriter, answer: Answer) -> None:
    try:
        messages = answer(request)
        try:
            async for message in messages:
                writer.write(line(message))
                await writer.drain()
                if "result" in message:
                    return
        finally:
            await close(messages)
        writer.write(line({"result": None}))
    except RoomtoneError as error:
        writer.write(line({"error": error.as_dict()}))
    except OSError as error:
        log.debug("a client of the control socket went away: %s", error)
    except Exception as error:
        log.exception("the command %s failed", request.get("command"))
        text = f"the daemon failed at this ({type(error).__name__}); see: journalctl -u roomtone"
        writer.write(line({"error": {"code": "INTERNAL_ERROR", "message": text, "details": {}}}))


async def _until_gone(reader: asyncio.StreamReader, answering: asyncio.Task[None]) -> None:
    """Take the request back when the client closes its end."""
    try:
        while await reader.read(4096):
            pass  # one request a connection: what else comes is not read
    except OSError:
        log.debug("a client of the control socket hung up")
    answering.cancel()
