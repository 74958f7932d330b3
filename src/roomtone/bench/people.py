"""People for the bench: recorded ones from a folder, or synthesised ones where there is none."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np

from roomtone import engines
from roomtone.bench.endpointing import at_16k, recordings
from roomtone.core.dialog import Voice
from roomtone.core.room import Room, Shape
from roomtone.core.sound import Audio, join, to_int16
from roomtone.engines.tts import Tts
from roomtone.mind.sentences import Skills

VOICES = ("en-us+m3", "en-gb+f3", "en-us+f2", "en-gb-x-rp+m1")
"""None of them is Roomtone's own."""

SENTENCES = 10


def recorded(folder: Path) -> list[Audio]:
    """Return the folder's recordings of one person speaking once, at 16 kHz."""
    return [audio for _, audio in recordings(folder)]


async def synthesised() -> list[Audio]:
    """Return ten of the skills' sample sentences in each of four voices, in a room."""
    random = Random(1)  # draws samples
    texts = random.sample([text for _, text in Skills.load("en").samples()], SENTENCES)
    room = Room(Shape())
    settings = engines.load("tts", "espeak").Settings()
    async with engines.open_engine("tts", "espeak", settings) as tts:
        return [_arriving(room, await said(tts, text, voice)) for voice in VOICES for text in texts]


async def said(tts: Tts, text: str, voice: str) -> Audio:
    """Return a text said by a voice, at 16 kHz."""
    return at_16k(join([piece async for piece in tts.speak(text, Voice(voice_id=voice))], 22_050))


def _arriving(room: Room, audio: Audio) -> Audio:
    """Return what arrives of somebody 1.5 m away."""
    return Audio(to_int16(np.asarray(room.place(audio.samples, 1.5, None), np.float64)))
