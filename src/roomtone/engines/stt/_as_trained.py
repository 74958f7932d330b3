"""Sound as the acoustic model's training was: with little reverberation and a little noise."""

from __future__ import annotations

from functools import cache
from random import Random

import numpy as np
import numpy.typing as npt

from roomtone.core.sound import FRAME, RATE, Samples, to_int16
from roomtone.engines.stt._dereverberation import dereverberated

NOISE_DB = 32.0
"""Noise is added this far below the speech: the model was trained in rooms, and in dead silence between words it
finds a quarter fewer sentences."""

NOISE_SAMPLES = 1 << 17
"""Eight seconds of it; then it begins anew."""

NOISE_RMS = 4000.0


def as_trained(samples: Samples) -> Samples:
    """Return 16 kHz sound of any length with less reverberation and with noise, as long as it was."""
    sound = dereverberated(samples.astype(np.float64))
    frames = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)
    if not len(frames):
        return samples
    loud = float(np.percentile(np.sqrt(np.mean(np.square(frames), axis=1)), 90))
    noise = np.resize(_room_noise(), len(sound)) * (loud / NOISE_RMS * 10 ** (-NOISE_DB / 20))
    return to_int16(sound + noise)


@cache
def _room_noise() -> Samples:
    """Return noise whose power halves with each octave, as a room's does; always the same."""
    frequencies = np.fft.rfftfreq(NOISE_SAMPLES, 1 / RATE)
    # Bands of one strength and of every phase sound like noise. numpy's own generators would take a megabyte more.
    turns = np.frombuffer(Random(0).randbytes(4 * len(frequencies)), "<u4") / 2**32
    noise: npt.NDArray[np.float64] = np.fft.irfft(np.exp(2j * np.pi * turns) / np.sqrt(np.maximum(frequencies, 50.0)))
    return to_int16(noise / np.sqrt(np.mean(np.square(noise))) * NOISE_RMS)
