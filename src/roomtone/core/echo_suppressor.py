"""Takes Roomtone's own voice off the microphone, by the power the echo gate expects of it in each band.

A linear canceller needs seconds to learn a room and a loudspeaker that does not distort. Here nothing is subtracted:
each band is turned down by how much of it the gate's prediction explains (a Wiener gain), at once and from the first
frame on. What is left of a band that holds nothing but echo is as loud as the room's noise, never digital silence.
"""

from __future__ import annotations

import numpy as np

from roomtone.core.echo_gate import BINS, FFT, WINDOW, Floats, Prediction
from roomtone.core.sound import HOP, Samples, to_int16

RISE = WINDOW[:HOP]
FALL = WINDOW[HOP:]

RELEASE = 0.5
"""What a band's gain keeps of its last value while it falls: a word's end is not cut off, and gains flicker less."""


def _spread() -> Floats:
    """Return the matrix that draws a gain for each of a frame's bins from the bands': straight lines between them."""
    centres = (BINS[:-1] + BINS[1:] - 1) / 2
    bins = np.arange(FFT // 2 + 1)
    return np.stack([np.interp(bins, centres, row) for row in np.eye(len(centres))], axis=1)


class EchoSuppressor:
    """Fed with the microphone 10 ms at a time, and with what the gate made of the same 10 ms.

    Frames of 20 ms overlap by half, so what comes out while Roomtone is heard is 10 ms late; otherwise the
    microphone passes untouched. The two are cross-faded over 10 ms: in the first 10 ms a little of the sound comes
    twice, in the last a little is left out.
    """

    _SPREAD = _spread()

    def __init__(self) -> None:
        self._last: Samples = np.zeros(HOP, np.int16)
        self._tail = np.zeros(HOP)
        self._gain = np.ones(len(BINS) - 1)
        self._works = False

    @property
    def works(self) -> bool:
        """Whether the last 10 ms were changed, so that the next must be faded."""
        return self._works

    def feed(self, near: Samples, predicted: Prediction | None) -> Samples:
        """Return 160 samples for 160; ``predicted`` is None while nothing is played."""
        worked, self._works = self._works, predicted is not None
        if not (worked or self._works):
            self._last = near
            return near
        if not worked:
            self._tail, self._gain = self._last * FALL, np.ones(len(BINS) - 1)
        frame = np.concatenate((self._last, near)) * WINDOW if predicted is None else self._cleaned(predicted)
        late = self._tail + frame[:HOP]
        self._last, self._tail = near, frame[HOP:]
        if worked and self._works:
            return to_int16(late)
        return to_int16(late * RISE + near * FALL if self._works else late * FALL + near * RISE)

    def _cleaned(self, predicted: Prediction) -> Floats:
        gain = np.maximum(1 - predicted.echo / predicted.power, np.sqrt(predicted.noise / predicted.power))
        gain = np.clip(gain, 0, 1)
        self._gain = np.maximum(gain, RELEASE * self._gain)
        frame: Floats = np.fft.irfft(predicted.bins * (self._SPREAD @ self._gain), FFT)[: 2 * HOP]
        return frame
