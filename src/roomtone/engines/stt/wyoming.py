"""A recogniser elsewhere in the house that speaks Wyoming, such as a faster-whisper on a larger machine.

The sound goes out while the person speaks. A server that offers streaming transcripts gives partials meanwhile;
pauses mean nothing to it. Wyoming tells no confidence: every transcript has 1.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from roomtone import outbound
from roomtone.clock import engine_working
from roomtone.core.sound import RATE, Audio
from roomtone.engines import EngineSettings, lacking
from roomtone.engines.stt import Hints, Pause, Transcript
from roomtone.flow import task_group
from roomtone.wyoming_events import NotWyoming, Server, connected, host_of, server_uri, text_of

log = logging.getLogger(__name__)

LONGEST_TEXT = 10_000
"""Characters of one transcript: more is no answer to a spoken sentence."""


MOST_HINTS = 200
"""Names, and words, that are sent along."""

Found = asyncio.Queue[Transcript | Exception]


class Settings(EngineSettings):
    """Where the server is, and how long it may take."""

    uri: Annotated[str, AfterValidator(server_uri)] | None = None
    """tcp://host:port or unix:///path."""
    model: str | None = None
    """The server's model, by its name there; without one, the server's default."""
    language: str | None = None
    """Where it differs from the household's."""
    connect_timeout_s: float = Field(2.0, gt=0)
    """Longest that reaching the server may take."""
    timeout_s: float = Field(5.0, gt=0)
    """Longest from the end of an utterance to its text; then the next engine is asked. Someone is waiting."""


def missing(settings: Settings) -> str | None:
    """Say what is lacking, the package or the server's address."""
    if (reason := lacking("wyoming", "wyoming")) is not None:
        return reason
    return None if settings.uri else "no server is named; write stt: {engine: wyoming, uri: tcp://nas.local:10300}"


class Wyoming:
    """Lets a server recognise; each utterance is a connection of its own. ``host`` is where it goes."""

    def __init__(self, settings: Settings, tasks: asyncio.TaskGroup) -> None:
        self.host = host_of(settings.uri or "")
        self._settings = settings
        self._tasks = tasks

    async def transcribe(self, utterance: AsyncIterator[Audio | Pause], hints: Hints) -> AsyncIterator[Transcript]:
        """Send the utterance; yield what the server makes of it. One without sound is "" and needs no server.

        Raises EngineError with the server's name where it is not there, hangs up, or sends what cannot be used;
        EngineTimeout where it does not answer; EgressRefused where what is said may not travel there.
        """
        # Sending and reading go on while whoever reads this does other things, so they have a task of their own.
        found: Found = asyncio.Queue()
        task = self._tasks.create_task(self._hear(utterance, hints, found), name="wyoming utterance")
        try:
            while True:
                transcript = await found.get()
                if isinstance(transcript, Exception):
                    raise transcript
                yield transcript
                if transcript.final:
                    return
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _hear(self, utterance: AsyncIterator[Audio | Pause], hints: Hints, found: Found) -> None:
        language = self._settings.language or hints.language
        try:
            first = await _next_sound(utterance)
            if first is None:
                found.put_nowait(Transcript("", language=language))
            else:
                await self._ask([*self._request(language, hints), _chunk(first)], utterance, language, found)
        except Exception as error:  # it must reach whoever reads, whatever it is
            found.put_nowait(error)

    def _request(self, language: str, hints: Hints) -> list[Any]:
        from wyoming.asr import Transcribe
        from wyoming.audio import AudioStart

        names, terms = list(hints.names[:MOST_HINTS]), list(hints.words[:MOST_HINTS])
        asked = Transcribe(
            self._settings.model, language, transcript_names=names or None, transcript_terms=terms or None
        )
        return [asked, AudioStart(RATE, 2, 1)]

    async def _ask(
        self, opening: list[Any], utterance: AsyncIterator[Audio | Pause], language: str, found: Found
    ) -> None:
        settings = self._settings
        with outbound.sending(self.host, "audio", "hearing") as sent:
            async with (
                connected(settings.uri or "", settings.connect_timeout_s, settings.timeout_s, sent.count) as server,
                asyncio.timeout(None) as bound,
                task_group() as tasks,
            ):
                sending = tasks.create_task(self._send(server, opening, utterance, bound), name="wyoming sound")
                await _receive(server, language, found)
                sending.cancel()

    async def _send(
        self, server: Server, opening: list[Any], utterance: AsyncIterator[Audio | Pause], bound: asyncio.Timeout
    ) -> None:
        """Send the utterance as it is spoken; the server's time to answer begins at its end."""
        wait_s = self._settings.timeout_s
        try:
            await _send_all(server, opening, utterance)
        except TimeoutError:
            wait_s = 0.0
        except OSError as error:
            log.debug("%s takes no more sound: %s", server.name, error)  # whoever reads from it learns why
        bound.reschedule(asyncio.get_running_loop().time() + wait_s)
        with engine_working():
            await asyncio.Event().wait()  # until the answer is there


async def _send_all(server: Server, opening: list[Any], utterance: AsyncIterator[Audio | Pause]) -> None:
    from wyoming.audio import AudioStop

    await server.send(*opening)
    while (sound := await _next_sound(utterance)) is not None:
        await server.send(_chunk(sound))
    await server.send(AudioStop())


def _chunk(sound: Audio) -> Any:
    from wyoming.audio import AudioChunk

    return AudioChunk(RATE, 2, 1, sound.to_bytes())


async def _next_sound(utterance: AsyncIterator[Audio | Pause]) -> Audio | None:
    async for part in utterance:
        if isinstance(part, Audio) and len(part):
            return part
    return None


async def _receive(server: Server, language: str, found: Found) -> None:
    """Read events until the final transcript. What is no part of a transcript is passed over."""
    so_far = ""
    while True:
        event = await server.next()
        if event.type == "transcript":
            found.put_nowait(_transcript(text_of(event, LONGEST_TEXT), language, final=True))
            return
        if event.type == "transcript-chunk":
            so_far += text_of(event, LONGEST_TEXT)
            if len(so_far) > LONGEST_TEXT:
                raise NotWyoming("a transcript without an end")
            found.put_nowait(_transcript(so_far, language, final=False))


def _transcript(text: str, language: str, *, final: bool) -> Transcript:
    return Transcript(" ".join(text.split()).lower(), language=language, final=final, growing=not final)


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[Wyoming]:  # noqa: A001  # the name every engine has
    """Be ready; the server is called with the first sound of each utterance."""
    await outbound.look_up(host_of(settings.uri or ""))
    async with task_group() as tasks:
        yield Wyoming(settings, tasks)
