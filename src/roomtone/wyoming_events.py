"""Wyoming's events, read with bounds: whoever is at the other end may be broken, or somebody else altogether.

The events themselves are the package ``wyoming``'s, which is imported when a connection is opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import numpy as np

from roomtone.clock import engine_working
from roomtone.core.errors import EngineError, EngineTimeout
from roomtone.core.sound import Audio, to_int16

if TYPE_CHECKING:
    from wyoming.event import Event

LARGEST_DATA = 2_000_000
"""Bytes of the line that an event begins with; some servers put all its data there, hundreds of voices in one."""

LARGEST_SOUND = 4_000_000
"""Bytes of one event's sound, or of data behind its line: half a minute in good quality, where 0.1 s is usual."""

RATES = range(8_000, 192_001)
"""Samples a second that are believed."""


class NotWyoming(Exception):
    """What came is no event of Wyoming's, or not the one that must come here."""


@dataclass(slots=True)
class _Bounded:
    """What the package reads an event from: a stream reader that refuses more than is reasonable."""

    reader: asyncio.StreamReader
    at_end: bool = False

    async def readline(self) -> bytes:
        line = await self.reader.readline()
        self.at_end = not line
        return line

    async def readexactly(self, count: int) -> bytes:
        if count > LARGEST_SOUND:
            raise NotWyoming("an event of more than 4 MB")
        return await self.reader.readexactly(count)


async def read(reader: asyncio.StreamReader) -> Event | None:
    """Return the next event, or None where the connection has ended.

    Raises NotWyoming for anything else, OSError where the connection broke.
    """
    from wyoming.event import async_read_event

    bounded = _Bounded(reader)
    try:
        event = await async_read_event(cast("asyncio.StreamReader", bounded))
    except EOFError:
        return None
    except (AttributeError, LookupError, TypeError, RecursionError):
        event = None
    if bounded.at_end:
        return None
    if event is None or not isinstance(event.type, str) or not isinstance(event.data, dict):
        raise NotWyoming("something that is no event of Wyoming's")
    return event


def text_of(event: Event, longest: int) -> str:
    """Return an event's text. Raises NotWyoming where it has none or more than ``longest`` characters."""
    text = event.data.get("text")
    if not isinstance(text, str) or len(text) > longest:
        raise NotWyoming(f"a '{event.type}' without a text of at most {longest} characters")
    return text


def sound_of(event: Event) -> Audio:
    """Return the sound of an ``audio-chunk``; two channels are averaged.

    Raises NotWyoming for sound that is not 16-bit, or of a rate or a number of channels that cannot be.
    """
    rate, width, channels = (event.data.get(key) for key in ("rate", "width", "channels"))
    if width != 2 or channels not in (1, 2) or not isinstance(rate, int) or rate not in RATES:
        raise NotWyoming(f"sound of {rate} Hz, {width} bytes a sample, {channels} channels; 16-bit mono is asked for")
    audio = Audio.from_bytes(event.payload or b"", rate)
    if channels == 1:
        return audio
    pairs = audio.samples[: len(audio) // 2 * 2].reshape(-1, 2)
    return Audio(to_int16(pairs.mean(axis=1, dtype=np.float64)), rate)


# ------------------------------------------------------------------------------------------ as a client


def server_uri(uri: str) -> str:
    """Return a server's address as it is. Raises ValueError for what is none."""
    parts = urlsplit(uri)
    try:
        fit = bool(parts.hostname and parts.port) if parts.scheme == "tcp" else parts.scheme == "unix" and parts.path
    except ValueError:
        fit = False
    if not fit:
        raise ValueError("is no Wyoming server; write it as in tcp://nas.local:10300")
    return uri


def host_of(uri: str) -> str | None:
    """Return the host of a server's address, None for a Unix socket."""
    return urlsplit(uri).hostname


@dataclass(slots=True)
class _Counted:
    """What the package writes an event to: a stream writer whose bytes are counted."""

    writer: asyncio.StreamWriter
    count: Callable[[int], None]

    def write(self, data: bytes) -> None:
        self.count(len(data))
        self.writer.write(data)

    def writelines(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self.write(line)

    async def drain(self) -> None:
        await self.writer.drain()


@dataclass(slots=True)
class Server:
    """One connection to a Wyoming server; every wait is bounded by ``timeout_s``."""

    name: str
    reader: asyncio.StreamReader
    writer: _Counted
    timeout_s: float

    async def send(self, *nouns: Any) -> None:
        """Send events. Raises TimeoutError where they are not taken, OSError where nobody is there."""
        from wyoming.event import async_write_event

        async with asyncio.timeout(self.timeout_s):
            for noun in nouns:
                await async_write_event(noun.event(), cast("asyncio.StreamWriter", self.writer))

    async def next(self) -> Event:
        """Return the next event; the server's own error is raised as EngineError."""
        event = await read(self.reader)
        if event is None:
            raise EngineError(f"{self.name} hung up before it had answered")
        if event.type == "error":
            raise EngineError(f"{self.name} says: {' '.join(str(event.data.get('text')).split())[:200]}")
        return event


@asynccontextmanager
async def connected(
    uri: str, connect_timeout_s: float, timeout_s: float, count: Callable[[int], None]
) -> AsyncIterator[Server]:
    """Connect to a Wyoming server; leaving cuts the connection at once. ``count`` is told the bytes that are sent.

    Raises EngineError, and EngineTimeout where a wait in here took too long: one line that names the server.
    """
    parts = urlsplit(uri)
    name = f"the Wyoming server {parts.netloc or parts.path}"
    try:
        with engine_working():
            async with asyncio.timeout(connect_timeout_s):
                reader, writer = await _open(uri)
    except TimeoutError:
        raise EngineTimeout(f"{name} cannot be reached within {connect_timeout_s:g} s; is it on?") from None
    except OSError as error:
        raise EngineError(f"{name} cannot be reached ({_why(error)}); is it running?") from error
    try:
        yield Server(name, reader, _Counted(writer, count), timeout_s)
    except NotWyoming as error:
        raise EngineError(f"{name} sent {error}") from error
    except TimeoutError:
        raise EngineTimeout(f"{name} did not answer within {timeout_s:g} s") from None
    except OSError as error:
        raise EngineError(f"{name} hung up ({_why(error)})") from error
    finally:
        writer.transport.abort()


async def _open(uri: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(uri)
    if parts.scheme == "unix":
        return await asyncio.open_unix_connection(parts.path, limit=LARGEST_DATA)
    return await asyncio.open_connection(parts.hostname, parts.port, limit=LARGEST_DATA)


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
