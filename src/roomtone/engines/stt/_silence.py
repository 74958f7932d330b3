"""Whether anything but silence followed a pause: where nothing did, what was decoded there is the final text too."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from roomtone.core.sound import FRAME, Samples

QUIET_WINDOW = 5
"""Frames before a Pause that are surely silence: a Pause comes 100 ms or more after the last loud sample."""

NEW_SPEECH_DB = 10.0
"""Above that silence, and for ``NEW_SPEECH_FRAMES``, someone speaks again."""

NEW_SPEECH_FRAMES = 3

DIP, DIP_DB = 3, 16.0
"""Frames that a dip in somebody's speech has at least, and how far it lies below the loud frames: as far as an
endpointer sees syllables."""

SPEECH_RANGE_DB = 30.0
"""Below an utterance's loud frames, what is still speech."""


def joined(parts: list[Samples]) -> Samples:
    """Return all parts as one, and keep them so: the next call then copies only once."""
    parts[:] = [np.concatenate(parts)] if parts else [np.zeros(0, np.int16)]
    return parts[0]


def levels(sound: Samples) -> npt.NDArray[np.float64]:
    """Return the power of each whole frame, in dB."""
    frames = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    powers: npt.NDArray[np.float64] = 10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-3)
    return powers


def spoken_since(sound: Samples, covered: int, *, in_dip: bool = False) -> bool:
    """Tell whether someone spoke after sample ``covered``, at which a Pause came or, ``in_dip``, a dip in speech.

    Speech is what stays, for 60 ms, 10 dB above the quiet before a Pause and within 30 dB of the loud frames. A dip
    is no silence: after one the quietest frames of all are the measure, and 20 ms may be the "ts" that ends a word.
    """
    powers = levels(sound)
    before, after = np.split(powers, [covered // FRAME])
    if len(before) <= QUIET_WINDOW:
        return True
    quiet, frames = (np.sort(before)[:QUIET_WINDOW], 1) if in_dip else (before[-QUIET_WINDOW:], NEW_SPEECH_FRAMES)
    border = max(float(np.max(quiet)) + NEW_SPEECH_DB, float(np.percentile(before, 95)) - SPEECH_RANGE_DB)
    loud = after > border
    return any(bool(np.all(loud[at : at + frames])) for at in range(len(loud) - frames + 1))


def dips(sound: Samples) -> bool:
    """Tell whether the last ``DIP`` frames are softer than any syllable: a breath, a "t" on its way, or the end."""
    powers = levels(sound)
    return len(powers) > DIP and bool(np.max(powers[-DIP:]) < np.percentile(powers, 95) - DIP_DB)
