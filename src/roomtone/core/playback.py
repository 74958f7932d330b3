"""The queue between what is said and the sound card: sample-exact, with every change ramped.

All loudspeakers share it, so a duck, a pause or a stop sounds and counts the same in a simulated room and in a real
one.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from roomtone.core.sound import RATE, Samples, to_int16

RAMP_S = 0.010
"""Time the gain takes from nothing to full: short enough to duck at once, long enough not to click."""

DUCK_GAIN = 10 ** (-18 / 20)
"""Amplitude of what plays while someone may be speaking."""


class Playback:
    """A queue of mono int16 sound at ``rate`` and the gain it is played with.

    ``push`` adds sound, ``pull`` takes what the device plays now. The gain moves at most ``1 / (rate * RAMP_S)`` a
    sample, so no change clicks and each is complete ``RAMP_S`` after the next ``pull``.

    Any method may be called from any thread. A lock does it: it is held for the arithmetic of one block, some tens
    of microseconds, which is less than a callback written in Python waits for the interpreter anyway.
    """

    def __init__(self, rate: int = RATE) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._step = 1 / (rate * RAMP_S)
        self._sounds: deque[Samples] = deque()
        self._fading: Samples = np.zeros(0, np.int16)
        self._waiting = 0
        self._heard = 0
        self._queued = 0
        self._volume = 1.0
        self._ducked = False
        self._paused = False
        self._gain = 1.0

    @property
    def heard(self) -> int:
        """Samples that were pushed and then pulled; a paused queue does not move."""
        return self._heard

    @property
    def queued(self) -> int:
        """Samples that were pushed, less those that ``stop`` dropped."""
        return self._queued

    @property
    def waiting(self) -> int:
        """Samples still to be pulled."""
        with self._lock:
            return self._waiting + len(self._fading)

    @property
    def volume(self) -> float:
        """Loudness, 0 to 1."""
        return self._volume

    @property
    def full_gain(self) -> float:
        """Amplitude that the volume comes to, while neither ducked nor paused."""
        return self._volume**2

    @property
    def silent(self) -> bool:
        """Whether ``pull`` gives nothing but zeros until something is pushed or resumed."""
        with self._lock:
            return not len(self._fading) and (not self._waiting or (self._paused and self._gain == 0))

    def push(self, samples: Samples) -> None:
        """Queue sound behind what is queued."""
        if not len(samples):
            return
        with self._lock:
            self._sounds.append(samples)
            self._waiting += len(samples)
            self._queued += len(samples)

    def pull(self, n: int) -> Samples:
        """Return the next ``n`` samples to play, zeros where there are none."""
        out = np.zeros(n, np.int16)
        with self._lock:
            if not self._waiting and not len(self._fading):
                self._gain = self._target()  # nothing sounds, so nothing can click
                return out
            done = min(n, len(self._fading))
            out[:done] = self._fading[:done]
            self._fading = self._fading[done:]
            self._heard += done
            sound = self._render(n - done)
            out[done : done + len(sound)] = sound
            self._heard += len(sound)
        return out

    def duck(self) -> None:
        """Lower what plays by 18 dB, until ``resume`` or ``stop``."""
        with self._lock:
            self._ducked = True

    def pause(self) -> None:
        """Fade out and hold the queue; what the fade takes counts as heard."""
        with self._lock:
            self._paused = True

    def resume(self) -> None:
        """End ducking and pausing: go on where it was."""
        with self._lock:
            self._ducked = self._paused = False

    def stop(self) -> None:
        """Fade out and drop the rest; ends ducking and pausing. What is pushed next plays after the fade."""
        with self._lock:
            self._paused = True
            tail = self._render(self._waiting)
            self._fading = np.concatenate([self._fading, tail])
            self._queued -= self._waiting
            self._waiting = 0
            self._sounds.clear()
            self._ducked = self._paused = False
            self._gain = 0.0

    def set_volume(self, volume: float) -> None:
        """Set loudness, 0 to 1 (clipped). The amplitude is its square: half sounds about half as loud (-12 dB)."""
        with self._lock:
            self._volume = min(1.0, max(0.0, volume))

    def _render(self, n: int) -> Samples:
        """Take up to ``n`` samples off the queue, as loud as they are to be; none once a pause is complete."""
        target = self._target()
        if self._paused:
            n = min(n, int(np.ceil(self._gain / self._step)))
        taken = self._take(n)
        if not len(taken):
            return taken
        if self._gain == target:
            return taken if target == 1.0 else to_int16(taken * target)
        way = np.arange(1, len(taken) + 1) * self._step
        low, high = sorted((self._gain, target))
        gains = np.clip(self._gain + (way if target > self._gain else -way), low, high)
        self._gain = float(gains[-1])
        return to_int16(taken * gains)

    def _target(self) -> float:
        return 0.0 if self._paused else self.full_gain * (DUCK_GAIN if self._ducked else 1.0)

    def _take(self, n: int) -> Samples:
        parts = []
        n = min(n, self._waiting)
        self._waiting -= n
        while n:
            first = self._sounds.popleft()
            if len(first) > n:
                self._sounds.appendleft(first[n:])
                first = first[:n]
            parts.append(first)
            n -= len(first)
        return np.concatenate(parts) if parts else np.zeros(0, np.int16)
