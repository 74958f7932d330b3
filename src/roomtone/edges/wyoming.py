"""The room's own recogniser and voices for the house: a Wyoming server, as Home Assistant's pipelines use one.

Guests have engines of their own (``lending``), so a room never waits for them. Nobody is asked who they are: whoever
reaches the port may use it, which is why it is closed unless the household opens it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from roomtone import __version__
from roomtone.core.dialog import Voice
from roomtone.core.errors import EngineError, EngineTimeout
from roomtone.core.sentences import Sentences
from roomtone.core.sound import RATE, Audio
from roomtone.core.speakable import speakable
from roomtone.discovery import Service, announce
from roomtone.edges.lending import Lending
from roomtone.engines import lacking
from roomtone.engines.stt import Hints, Stt
from roomtone.engines.tts import Tts
from roomtone.flow import close, keep_trying, task_group
from roomtone.wyoming_events import NotWyoming, read, sound_of, text_of

if TYPE_CHECKING:
    from wyoming.event import Event

log = logging.getLogger(__name__)

SERVICE = "_wyoming._tcp.local."
"""What Home Assistant looks for."""

CLIENTS = 8
"""Connected at once; who comes then is turned away."""

LONGEST_UTTERANCE_S = 30.0
LONGEST_TEXT = 2_000
"""Characters of one text that is spoken."""

LONGEST_LINE = 64 * 1024
IDLE_S = 60.0
"""A client that sends nothing for so long is hung up on."""

WRITE_S = 10.0
"""A client that takes nothing for so long, while an engine works for it, is hung up on."""

ANSWER_S = 30.0
"""Longest that an engine may take for a transcript, or for the next piece of sound."""

PIECE_S = 0.1
"""Of sound in one event."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a room offers: its name, its engines and how to open them for guests, and the voices on its disk."""

    name: str
    language: str
    hints: Hints
    stt: str
    tts: str
    open_stt: Callable[[], AbstractAsyncContextManager[Stt]]
    open_tts: Callable[[], AbstractAsyncContextManager[Tts]]
    voices: Sequence[str] = ()


async def serve(listen: str, offer: Offer, *, announced: bool) -> None:
    """Serve at ``listen`` (host:port; every address without a host) until cancelled; whatever fails is logged."""
    reason = lacking("wyoming", "wyoming") or (lacking("zeroconf", "wyoming") if announced else None)
    if reason is not None:
        log.warning("the room's engines are not offered to the house: %s", reason)
        return
    try:
        async with task_group() as tasks:
            house = House(offer)
            tasks.create_task(house.ears.run(), name="ears for guests")
            tasks.create_task(house.mouth.run(), name="mouth for guests")
            server = await keep_trying(
                partial(_listening, listen, house, tasks),
                on=OSError,
                first_s=5,
                longest_s=300,
                notice=_refused(listen),
            )
            host, port = server.sockets[0].getsockname()[:2]
            log.info("the house may use this room's engines at %s, port %s", host, port)
            if announced:
                tasks.create_task(announce(Service(SERVICE, offer.name, port, {}), host), name="announcement")
            try:
                await server.serve_forever()
            finally:
                server.close()
    except Exception:
        log.exception("the Wyoming server has ended")


def _refused(listen: str) -> Callable[[Exception, float], None]:
    def notice(error: Exception, _: float) -> None:
        why = getattr(error, "strerror", None) or error
        log.warning("nobody can be served at %s (%s); trying again; see wyoming.listen", listen, why)

    return notice


async def _listening(listen: str, house: House, tasks: asyncio.TaskGroup) -> asyncio.Server:
    host, _, port = listen.rpartition(":")

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if house.clients < CLIENTS:
            house.clients += 1
            task = tasks.create_task(_serve_client(reader, writer, house), name="wyoming client")
            task.add_done_callback(partial(_leave, writer, house))
        else:
            writer.transport.abort()

    return await asyncio.start_server(take, host.strip("[]") or None, int(port), limit=LONGEST_LINE)


def _leave(writer: asyncio.StreamWriter, house: House, _: asyncio.Task[None]) -> None:
    writer.transport.abort()
    house.clients -= 1


