"""Barge-in in simulated rooms: how soon a person ducks the reply, and whether Roomtone ever interrupts itself.

The loop is closed: what the gate reports ducks the playback, and the microphone hears the ducked sound. A figure
runs from the onset of a person's speech at the microphone to the first sample handed to the loudspeaker that is
12 dB down; the microphone's 10 ms blocks and the playback's own ramp are in it.

Whether the words of an interruption are understood is measured apart, in the daemon's own pipeline.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soxr

from roomtone import engines
from roomtone.bench import Figure
from roomtone.bench.people import VOICES
from roomtone.core.dialog import Source, Voice
from roomtone.core.echo_gate import Doubt, EchoGate, Outcome
from roomtone.core.playback import RAMP_S, Playback
from roomtone.core.room import Room, Shape, active_dbfs
from roomtone.core.signals import Prompt
from roomtone.core.sound import HOP, RATE, Audio, Samples, join, level
from roomtone.engines.tts import espeak
from roomtone.mind.sentences import Skills
from roomtone.rehearsal import Rehearsal, rehearsing
from roomtone.settings import Settings

ROOMTONE = ("en-us", "en-gb-x-rp")
VISITORS = ("en-us+f3", "en-us+m3", "en-gb-scotland+f2", "en-us+m7", "en-us+f5")

REPLIES = (
    "Your pasta timer is set for nine minutes. I will ring when it is done, and again a minute later.",
    "It is twenty past four on Saturday. The next alarm is tomorrow morning at seven.",
    "You have three timers. The eggs have two minutes left, the bread has forty, and the washing half an hour.",
    "There is a recipe for lentil soup with carrots, cumin and a little lemon. Shall I read it out?",
    "The living room is at twenty one degrees. I have turned the heating down, as you asked yesterday.",
)
WORDS = (
    "what time is it",
    "set a timer for ten minutes",
    "no wait, make it twelve",
    "cancel the alarm please",
    "turn it down",
    "how long is left on the eggs",
    "please be quiet now",
    "tell me something else",
)

COMMANDS = (
    "what time is it",
    "stop",
    "set a timer for five minutes",
    "turn it up",
    "say that again",
    "what day is it",
)
"""What people break in with who are to be understood."""

LEAK_DB = -12.0
TALKER_M = 1.0

PLAYED_DBFS = -20.0
ONSET_DB = 15.0
"""A person's onset is their first 10 ms within this of their active level."""

BOUND_S = 0.6
"""An onset not answered within this was missed."""

DUCKED_S = RAMP_S * (1 - 10 ** (-12 / 20))
"""From the sample on which the playback begins to duck to the first that is 12 dB down."""

QUIET_S = 1.0
FIRST_VISIT_S = 8.0
SETTLE_S = 1.5


@dataclass(slots=True)
class Run:
    """What one room came to: milliseconds from onset to ducked (inf where missed), and how doubts ended."""

    ducked_ms: list[float] = field(default_factory=list)
    confirmed_ms: list[float] = field(default_factory=list)
    self_ducks: int = 0
    self_stops: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Visit:
    """A person's speech as it arrives: its first frame, the frame of its onset, and its sound."""

    start: int
    onset: int
    end: int


async def measure(rooms: int = 12, minutes: float = 10.0, first_seed: int = 0) -> list[Figure]:
    """Measure barge-in with a person 6 dB above the leak and as loud as it, and self-interruption with nobody.

    ``minutes`` of Roomtone's own voice are spread over the rooms. ``understood`` has figures of its own. Raises
    EngineUnavailable without espeak.
    """
    voices = [await say(REPLIES, voice) for voice in ROOMTONE]
    visitors = [(await say([words], voice))[0] for voice in VISITORS for words in WORDS]
    seeds = range(first_seed, first_seed + rooms)
    figures = []
    for name, over_db, goals in (("bargein_6db_ms", 6.0, (80, 150)), ("bargein_ms", 0.0, (100, 250))):
        runs = [simulate(room_of(seed), voices[seed % 2], visitors, over_db, 60.0) for seed in seeds]
        figures += _latencies(name, [ms for run in runs for ms in run.ducked_ms], goals)
    alone = [simulate(room_of(seed), voices[seed % 2], (), 0.0, 60 * minutes / rooms) for seed in seeds]
    seconds = round(sum(run.seconds for run in alone))
    figures.append(Figure("self_interruptions", sum(run.self_stops for run in alone), "replies", "<= 0", seconds))
    figures.append(Figure("self_ducks", sum(run.self_ducks for run in alone), "ducks", "", seconds))
    return figures


