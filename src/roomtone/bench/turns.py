"""What Roomtone adds to its engines: overhead of a turn, the wait for its first sound, gaps, the machine's own time.

Measured with instant engines (``script``, ``tone``) in the daemon's own pipeline, on a clock that passes while
anything works and skips what is only waited for. Transcripts say nothing about completeness, so the wait is that
of an utterance nothing is known about.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from roomtone import engines
from roomtone.bench import Figure, p
from roomtone.bench.endpointing import CUT_S, last_speech_s
from roomtone.core.dialog import Source
from roomtone.core.signals import Prompt
from roomtone.core.sound import HOP, RATE, Audio
from roomtone.rehearsal import Rehearsal, rehearsing
from roomtone.settings import Settings

QUIET_DBFS = -60.0
"""Below this the loudspeaker is silent."""

SENTENCES = " ".join(f"This is sentence number {number} of a long reply." for number in range(1, 21))


async def measure(people: Sequence[Audio]) -> list[Figure]:
    """Let each of ``people``'s sounds be answered by instant engines; then say twenty sentences by espeak-ng.

    The wait is that for the first reply after the last speech: noises at a recording's end may come to turns too.
    """
    figures = await _instant(people)
    return [*figures, await gaps(Settings(), "gap_ms_p95")]


def _settings(count: int) -> Settings:
    stt = {"engine": "script", "texts": ["what time is it"] * count, "partials": False}
    tts = {"engine": "tone", "word_s": 0.1}
    return Settings.model_validate({"stt": stt, "tts": tts, "listen": {"mode": "open", "follow_up_s": 1}})


async def _instant(people: Sequence[Audio]) -> list[Figure]:
    wav = ("wav", engines.load("audio", "wav").Settings())
    overheads, waits = [], []
    with tempfile.TemporaryDirectory() as folder:
        async with rehearsing(_settings(20 * len(people)), Path(folder), wav) as rehearsal:
            for sound in people:
                began = rehearsal.device.visit(sound)
                turns = await rehearsal.at_rest()
                answered = [turn for turn in turns if turn.latency_ms.first_sound is not None]
                overheads += [turn.latency_ms.overhead or 0.0 for turn in answered]
                spoken_until = began + last_speech_s(sound)
                after = [rehearsal.first_sound_at(turn) - spoken_until for turn in answered]
                waits += [1000 * wait for wait in after if wait >= -CUT_S][:1]
            steps = [1e6 * seconds for seconds in rehearsal.room.conversation.step_times]
    return [
        Figure("overhead_ms_p50", p(50, overheads), "ms", "<= 3", len(overheads)),
        Figure("overhead_ms_p95", p(95, overheads), "ms", "<= 6", len(overheads)),
        Figure("end_to_sound_ms_p50", p(50, waits), "ms", "<= 350", len(waits)),
        Figure("end_to_sound_ms_p95", p(95, waits), "ms", "<= 900", len(waits)),
        Figure("transition_us_p99", p(99, steps), "us", "<= 1000", len(steps)),
    ]


async def gaps(settings: Settings, name: str) -> Figure:
    """Measure the silences between the sentences of one reply."""
    wav = ("wav", engines.load("audio", "wav").Settings())
    with tempfile.TemporaryDirectory() as folder:
        async with rehearsing(settings, Path(folder), wav) as rehearsal:
            silences = await _silences(rehearsal)
    return Figure(name, p(95, silences), "ms", "<= 60", len(silences))


async def _silences(rehearsal: Rehearsal) -> list[float]:
    """Say the sentences; return the milliseconds of silence at each border that the loudspeaker gave."""
    await rehearsal.room.conversation.answer(Prompt(SENTENCES, Source.CLI, verbatim=True))
    played = rehearsal.device.played.samples
    blocks = played[: len(played) // HOP * HOP].reshape(-1, HOP).astype(np.float64)
    loud = np.sqrt(np.mean(blocks**2, axis=1)) > 32768 * 10 ** (QUIET_DBFS / 20)
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate(([1], loud[np.argmax(loud) :].astype(int), [1])))))[::2]
    longest = sorted(runs.tolist(), reverse=True)[: SENTENCES.count(".") - 1]
    return [run * 1000 * HOP / RATE for run in longest]
