"""A chirp, and how to find it again in what a microphone heard: how late it came, and how loud.

A tone that glides through the band of speech is found by a matched filter, which correlates with the known sound
(G. L. Turin, "An introduction to matched filters", IRE Trans. Information Theory 6, 1960): its energy comes out as
one short peak, by the product of duration and bandwidth (here 2000, 33 dB) above what noise of that loudness leaves.
What surrounds the peak is the room's impulse response in that band (A. Farina, "Simultaneous measurement of impulse
response and distortion with a swept-sine technique", AES 108, 2000), so the energy around it is that of the echo
with its reverberation. What the loudspeaker was given goes through the same filter: volume, ducking and the wait in
its queue drop out of the comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roomtone.core.sound import RATE, Audio, Samples, to_int16

Floats = npt.NDArray[np.float64]

LOWEST_HZ, HIGHEST_HZ = 400.0, 4400.0
"""A small loudspeaker gives nothing below, and a telephone's microphone little above."""

SECONDS = 0.5
RAMP_S = 0.03
"""Rise and fall, by half a cosine: without them it would click."""

DBFS = -24.0
"""As loud as the chimes."""

EARLIEST_S, LATEST_S = -0.05, 1.0
"""How late it may come after it was given to the loudspeaker. Slightly before: two clocks are compared."""

BEFORE_S, AFTER_S = 0.02, 0.3
"""What counts as the echo around its peak."""

SURE_DB = -15.0
"""The share of the energy in its band that must be the chirp, to be taken for it: 3 %. Of 433 stretches of 2.2 s of
talk, music and household noise without one the best came to -16.8 dB, half to -22.9 dB or less. An echo 6 dB below
them was found in all, 12 dB below in 87 of 100."""


@dataclass(frozen=True, slots=True)
class Echo:
    """A chirp that was looked for.

    ``played``: the loudspeaker was given it at all. ``heard``: the microphone heard it, ``delay_ms`` after that and
    ``level_db`` louder than it was given (below 0: fainter), reverberation included. ``sure_db``: which share of what
    the microphone heard in its band in that half second was the chirp (0: all).
    """

    played: bool
    heard: bool
    delay_ms: float | None
    level_db: float | None
    sure_db: float | None


def chirp() -> Audio:
    """Return the sound to play."""
    return Audio(to_int16(_template() * 32768 * math.sqrt(2) * 10 ** (DBFS / 20)))


def find(near: Samples, far: Samples) -> Echo:
    """Look for the chirp in what a microphone heard (``near``) while the loudspeaker was given ``far``.

    Both are at 16 kHz, of one length and from the same moment on (see ``engines.audio.Capture``); a second should
    follow the chirp in them.
    """
    given = _matched(far.astype(np.float64))
    if given is None or given.sure_db < SURE_DB:
        return Echo(played=False, heard=False, delay_ms=None, level_db=None, sure_db=None)
    window = range(max(0, given.at + round(EARLIEST_S * RATE)), given.at + round(LATEST_S * RATE))
    came = _matched(near.astype(np.float64), window)
    if came is None or came.sure_db < SURE_DB:
        sure = came.sure_db if came is not None else None
        return Echo(played=True, heard=False, delay_ms=None, level_db=None, sure_db=sure)
    return Echo(
        played=True,
        heard=True,
        delay_ms=round((came.at - given.at) / RATE * 1000, 1),
        level_db=round(10 * math.log10(came.energy / given.energy), 1),
        sure_db=round(came.sure_db, 1),
    )


@dataclass(frozen=True, slots=True)
class _Match:
    """Where a chirp fits best (the sample it begins at), how well, and the energy around its peak."""

    at: int
    sure_db: float
    energy: float


def _matched(heard: Floats, window: range | None = None) -> _Match | None:
    """Find where the chirp begins, within a window of samples; None where nothing in its band was heard at all."""
    template = _template()
    places = len(heard) - len(template) + 1
    if places <= 0:
        return None
    size = 1 << (len(heard) + len(template)).bit_length()
    spectrum = np.fft.rfft(heard, size)
    outside = np.fft.rfftfreq(size, 1 / RATE)
    spectrum[(outside < LOWEST_HZ) | (outside > HIGHEST_HZ)] = 0
    energy = np.concatenate(([0.0], np.cumsum(np.fft.irfft(spectrum, size)[: len(heard)] ** 2)))
    spans = energy[len(template) :] - energy[:places]
    peaks = _envelope(spectrum * np.conj(np.fft.rfft(template, size)), size)[:places] ** 2
    fits = peaks / (np.maximum(spans, len(template)) * float(template @ template))  # never less than one LSB of noise
    looked = range(places) if window is None else range(window.start, min(window.stop, places))
    if not looked or not peaks[looked.start : looked.stop].any():
        return None
    at = looked.start + int(np.argmax(fits[looked.start : looked.stop]))
    around = peaks[max(0, at - round(BEFORE_S * RATE)) : at + round(AFTER_S * RATE)]
    return _Match(at, 10 * math.log10(max(fits[at], 1e-10)), float(np.sum(around)))


def _envelope(spectrum: npt.NDArray[np.complex128], size: int) -> Floats:
    """Return the magnitude of the analytic signal of a half spectrum: a peak whatever phase the room gave it."""
    whole = np.zeros(size, np.complex128)
    whole[: len(spectrum)] = spectrum
    whole[1 : size // 2] *= 2
    result: Floats = np.abs(np.fft.ifft(whole))
    return result


def _template() -> Floats:
    """Return the chirp at amplitude 1: its frequency rises in a straight line."""
    time = np.arange(round(SECONDS * RATE)) / RATE
    tone = np.sin(2 * np.pi * (LOWEST_HZ * time + (HIGHEST_HZ - LOWEST_HZ) / (2 * SECONDS) * time**2))
    ramp = np.sin(np.pi / 2 * np.arange(round(RAMP_S * RATE)) / round(RAMP_S * RATE)) ** 2
    tone[: len(ramp)] *= ramp
    tone[-len(ramp) :] *= ramp[::-1]
    shaped: Floats = tone
    return shaped
