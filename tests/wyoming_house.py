"""A Wyoming server on loopback that does as it is told, made of the real protocol library."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event
from wyoming.event import async_read_event as read_event
from wyoming.event import async_write_event as write_event
from wyoming.tts import Synthesize

Behaviour = Callable[["Guest"], Awaitable[None]]


@dataclass
class Guest:
    """One connection to the server, and what came over it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    events: list[Event] = field(default_factory=list)

    async def until(self, *kinds: str) -> Event:
        """Read up to an event of one of these kinds and return it."""
        while (event := await read_event(self.reader)) is not None:
            self.events.append(event)
            if event.type in kinds:
                return event
        raise ConnectionError("the client hung up")

    async def send(self, *nouns: object) -> None:
        for noun in nouns:
            await write_event(noun.event(), self.writer)  # type: ignore[attr-defined]

    async def gone(self) -> None:
        """Wait until the client has hung up."""
        while await self.reader.read(65_536):
            pass

    @property
    def sound(self) -> bytes:
        return b"".join(event.payload or b"" for event in self.events if event.type == "audio-chunk")


@dataclass
class House:
    """A running server: its address, and every guest it had."""

    uri: str
    guests: list[Guest] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def house(behaviour: Behaviour) -> AsyncIterator[House]:
    """Serve on a free port of loopback; every connection is treated as ``behaviour`` says, then closed."""
    async with asyncio.TaskGroup() as tasks:

        def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            running.append(tasks.create_task(serve(reader, writer)))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            guest = Guest(reader, writer)
            open_house.guests.append(guest)
            try:
                await behaviour(guest)
            except ConnectionError:
                pass  # the client hung up, as it may
            finally:
                writer.close()
                open_house.left.set()

        running: list[asyncio.Task[None]] = []
        server = await asyncio.start_server(take, "127.0.0.1", 0)
        open_house = House(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        try:
            yield open_house
        finally:
            server.close()
            for task in running:
                task.cancel()


# ------------------------------------------------------------------------------------------ good ones


async def hears(guest: Guest) -> None:
    """Understand everything as a question about the time, and say half of it after the first sound."""
    await guest.until("audio-chunk")
    await guest.send(TranscriptStart(), TranscriptChunk("What "), TranscriptChunk("time"))
    await guest.until("audio-stop")
    await guest.send(Transcript("What time is it?"))


async def hums(guest: Guest) -> None:
    """Say everything in a second of a rising tone, in ten pieces."""
    await guest.until("synthesize")
    await guest.send(AudioStart(22_050, 2, 1))
    for number in range(10):
        await guest.send(AudioChunk(22_050, 2, 1, tone(number)))
    await guest.send(AudioStop())
    await guest.gone()


def tone(number: int, samples: int = 2205) -> bytes:
    wave = (2000 * (number + 1) if sample // 50 % 2 else -2000 * (number + 1) for sample in range(samples))
    return b"".join(value.to_bytes(2, "little", signed=True) for value in wave)


__all__ = ["Guest", "House", "Synthesize", "Transcribe", "hears", "house", "hums", "tone"]
