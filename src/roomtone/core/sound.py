"""Sound as data: a stretch of mono int16 samples and the rate they were taken at."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roomtone.core.errors import AudioError

RATE = 16_000
"""Samples a second of everything between microphone and recogniser."""

FRAME = RATE // 50
"""Samples in the 20 ms frame that voice detectors take."""

HOP = RATE // 100
"""Samples in the 10 ms frame that echo engines take."""

SILENT_DBFS = -100.0
"""Level given to digital silence, whose true level is minus infinity."""

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """Mono sound: ``samples`` (int16, one dimension) taken ``rate`` times a second."""

    samples: Samples
    rate: int = RATE

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate

    @property
    def dbfs(self) -> float:
        """RMS level in dB relative to full scale (a full-scale square wave is 0 dBFS)."""
        return level(self.samples)

    def cut(self, start: int, end: int | None = None) -> Audio:
        """Return samples ``start`` to ``end`` (a view, not a copy)."""
        return Audio(self.samples[start:end], self.rate)

    def to_bytes(self) -> bytes:
        """Return little-endian 16-bit PCM."""
        return self.samples.astype("<i2", copy=False).tobytes()

    @staticmethod
    def from_bytes(pcm: bytes, rate: int = RATE) -> Audio:
        """Read little-endian 16-bit PCM; an odd last byte is dropped."""
        return Audio(np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.int16, copy=False), rate)

    @staticmethod
    def silence(seconds: float, rate: int = RATE) -> Audio:
        """Return digital silence, to the nearest sample."""
        return Audio(np.zeros(round(seconds * rate), np.int16), rate)


def level(samples: npt.NDArray[np.int16] | npt.NDArray[np.float64]) -> float:
    """RMS level of int16-ranged samples in dBFS; empty or all zero is ``SILENT_DBFS``."""
    if len(samples) == 0:
        return SILENT_DBFS
    floats = samples.astype(np.float64)
    power = float(floats.dot(floats)) / len(floats)  # fifty times a second in an idle room: a dot costs least
    return max(SILENT_DBFS, 10 * math.log10(power / 32768**2)) if power > 0 else SILENT_DBFS


def join(parts: Iterable[Audio], rate: int = RATE) -> Audio:
    """Put sounds of one rate end to end; ``rate`` is that of the empty result.

    Raises ValueError where the rates differ.
    """
    parts = list(parts)
    if not parts:
        return Audio(np.zeros(0, np.int16), rate)
    if len({part.rate for part in parts}) > 1:
        raise ValueError("sounds of different rates cannot be joined")
    return Audio(np.concatenate([part.samples for part in parts]), parts[0].rate)


def to_int16(samples: npt.NDArray[np.floating]) -> Samples:
    """Round int16-ranged floats to int16; what is too loud is clipped, never wrapped, and what is no number is 0."""
    whole = np.rint(samples)
    np.maximum(whole, -32768, out=whole)  # two plain steps: np.clip and np.nan_to_num take three times as long, and
    np.minimum(whole, 32767, out=whole)  # this is asked a hundred times a second
    if math.isnan(np.add.reduce(whole)):
        whole = np.nan_to_num(whole)
    rounded: Samples = whole.astype(np.int16)
    return rounded


def encode_wav(audio: Audio) -> bytes:
    """Return the bytes of a 16-bit mono WAV file."""
    import soundfile  # only who reads or writes files needs it

    buffer = io.BytesIO()
    soundfile.write(buffer, audio.samples, audio.rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def decode_wav(content: bytes, name: str = "the sound") -> Audio:
    """Read a sound file's bytes (WAV of any depth, FLAC, OGG); channels are averaged.

    ``name`` is what an error calls it. Raises AudioError for anything that is not sound.
    """
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise AudioError(
            f"{name} is not a sound file that can be read; give a WAV, FLAC or OGG file", file=name
        ) from error
    return Audio(to_int16(samples.mean(axis=1, dtype=np.float64) * 32768), int(rate))