async def understood(rooms: int = 4, first_seed: int = 100) -> list[Figure]:
    """Let every command break into a reply in each of the rooms, with the default engines.

    ``bargein_taken`` is the share of interruptions that took the floor, ``bargein_understood`` of those that were
    answered for what they were. It is meant for a clock that skips waiting. Raises EngineUnavailable without espeak
    or pocketsphinx.
    """
    settings = Settings.model_validate({"listen": {"mode": "open", "follow_up_s": 1}})
    found: list[tuple[bool, bool]] = []
    for seed in range(first_seed, first_seed + rooms):
        room = engines.load("audio", "sim").Settings.model_validate({"leak_db": LEAK_DB, "seed": seed})
        with tempfile.TemporaryDirectory() as folder:
            async with rehearsing(settings, Path(folder), ("sim", room)) as rehearsal:
                found += [await _breaks_in(rehearsal, seed, number) for number in range(len(COMMANDS))]
    taken, right = (round(100 * sum(column) / len(found), 1) for column in zip(*found, strict=True))
    return [
        Figure("bargein_taken", taken, "%", ">= 80", len(found)),
        Figure("bargein_understood", right, "%", ">= 60", len(found)),
    ]


async def _breaks_in(rehearsal: Rehearsal, seed: int, number: int) -> tuple[bool, bool]:
    """Break into a reply 2 s after its first sound; return whether that took the floor, and was understood."""
    await asyncio.sleep(SETTLE_S)  # the gate wants to have heard the room before it believes in anybody
    [sound] = await say([COMMANDS[number]], VOICES[(seed + number) % len(VOICES)])
    asked = Skills.load("en").recognise(COMMANDS[number])
    rehearsal.room.conversation.post(Prompt(REPLIES[number % len(REPLIES)], Source.CLI, verbatim=True))
    while (await rehearsal.next_event()).kind != "turn.first_sound":
        pass
    await asyncio.sleep(2.0)
    rehearsal.device.visit(Audio(sound), distance_m=TALKER_M)
    turns = await rehearsal.at_rest()
    return len(turns) > 1, asked is not None and asked.intent in [turn.intent for turn in turns]


def room_of(seed: int) -> Shape:
    """Draw a room: dry to live, near to far delays, a loudspeaker driven mildly to hard, quiet to noisy."""
    draw = np.random.default_rng(seed).uniform
    leak_db = draw(-24, -4)
    return Shape(
        rt60_s=draw(0.1, 0.45),
        leak_db=leak_db,
        delay_s=draw(0.01, 0.12),
        noise_dbfs=PLAYED_DBFS + leak_db - draw(20, 38),
        drive=draw(0.3, 3.0),
        seed=seed,
    )


async def say(sentences: Sequence[str], voice: str) -> list[Samples]:
    """Speak sentences with espeak: 16 kHz at the level a reply is played at."""
    said = []
    async with espeak.open(espeak.Settings()) as tts:
        for sentence in sentences:
            sound = join([piece async for piece in tts.speak(sentence, Voice(voice_id=voice))])
            samples = soxr.resample(sound.samples, sound.rate, RATE)
            said.append((samples * 10 ** ((PLAYED_DBFS - active_dbfs(samples)) / 20)).astype(np.int16))
    return said


