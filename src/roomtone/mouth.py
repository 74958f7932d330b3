"""Sentences to sound, and to the knowledge of what was really heard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from roomtone.core.dialog import Voice
from roomtone.core.errors import EngineError
from roomtone.core.sentences import Sentences
from roomtone.core.sound import RATE, Audio, to_int16
from roomtone.core.speakable import speakable
from roomtone.engines.audio import Loudspeaker
from roomtone.engines.tts import Tts
from roomtone.flow import Stream, ahead, beside, close
from roomtone.stopwatch import Stopwatch

log = logging.getLogger(__name__)

DELTAS_AHEAD = 256
SENTENCES_AHEAD = 2
SOUNDS_AHEAD = 64
"""Pieces of sound made before they are needed; an engine's piece is 20 to 60 ms or a sentence."""

STALL_S = 0.7
"""A text that stops coming in mid-sentence is spoken as far as it goes after this long."""

FOLLOW_S = 0.2
"""How often it is looked at which sentences have been heard, to keep them."""

FIRST_PIECE_BOUND_S = 10.0
"""A synthesiser that gives no sound for this long has failed; someone is waiting."""

RING_VOLUME = 0.4
"""What rings is never quieter: somebody relies on it. Its first chime is soft by itself."""


@dataclass(slots=True)
class Piece:
    """One sentence and the stretch of the loudspeaker's samples (16 kHz) it was given."""

    text: str
    start: int
    end: int


@dataclass(slots=True)
class Speech:
    """What one turn says: grows while it is spoken, and can be asked at any time what was heard."""

    pieces: list[Piece] = field(default_factory=list)
    stopped_at: int | None = None

    def spoken(self, heard: int) -> str:
        """Return the words that had reached the room when ``heard`` samples had; a word begun is not counted."""
        until = heard if self.stopped_at is None else min(heard, self.stopped_at)
        return " ".join(filter(None, (_heard_part(piece, until) for piece in self.pieces)))


def _heard_part(piece: Piece, until: int) -> str:
    if until >= piece.end:
        return piece.text
    words = piece.text.split()
    share = max(0.0, (until - piece.start) / max(1, piece.end - piece.start))
    return " ".join(words[: int(share * len(words))])


