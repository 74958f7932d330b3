"""A synthesiser that hums: one tone a sentence, as long as the words would take. For rehearsals and for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from pydantic import Field

from roomtone.core.dialog import Voice
from roomtone.core.errors import EngineError
from roomtone.core.sound import RATE, Audio, to_int16
from roomtone.engines import EngineSettings

PIECE = RATE // 25
"""Samples in a piece: 40 ms."""

PEAK = 3277
"""Of the tone: -20 dBFS."""

FADE = RATE // 200
"""Samples over which the tone swells and dies: 5 ms, so that it does not click."""


class Settings(EngineSettings):
    """How it hums, and what goes wrong. Sentences are counted from 1."""

    word_s: float = Field(0.3, gt=0)
    """Seconds a word."""
    hertz: float = Field(220.0, gt=0)
    """Of the tone; the voice's pitch is a factor on it."""
    delay_s: float = Field(0.0, ge=0)
    """Wait this long before the first piece of each sentence."""
    fail_at: int | None = None
    """The sentence at which to raise EngineError, after its first piece."""
    hang_at: int | None = None
    """The sentence after whose first piece no more comes until the stream is closed."""


def missing(settings: Settings) -> str | None:  # noqa: ARG001  # the seam's signature
    """Nothing can be missing."""
    return None


class Tone:
    """Hums sentences; ``spoken`` lists them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.spoken: list[str] = []

    async def speak(self, sentence: str, voice: Voice) -> AsyncIterator[Audio]:
        """Hum one sentence at 16 kHz."""
        words = len(sentence.split())
        if not words:
            return
        self.spoken.append(sentence)
        number = len(self.spoken)
        await asyncio.sleep(self._settings.delay_s)
        sound = _hum(words * self._settings.word_s / voice.speed, self._settings.hertz * voice.pitch)
        for start in range(0, len(sound), PIECE):
            yield sound.cut(start, start + PIECE)
            if number == self._settings.fail_at:
                raise EngineError(f"tone: told to fail at sentence {number}")
            if number == self._settings.hang_at:
                await asyncio.Event().wait()


def _hum(seconds: float, hertz: float) -> Audio:
    times = np.arange(round(seconds * RATE))
    swell = np.minimum(1.0, np.minimum(times, times[::-1]) / FADE)
    return Audio(to_int16(PEAK * swell * np.sin(2 * np.pi * hertz / RATE * times)))


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[Tone]:  # noqa: A001  # the name every engine has
    """Open the hum."""
    yield Tone(settings)
