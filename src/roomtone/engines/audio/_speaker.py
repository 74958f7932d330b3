"""The loudspeaker every audio engine has: a Playback that coroutines can wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np

from roomtone.core.errors import AudioError
from roomtone.core.playback import Playback
from roomtone.core.sound import HOP, RATE, Audio, Samples

AHEAD = RATE
"""Samples that may be queued before ``play`` waits."""

NOTHING: Samples = np.zeros(0, np.int16)


class Conversion:
    """Sound of any rate to 16 kHz, piece by piece, with no seam between pieces of one rate."""

    def __init__(self) -> None:
        self._rate = RATE
        self._stream: Any = None

    @property
    def holds_back(self) -> bool:
        """Whether ``flush`` would give something."""
        return self._stream is not None

    def feed(self, audio: Audio) -> Samples:
        """Convert the next piece; up to 30 ms of it come with the next one, or with ``flush``."""
        rest = NOTHING if audio.rate == self._rate else self.flush()
        if audio.rate == RATE:
            return np.concatenate([rest, audio.samples]) if len(rest) else audio.samples
        if self._stream is None:
            import soxr  # only sound of another rate needs it

            self._rate, self._stream = audio.rate, soxr.ResampleStream(audio.rate, RATE, 1, "int16", "LQ")
        return np.concatenate([rest, self._stream.resample_chunk(audio.samples)])

    def flush(self) -> Samples:
        """Return what is held back; what comes next is a new sound."""
        if self._stream is None:
            return NOTHING
        rest: Samples = self._stream.resample_chunk(NOTHING, last=True)
        self._rate, self._stream = RATE, None
        return rest


def at_16k(audio: Audio) -> Samples:
    """Convert a whole sound to 16 kHz."""
    conversion = Conversion()
    return np.concatenate([conversion.feed(audio), conversion.flush()])


class Speaker:
    """A Loudspeaker over a Playback. The engine that pulls must call ``moved`` on the event loop afterwards.

    ``before_change`` is called before anything is queued or changed, so that what is over has been pulled as it was;
    ``latency_s`` is how long a sample takes from the queue to the air.
    """

    def __init__(
        self, playback: Playback, before_change: Callable[[], None] = lambda: None, latency_s: float = 0.0
    ) -> None:
        self.playback = playback
        self.latency_s = latency_s
        self._change = before_change
        self._conversion = Conversion()
        self._movement = asyncio.Event()
        self._lost: str | None = None

    @property
    def heard(self) -> int:
        """Samples of what was given to ``play`` that have left the queue for the loudspeaker."""
        return self.playback.heard

    @property
    def queued(self) -> int:
        """Samples given to ``play``, dropped ones not counted."""
        return self.playback.queued

    @property
    def trouble(self) -> str | None:
        """Why nothing that is played is heard, None where it is."""
        return self._lost

    @property
    def volume(self) -> float:
        """Loudness, 0 to 1."""
        return self.playback.volume

    async def play(self, audio: Audio) -> None:
        """Queue a sound of any rate; wait while more than a second is queued.

        Raises AudioError where the device is lost and has not come back in time.
        """
        if self._lost is not None:
            raise AudioError(self._lost)
        self._change()
        self.playback.push(self._conversion.feed(audio))
        await self._until(AHEAD)

    async def drained(self) -> None:
        """Return once all that is queued has left the loudspeaker. Raises AudioError as ``play`` does."""
        self._finish()
        await self._until(0)
        if self.latency_s:
            await asyncio.sleep(self.latency_s)

    def duck(self) -> None:
        """Lower what plays by 18 dB."""
        self._change()
        self.playback.duck()

    def pause(self) -> None:
        """Hold what is queued."""
        self._change()
        self.playback.pause()

    def resume(self) -> None:
        """End ducking and pausing."""
        self._change()
        self.playback.resume()

    def stop(self) -> None:
        """Fade out and drop what is queued."""
        self._change()
        self._conversion.flush()
        self.playback.stop()
        self._movement.set()

    def set_volume(self, volume: float) -> None:
        """Set loudness, 0 to 1."""
        self._change()
        self.playback.set_volume(volume)

    def moved(self) -> None:
        """Note that the device has pulled: whoever waits looks again."""
        if self.playback.waiting < 2 * HOP:
            self._finish()  # nothing followed in time: the end of a sound must not wait for the next one
        self._movement.set()

    def lost(self, reason: str | None) -> None:
        """Say that nothing pulls any more, and why (None: it does again): waiting ends in an AudioError."""
        self._lost = reason
        self._movement.set()

    def _finish(self) -> None:
        if self._conversion.holds_back:
            rest = self._conversion.flush()
            self._change()
            self.playback.push(rest)

    async def _until(self, waiting: int) -> None:
        while self.playback.waiting > waiting:
            if self._lost is not None:
                raise AudioError(self._lost)
            self._movement.clear()
            await self._movement.wait()
