"""espeak-ng in this process: small, quick, a hundred languages, and no download. It sounds like a robot.

The library is one global machine that must not be entered twice at once: however often the engine is opened, one
worker thread drives it. Its data (about 10 MB) stays in memory for the life of the process.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from roomtone.core.dialog import Voice
from roomtone.core.errors import EngineError, EngineUnavailable
from roomtone.core.sound import Audio
from roomtone.engines import EngineSettings, lacking
from roomtone.flow import Worker, close

log = logging.getLogger(__name__)

# From speak_lib.h of espeak-ng 1.52.
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 1 << 15
POS_CHARACTER = 1
CHARS_UTF8 = 1
RATE_PARAMETER, PITCH_PARAMETER = 1, 3
WORDS_A_MINUTE, SLOWEST, FASTEST = 175, 80, 450
MIDDLE_PITCH, HIGHEST_PITCH = 50, 99

SYNTH_ARGUMENTS: list[Any] = [
    *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
    *(ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
]
"""Text, its size, where to begin, in what unit, where to end, flags, where to put an id, the caller's own data."""

BUFFER_MS = 60
"""Sound in one call of the library's callback, its least; it takes about 0.1 ms to make."""


class Settings(EngineSettings):
    """Which voice speaks where the persona names none."""

    voice: str = "en-us"
    """A language of espeak-ng's, if wanted with a variant: ``en-gb-x-rp``, ``de``, ``en-us+f3``."""
    speed: float = Field(1.0, ge=0.5, le=2.0)
    """Factor on 175 words a minute, times the persona's own."""


def missing(settings: Settings) -> str | None:  # noqa: ARG001  # the seam's signature
    """Say what installs the library, where it is not there."""
    return lacking("espeakng_loader")


class Espeak:
    """Speaks sentences at 22 050 Hz."""

    def __init__(self, library: Library, thread: Worker, settings: Settings) -> None:
        self._library = library
        self._thread = thread
        self._settings = settings

    async def speak(self, sentence: str, voice: Voice) -> AsyncIterator[Audio]:
        """Yield a sentence in pieces of 60 ms.

        A voice that espeak-ng does not have is spoken by the nearest that it has: one of its language, or the usual.
        """
        if not sentence.strip():
            return
        voice = voice.model_copy(update={"speed": voice.speed * self._settings.speed})
        pieces = self._thread.stream(functools.partial(self._library.say, sentence, voice, self._settings.voice))
        try:
            async for piece in pieces:
                yield piece
        finally:
            await close(pieces)


class Library:
    """espeak-ng, loaded. Every method must be called from the one worker thread."""

    def __init__(self) -> None:
        import espeakng_loader

        self._native = ctypes.CDLL(espeakng_loader.get_library_path())
        self._native.espeak_Synth.argtypes = SYNTH_ARGUMENTS
        data = espeakng_loader.get_data_path()
        self.rate: int = self._native.espeak_Initialize(
            AUDIO_OUTPUT_SYNCHRONOUS, BUFFER_MS, data.encode(), INITIALIZE_DONT_EXIT
        )
        if self.rate <= 0:
            raise EngineUnavailable(
                f"espeak-ng cannot read its data in {data}; run: pip install --force-reinstall espeakng-loader"
            )
        self._variants = Path(data) / "voices" / "!v"
        self._absent: dict[str, str] = {}
        self._emit: Callable[[Audio], None] | None = None
        self._stop = threading.Event()
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = callback(self._take)  # the library keeps only a pointer: this keeps the callback alive
        self._native.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: Voice, usual: str, emit: Callable[[Audio], None], stop: threading.Event) -> None:
        """Synthesise ``text`` and emit it piece by piece, until done or stopped."""
        self.use(voice.model_copy(update={"voice_id": self._nearest(voice.voice_id, usual)}))
        self._emit, self._stop = emit, stop
        content = text.replace("\0", " ").encode("utf-8", "replace")
        status = self._native.espeak_Synth(content, len(content) + 1, 0, POS_CHARACTER, 0, CHARS_UTF8, None, None)
        self._emit = None
        if status != 0:
            raise EngineError(f"espeak-ng failed with status {status}")

    def use(self, voice: Voice) -> None:
        """Set voice, speed and pitch. Raises EngineError for a voice that is not there."""
        wanted = voice.voice_id or ""
        if not any(self._has(name) for name in _names(wanted)):
            raise EngineError(
                f"espeak-ng has no voice '{wanted}'; name a language such as en-us or de, if wanted with a variant "
                "such as en-us+f3",
                voice=wanted,
            )
        speed = min(FASTEST, max(SLOWEST, round(WORDS_A_MINUTE * voice.speed)))
        self._native.espeak_SetParameter(RATE_PARAMETER, speed, 0)
        self._native.espeak_SetParameter(PITCH_PARAMETER, min(HIGHEST_PITCH, round(MIDDLE_PITCH * voice.pitch)), 0)

    def _nearest(self, wanted: str | None, usual: str) -> str:
        """Return the voice that is wanted where it is there, else one of its language, else the usual one."""
        if not wanted or wanted in self._absent:
            return self._absent.get(wanted or "", usual)
        if any(self._has(name) for name in _names(wanted)):
            return wanted
        spoken = re.match(r"([a-z]{2,3})(?:[-_]([a-z]{2}))?(?![a-z])", wanted.lower())
        kin = ("-".join(filter(None, spoken.groups())), spoken.group(1)) if spoken else ()
        self._absent[wanted] = nearest = next(filter(self._has, kin), usual)
        log.warning("espeak-ng has no voice '%s', %s speaks instead", wanted, nearest)
        return nearest

    def _has(self, name: str) -> bool:
        variant = name.partition("+")[2]  # the library passes over a variant that it does not know
        if variant and not (self._variants / Path(variant).name).is_file():
            return False
        return bool(self._native.espeak_SetVoiceByName(name.encode()) == 0)

    def _take(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0 and self._emit is not None:
            piece = np.frombuffer(ctypes.string_at(samples, 2 * count), np.int16)
            self._emit(Audio(piece, self.rate))
        return int(self._stop.is_set())


def _names(wanted: str) -> Iterator[str]:
    """Yield a voice's name as given, then without its country: espeak-ng has ``fr-fr`` but plain ``de``."""
    if not wanted:
        return
    language, plus, variant = wanted.partition("+")
    yield wanted
    yield wanted.lower()
    yield language.lower() + plus + variant
    if country := re.fullmatch(r"([a-z]{2,3})[-_][a-z]{2}", language.lower()):
        yield country.group(1) + plus + variant


# ----------------------------------------------------------------------------------- one library a process

_library = functools.cache(Library)
_lent: list[Worker] = []


@contextmanager
def _borrowed_thread() -> Iterator[Worker]:
    """Lend the one thread that may enter the library; it ends when the last borrower has left."""
    thread = _lent[0] if _lent else Worker("espeak")
    _lent.append(thread)
    try:
        yield thread
    finally:
        _lent.pop()
        if not _lent:
            thread.close()


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[Espeak]:  # noqa: A001  # the name every engine has
    """Load espeak-ng (60 ms, once a process).

    Raises EngineUnavailable where its data cannot be read, EngineError for an unknown ``settings.voice``.
    """
    with _borrowed_thread() as thread:
        library = await thread.call(_library)
        await thread.call(library.use, Voice(voice_id=settings.voice))
        yield Espeak(library, thread, settings)