class House:
    """What all clients share."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.ears = Lending(offer.open_stt)
        self.mouth = Lending(offer.open_tts)
        self.clients = 0


async def _serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, house: House) -> None:
    client = Client(reader, writer, house)
    try:
        await client.converse()
        writer.close()
        async with asyncio.timeout(WRITE_S):
            await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        log.debug("a Wyoming client went away: %s", error)
    except Exception:
        log.exception("a Wyoming client could not be served")


@dataclass(slots=True)
class Recording:
    """The sound of one utterance, which can be heard more than once; kept as bytes, however small its pieces are."""

    pcm: bytearray = field(default_factory=bytearray)
    rate: int = RATE

    def add(self, sound: Audio) -> None:
        """Add the next stretch. Raises NotWyoming where it becomes too long or changes its rate."""
        if self.pcm and sound.rate != self.rate:
            raise NotWyoming("sound that changes its rate")
        self.pcm += sound.to_bytes()
        self.rate = sound.rate
        if len(self.pcm) > 2 * self.rate * LONGEST_UTTERANCE_S:
            raise NotWyoming(f"an utterance of more than {LONGEST_UTTERANCE_S:g} s")

    async def __aiter__(self) -> AsyncIterator[Audio]:
        if self.pcm:
            yield _at(Audio.from_bytes(bytes(self.pcm), self.rate), RATE)


def _at(sound: Audio, rate: int) -> Audio:
    """Convert a sound to another rate."""
    if sound.rate == rate:
        return sound
    import soxr

    return Audio(soxr.resample(sound.samples, sound.rate, rate, quality="LQ"), rate)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, house: House) -> None:
        self._reader = reader
        self._writer = writer
        self._house = house
        self._recording = Recording()
        self._answers = {
            "describe": self._describe,
            "ping": self._ping,
            "transcribe": self._begin,
            "audio-start": self._begin,
            "audio-chunk": self._listen,
            "audio-stop": self._recognise,
            "synthesize": self._speak,
        }

    async def converse(self) -> None:
        """Answer events until the client leaves, is silent for too long, or sends what cannot be used."""
        from wyoming.error import Error

        while True:
            try:
                async with asyncio.timeout(IDLE_S):
                    event = await read(self._reader)
                if event is None:
                    return
                if answer := self._answers.get(event.type):
                    await answer(event)
            except NotWyoming as error:
                await self._send(Error(f"{self._house.offer.name} was sent {error}", "BAD_REQUEST"))
                return
            except EngineError as error:
                await self._send(Error(error.message, error.code))

    async def _send(self, *nouns: Any) -> None:
        from wyoming.event import async_write_event

        async with asyncio.timeout(WRITE_S):
            for noun in nouns:
                await async_write_event(noun.event(), self._writer)

    async def _describe(self, _: Event) -> None:
        await self._send(info(self._house.offer))

    async def _ping(self, event: Event) -> None:
        from wyoming.ping import Pong

        await self._send(Pong(str(event.data.get("text") or "")[:LONGEST_TEXT]))

    async def _begin(self, _: Event) -> None:
        self._recording = Recording()

    async def _listen(self, event: Event) -> None:
        self._recording.add(sound_of(event))

    async def _recognise(self, _: Event) -> None:
        from wyoming.asr import Transcript

        recording, self._recording = self._recording, Recording()
        async with self._house.ears.borrowed() as stt:
            text = await _text(stt, recording, self._house.offer.hints)
        await self._send(Transcript(text, language=self._house.offer.language))

    async def _speak(self, event: Event) -> None:
        from wyoming.audio import AudioChunk, AudioStart, AudioStop

        offer, rate = self._house.offer, 0
        text, voice = text_of(event, LONGEST_TEXT), _voice(event, offer)
        async with self._house.mouth.borrowed() as tts:
            for sentence in _sentences(text, offer.language):
                sounds = tts.speak(sentence, voice)
                try:
                    while (sound := await _next_sound(sounds)) is not None:
                        if not rate:
                            rate = sound.rate
                            await self._send(AudioStart(rate, 2, 1))
                        for piece in _pieces(_at(sound, rate)):
                            await self._send(AudioChunk(rate, 2, 1, piece.to_bytes()))
                finally:
                    await close(sounds)
        await self._send(*([] if rate else [AudioStart(RATE, 2, 1)]), AudioStop())


async def _text(stt: Stt, recording: Any, hints: Hints) -> str:
    """Return what a recogniser makes of a recording. Raises EngineError."""
    transcripts = stt.transcribe(recording, hints)
    text = ""
    try:
        async with asyncio.timeout(ANSWER_S):
            async for transcript in transcripts:
                text = transcript.text
    except TimeoutError:
        raise EngineTimeout(f"the recogniser had no answer after {ANSWER_S:g} s") from None
    finally:
        await close(transcripts)
    return text


async def _next_sound(sounds: AsyncIterator[Audio]) -> Audio | None:
    try:
        async with asyncio.timeout(ANSWER_S):
            return await anext(sounds, None)
    except TimeoutError:
        raise EngineTimeout(f"the synthesiser gave no sound for {ANSWER_S:g} s") from None


def _sentences(text: str, language: str) -> Iterator[str]:
    cutter = Sentences(language)
    for sentence in [*cutter.feed(text), *cutter.flush()]:
        yield speakable(sentence, language)


def _pieces(sound: Audio) -> Iterator[Audio]:
    length = round(PIECE_S * sound.rate)
    for start in range(0, len(sound), length):
        yield sound.cut(start, start + length)


def _voice(event: Event, offer: Offer) -> Voice:
    """Return the voice asked for, where it is offered, else the room's own."""
    asked = event.data.get("voice")
    name = asked.get("name") if isinstance(asked, dict) else None
    return Voice(engine=offer.tts, voice_id=name) if name in offer.voices else Voice()


def info(offer: Offer) -> Any:
    """Return the description of what is offered."""
    from wyoming.info import AsrModel, AsrProgram, Attribution, Info, TtsProgram, TtsVoice

    common: Any = {"attribution": Attribution("Roomtone", ""), "installed": True, "version": __version__}
    languages = [offer.language]
    voices = [  # a Piper voice's name begins with its language
        TtsVoice(name=name, description=name, languages=[name.partition("-")[0]], **common) for name in offer.voices
    ]
    model = AsrModel(name=offer.stt, description=offer.stt, languages=languages, **common)
    own = TtsVoice(name=offer.tts, description=f"{offer.tts}, the room's own", languages=languages, **common)
    described = {"name": "roomtone", "description": f"Roomtone, {offer.name}", **common}
    return Info(
        asr=[AsrProgram(models=[model], **described)],
        tts=[TtsProgram(voices=voices or [own], **described)],
    )
