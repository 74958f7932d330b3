"""Whisper, run by faster-whisper in 8 bits on this machine: hears any words, in many languages.

It needs a model on the disk, from 75 MB. What was said is decoded as a whole: at each Pause, so that the text is
there, or nearly, when the utterance is found to have ended, and while the person speaks, as often as the machine
allows, for a beginning of which two decodes in a row are sure.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from pydantic import Field

from roomtone import models
from roomtone.child import START_BOUND_S, Child, child
from roomtone.core.agreement import Agreement, agree
from roomtone.core.errors import EngineError, EngineUnavailable
from roomtone.core.sound import FRAME, RATE, Audio, Samples
from roomtone.engines import EngineSettings, lacking
from roomtone.engines.stt import Hints, Pause, Transcript, _whisper_models
from roomtone.engines.stt._silence import dips, joined, spoken_since
from roomtone.engines.stt._whisper_child import LEAST_VOICED_S, Decoded
from roomtone.engines.stt._whisper_evidence import confidence, refusal

log = logging.getLogger(__name__)

WINDOW_S, SEAM_S = 28.0, 4.0
"""Longest sound that is decoded as one (the model takes 30 s), and how far from its end it may be cut: where it is
quietest."""

SEAM_FRAMES = 5

SHORTEST_S = 0.2
"""Seconds of sound below which there can be no word."""

REST = 2.0
"""Times as long as a decode took, the machine rests before another while the person speaks."""

SLOWEST_S = 0.3
"""Seconds of a decode from which there is none while the person speaks: the one at the end would wait for it. Over 79
utterances of people, the final text was there later than with decodes at pauses alone by 3 ms where a decode takes
0.15 s, 11 ms at 0.3 s, 18 ms at 0.5 s and 76 ms at 0.7 s, in the mean."""

PATIENCE_S, PATIENCE = 2.5, 6.0
"""Seconds, and times as long as the last decode took, that a decode may take before it is a hang: a long text takes
three times as long as a short one, and the machine may be busy. Someone is waiting."""

SURE = 0.8
"""Probability from which a language found once is that of the whole utterance."""

NAMES_LENGTH = 200
"""Letters of the names that are handed to the model: each token of them has to be read in every decode."""


class Settings(EngineSettings):
    """Which model hears, and what it may cost."""

    model: str | None = None
    """A model's name, such as base.en; without one, the largest there is that fits."""
    models_dir: Path = Path("models")
    """Where models are looked for, in its folder ``whisper``."""
    language: str = "en"
    """What is spoken; ``auto`` finds that out for each utterance, which takes about as long as the decode itself."""
    threads: int = Field(default_factory=lambda: min(4, os.cpu_count() or 1), ge=1, le=32)
    """Of the processor's, while a decode runs."""
    beam_size: int = Field(1, ge=1, le=10)
    """Beginnings of a text that are followed at a time: more finds a little more, and takes longer."""
    partial_s: float = Field(0.6, ge=0.1, le=30)
    """Seconds between two decodes while the person speaks, at the least."""
    min_confidence: float = Field(0.3, ge=0, le=1)
    """Below it nothing was understood. Whisper's own bounds, a mean log-probability of -1 and 0.6 for no speech, are
    0.37 and 0.4 taken each for itself."""
    timeout_s: float = Field(8.0, gt=0)
    """Longest that one decode may take, where the machine is not quick enough for less (see ``PATIENCE``), or the
    loading of the model once somebody speaks; then the next engine is asked."""


def missing(settings: Settings) -> str | None:
    """Say what is lacking, the library or a model, and what brings it."""
    reason = lacking("faster_whisper", "whisper")
    return reason or _whisper_models.missing(_name(settings), settings.models_dir, settings.language)


def _name(settings: Settings) -> str | None:
    return settings.model.removeprefix("whisper-") if settings.model else None


class Whisper:
    """Recognises one utterance at a time."""

    def __init__(self, process: Child, settings: Settings) -> None:
        self.settings = settings
        self.seconds = 0.0
        self._process = process

    @property
    def pid(self) -> int | None:
        """The child's process id, once it runs."""
        return self._process.pid

    async def transcribe(self, utterance: AsyncIterator[Audio | Pause], hints: Hints) -> AsyncIterator[Transcript]:
        """Give the sure beginning while the person speaks, all of it at each Pause, and one final at the end.

        Nothing is read from ``utterance`` while a decode runs, so whoever makes it keeps what comes meanwhile. For an
        empty utterance only the model is loaded. An utterance longer than ``WINDOW_S`` is decoded in pieces.
        """
        parts = aiter(utterance)
        part = await anext(parts, None)
        await self._warm_up(START_BOUND_S if part is None else self.settings.timeout_s)
        listening = Listening(self, hints)
        while part is not None:
            if isinstance(part, Pause):
                await listening.catch_up()
                yield listening.transcript(final=False)
            else:
                listening.add(part.samples)
                if listening.full:
                    await listening.begin_anew()
                elif listening.due and await listening.grow():
                    yield listening.beginning()
            part = await anext(parts, None)
        await listening.catch_up()
        yield listening.transcript(final=True)

    async def _warm_up(self, patience: float) -> None:
        timeout = self.settings.timeout_s
        self.seconds = await self._process.call("ready", timeout=timeout, start_timeout=patience)

    async def decode(self, sound: Samples, language: str | None, names: str) -> Decoded:
        """Decode a window of sound. Raises EngineError."""
        if len(sound) < SHORTEST_S * RATE:
            return Decoded(language=language or "")
        pcm, timeout = Audio(sound).to_bytes(), self.settings.timeout_s
        patience = min(timeout, round(PATIENCE_S + PATIENCE * self.seconds, 1))
        try:
            decoded: Decoded = await self._process.call(
                "decode", pcm, language, names, timeout=patience, start_timeout=timeout
            )
        except EngineError:
            await self._process.end()  # what native code has failed in, most likely for want of memory, fails again
            raise
        if decoded.voiced_s >= LEAST_VOICED_S:  # else the model was not asked
            self.seconds = decoded.seconds
        return decoded


