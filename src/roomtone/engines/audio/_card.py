"""What happens on a sound card's threads: the two halves, and how the loop hears of them.

Microphone and loudspeaker are two streams even on one device. The far end is aligned with the near end by frames:
what was handed to the card waits in a ``FarEnd``, and each block of the microphone takes as many samples from it. The
offset that remains (both latencies, less what waits) is constant while both clocks agree, and echo engines look for a
constant delay anyway. Time stamps would make it no better: ALSA's are missing or wrong on many devices.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np

from roomtone.core.playback import Playback
from roomtone.core.sound import HOP, RATE, Audio, Samples
from roomtone.engines.audio import Capture

IDLE_MS = 80
PRECEDENCE = 10
"""Real-time priority: over all programs, below the kernel's own threads for interrupts (50)."""

KEPT_S = 5.0
"""Sound kept for a loop that does not come to read it; then the oldest goes."""

SLACK = RATE // 50
LOOK_EVERY = 2 * RATE


class FarEnd:
    """Samples on their way from the loudspeaker's stream to the microphone's.

    Where bursts empty it, zeros stand in, and what comes later waits the longer: so it holds as much as the bursts
    need. What has not been needed for 2 s, because the clocks differ, is dropped.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: deque[Samples] = deque()
        self._waiting = 0
        self._started = False
        self._least = RATE
        self._look_in = LOOK_EVERY

    def give(self, samples: Samples) -> None:
        """Add what was handed to the sound card."""
        with self._lock:
            self._blocks.append(samples)
            self._waiting += len(samples)
            if self._waiting > RATE:
                self._drop(self._waiting - RATE)

    def take(self, n: int) -> Samples:
        """Return the ``n`` samples that belong to the microphone's next ``n``."""
        with self._lock:
            if not self._started:
                self._started = True
                self._drop(max(0, self._waiting - n))  # the loudspeaker may have started long before
            taken = self._drop(min(n, self._waiting))
            self._least = min(self._least, self._waiting)
            self._look_in -= n
            if self._look_in <= 0:
                self._drop(self._least if self._least > SLACK else 0)
                self._least, self._look_in = RATE, LOOK_EVERY
        return np.concatenate([*taken, np.zeros(n - sum(map(len, taken)), np.int16)])

    def _drop(self, n: int) -> list[Samples]:
        dropped = []
        self._waiting -= n
        while n:
            first = self._blocks.popleft()
            if len(first) > n:
                self._blocks.appendleft(first[n:])
                first = first[:n]
            dropped.append(first)
            n -= len(first)
        return dropped


class Mouth:
    """The loudspeaker's callback: asks the playback for sound and tells the far end."""

    def __init__(self, playback: Playback, far: FarEnd, rate: int, moved: Callable[[], None]) -> None:
        self.frames = 0
        self._playback = playback
        self._far = far
        self._moved = moved
        self._stream = _resampler(RATE, rate)
        self._ready: Samples = np.zeros(0, np.int16)
        self._silence: Samples = np.zeros(0, np.int16)

    def speak(self, frames: int) -> bytes:
        """Return the next ``frames`` samples for the card, at its rate, as 16-bit PCM."""
        self.frames += frames
        silent = self._playback.silent
        if silent and self._stream is None:
            return self._say_nothing(frames)
        parts, there = [self._ready], len(self._ready)
        while there < frames:
            parts.append(self._pull(frames - there))
            there += len(parts[-1])
        whole = np.concatenate(parts)
        self._ready = whole[frames:]
        if not silent:
            self._moved()
        return whole[:frames].tobytes()

    def _say_nothing(self, frames: int) -> bytes:
        """Do as little as can be: this is what an idle house pays for, fifty times a second."""
        if len(self._silence) != frames:
            self._silence = np.zeros(frames, np.int16)
        self._far.give(self._silence)
        return bytes(2 * frames)

    def _pull(self, wanted: int) -> Samples:
        if self._stream is None:
            played = self._playback.pull(wanted)
            self._far.give(played)
            return played
        played = self._playback.pull(HOP)
        self._far.give(played)
        converted: Samples = self._stream.resample_chunk(played)
        return converted