def simulate(
    shape: Shape, replies: Sequence[Samples], visitors: Sequence[Samples], over_db: float, seconds: float
) -> Run:
    """Play replies for ``seconds`` in a room while visitors, ``over_db`` louder than the leak, break in."""
    room, gate, playback, run = Room(shape), EchoGate(), Playback(), Run(seconds=seconds)
    draw = np.random.default_rng((shape.seed, 7))
    frames = round(seconds * 100)
    people, visits = arrivals(room, visitors, room.echo_dbfs(np.concatenate(replies)) + over_db, frames, draw)
    answering = _Answering(run, visits)
    for frame in range(frames):
        if playback.waiting < HOP and frame >= QUIET_S * 100:
            playback.push(replies[int(draw.integers(len(replies)))])
            playback.push(np.zeros(round(draw.uniform(0.1, 0.5) * RATE), np.int16))
        far = playback.pull(HOP)
        near = room.hear(frame, far, people[frame * HOP : (frame + 1) * HOP])
        answering.follow(frame, gate.feed(near, far).person, playback)
    answering.finish()
    return run


def arrivals(
    room: Room, visitors: Sequence[Samples], dbfs: float, frames: int, draw: np.random.Generator
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], list[Visit]]:
    """Place visitors one after the other: what of them arrives, and when each begins and ends (in frames)."""
    people, visits = np.zeros(frames * HOP), []
    start = round(FIRST_VISIT_S * 100)
    while visitors:
        sound = room.place(visitors[int(draw.integers(len(visitors)))], draw.uniform(0.8, 3.0), dbfs)
        end = start + len(sound) // HOP
        if end + 150 > frames:
            break
        people[start * HOP : start * HOP + len(sound)] += sound
        levels = np.array([level(hop) for hop in sound[: len(sound) // HOP * HOP].reshape(-1, HOP)])
        onset = start + int(np.argmax(levels > active_dbfs(sound) - ONSET_DB))
        visits.append(Visit(start, onset, end))
        start = end + round(draw.uniform(SETTLE_S, SETTLE_S + 0.7) * 100)
    return people, visits


class _Answering:
    """Ducks at the gate's word, settles the doubt, takes the reply up again, and keeps the score."""

    def __init__(self, run: Run, visits: list[Visit]) -> None:
        self._run = run
        self._visits = visits
        self._doubt: Doubt | None = None
        self._ducked_at = 0
        self._answered: dict[Visit, float] = {}
        self._held_for: Visit | None = None

    def follow(self, frame: int, person: float, playback: Playback) -> None:
        """Take what the gate said of one frame."""
        if self._held_for is not None:
            if frame > self._held_for.end + 30:
                self._held_for = None
                playback.resume()
            return
        if self._doubt is None and person >= 0.5:
            playback.duck()
            self._doubt, self._ducked_at = Doubt(), frame
            self._score_duck(frame)
        elif self._doubt is not None and (outcome := self._doubt.feed(person)) is not None:
            self._doubt = None
            self._settle(outcome, frame, playback)

    def _now(self, frame: int) -> Visit | None:
        return next((visit for visit in self._visits if visit.start <= frame <= visit.end + 20), None)

    def _score_duck(self, frame: int) -> None:
        visit = self._now(frame)
        if visit is None:
            self._run.self_ducks += 1
        else:
            # A frame is judged when it is over; the next block is the first that can be ducked.
            ms = (frame + 1 - visit.onset) * 10 + DUCKED_S * 1000
            self._answered.setdefault(visit, ms)

    def _settle(self, outcome: Outcome, frame: int, playback: Playback) -> None:
        visit = self._now(frame)
        if outcome is Outcome.CONFIRMED and visit is not None:
            self._run.confirmed_ms.append((frame + 1 - visit.onset) * 10.0)
            self._held_for = visit
            return
        self._run.self_stops += outcome is Outcome.CONFIRMED
        playback.resume()

    def finish(self) -> None:
        """Count the visits that ducked nothing in time as missed."""
        for visit in self._visits:
            ms = self._answered.get(visit, np.inf)
            self._run.ducked_ms.append(ms if ms <= BOUND_S * 1000 else np.inf)


def _latencies(name: str, found: list[float], goals: tuple[int, int]) -> list[Figure]:
    """Return median and 95th percentile; a percentile that falls on a miss is infinite."""
    return [
        Figure(f"{name}_{label}", float(np.quantile(found, share, method="higher")), "ms", f"<= {goal}", len(found))
        for label, share, goal in (("p50", 0.5, goals[0]), ("p95", 0.95, goals[1]))
    ]
