"""An audio engine with an illness: the doctor's patient."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import numpy as np

from roomtone.core.errors import AudioError
from roomtone.core.sound import RATE, Audio, Samples
from roomtone.engines import EngineSettings
from roomtone.engines.audio import Capture

BLOCK = RATE // 50


class Settings(EngineSettings):
    ill: Literal["no", "in use", "mute", "frozen", "zeros", "faint", "loud", "no loudspeaker"] = "no"


def missing(settings: Settings) -> str | None:
    return None


class Card:
    """Both halves of the card, and the device that holds them."""

    health = "ok"
    volume = 0.5

    def __init__(self, ill: str) -> None:
        self.ill = ill
        self.played = 0
        self.microphone = self.loudspeaker = self

    def pace(self, block_ms: int) -> None:
        return

    async def __aiter__(self) -> AsyncIterator[Capture]:
        noise = np.random.default_rng(1)
        for block in range(500):
            if self.ill == "mute" or (self.ill == "frozen" and block == 20):
                await asyncio.sleep(3600)
            await asyncio.sleep(BLOCK / RATE)
            yield Capture(Audio(self.block(noise)), Audio.silence(BLOCK / RATE), 0.0)

    def block(self, noise: np.random.Generator) -> Samples:
        loudness = {"zeros": 0, "faint": 2, "loud": 60_000}.get(self.ill, 100)
        return np.clip(noise.normal(0, 1, BLOCK) * loudness, -32768, 32767).astype(np.int16)

    async def play(self, audio: Audio) -> None:
        self.played += len(audio)

    async def drained(self) -> None:
        if self.ill == "no loudspeaker":
            await asyncio.sleep(3600)


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[Card]:  # noqa: A001
    if settings.ill == "in use":
        raise AudioError("the microphone 'x' is in use by another program; this lists which: fuser -v /dev/snd/*")
    yield Card(settings.ill)
