"""One daemon, many askers: the lock on the state folder, and the protocol of the control socket.

The protocol is JSON lines over a Unix socket. A client sends one request, an object with ``command`` and that
command's own keys; the daemon answers with any number of events and then exactly one last line, either
``{"result": ...}`` or ``{"error": {"code", "message", "details"}}``, and closes. A client that hangs up gets no
answer; what it asked for may be done all the same.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic_core import to_jsonable_python

from roomtone.clock import engine_working
from roomtone.core.errors import ConfigError, ControlRefused, DaemonGone, RoomtoneError, StateBusy, UsageError
from roomtone.state_swap import finish

T = TypeVar("T")

SERVICE_SOCKET = Path("/run/roomtone/control.sock")
SOCKET_NAME = "control.sock"
LONGEST_REQUEST = 64 * 1024
LONGEST_ANSWER = 16 * 1024 * 1024
"""Bytes of one line, its end included."""

LOCK_WAIT_S = 5.0
CONNECT_WAIT_S = 5.0
_POLL_S = 0.05


# ---------------------------------------------------------------------------------------------- lock


@asynccontextmanager
async def state_lock(state_dir: Path, wait_s: float = LOCK_WAIT_S) -> AsyncIterator[None]:
    """Own the state folder, making it where there is none; the lock goes with the process, however that ends.

    Raises StateBusy where another process holds it for longer than ``wait_s``, ConfigError where the folder cannot
    be used.
    """
    file = _open_lock(state_dir)
    try:
        try:
            async with asyncio.timeout(wait_s):
                while not _locked(file):
                    with engine_working():
                        await asyncio.sleep(_POLL_S)
        except TimeoutError:
            holder = os.pread(file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise StateBusy(
                f"{state_dir} is in use by process {holder}; stop that one, or use another --state-dir",
                state_dir=str(state_dir),
                process=holder,
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        _finish_restoring(state_dir)
        yield
    finally:
        os.close(file)


def _finish_restoring(state_dir: Path) -> None:
    """Do what is left of a restore that a power cut came into: whoever owns the folder next finds all of it."""
    try:
        finish(state_dir)
    except OSError as error:
        raise ConfigError(
            f"{state_dir} holds a backup that is half restored, and cannot be written ({error.strerror}); "
            f"mend the disk, or: sudo chown -R roomtone: {state_dir}"
        ) from error


def _open_lock(state_dir: Path) -> int:
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(
            f"state_dir: {state_dir} cannot be used ({error.strerror}); name a folder of yours with --state-dir"
        ) from None


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# -------------------------------------------------------------------------------------------- socket


def socket_path(state_dir: Path, env: Mapping[str, str] = os.environ) -> Path:
    """Return where the daemon listens: in systemd's runtime folder for the service, else in its state folder."""
    runtime = env.get("RUNTIME_DIRECTORY")
    return Path(runtime.partition(":")[0]) / SOCKET_NAME if runtime else state_dir / SOCKET_NAME


async def find_daemon(state_dir: Path, *, named: bool) -> Path | None:
    """Return the socket on which a daemon listens, or None where none runs.

    The service's socket is tried first, unless the state folder was named (``--state-dir``): a command must not
    end up at another store than the one meant. Raises ControlRefused where the socket may not be used.
    """
    for path in (state_dir / SOCKET_NAME,) if named else (SERVICE_SOCKET, state_dir / SOCKET_NAME):
        if await listens(path):
            return path
    return None


async def listens(path: Path) -> bool:
    """Tell whether anybody listens on a socket. Raises ControlRefused where this user may not ask."""
    try:
        _, writer = await connect(path)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return False
    writer.close()
    return True


async def connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a socket. Raises ControlRefused where this user may not, OSError where nobody listens."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.setblocking(False)
    try:
        with short_address(path) as address, engine_working():
            async with asyncio.timeout(CONNECT_WAIT_S):
                await asyncio.get_running_loop().sock_connect(client, address)
                return await asyncio.open_unix_connection(sock=client, limit=LONGEST_ANSWER)
    except PermissionError:
        client.close()
        raise ControlRefused(
            f"{path} may not be used by this user; run: sudo usermod -aG roomtone $USER (then log in again)",
            socket=str(path),
        ) from None
    except TimeoutError:
        client.close()
        raise DaemonGone(f"the daemon at {path} does not answer; run: sudo systemctl restart roomtone") from None
    except BaseException:
        client.close()
        raise


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """Give an address for a socket however deep its folder is: the kernel takes 107 bytes at most."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


# ------------------------------------------------------------------------------------------ protocol


def line(message: Mapping[str, Any]) -> bytes:
    """Write one message of the protocol."""
    return json.dumps(message, ensure_ascii=False, default=to_jsonable_python).encode() + b"\n"


async def ask_daemon(path: Path, request: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Send a request and yield its events, the last one being ``{"result": ...}``.

    Raises the daemon's own error as the class its code belongs to, ControlRefused, and DaemonGone where nobody
    listens or the daemon ended before it had answered.
    """
    try:
        reader, writer = await connect(path)
    except OSError as error:
        raise DaemonGone(f"no daemon listens at {path} ({error.strerror}); start it: roomtone run") from None
    try:
        writer.write(line(request))
        while True:
            message = await _next(reader, path)
            if "error" in message:
                raise raised(message["error"])
            yield message
            if "result" in message:
                return
    finally:
        writer.close()


async def _next(reader: asyncio.StreamReader, path: Path) -> dict[str, Any]:
    try:
        with engine_working():
            text = await reader.readline()
        message = json.loads(text) if text.endswith(b"\n") else None
    except (OSError, ValueError):
        message = None
    if not isinstance(message, dict):
        raise DaemonGone(f"the daemon at {path} ended before it had answered; see: journalctl -u roomtone")
    return message


def raised(error: Mapping[str, Any]) -> RoomtoneError:
    """Turn an error that came over the wire into the exception it was."""
    code, details = str(error.get("code", "")), error.get("details")
    kinds = {kind.code: kind for kind in _kinds(RoomtoneError)}
    return kinds.get(code, RoomtoneError)(str(error.get("message", code)), **(details if details else {"code": code}))


def _kinds(root: type[RoomtoneError]) -> Iterator[type[RoomtoneError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _kinds(kind)


# ------------------------------------------------------------------------------------ what is to be done


async def done_as_asked(
    request: Mapping[str, Any],
    ways: Mapping[str, Callable[[Mapping[str, Any], T], AsyncIterator[dict[str, Any]]]],
    household: T,
    besides: Sequence[str] = (),
) -> AsyncIterator[dict[str, Any]]:
    """Answer a request whose ``do`` names one of several ``ways``: its events, then how many there were.

    What is ``unknown`` is told and not counted. ``besides``: what else may be chosen, and is done elsewhere.
    Raises UsageError for what is none of them, and whatever that way raises.
    """
    way = ways.get(str(request.get("do")))
    if way is None:
        raise UsageError(f"do: choose one of {', '.join((*ways, *besides))}")
    count = 0
    async for event in way(request, household):
        count += "unknown" not in event
        yield event
    yield {"result": count}
