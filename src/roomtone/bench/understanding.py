"""How well commands are understood, and how well speech that is no command is left alone.

The speech is synthesised, in voices that are not Roomtone's own and with a room's noise; recordings of people can be
given as a folder with a manifest. Synthetic speech is harder on the recogniser than people are.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import soxr

from roomtone.bench import Figure
from roomtone.clock import engine_working
from roomtone.core.dialog import Voice
from roomtone.core.sound import RATE, Audio, decode_wav, join, level, to_int16
from roomtone.engines.stt import Hints, Pause, Stt, pocketsphinx
from roomtone.engines.tts import Tts, espeak
from roomtone.mind import grammar
from roomtone.mind.sentences import Skills

VOICES = ("en-gb", "en-gb-x-rp", "en-us+f2", "en-us+m7", "en-us+m3", "en-gb+f3")
"""None of them is a persona's."""

NOISE_DB = (15.0, 20.0, 25.0)
"""Level of the speech over the room's noise."""

QUIET_DB = 50.0

COMMANDS = 20
SPEECH_DBFS = -23.0
LEAD_S, PAUSE_S, TAIL_S = 0.3, 0.2, 0.2
"""Of an utterance: before the speech, from its end to the Pause, and from there to the utterance's end."""

OVERHEARD = (
    "I think we should paint the bedroom blue this time",
    "did you hear what happened at school today",
    "the train was twenty minutes late again this morning",
    "can you pass me the salt and the pepper please",
    "she said the doctor will call back on Friday",
    "my brother is coming over for dinner tomorrow night",
    "there is no milk left in the fridge",
    "I have to finish this report before lunch",
    "what's that smell in here",
    "where did you put the keys to the car",
    "it was the best film I have seen in years",
    "we could take the kids to the park after this",
    "what time is the meeting with your boss",
    "set the table please the guests are here",
    "turn the page and read the next chapter",
    "he stopped the car right in front of the house",
    "the volume of the box is four cubic metres",
    "I told him to stop by on his way home",
    "the alarm at the office went off for no reason",
    "could you help me carry this upstairs",
    "how are your parents doing these days",
    "that joke was not funny at all",
    "let's have pasta with tomato sauce tonight",
    "the eggs have been boiling for nine minutes already",
    "do you remember the name of that restaurant",
    "I can't believe how expensive everything has become",
    "please tell your sister I said hello",
    "the cat is sleeping on the washing machine",
    "it might rain later so take an umbrella",
    "we need to buy bread butter and cheese",
    "who left the window open all night",
    "my phone is almost out of battery",
    "they moved to a bigger flat near the river",
    "I'll be ready in a minute just wait for me",
    "have you seen the news about the election",
    "the second half of the game was really boring",
    "put your shoes on we are leaving soon",
    "I repeat this is not what I ordered",
    "that's louder than I expected it to be",
    "why is the dog barking at the door",
    "the cake needs forty minutes in the oven",
    "do you want tea or coffee with that",
    "she was born in nineteen eighty four",
    "let me check what is left in the freezer",
    "the homework has to be done by Monday",
    "thank you for helping us with the garden",
    "what day did you say they were arriving",
    "I was wondering whether we could talk about the budget",
    "first you cut the onions and then you fry them",
    "he always forgets to turn off the light in the hall",
)
"""Speech in a room that is not meant for it, some of it near to what can be asked."""


ANSWERED_KINDS = ("command", "phrase")
PASSED_OVER_KINDS = ("sentence", "wake", "digits")
"""Kinds of recordings in a manifest."""


@dataclass(frozen=True, slots=True)
class Case:
    """One utterance, its Pause after ``pause_at`` samples, what is said in it, and which figure it belongs to."""

    kind: str
    text: str
    sound: Audio
    pause_at: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was heard in a case, how long the final took after the utterance's end, and its length in seconds."""

    case: Case
    heard: str
    final_s: float


