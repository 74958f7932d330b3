"""A recogniser that hears what it was told to hear: for rehearsals and for tests of the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field

from roomtone.core.errors import EngineError
from roomtone.core.sound import Audio
from roomtone.engines import EngineSettings
from roomtone.engines.stt import Hints, Pause, Transcript

SURE = 0.8


class Settings(EngineSettings):
    """What is heard, and what goes wrong. Utterances are counted from 1."""

    texts: tuple[str, ...] = ()
    """One text an utterance; when they are used up, "" is heard."""
    loop: bool = False
    """Begin again with the first text when the last was used."""
    delay_s: float = Field(0.0, ge=0)
    """Wait this long before each transcript."""
    confidence: float = Field(1.0, ge=0, le=1)
    """Of every transcript; one below 0.8 is not sure."""
    partials: bool = True
    """Give the first half of the words at the first pause, all of them at later ones."""
    whole_partials: bool = False
    """Give all words at the first pause too, as a recogniser does that decodes what was said as a whole."""
    fail_at: int | None = None
    """The utterance at whose end to raise EngineError."""
    hang_at: int | None = None
    """The utterance after which to answer nothing more until the stream is closed."""


def missing(settings: Settings) -> str | None:  # noqa: ARG001  # the seam's signature
    """Nothing can be missing."""
    return None


class Script:
    """Gives the scripted texts in order."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._utterances = 0

    async def transcribe(self, utterance: AsyncIterator[Audio | Pause], hints: Hints) -> AsyncIterator[Transcript]:
        """Read the utterance to its end, then give its text. An empty one is "" and counts for nothing."""
        number, text, heard = 0, "", 0
        words: list[str] = []
        async for part in utterance:
            if not number:
                self._utterances = number = self._utterances + 1
                text = self._text(number)
                words = text.split()
            if isinstance(part, Pause) and self._settings.partials:
                whole = heard or self._settings.whole_partials
                heard = len(words) if whole else (len(words) + 1) // 2
                await asyncio.sleep(self._settings.delay_s)
                yield self._transcript(" ".join(words[:heard]), hints, final=False)
        if not number:
            yield Transcript("", language=hints.language)
            return
        if number == self._settings.hang_at:
            await asyncio.Event().wait()
        await asyncio.sleep(self._settings.delay_s)
        if number == self._settings.fail_at:
            raise EngineError(f"script: told to fail at utterance {number}")
        yield self._transcript(text, hints, final=True)

    def _transcript(self, text: str, hints: Hints, *, final: bool) -> Transcript:
        confidence = self._settings.confidence
        return Transcript(text, confidence, hints.language, final, sure=confidence >= SURE)

    def _text(self, number: int) -> str:
        texts = self._settings.texts
        if number <= len(texts):
            return texts[number - 1]
        return texts[(number - 1) % len(texts)] if texts and self._settings.loop else ""


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[Script]:  # noqa: A001  # the name every engine has
    """Open the script at its beginning."""
    yield Script(settings)