class Listening:
    """One utterance on its way: the window of sound that is decoded, and what was found in windows before it."""

    def __init__(self, whisper: Whisper, hints: Hints) -> None:
        self._whisper = whisper
        self._hints = hints
        self._names = _joined_names(hints.names)
        language = whisper.settings.language
        self._language = None if language == "auto" else language.partition("-")[0]
        self._parts: list[Samples] = []
        self._length = 0
        self._before: list[Decoded] = []
        self._found = Decoded()
        self._covered = 0
        self._in_dip = False
        self._agreement = Agreement()
        self._due = 0.0
        self._rest()

    def add(self, samples: Samples) -> None:
        """Take the next sound."""
        self._parts.append(samples)
        self._length += len(samples)

    @property
    def full(self) -> bool:
        """Whether the window is as long as one may be."""
        return self._length >= WINDOW_S * RATE

    @property
    def due(self) -> bool:
        """Whether it is time for a decode though the person speaks: in a dip, which may turn out to be the end.

        What is read late, all at once, has no time.
        """
        if self._whisper.seconds > SLOWEST_S or asyncio.get_running_loop().time() < self._due:
            return False
        return dips(joined(self._parts)) and self._news

    @property
    def _news(self) -> bool:
        """Whether somebody spoke since the last decode. After a dip, the least sound may be the end of a word."""
        if not self._covered:
            return True
        sound = joined(self._parts)
        return spoken_since(sound, self._covered, in_dip=self._in_dip)

    async def catch_up(self) -> None:
        """Decode all there is, unless only silence came since the last decode."""
        if self._news:
            await self._decode()
            self._in_dip = False

    async def grow(self) -> bool:
        """Decode what there is while the person speaks; tell whether more words are sure now."""
        before = self._agreement.kept
        await self._decode()
        self._in_dip = True
        return self._agreement.kept != before

    async def begin_anew(self) -> None:
        """Decode the window up to where it is quietest near its end, and go on with a new one from there."""
        sound = joined(self._parts)
        cut = _quietest(sound)
        self._parts = [sound[:cut]]
        await self._decode()
        self._before.append(self._found)
        self._parts, self._length = [sound[cut:]], len(sound) - cut
        self._found, self._covered, self._agreement = Decoded(), 0, Agreement()

    def beginning(self) -> Transcript:
        """Return what is sure so far."""
        return self._transcript(self._found._replace(text=self._agreement.text), final=False, growing=True)

    def transcript(self, *, final: bool) -> Transcript:
        """Return all that was understood."""
        return self._transcript(self._found, final=final)

    async def _decode(self) -> None:
        sound = joined(self._parts)
        found = await self._whisper.decode(sound, self._language, self._names)
        reason = refusal(found, self._whisper.settings.min_confidence, self._hints.words) if found.text else None
        if reason is not None:
            log.debug("not believed: %s", reason)
            found = found._replace(text="")
        if self._language is None and found.text and found.language_probability >= SURE:
            self._language = found.language
        self._found, self._covered = found, len(sound)
        self._agreement = agree(self._agreement, found.text)
        self._rest()

    def _rest(self) -> None:
        pause = max(self._whisper.settings.partial_s, REST * self._whisper.seconds)
        self._due = asyncio.get_running_loop().time() + pause

    def _transcript(self, last: Decoded, *, final: bool, growing: bool = False) -> Transcript:
        found = [piece for piece in (*self._before, last) if piece.text]
        return Transcript(
            " ".join(piece.text for piece in found),
            round(min(map(confidence, found), default=0.0), 3),
            last.language or self._hints.language,
            final,
            growing,
        )


def _joined_names(names: tuple[str, ...]) -> str:
    """Return names as one text, as many as may be."""
    text = ", ".join(dict.fromkeys(names))
    return text if len(text) <= NAMES_LENGTH else text[:NAMES_LENGTH].rpartition(", ")[0]


def _quietest(sound: Samples) -> int:
    """Return the sample in the middle of the quietest 0.1 s of the last ``SEAM_S``."""
    tail = sound[-round(SEAM_S * RATE) :]
    frames = tail[: len(tail) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    powers = np.convolve(np.mean(np.square(frames), axis=1), np.ones(SEAM_FRAMES), "valid")
    return len(sound) - len(tail) + (int(np.argmin(powers)) + SEAM_FRAMES // 2) * FRAME


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[Whisper]:  # noqa: A001  # the name every engine has
    """Open the recogniser; its process starts with the first utterance and ends with the context.

    Raises EngineUnavailable where there is no model.
    """
    if (reason := _whisper_models.missing(_name(settings), settings.models_dir, settings.language)) is not None:
        raise EngineUnavailable(f"stt engine 'whisper': {reason}")
    name = _name(settings) or _whisper_models.best(settings.models_dir, settings.language) or ""
    model = models.path_of("whisper", name, settings.models_dir)
    arguments = (str(model), settings.threads, settings.beam_size)
    async with child("whisper", "roomtone.engines.stt._whisper_child:Recogniser", *arguments) as process:
        yield Whisper(process, settings)
