"""Engines in line: what the first cannot do, the next does, within the same turn.

An engine that fails again and again rests for a while, so that a recogniser that hangs does not cost every turn its
patience; it is asked again later, and at once where nothing else is left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from roomtone import engines, outbound
from roomtone.core.dialog import Voice
from roomtone.core.errors import EngineError, EngineTimeout, EngineUnavailable
from roomtone.core.sound import Audio
from roomtone.engines.stt import Hints, Pause, Stt, Transcript
from roomtone.engines.tts import Tts
from roomtone.flow import close
from roomtone.settings import Settings

log = logging.getLogger(__name__)

E = TypeVar("E")

REST_S = 30.0
"""Rest after the second failure in a row; it doubles with each further one. The first may be chance."""

LONGEST_REST_S = 600.0

PATIENCE_S = 4.0
"""How long a synthesiser may take for its first sound before the next one is asked; someone is waiting."""

OnFailure = Callable[[str, str, EngineError], None]
"""Told the seam, the engine's name and why it failed."""


@dataclass(slots=True)
class Place(Generic[E]):
    """One engine's place in the line."""

    name: str
    engine: E
    failures: int = 0
    rests_until: float = float("-inf")
    trouble: str = ""

    @property
    def host(self) -> str | None:
        """Where what it is given goes; None where it stays on this machine."""
        host: str | None = getattr(self.engine, "host", None)
        return host


class Line(Generic[E]):
    """The engines of one seam, best first; ``served_by`` names the one that did the last piece of work."""

    seam: str

    def __init__(self, in_line: Sequence[tuple[str, E]], on_failure: OnFailure = lambda *_: None) -> None:
        self.places = tuple(Place(name, engine) for name, engine in in_line)
        self.served_by = self.places[0].name
        self._on_failure = on_failure

    @property
    def health(self) -> str:
        """``ok``, or what is wrong with the first engine."""
        return self.places[0].trouble or "ok"

    def order(self, preferred: str | None = None) -> list[Place[E]]:
        """Return the places in the order in which they are asked now: ``preferred`` first, who rests last.

        Whoever is farther away than what is said in this task may travel is left out. Raises EngineUnavailable where
        that leaves nobody.
        """
        now = asyncio.get_running_loop().time()
        near = [place for place in self.places if outbound.allows(place.host)]
        if not near:
            hosts = ", ".join(sorted({place.host or "" for place in self.places}))
            raise EngineUnavailable(
                f"nothing may be sent to {hosts} here, and no {self.seam} engine runs on this machine; "
                "give the persona more egress, or run: roomtone engines",
                seam=self.seam,
            )
        return sorted(near, key=lambda place: (place.rests_until > now, place.name != preferred))

    def served(self, place: Place[E]) -> None:
        """Note that an engine did its work."""
        place.failures, place.trouble = 0, ""
        self.served_by = place.name

    def failed(self, place: Place[E], error: Exception) -> EngineError:
        """Note that an engine failed, and let it rest if it did so before; return why, as an EngineError."""
        if not isinstance(error, EngineError):
            log.error("%s engine '%s': internal error", self.seam, place.name, exc_info=error)
            error = EngineError(f"{self.seam} engine '{place.name}': internal error: {error}")
        place.failures += 1
        place.trouble = error.message
        rest = min(LONGEST_REST_S, REST_S * 2 ** (place.failures - 2)) if place.failures > 1 else 0.0
        place.rests_until = asyncio.get_running_loop().time() + rest
        log.warning("%s engine '%s' failed: %s", self.seam, place.name, error.message)
        self._on_failure(self.seam, place.name, error)
        return error


class SttLine(Line[Stt]):
    """A recogniser made of recognisers."""

    seam = "stt"

    async def transcribe(self, utterance: AsyncIterable[Audio | Pause], hints: Hints) -> AsyncIterator[Transcript]:
        """Recognise an utterance; where an engine fails, the next hears it from its beginning.

        ``utterance`` can be read more than once. Raises the last engine's EngineError where all failed,
        EngineUnavailable where none may be asked.
        """
        places = self.order()
        for place in places:
            parts = aiter(utterance)
            transcripts = place.engine.transcribe(parts, hints)
            try:
                async for transcript in transcripts:
                    if transcript.final:
                        self.served(place)
                    yield transcript
                return
            except Exception as error:
                failure = self.failed(place, error)
                if place is places[-1]:
                    raise failure from error
            finally:
                await close(transcripts)
                await close(parts)


