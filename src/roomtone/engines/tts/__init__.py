"""The text to speech seam: a sentence in, sound out while it is being made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from roomtone.core.dialog import Voice
from roomtone.core.sound import Audio

AUTO = ("piper", "espeak")


class Tts(Protocol):
    """A synthesiser."""

    def speak(self, sentence: str, voice: Voice) -> AsyncIterator[Audio]:
        """Say one sentence, already made speakable; pieces come as soon as they exist, all of one rate.

        An empty sentence yields nothing. Closing the iterator stops the work within 20 ms or so. Raises
        EngineError where the engine failed; the next call works.
        """
