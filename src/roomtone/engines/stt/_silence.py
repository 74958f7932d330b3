"""Whether anything but silence followed a pause: where nothing did, what was decoded there is the final text too."""

from __future__ import annotations

import numpy as np

from roomtone.core.sound import FRAME, Samples

QUIET_WINDOW = 5
"""Frames before a Pause that are surely silence: a Pause comes 100 ms or more after the last loud sample."""

NEW_SPEECH_DB = 10.0
"""Above that silence, and for ``NEW_SPEECH_FRAMES``, someone speaks again."""

NEW_SPEECH_FRAMES = 3

SPEECH_RANGE_DB = 30.0
"""Below an utterance's loud frames, what is still speech."""


def joined(parts: list[Samples]) -> Samples:
    """Return all parts as one, and keep them so: the next call then copies only once."""
    parts[:] = [np.concatenate(parts)] if parts else [np.zeros(0, np.int16)]
    return parts[0]


def spoken_since(sound: Samples, covered: int) -> bool:
    """Tell whether someone spoke after sample ``covered``, at which a Pause came: it was quiet just before.

    Speech is what stays, for 60 ms, 10 dB above that quiet and within 30 dB of the utterance's loud frames.
    """
    frames = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    levels = 10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-3)
    pause = covered // FRAME
    before, after = levels[:pause], levels[pause:]
    if len(before) <= QUIET_WINDOW:
        return True
    border = max(
        float(np.max(before[-QUIET_WINDOW:])) + NEW_SPEECH_DB, float(np.percentile(before, 95)) - SPEECH_RANGE_DB
    )
    loud = after > border
    return any(bool(np.all(loud[at : at + NEW_SPEECH_FRAMES])) for at in range(len(loud) - NEW_SPEECH_FRAMES + 1))