class Ear:
    """The microphone's callback: 16 kHz blocks out, as large as ``block_s()`` asks for, each with its far end."""

    def __init__(
        self,
        rate: int,
        far: FarEnd,
        block_s: Callable[[], float],
        deliver: Callable[[Samples, Samples, float], None],
    ) -> None:
        self.rate = rate
        self.frames = 0
        self.zeros = 0
        self._far = far
        self._block_s = block_s
        self._deliver = deliver
        self._stream = _resampler(rate, RATE)
        self._pieces: list[bytes] = []
        self._collected = 0

    def hear(self, pcm: bytes, at: float) -> None:
        """Take a block from the card, its last sample taken ``at`` (the loop's time)."""
        self._pieces.append(pcm)
        self._collected += len(pcm) // 2
        self.frames += len(pcm) // 2
        if self._collected < self._block_s() * self.rate:
            return
        samples = np.frombuffer(b"".join(self._pieces), np.int16)
        self._pieces, self._collected = [], 0
        self.zeros = 0 if samples.any() else self.zeros + len(samples)
        near = samples if self._stream is None else self._stream.resample_chunk(samples)
        if len(near):
            self._deliver(near, self._far.take(len(near)), at)


def _resampler(source: int, target: int) -> Any:
    if source == target:
        return None
    import soxr  # only cards that refuse 16 kHz need it

    return soxr.ResampleStream(source, target, 1, "int16", "LQ")


class CardMicrophone:
    """The near end as the loop sees it; it lives through the loss of the card."""

    def __init__(self) -> None:
        self.dropped = 0
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._listened = False
        self._block_s = IDLE_MS / 1000
        self._near: list[Samples] = []
        self._far: list[Samples] = []
        self._ready: deque[Capture] = deque()
        self._kept = 0
        self._at = 0.0
        self._called = False
        self._news = asyncio.Event()

    def pace(self, block_ms: int) -> None:
        """Ask for blocks of about ``block_ms``."""
        self._block_s = max(10, block_ms) / 1000

    def block_s(self) -> float:
        """Return how long blocks are to be, in seconds."""
        return self._block_s

    def __aiter__(self) -> AsyncIterator[Capture]:
        self._listened = True
        return self

    async def __anext__(self) -> Capture:
        while True:
            with self._lock:
                if self._ready:
                    capture = self._ready.popleft()
                    self._kept -= len(capture.near)
                    return capture
                self._news.clear()
            await self._news.wait()

    def take(self, near: Samples, far: Samples, at: float) -> None:
        """Take what the card heard; called on its thread. Drops the oldest where the loop has stalled."""
        if not self._listened:
            return
        with self._lock:
            self._near.append(near)
            self._far.append(far)
            self._cut(at)
            while self._kept > KEPT_S * RATE:
                lost = len(self._ready.popleft().near)
                self._kept -= lost
                self.dropped += lost
            called, self._called = self._called, True
        if not called:
            call(self._loop, self._wake)

    def _cut(self, at: float) -> None:
        near, far = np.concatenate(self._near), np.concatenate(self._far)
        whole = len(near) // HOP * HOP
        if not whole:
            return
        self._near, self._far = [near[whole:]], [far[whole:]]
        self._at = max(self._at, at - (len(near) - whole) / RATE)  # a driver's first time stamps may be far off
        self._ready.append(Capture(Audio(near[:whole]), Audio(far[:whole]), self._at))
        self._kept += whole

    def _wake(self) -> None:
        with self._lock:
            self._called = False
        self._news.set()


def precede() -> str | None:
    """Let the calling thread run as soon as it can, before every other program; return why not where it may not.

    Processes that it starts do not inherit that (sched(7), SCHED_RESET_ON_FORK). A machine at its limits then gives
    late answers, but no torn sound.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(PRECEDENCE))
    except (OSError, AttributeError) as error:  # AttributeError: not Linux
        why = getattr(error, "strerror", None) or "this system cannot do it"
        return (
            f"sound runs without real-time priority ({why}); the service's unit allows it: LimitRTPRIO={PRECEDENCE}"
        )
    return None


def call(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Enter the loop from a card's thread; a loop that has closed is not told any more."""
    if not loop.is_closed():
        try:
            loop.call_soon_threadsafe(callback)
        except RuntimeError:  # it closed between the two lines
            return