class Mouth:
    """Speaks through one synthesiser and one loudspeaker."""

    def __init__(self, tts: Tts, loudspeaker: Loudspeaker, language: str) -> None:
        self._tts = tts
        self._loudspeaker = loudspeaker
        self._language = language
        self._rings = False

    @property
    def loudspeaker(self) -> Loudspeaker:
        """Where the sound goes."""
        return self._loudspeaker

    async def speak(
        self,
        deltas: AsyncIterator[str],
        voice: Voice,
        speech: Speech,
        watch: Stopwatch,
        on_first_sound: Callable[[], Awaitable[None]],
        on_heard: Callable[[], None],
    ) -> None:
        """Say a text that is still being made; return when its last sample has left the loudspeaker.

        Each sentence is made while the one before it plays. ``on_first_sound`` is awaited before anything is played,
        ``on_heard`` is called when a sentence that others follow has reached the room. Raises EngineError where the
        synthesiser failed, after what was made before has been heard. ``voice.volume`` lowers the sound, but never
        of what rings.
        """
        try:
            async with (
                beside(self._follow(speech, on_heard), "following speech"),
                ahead(deltas, DELTAS_AHEAD) as text,
                ahead(sentences(text, self._language), SENTENCES_AHEAD) as texts,
                ahead(self._sounds(texts, voice, watch), SOUNDS_AHEAD) as pieces,
            ):
                await self._play(pieces, speech, 1.0 if self._rings else voice.volume, on_first_sound)
                await self._loudspeaker.drained()
        except EngineError:
            await self._loudspeaker.drained()
            raise

    async def _follow(self, speech: Speech, on_heard: Callable[[], None]) -> None:
        told = 0
        while True:
            await asyncio.sleep(FOLLOW_S)
            through = sum(piece.end <= self._loudspeaker.heard for piece in speech.pieces[:-1])
            if through > told:
                told = through
                on_heard()

    async def _sounds(
        self, texts: AsyncIterator[str], voice: Voice, watch: Stopwatch
    ) -> AsyncIterator[tuple[str, Audio]]:
        async for text in texts:
            stream = self._tts.speak(speakable(text, self._language), voice)
            try:
                while (sound := await self._next_sound(stream, watch)) is not None:
                    if len(sound):
                        yield text, sound
                        text = ""
            finally:
                await close(stream)

    async def _next_sound(self, stream: AsyncIterator[Audio], watch: Stopwatch) -> Audio | None:
        with watch.waiting():
            try:
                async with asyncio.timeout(FIRST_PIECE_BOUND_S):
                    return await anext(stream, None)
            except TimeoutError:
                raise EngineError(f"the synthesiser gave no sound for {FIRST_PIECE_BOUND_S:g} s") from None

    async def _play(
        self,
        pieces: AsyncIterator[tuple[str, Audio]],
        speech: Speech,
        volume: float,
        on_first_sound: Callable[[], Awaitable[None]],
    ) -> None:
        async for text, sound in pieces:
            if not speech.pieces:
                await on_first_sound()
            start = self._loudspeaker.queued
            if text:
                speech.pieces.append(Piece(text, start, start))
            # Counted before it is queued: an interruption may come while play waits for room.
            speech.pieces[-1].end = start + round(len(sound) * RATE / sound.rate)
            await self._loudspeaker.play(softer(sound, volume))

    async def chime(self) -> None:
        """Play the sound that says "I listen"."""
        await self._loudspeaker.play(LISTENING_CHIME)

    async def announce(self) -> None:
        """Play the sound that goes before what nobody in the room asked for."""
        await self._loudspeaker.play(ANNOUNCING_CHIME)

    async def replay(self, sound: Audio, voice: Voice) -> None:
        """Play what somebody said elsewhere, as loud as ``voice``; return when all of it has left the loudspeaker."""
        for start in range(0, len(sound), sound.rate // 10):
            await self._loudspeaker.play(softer(sound.cut(start, start + sound.rate // 10), voice.volume))
        await self._loudspeaker.drained()

    async def tick(self) -> None:
        """Play the short sound by which one hears how loud the room is set."""
        if self._loudspeaker.queued - self._loudspeaker.heard < len(TICK):  # a knob turned fast does not drum on
            await self._loudspeaker.play(TICK)

    async def failure_chime(self) -> None:
        """Play the sound that says, without a synthesiser, that something went wrong."""
        await self._loudspeaker.play(FAILURE_CHIME)
        await self._loudspeaker.drained()

    @contextmanager
    def ringing(self) -> Iterator[None]:
        """Be loud enough to wake somebody, however quiet it was made; a loudness that is set meanwhile stays."""
        before = self._loudspeaker.volume
        raised = before < RING_VOLUME
        if raised:
            self._loudspeaker.set_volume(RING_VOLUME)
        self._rings = True
        try:
            yield
        finally:
            self._rings = False
            if raised and self._loudspeaker.volume == RING_VOLUME:
                self._loudspeaker.set_volume(before)

    async def alarm_chime(self, round_: int) -> None:
        """Play the sound of what rings, quiet at first and louder each round (0 is the first)."""
        await self._loudspeaker.play(ALARM_CHIMES[min(round_, len(ALARM_CHIMES) - 1)])


async def sentences(deltas: Stream[str], language: str) -> AsyncIterator[str]:
    """Cut text deltas into sentences; what a stalled text has so far is given out after ``STALL_S``."""
    cutter = Sentences(language)
    while True:
        try:
            ready = cutter.feed(await deltas.within(STALL_S))
        except TimeoutError:
            ready = cutter.stall()
        except StopAsyncIteration:
            break
        for sentence in ready:
            yield sentence
    for sentence in cutter.flush():
        yield sentence


def softer(sound: Audio, factor: float) -> Audio:
    """Return a sound with its amplitude multiplied by a factor of at most 1."""
    return sound if factor == 1.0 else Audio(to_int16(sound.samples * factor), sound.rate)


def _tones(*notes: tuple[float, float], dbfs: float = -24.0) -> Audio:
    """Return soft notes (Hz, seconds) one after the other, each with a quick rise and a long fall."""
    parts = []
    for hertz, seconds in notes:
        time = np.arange(round(seconds * RATE)) / RATE
        shape = np.minimum(1, time / 0.008) * np.exp(-time * 3 / seconds)
        parts.append(np.sin(2 * np.pi * hertz * time) * shape)
    return Audio(to_int16(np.concatenate(parts) * 32768 * np.sqrt(2) * 10 ** (dbfs / 20)))


LISTENING_CHIME = _tones((659.3, 0.07), (880.0, 0.11))
ANNOUNCING_CHIME = _tones((880.0, 0.16), (698.5, 0.16), (587.3, 0.3))
TICK = _tones((880.0, 0.04))
FAILURE_CHIME = _tones((392.0, 0.18), (294.0, 0.3))
ALARM_CHIMES = [
    _tones(*[(880.0, 0.14), (1108.7, 0.14), (1318.5, 0.3)] * 2, dbfs=dbfs)
    for dbfs in (-32.0, -28.0, -24.0, -20.0, -16.0)
]
