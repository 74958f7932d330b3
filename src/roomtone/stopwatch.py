"""Where the milliseconds of a turn went."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from roomtone.core.dialog import Latency

Interval = tuple[float, float]


@dataclass(slots=True)
class Stopwatch:
    """Moments of one turn, in seconds of the event loop, and the intervals in which it waited for others."""

    last_speech: float | None = None
    committed: float | None = None
    understood: float | None = None
    first_word: float | None = None
    first_sound: float | None = None
    ended: float | None = None
    waits: list[Interval] = field(default_factory=list)
    _working: dict[int, float] = field(default_factory=dict)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time in here as not Roomtone's own: an engine works, or a person is still speaking."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        mark = max(self._working, default=0) + 1
        self._working[mark] = begun
        try:
            yield
        finally:
            del self._working[mark]
            self.waits.append((begun, loop.time()))

    def latency(self) -> Latency:
        """Return the turn's latencies; stages that did not happen are None."""
        start = self.committed if self.last_speech is None else self.last_speech
        first_sound = _ms(start, self.first_sound)
        return Latency(
            endpoint=_ms(self.last_speech, self.committed),
            stt=_ms(self.committed, self.understood) if self.last_speech is not None else None,
            think=_ms(self.understood, self.first_word),
            tts=_ms(self.first_word, self.first_sound),
            first_sound=first_sound,
            total=_ms(start, self.ended),
            overhead=None if first_sound is None else round(first_sound - self._excused(start), 3),
        )

    def _excused(self, start: float | None) -> float:
        """Return the milliseconds up to the first sound that were endpoint wait, an engine's, or a person's."""
        assert start is not None
        assert self.first_sound is not None
        waits = [*self.waits, *((begun, self.first_sound) for begun in self._working.values())]
        if self.last_speech is not None and self.committed is not None:
            waits.append((self.last_speech, self.committed))
        clipped = [(max(start, begun), min(self.first_sound, ended)) for begun, ended in waits]
        return 1000 * covered([interval for interval in clipped if interval[0] < interval[1]])


def covered(intervals: list[Interval]) -> float:
    """Return the length of the union of intervals."""
    total, until = 0.0, float("-inf")
    for begun, ended in sorted(intervals):
        total += max(0.0, ended - max(begun, until))
        until = max(until, ended)
    return total


def _ms(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round((end - start) * 1000, 3)
