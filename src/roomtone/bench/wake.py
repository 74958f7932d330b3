"""Wake words on recordings: how many calls are heard, how often nobody called, and what listening costs.

All goes the way of the daemon: the default voice detector says when somebody may speak, and only that is listened to.
Each recording stands in a quiet room; one whose transcript is no wake word holds none.
"""

from __future__ import annotations

import csv
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roomtone.bench import Figure
from roomtone.bench.endpointing import ROOM_DBFS, at_16k
from roomtone.core.errors import UsageError
from roomtone.core.sound import FRAME, HOP, RATE, Audio, decode_wav, join, to_int16
from roomtone.ears import RECENT_HOPS
from roomtone.engines import choose, open_engine
from roomtone.engines.wake import microwakeword
from roomtone.overhearing import Watchword

AROUND_S = 1.5
"""Seconds of a quiet room before and after each recording."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A recording, the word that it holds ("" for none), the words that were heard, and the CPU that took."""

    word: str
    heard: tuple[str, ...]
    seconds: float
    cpu_s: float


async def measure(folder: Path) -> list[Figure]:
    """Listen to a folder of recordings with a manifest.csv (columns file, kind, transcript)."""
    words = sorted(microwakeword.shipped_models())
    if not words:
        return []
    trials = [await _trial(row, folder, words) for row in _rows(folder)]
    calls = [trial for trial in trials if trial.word]
    others = [trial for trial in trials if not trial.word]
    hours = sum(trial.seconds for trial in others) / 3600
    seconds = sum(trial.seconds for trial in trials)
    found = sum(trial.word in trial.heard for trial in calls)
    default = microwakeword.Settings().words[0].model
    false = {name: sum(trial.heard.count(name) for trial in others) for name in words}
    return [
        Figure("wake_found", round(100 * found / len(calls), 1) if calls else None, "%", ">= 90", len(calls)),
        Figure("wake_false", false[default], "wakes", "<= 0", len(others)),
        Figure("wake_false_any", sum(false.values()), f"wakes of {len(words)}", "-", len(others)),
        Figure("wake_false_per_hour", round(false[default] / hours, 2) if hours else None, "1/h", "-", len(others)),
        Figure("wake_cpu", round(1000 * sum(t.cpu_s for t in trials) / seconds, 2), "ms/s", "-", round(seconds)),
    ]


def _rows(folder: Path) -> list[dict[str, str]]:
    """Return the manifest's rows, but those of which it does not say which wake word is in them."""
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        raise UsageError(f"{folder} holds no manifest.csv; give a folder of recordings with one (columns file, kind)")
    with manifest.open(newline="", encoding="utf-8") as lines:
        return [row for row in csv.DictReader(lines) if row["kind"] != "wake" or row["transcript"]]


async def _trial(row: Mapping[str, str], folder: Path, words: list[str]) -> Trial:
    audio = at_16k(decode_wav((folder / row["file"]).read_bytes(), row["file"]))
    called = row["transcript"].replace(" ", "_") if row["kind"] == "wake" else ""
    heard, cpu_s = await _heard(audio, words)
    return Trial(called if called in words else "", heard, audio.seconds, cpu_s)


async def _heard(audio: Audio, words: list[str]) -> tuple[tuple[str, ...], float]:
    """Return what all words' models hear in a recording, and the CPU seconds that the default word alone takes."""
    noise = np.random.default_rng(1)
    quiet = Audio(to_int16(noise.normal(0, 32768 * 10 ** (ROOM_DBFS / 20), round(AROUND_S * RATE))))
    sound = join([quiet, audio, quiet])
    found, _ = await _listen(sound, microwakeword.Settings.model_validate({"words": words}))
    return found, (await _listen(sound, microwakeword.Settings()))[1]


async def _listen(sound: Audio, settings: microwakeword.Settings) -> tuple[tuple[str, ...], float]:
    recent: deque[Audio] = deque(maxlen=RECENT_HOPS)
    heard, cpu_s = [], 0.0
    async with open_engine("vad", *choose("vad", "auto", {})) as vad, microwakeword.open(settings) as wake:
        watchword = Watchword(wake)
        for start in range(0, len(sound) - FRAME + 1, FRAME):
            frame = sound.cut(start, start + FRAME)
            recent.extend((frame.cut(0, HOP), frame.cut(HOP)))
            speech = vad.probability(frame)
            begun = time.process_time()
            detection = watchword.hear(speech, frame, recent, start + FRAME)
            cpu_s += time.process_time() - begun
            if detection is not None:
                heard.append(detection.word)
    return tuple(heard), cpu_s
