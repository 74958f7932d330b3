"""pocketsphinx with a grammar of all that can be understood: small, quick, offline, and no download.

It hears the sentences of ``hints.grammar`` and nothing else; whatever does not fit one of them well is "". It is a
recogniser of whole utterances: each Pause is answered with a partial, and the last of these is also the final where
only silence followed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field

from roomtone.child import Child, child
from roomtone.core.sound import RATE, Audio, Samples
from roomtone.engines import EngineSettings, lacking
from roomtone.engines.stt import Hints, Pause, Transcript
from roomtone.engines.stt._as_trained import as_trained
from roomtone.engines.stt._pocketsphinx_child import Decoded, Found
from roomtone.engines.stt._silence import joined, spoken_since
from roomtone.flow import Worker, worker

log = logging.getLogger(__name__)

LONGEST_S = 10.0
"""Seconds of sound that are decoded; no command is as long, and longer speech is not meant for a grammar."""

SHORTEST_S = 0.2
"""Seconds of sound below which there can be no word."""

STEEPNESS = 1.5
"""Of the confidence over the score, a logistic curve that is 0.5 where acceptance begins."""

SURE = 0.85
"""Confidence from which a short word is one: a cough sounds like "help" to a grammar."""


class Settings(EngineSettings):
    """How sure a command must be."""

    min_score: float = Field(-1.5, ge=-10, le=10)
    """Nats a frame against free phones, from which a sentence is believed; higher is stricter."""
    timeout_s: float = Field(10.0, gt=0)
    """Longest that one decode may take."""


def missing(settings: Settings) -> str | None:  # noqa: ARG001  # the seam's signature
    """Say what installs the library, where it is not there."""
    return lacking("pocketsphinx")


class Pocketsphinx:
    """Recognises one utterance at a time."""

    def __init__(self, process: Child, thread: Worker, settings: Settings) -> None:
        self._process = process
        self._thread = thread
        self._settings = settings

    @property
    def pid(self) -> int | None:
        """The child's process id, once it runs."""
        return self._process.pid

    async def transcribe(self, utterance: AsyncIterator[Audio | Pause], hints: Hints) -> AsyncIterator[Transcript]:
        """Give a partial at each Pause and one final at the end.

        A partial that is no whole sentence yet is the beginning that fits best. Nothing is read from ``utterance``
        while a decode runs (0.1 s or so), so whoever makes it keeps what comes meanwhile. An utterance longer than
        ``LONGEST_S`` is "". Without a grammar, or of an empty utterance, only the child is made ready.
        """
        parts: list[Samples] = []
        decoded, covered = Decoded(), 0
        grammars = tuple(filter(None, (hints.grammar, hints.besides)))
        await self._prepare(grammars)
        async for part in utterance:
            if isinstance(part, Audio):
                parts.append(part.samples)
                continue
            sound = joined(parts)
            decoded, covered = await self._decode(sound, grammars, hints.words), len(sound)
            sentence = self._transcript(decoded.sentence, hints, final=False)
            yield sentence if sentence.text else self._transcript(decoded.beginning, hints, final=False)
        sound = joined(parts)
        if not covered or spoken_since(sound, covered):
            decoded = await self._decode(sound, grammars, hints.words)
        yield self._transcript(decoded.sentence, hints, final=True)

    async def _prepare(self, grammars: tuple[str, ...]) -> None:
        """Let the child compile while the person talks what it has not, or what it had to drop for others."""
        for grammar in grammars:
            unknown = await self._process.call("prepare", grammar, timeout=self._settings.timeout_s)
            if unknown:
                log.warning("pocketsphinx does without the words %s: its dictionary lacks them", ", ".join(unknown))

    async def _decode(self, sound: Samples, grammars: tuple[str, ...], expected: tuple[str, ...]) -> Decoded:
        if not grammars or not SHORTEST_S * RATE <= len(sound) <= LONGEST_S * RATE:
            return Decoded()
        pcm = Audio(await self._thread.call(as_trained, sound)).to_bytes()
        decoded: Decoded = await self._process.call(
            "decode", pcm, grammars, expected, timeout=self._settings.timeout_s
        )
        return decoded

    def _transcript(self, found: Found, hints: Hints, *, final: bool) -> Transcript:
        margin = found.score - self._settings.min_score
        confidence = round(1 / (1 + math.exp(-STEEPNESS * margin)), 3)
        text = found.text if margin >= 0 else ""
        return Transcript(text, confidence, hints.language, final, sure=confidence >= SURE)


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[Pocketsphinx]:  # noqa: A001  # the name every engine has
    """Open the recogniser; its process starts with the first utterance and ends with the context."""
    with worker("pocketsphinx") as thread:
        async with child("pocketsphinx", "roomtone.engines.stt._pocketsphinx_child:Recogniser") as process:
            yield Pocketsphinx(process, thread, settings)
