"""Endpointing on recordings: how often an utterance is cut off, and how long its end is waited for.

Where speech ends is judged by the recording's level alone, independently of what is measured: the last run of at
least 50 ms of 20 ms frames above max(p95 - 30 dB, p5 + 12 dB), p95 and p5 being percentiles of the file's frames.
"""

from __future__ import annotations

import asyncio
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from roomtone.bench import Figure, p
from roomtone.core.endpoint import Ended, Endpointer
from roomtone.core.errors import UsageError
from roomtone.core.sound import FRAME, RATE, Audio, decode_wav, join, level, to_int16
from roomtone.engines import choose, open_engine
from roomtone.engines.vad import Vad

KINDS = ("command", "digits", "sentence", "wake")
"""What the manifest calls a recording of one person speaking once."""

BEFORE_S, AFTER_S = 1.0, 4.0
"""Seconds of a quiet room put around each recording."""

ROOM_DBFS = -70.0
"""How loud that room is."""

CUT_S = 0.05
"""Deciding this long before the last speech is a cut; less is within a frame or two of the judge's own error."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One recording: when its end was decided, seconds after its last speech (below zero: before), if it was."""

    name: str
    kind: str
    wait: float | None

    @property
    def cut(self) -> bool:
        """Whether the person was cut off, or never heard out."""
        return self.wait is None or self.wait < -CUT_S


def last_speech_s(audio: Audio) -> float:
    """Return the second at which the last speech of a recording ends; 0 where there is none."""
    frame = audio.rate // 50
    levels = [level(audio.samples[at : at + frame]) for at in range(0, len(audio) - frame + 1, frame)]
    if not levels:
        return 0.0
    bar = max(float(np.percentile(levels, 95)) - 30, float(np.percentile(levels, 5)) + 12)
    run = last = 0
    for number, dbfs in enumerate(levels, 1):
        run = run + 1 if dbfs > bar else 0
        if run * frame >= 0.05 * audio.rate:
            last = number
    return last * frame / audio.rate


def decided(audio: Audio, vad: Vad) -> int | None:
    """Return the sample at which a recording's first utterance is taken to be over; a quiet room is around it."""
    noise = np.random.default_rng(1)
    loudness = 32768 * 10 ** (ROOM_DBFS / 20)
    before, after = (Audio(to_int16(noise.normal(0, loudness, round(s * RATE)))) for s in (BEFORE_S, AFTER_S))
    whole = join([before, audio, after])
    endpointer = Endpointer()
    for at in range(0, len(whole) - FRAME + 1, FRAME):
        frame = whole.cut(at, at + FRAME)
        for boundary in endpointer.feed(vad.probability(frame), frame):
            if isinstance(boundary, Ended):
                return boundary.at - len(before)
    return None


def recordings(folder: Path) -> list[tuple[dict[str, str], Audio]]:
    """Return the recordings of one person speaking once that a folder's manifest.csv (file, kind, ...) lists.

    Each is its row and its sound at 16 kHz; those with no speech in them are left out. Raises UsageError where there
    is no manifest, AudioError for a file that cannot be read.
    """
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        raise UsageError(f"{folder} holds no manifest.csv; give a folder of recordings with one (columns file, kind)")
    with manifest.open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["kind"] in KINDS]
    sounds = [at_16k(decode_wav((folder / row["file"]).read_bytes(), row["file"])) for row in rows]
    return [(row, audio) for row, audio in zip(rows, sounds, strict=True) if last_speech_s(audio) > 0]


async def listen(folder: Path) -> list[Heard]:
    """Hear every recording of one utterance in a folder; see ``recordings``."""
    name, settings = choose("vad", "auto", {})
    heard = []
    for row, audio in recordings(folder):
        async with open_engine("vad", name, settings) as vad:  # afresh: a recording must not depend on the one before
            at = decided(audio, vad)
        heard.append(Heard(row["file"], row["kind"], None if at is None else at / RATE - last_speech_s(audio)))
    return heard


def at_16k(audio: Audio) -> Audio:
    """Return a sound at the rate Roomtone listens at."""
    if audio.rate == RATE:
        return audio
    return Audio(to_int16(soxr.resample(audio.samples.astype(np.float64), audio.rate, RATE)))


def figures(heard: list[Heard]) -> list[Figure]:
    """Sum up; the waits are those of recordings that were not cut off."""
    waits = [1000 * one.wait for one in heard if one.wait is not None and not one.cut]
    cut = sum(one.cut for one in heard)
    return [
        Figure("cutoffs", 100 * cut / len(heard) if heard else None, "%", "<= 2", len(heard)),
        Figure("endpoint_wait_ms_p50", p(50, waits), "ms", "<= 350", len(waits)),
        Figure("endpoint_wait_ms_p95", p(95, waits), "ms", "<= 900", len(waits)),
    ]


def measure(folder: Path) -> list[Figure]:
    """Measure the shipped voice detector and endpointing on a folder of recordings."""
    return figures(asyncio.run(listen(folder)))
