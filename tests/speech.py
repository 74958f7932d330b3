"""Speech for tests: said by espeak-ng, at 16 kHz, with a room's noise around it."""

from __future__ import annotations

import numpy as np
import soxr

from roomtone.core.dialog import Voice
from roomtone.core.sound import RATE, Audio, join, to_int16
from roomtone.engines.tts import espeak


async def said(text: str, voice: str = "en-us", *, lead_s: float = 0.3, tail_s: float = 0.4) -> Audio:
    """Return a text said by an espeak-ng voice at about -23 dBFS, in a quiet room (noise at -60 dBFS)."""
    async with espeak.open(espeak.Settings()) as engine:
        parts = [part async for part in engine.speak(text, Voice(voice_id=voice))]
    spoken = join(parts, 22_050)
    samples = soxr.resample(spoken.samples.astype(np.float64) * 0.7, spoken.rate, RATE)
    around = np.concatenate([np.zeros(round(lead_s * RATE)), samples, np.zeros(round(tail_s * RATE))])
    return Audio(to_int16(around + room_noise(len(around))))


def room_noise(samples: int, dbfs: float = -60.0, seed: int = 1) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return noise of a room's colour (its power falls with frequency) at a level."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(samples))
    frequencies = np.fft.rfftfreq(samples, 1 / RATE)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequencies, 50.0)), samples)
    scaled: np.ndarray[tuple[int], np.dtype[np.float64]] = (
        noise / np.sqrt(np.mean(noise**2)) * 32768 * 10 ** (dbfs / 20)
    )
    return scaled