class TtsLine(Line[Tts]):
    """A synthesiser made of synthesisers."""

    seam = "tts"

    def __init__(self, in_line: Sequence[tuple[str, Tts]], on_failure: OnFailure = lambda *_: None) -> None:
        super().__init__(in_line, on_failure)
        self._absent: set[str | None] = set()

    async def speak(self, sentence: str, voice: Voice) -> AsyncIterator[Audio]:
        """Say a sentence in the persona's voice, or with the next engine where one fails.

        ``voice.engine`` is asked first. An engine that fails in mid-sentence leaves it to the next to begin the
        sentence again. Raises the last engine's EngineError where all failed, EngineUnavailable where none may be
        asked.
        """
        places = self.order(voice.engine)
        if voice.engine not in (None, *(place.name for place in self.places), *self._absent):
            self._absent.add(voice.engine)
            log.warning(
                "tts engine '%s' is not open here, %s speaks instead; see: roomtone engines",
                voice.engine,
                places[0].name,
            )
        for place in places:
            is_last = place is places[-1]
            sounds = place.engine.speak(sentence, _voice_for(place.name, voice))
            try:
                while (sound := await _next_sound(sounds, place.name, None if is_last else PATIENCE_S)) is not None:
                    yield sound
                self.served(place)
                return
            except Exception as error:
                failure = self.failed(place, error)
                if is_last:
                    raise failure from error
            finally:
                await close(sounds)


@asynccontextmanager
async def open_stt(settings: Settings, on_failure: OnFailure = lambda *_: None) -> AsyncIterator[SttLine]:
    """Open the recogniser that the configuration comes to, and what stands in for it.

    Raises EngineUnavailable where the one that is named, or under ``auto`` every one, cannot be opened.
    """
    async with AsyncExitStack() as stack:
        yield SttLine(await _opened("stt", settings, stack), on_failure)


@asynccontextmanager
async def open_tts(settings: Settings, on_failure: OnFailure = lambda *_: None) -> AsyncIterator[TtsLine]:
    """Open the synthesiser that the configuration comes to, and what stands in for it; raises as ``open_stt``."""
    async with AsyncExitStack() as stack:
        yield TtsLine(await _opened("tts", settings, stack), on_failure)


async def _opened(seam: str, settings: Settings, stack: AsyncExitStack) -> list[tuple[str, Any]]:
    chosen = settings.engine(seam)
    is_named = settings.section(seam).engine != "auto"
    opened: list[tuple[str, Any]] = []
    refused: list[EngineError] = []
    for name, own in [chosen, *settings.spares(seam, chosen[0])]:
        try:
            opened.append((name, await stack.enter_async_context(engines.open_engine(seam, name, own))))
        except EngineError as error:
            if is_named and name == chosen[0]:
                raise EngineUnavailable(error.message, **{**error.details, "seam": seam, "engine": name}) from error
            log.warning("%s engine '%s' is left out: %s", seam, name, error.message)
            refused.append(error)
    if not opened:
        raise EngineUnavailable(refused[0].message, **{**refused[0].details, "seam": seam}) from refused[0]
    return opened


async def _next_sound(sounds: AsyncIterator[Audio], name: str, patience_s: float | None) -> Audio | None:
    try:
        async with asyncio.timeout(patience_s):
            return await anext(sounds, None)
    except TimeoutError as error:
        raise EngineTimeout(f"{name} gave no sound for {patience_s:g} s") from error


def _voice_for(name: str, voice: Voice) -> Voice:
    """Leave out a voice's id where it is another engine's; each makes the best of one that names no engine."""
    return voice if voice.engine in (None, name) else voice.model_copy(update={"voice_id": None})
