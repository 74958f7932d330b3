"""One stretch of speech while it is being spoken: ears write it, a turn's recogniser reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from roomtone.core.sound import Audio
from roomtone.engines.stt import Pause


class Utterance:
    """What one person says, as a stream that any number of readers can follow from its beginning.

    Times are the event loop's, in seconds. ``speech_at`` is when speech began, ``last_speech_at`` when its last
    sample was taken, and ``ended_at`` when it was decided that it was the last; these two are None until then.
    ``voiced_s`` is how much of it the voice detector took for speech. ``overheard``: it was said before anybody
    listened, and is answered only if it is understood.
    """

    def __init__(self, speech_at: float, *, overheard: bool = False) -> None:
        self.speech_at = speech_at
        self.overheard = overheard
        self.last_speech_at: float | None = None
        self.ended_at: float | None = None
        self.voiced_s = 0.0
        self._parts: list[Audio | Pause] = []
        self._last_pause = 0
        self._news = asyncio.Event()
        self._limits: list[tuple[asyncio.Timeout, float]] = []

    @property
    def ended(self) -> bool:
        """Whether no more will come."""
        return self.ended_at is not None

    def add(self, audio: Audio) -> None:
        """Add the next stretch of 16 kHz sound."""
        self._tell(audio)

    def pause(self) -> None:
        """Mark that the person has paused here."""
        self._last_pause = len(self._parts)
        self._tell(Pause())

    def end(self, last_speech_at: float, ended_at: float) -> None:
        """Close it: nothing more will be added."""
        self.last_speech_at = last_speech_at
        self.ended_at = ended_at
        self._news.set()
        for limit, seconds in self._limits:
            limit.reschedule(asyncio.get_running_loop().time() + seconds)

    @contextmanager
    def limiting(self, limit: asyncio.Timeout, seconds: float) -> Iterator[None]:
        """Let a timeout without a deadline expire ``seconds`` after the utterance has ended."""
        entry = (limit, seconds)
        self._limits.append(entry)
        if self.ended:
            limit.reschedule(asyncio.get_running_loop().time() + seconds)
        try:
            yield
        finally:
            self._limits.remove(entry)

    def continued_from(self, earlier: Utterance) -> None:
        """Put an earlier, ended utterance before this one, so that both are recognised as one."""
        before = earlier.sound()
        self._parts[:0] = before
        self._last_pause += len(before)
        self.speech_at = earlier.speech_at
        self.voiced_s += earlier.voiced_s

    def __aiter__(self) -> AsyncIterator[Audio | Pause]:
        """Read it from its beginning."""
        return self.stream()

    async def stream(self) -> AsyncIterator[Audio | Pause]:
        """Yield what was said so far and then what comes, until it has ended.

        A pause that was followed by another while the reader was busy is left out: who talks and talks must not
        leave a recogniser with a backlog of partials that nobody wants any more.
        """
        position = 0
        while True:
            while position < len(self._parts):
                part = self._parts[position]
                position += 1
                if isinstance(part, Audio) or position > self._last_pause:
                    yield part
            if self.ended:
                return
            self._news.clear()
            await self._news.wait()

    def sound(self) -> list[Audio]:
        """Return what was recorded so far, in pieces."""
        return [part for part in self._parts if isinstance(part, Audio)]

    def _tell(self, part: Audio | Pause) -> None:
        self._parts.append(part)
        self._news.set()
