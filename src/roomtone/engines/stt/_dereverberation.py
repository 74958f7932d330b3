"""Takes late reverberation out of one whole utterance, as what its own past foretells of it.

Weighted prediction error: in each band of the short-time spectrum, what lies ``DELAY`` frames and more back predicts
the reverberation now, and is subtracted. The prediction's weights are those under which the remainder is the most
likely speech, whose power changes from frame to frame (Nakatani et al., "Speech dereverberation based on
variance-normalized delayed linear prediction", IEEE TASLP 18(7), 2010). Dry speech is left as it was, nearly.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Spectrum = npt.NDArray[np.complex128]

WINDOW = 512
HOP = 128
"""Samples of a short-time spectrum's frame, and from one to the next."""

TAPS = 10
DELAY = 3
"""Frames that predict, and how far back they begin: speech itself is alike from one frame to the next."""

BANDS = 16
"""Bands that are worked on at a time: all of them at once would take 150 MB for nine seconds."""

ROUNDS = 2
QUIETEST = 1e-3
"""Least power of a frame that is reckoned with, of its band's mean."""

LOADING = 1e-3
"""Added to the correlations, of their mean power: a short word says little about a room."""


def dereverberated(sound: Floats) -> Floats:
    """Return 16 kHz sound of any length with less reverberation, as long as it was."""
    heard = _spectrum(sound)
    dry = [_dry(heard[first : first + BANDS]) for first in range(0, len(heard), BANDS)]
    return _sound(np.concatenate(dry), len(sound))


def _dry(heard: Spectrum) -> Spectrum:
    """Return some bands with less reverberation."""
    past = np.zeros((len(heard), TAPS, heard.shape[1]), np.complex128)
    for tap in range(TAPS):
        back = DELAY + tap
        past[:, tap, back:] = heard[:, : max(heard.shape[1] - back, 0)]
    dry = heard
    for _ in range(ROUNDS):
        weighted = past / _power(dry)[:, None, :]
        correlation = weighted @ past.conj().transpose(0, 2, 1)
        wanted = weighted @ heard.conj()[:, :, None]
        loading = LOADING * np.trace(correlation, axis1=1, axis2=2).real / TAPS + np.finfo(float).tiny
        weights = np.linalg.solve(correlation + loading[:, None, None] * np.eye(TAPS), wanted)
        dry = heard - np.einsum("ft,fts->fs", weights[:, :, 0].conj(), past)
    return dry


def _power(spectrum: Spectrum) -> Floats:
    """Return the power of each band and frame, the mean of three frames."""
    padded = np.pad(np.abs(spectrum) ** 2, ((0, 0), (1, 1)), "edge")
    power = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
    floor: Floats = np.maximum(power, QUIETEST * power.mean(axis=1, keepdims=True) + 1e-6)
    return floor


def _window() -> Floats:
    return np.hanning(WINDOW + 1)[:WINDOW]


def _spectrum(sound: Floats) -> Spectrum:
    """Return bands by frames."""
    padded = np.concatenate([np.zeros(WINDOW - HOP), sound, np.zeros(WINDOW)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    spectrum: Spectrum = np.fft.rfft(frames * _window(), axis=1).T
    return spectrum


def _sound(spectrum: Spectrum, samples: int) -> Floats:
    frames = np.fft.irfft(spectrum.T, WINDOW, axis=1) * _window()
    added = np.zeros(HOP * (len(frames) - 1) + WINDOW)
    for number, frame in enumerate(frames):
        added[number * HOP : number * HOP + WINDOW] += frame
    # Four squared Hann windows overlap everywhere; they add up to 1.5.
    return added[WINDOW - HOP : WINDOW - HOP + samples] / 1.5
