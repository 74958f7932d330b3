"""Is a sound card that was opened still alive? Judged by its frame clock against the wall clock."""

from __future__ import annotations

from collections import deque

GRACE_S = 4.0
"""Nothing is judged for so long after opening: a sound server may take 2 s to begin, after a first burst."""

FROZEN_S = 2.0
WINDOW_S = 5.0
"""Stretch over which the rate is judged; cards deliver in bursts."""

SLOWEST, FASTEST = 0.75, 1.5


class Vitals:
    """What is wrong with a stream, from how many frames there have been by when.

    ``rate`` is the frames a second it should deliver; ``silence_s`` is how long it may deliver exact zeros, which a
    microphone that is alive never does (None: for ever).
    """

    def __init__(self, rate: int, opened_at: float, silence_s: float | None = None) -> None:
        self._rate = rate
        self._silence_s = silence_s
        self._begin_at = opened_at + GRACE_S
        self._moved_at = opened_at
        self._frames = 0
        self._points: deque[tuple[float, int]] = deque()

    def judge(self, now: float, frames: int, zeros: int = 0) -> str | None:
        """Return what is wrong, in a few words, or None.

        ``frames`` counts from when it was opened; ``zeros`` of them, the newest, were exactly zero.
        """
        moved = frames != self._frames
        if moved:
            self._frames, self._moved_at = frames, now
        if now < self._begin_at:
            return None
        if now - self._moved_at >= FROZEN_S:
            return "frozen"
        if self._silence_s is not None and zeros >= self._silence_s * self._rate:
            return "dead silent"
        return self._judge_rate(now, frames) if moved else None

    def _judge_rate(self, now: float, frames: int) -> str | None:
        self._points.append((now, frames))
        began, before = self._points[0]
        if now - began < WINDOW_S:
            return None
        speed = (frames - before) / (now - began) / self._rate
        self._points.popleft()
        return None if SLOWEST <= speed <= FASTEST else f"running at {speed:.2g} of its speed"