def commands(skills: Skills, count: int, seed: int = 1) -> list[str]:
    """Draw sentences of the grammar: half from the skills' samples, as people would say them, half from anywhere."""
    random = Random(seed)
    natural = [" ".join(words) for _, text in skills.samples() if skills.holds(words := grammar.words(text) or ())]
    natural = [text for text in natural if not skills.is_backchannel(text)]
    chosen = random.sample(natural, min(len(natural), count // 2))
    while len(chosen) < count:
        text = skills.sample(random)[1]
        if text not in chosen and not skills.is_backchannel(text):
            chosen.append(text)
    return chosen


async def measure(folder: Path | None = None, count: int = COMMANDS) -> list[Figure]:
    """Measure the default recogniser with the shipped skills, on ``count`` commands a voice.

    ``folder`` may hold recordings and their ``manifest.csv`` (columns file, kind, transcript). Takes about a CPU
    second for every four commands.
    """
    skills = Skills.load("en")
    async with (
        espeak.open(espeak.Settings()) as tts,
        pocketsphinx.open(pocketsphinx.Settings()) as stt,
    ):
        hints = Hints(grammar=skills.grammar())
        await _heard(stt, Case("", "", Audio.silence(0), 0), hints)
        cpu = _cpu_seconds(stt.pid)
        outcomes = [await _heard(stt, case, hints) async for case in _cases(tts, skills, count, folder)]
        cpu = _cpu_seconds(stt.pid) - cpu
        return _figures(skills, outcomes, cpu, _resident_mb(stt.pid))


async def _cases(tts: Tts, skills: Skills, count: int, folder: Path | None) -> AsyncIterator[Case]:
    texts = commands(skills, count)
    for number, voice in enumerate(VOICES):
        for place, text in enumerate(texts):
            speech = await _said(tts, text, voice)
            seed = number * len(texts) + place
            yield _case("clean", text, speech, QUIET_DB, seed)
            yield _case("noisy", text, speech, NOISE_DB[seed % len(NOISE_DB)], seed)
        for place, text in enumerate(OVERHEARD[number :: len(VOICES)]):
            yield _case("overheard", text, await _said(tts, text, voice), NOISE_DB[place % len(NOISE_DB)], place)
    for case in _recordings(skills, folder) if folder is not None else ():
        yield case


async def _said(tts: Tts, text: str, voice: str) -> npt.NDArray[np.float64]:
    pieces = join([piece async for piece in tts.speak(text, Voice(voice_id=voice))])
    speech: npt.NDArray[np.float64] = soxr.resample(pieces.samples.astype(np.float64), pieces.rate, RATE)
    return speech * 10 ** ((SPEECH_DBFS - level(speech)) / 20)


def _case(kind: str, text: str, speech: npt.NDArray[np.float64], noise_db: float, seed: int) -> Case:
    """Put speech into a room whose noise is ``noise_db`` below it and falls with frequency as rooms' noise does."""
    padded = np.pad(speech, (round(LEAD_S * RATE), round((PAUSE_S + TAIL_S) * RATE)))
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(len(padded)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.fft.rfftfreq(len(padded), 1 / RATE), 50)), len(padded))
    noise *= 10 ** ((SPEECH_DBFS - noise_db - level(noise)) / 20)
    return Case(kind, text, Audio(to_int16(padded + noise)), len(padded) - round(TAIL_S * RATE))


def _recordings(skills: Skills, folder: Path) -> Iterator[Case]:
    """Read people's recordings: commands of ours that should be answered, and speech that should not."""
    with (folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        ours = skills.recognise(row["transcript"]) is not None
        if row["kind"] not in ANSWERED_KINDS + PASSED_OVER_KINDS or (ours and row["kind"] in PASSED_OVER_KINDS):
            continue
        sound = decode_wav((folder / row["file"]).read_bytes(), row["file"])
        samples = to_int16(soxr.resample(sound.samples.astype(np.float64), sound.rate, RATE))
        yield Case("recorded command" if ours else "recorded other", row["transcript"], Audio(samples), len(samples))


async def _heard(stt: Stt, case: Case, hints: Hints) -> Outcome:
    ended = time.perf_counter()

    async def utterance() -> AsyncIterator[Audio | Pause]:
        nonlocal ended
        yield case.sound.cut(0, case.pause_at)
        if case.pause_at:
            yield Pause()
        yield case.sound.cut(case.pause_at)
        ended = time.perf_counter()

    heard = ""
    with engine_working():
        async for transcript in stt.transcribe(utterance(), hints):
            heard = transcript.text
    return Outcome(case, heard, time.perf_counter() - ended)


def _figures(skills: Skills, outcomes: Sequence[Outcome], cpu: float, resident_mb: float) -> list[Figure]:
    def answered(outcome: Outcome) -> bool:
        return bool(outcome.heard) and not skills.is_backchannel(outcome.heard)

    def understood(outcome: Outcome) -> bool:
        return answered(outcome) and skills.recognise(outcome.heard) == skills.recognise(outcome.case.text)

    def share(name: str, kind: str, counts: Callable[[Outcome], bool], goal: str) -> Figure:
        some = [outcome for outcome in outcomes if outcome.case.kind == kind]
        value = round(100 * sum(map(counts, some)) / len(some), 1) if some else None
        return Figure(name, value, "%", goal, len(some))

    seconds = sum(outcome.case.sound.seconds for outcome in outcomes)
    finals = [1000 * outcome.final_s for outcome in outcomes]
    return [
        share("understood_clean", "clean", understood, ">= 90"),
        share("understood_noisy", "noisy", understood, ">= 80"),
        share("false_accepts", "overheard", answered, "<= 10"),
        share("understood_recorded", "recorded command", understood, ">= 90"),
        share("false_accepts_recorded", "recorded other", answered, "<= 10"),
        Figure("stt_cpu_per_s", round(cpu / max(seconds, 1e-9), 3), "s/s", "", len(outcomes)),
        Figure("stt_final_p95", round(float(np.percentile(finals, 95)), 1), "ms", "<= 5", len(finals)),
        Figure("stt_child_rss", round(resident_mb, 1), "MB", "", 1),
    ]


def _cpu_seconds(pid: int | None) -> float:
    """Return what a process has used so far: fields 14 and 15 of /proc/<pid>/stat, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int | None) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
