"""Endpointing: speech probabilities in; started, paused, ended out. Counted in samples, never by a clock.

A voice detector says *that* someone speaks, but hangs on after the last sound and misses soft ends of words. So it
only opens an utterance; inside one a frame is speech when its level is near enough to the utterance's own loud
part and clear of the room's noise. What is timed is the silence since the last such frame.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from enum import Enum
from math import log2

from pydantic import BaseModel, ConfigDict, Field

from roomtone.core.sound import RATE, Audio


class Completeness(Enum):
    """What the text heard so far says about whether more will come."""

    COMPLETE = "complete"
    """A whole command: answer soon."""

    UNKNOWN = "unknown"
    """Nothing to go by."""

    INCOMPLETE = "incomplete"
    """It ends in "and", "um" or "set a timer for": wait longer."""


@dataclass(frozen=True, slots=True)
class Started:
    """Speech has begun. ``speech_from`` is the first sample of the utterance, pre-roll included."""

    at: int
    speech_from: int


@dataclass(frozen=True, slots=True)
class Paused:
    """The person is silent since sample ``last_speech``; more may follow."""

    at: int
    last_speech: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The utterance is over; ``speech_to`` is its last sample, post-roll included."""

    at: int
    last_speech: int
    speech_to: int


@dataclass(frozen=True, slots=True)
class Misfire:
    """What had started was too short to be words."""

    at: int


Boundary = Started | Paused | Ended | Misfire


class EndpointSettings(BaseModel):
    """When an utterance begins, pauses and ends. All times are milliseconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pre_roll_ms: int = Field(300, ge=0, le=1000)
    """What an utterance has before its first sound, so that a soft first consonant is in it."""
    post_roll_ms: int = Field(300, ge=0, le=1000)
    """What it has after its last sound; less where it ended sooner."""
    minimum_speech_ms: int = Field(100, ge=0, le=1000)
    """Less sound than this is a misfire."""
    maximum_ms: int = Field(30_000, ge=1000, le=300_000)
    """An utterance ends here at the latest."""
    pause_ms: int = Field(100, ge=60, le=1000)
    """Silence after which a pause is reported: early, so that the text can speak before ``quick_ms``."""
    complete_ms: int = Field(260, ge=60, le=3000)
    """Silence that ends a whole command, at the latest."""
    usual_ms: int = Field(210, ge=60, le=3000)
    """Silence that ends a second of speech of unknown sense where nothing gives reason to doubt its end."""
    quick_ms: int = Field(180, ge=60, le=3000)
    """The shortest silence that ends an utterance of unknown sense."""
    slow_ms: int = Field(920, ge=60, le=5000)
    """The longest, unless pauses before it were longer."""
    patient_ms: int = Field(1400, ge=60, le=10_000)
    """Silence that ends an incomplete one; also the longest that long pauses before it make it."""


ONSET = 3
"""Frames in a row that open an utterance or end a pause: 60 ms, what is shorter is a click."""

STRONG_DB, SOFT_DB = 16.0, 30.0
"""How far below an utterance's peak its syllables and its softest sounds lie."""

TAIL_MS = 140
"""How long soft sounds count after a strong one. Without this bound a room that is as loud as soft sounds would
never let an utterance end."""

CLEAR_DB = 9.0
"""How far above the room's noise a sound must be to be somebody's."""

LEAST_RANGE_DB = 12.0
"""Sounds this near the peak are speech however loud the room is."""

# What an end of unknown sense is judged by: milliseconds of silence for each reason to think that more will come.
# Fitted by logistic regression on recordings from 24 sources, at four levels and in eight rooms, and on meetings: an
# end against every pause of 160 ms or more that speech followed. One source at a time was left out. Then rounded, and
# BROKEN_OFF_MS doubled, as voices without any breath or room (synthetic ones) tell their pauses by nothing else.
# Inner pauses die away about exponentially, so the silence after which the odds of an end are good enough is linear
# in their logarithm. Pitch and its fall, voicing, tilt, lengthening and the rate of syllables told nothing more.

DOUBLED_MS = 50
"""For each doubling of what was said: who says much takes breath."""

MURMUR_MS, SILENT_DB = 20, 40
"""For each dB that a pause lies less than so far below the voice: breath, a soft sound, a room too loud to tell."""

STIR_MS = 150
"""For a sound in the pause, just now: it may be a first consonant."""

BEGUN_MS, BEGUN = 300, 2.5
"""For each millisecond that there was less speech than this: a "t", a knock, the first of two words."""

REPEATED = 1.5
"""For each millisecond of the longest pause before: who paused may do so again."""

TAIL_MS_COUNTED, TAIL = 100, 2.0
"""For each millisecond that a soft tail lasted, up to so many, less: a last word sinks and is drawn out."""

BROKEN_OFF_MS, FADED_DB = 200, 14
"""For an end 6 dB less faded than this, or more; less for one in between. A word with more to come breaks off."""

FAINT_MS, FAINT_DB = 200, 15.0
"""What is shorter than this and less than so far above the room's noise is not words."""

QUIETEST_DBFS = -75.0
"""Taken for the noise of a quieter room: digital silence is not a room."""


class Room:
    """The level of the room's own noise, in dBFS. It is followed down at once and up only slowly."""

    def __init__(self) -> None:
        self._dbfs: float | None = None

    def hear(self, dbfs: float, voiced: bool) -> float:
        """Take the level of the next frame and whether the voice detector took it for speech; return the noise."""
        dbfs = max(QUIETEST_DBFS, dbfs)
        if self._dbfs is None:
            self._dbfs = dbfs
        elif dbfs < self._dbfs:
            self._dbfs += 0.3 * (dbfs - self._dbfs)
        elif voiced:
            self._dbfs += min(0.06, dbfs - self._dbfs)
        else:
            self._dbfs += 0.02 * (dbfs - self._dbfs)
        return self._dbfs


@dataclass(slots=True)
class Speech:
    """What is known of the utterance under way. Positions count frames from its beginning."""

    frame: int
    """Samples in a frame."""
    room: float
    """The room's noise as it began, dBFS."""
    levels: list[float] = field(default_factory=list)
    """Of every frame, dBFS."""
    ranked: list[float] = field(default_factory=list)
    """Of the frames that were sound, sorted."""
    run: int = 0
    """Frames of sound in a row, up to now."""
    strong_at: int = 0
    """Where the last strong frame ended."""
    last: int = 0
    """Where the last speech ended."""
    spoken: int = 0
    """Frames of speech in all."""
    longest_pause: int = 0
    """Frames of the longest silence that more speech followed."""

    def hear(self, dbfs: float, room: float) -> None:
        """Take the level of the next frame and the room's noise now."""
        self.levels.append(dbfs)
        if not self.ranked or dbfs > max(self.peak - SOFT_DB, min(room + CLEAR_DB, self.peak - LEAST_RANGE_DB)):
            self.run += 1
            insort(self.ranked, dbfs)
        else:
            self.run = 0
        if self.run and dbfs > self.peak - STRONG_DB:
            self.strong_at = len(self.levels)
        if self.run >= ONSET and self._fresh:
            self._extend()

    def _extend(self) -> None:
        now = len(self.levels)
        begun = max(self.last, now - self.run)
        self.longest_pause = max(self.longest_pause, begun - self.last)
        self.spoken += now - begun
        self.last = now

    @property
    def _fresh(self) -> bool:
        return self.ms(len(self.levels) - self.strong_at) <= TAIL_MS

    def ms(self, frames: int) -> float:
        """Return how long so many frames are."""
        return frames * self.frame * 1000 / RATE

    @property
    def peak(self) -> float:
        """Level of its loud part: the 95th percentile of what was sound."""
        return self.ranked[int(0.95 * (len(self.ranked) - 1))]

    @property
    def going_on(self) -> bool:
        """Whether the sound now, if there is one, is speech or may become it."""
        return self.run > 0 and self._fresh

    @property
    def silence_ms(self) -> float:
        """Time since the last speech."""
        return self.ms(len(self.levels) - self.last)

    @property
    def lasted_ms(self) -> float:
        """Time from its first strong frame to its last speech."""
        strong = self.peak - STRONG_DB
        first = next((at for at, dbfs in enumerate(self.levels) if dbfs > strong), 0)
        return self.ms(self.last - first)

    @property
    def tail_ms(self) -> float:
        """How long its end has been softer than its peak by 12 dB or more."""
        loud = self.peak - 12
        frames = 0
        while frames < self.last and self.levels[self.last - 1 - frames] <= loud:
            frames += 1
        return self.ms(frames)

    @property
    def broken_off(self) -> float:
        """How abruptly its last 60 ms end, 0 to 1. What is softest is lost where a room is loud."""
        end = self.levels[max(0, self.last - ONSET) : self.last]
        fade = self.peak - sum(end) / len(end)
        return min(1.0, max(0.0, (min(FADED_DB, (self.peak - self.room) / 2) - fade) / 6))

    @property
    def quiet_db(self) -> float:
        """How far the pause since the last speech lies below the peak, both no more than 40 dB above the room."""
        pause = self.levels[self.last :]
        quiet = min(self.peak, self.room + SILENT_DB) - sum(pause) / len(pause) if pause else 0.0
        return min(quiet, SILENT_DB)

    @property
    def words(self) -> bool:
        """Whether it can be words, being long enough or well above the room's noise."""
        return self.ms(self.spoken) >= FAINT_MS or self.peak >= self.room + FAINT_DB


def silence_to_end(speech: Speech, completeness: Completeness, settings: EndpointSettings) -> float:
    """Return the silence, in milliseconds, that ends an utterance as it stands."""
    if completeness is Completeness.INCOMPLETE:
        return settings.patient_ms
    spoken = min(speech.ms(speech.spoken), speech.lasted_ms)
    paused = REPEATED * speech.ms(speech.longest_pause)
    wait = (
        settings.usual_ms
        + DOUBLED_MS * log2(min(4.0, max(0.5, speech.lasted_ms / 1000)))
        + MURMUR_MS * (SILENT_DB - speech.quiet_db)
        + STIR_MS * (speech.run > 0)
        + BEGUN * max(0.0, BEGUN_MS - spoken)
        + paused
        + BROKEN_OFF_MS * speech.broken_off
        - TAIL * min(speech.tail_ms, TAIL_MS_COUNTED)
    )
    most = max(float(settings.slow_ms), min(paused, settings.patient_ms))
    wait = min(most, max(float(settings.quick_ms), wait))
    return min(wait, settings.complete_ms) if completeness is Completeness.COMPLETE else wait


class Endpointer:
    """Finds utterances in a stream of frames of one length."""

    def __init__(self, settings: EndpointSettings | None = None) -> None:
        self._settings = settings or EndpointSettings()
        self._room = Room()
        self._now = 0
        self._free_from = 0
        self.reset()

    @property
    def speaking(self) -> bool:
        """Whether an utterance is under way, pauses in it included."""
        return self._speaking

    @property
    def silence_s(self) -> float:
        """How long nothing was said within the utterance under way, 0 while somebody speaks."""
        return self._speech.silence_ms / 1000 if self._speaking and self._speech is not None else 0.0

    def reset(self) -> None:
        """Forget the utterance under way without a word; samples go on being counted."""
        self._speaking = False
        self._paused = False
        self._speech: Speech | None = None
        self._begun = self._now
        self._completeness = Completeness.UNKNOWN

    def expect(self, completeness: Completeness) -> None:
        """Say what the text of the utterance so far is worth; it holds until the person says more."""
        self._completeness = completeness

    def feed(self, probability: float, frame: Audio) -> list[Boundary]:
        """Take the next frame and the voice detector's word on it (0 to 1); return what it brought about."""
        if len(frame) == 0:
            return []
        dbfs, voiced = frame.dbfs, probability >= 0.5
        room = self._room.hear(dbfs, voiced)
        if not self._speaking and not (voiced and dbfs > room + CLEAR_DB / 2):
            self._speech = None
        elif self._speech is None:
            self._speech, self._begun = Speech(len(frame), room), self._now
        self._now += len(frame)
        if self._speech is None:
            return []
        self._speech.hear(dbfs, room)
        return self._follow(self._speech) if self._speaking else self._open(self._speech)

    def _open(self, speech: Speech) -> list[Boundary]:
        if len(speech.levels) < ONSET:
            return []
        speech.run = speech.last = speech.spoken = speech.strong_at = ONSET
        self._speaking = True
        self._completeness = Completeness.UNKNOWN
        speech_from = max(self._free_from, self._begun - _samples(self._settings.pre_roll_ms))
        return [Started(self._now, speech_from)]

    def _follow(self, speech: Speech) -> list[Boundary]:
        if self._now - self._begun >= _samples(self._settings.maximum_ms):
            return [self._end(speech)]
        if self._paused and speech.silence_ms == 0:
            self._paused, self._completeness = False, Completeness.UNKNOWN
        if speech.going_on:
            return []
        if speech.silence_ms >= silence_to_end(speech, self._completeness, self._settings):
            return [self._end(speech)]
        if not self._paused and speech.silence_ms >= self._settings.pause_ms:
            self._paused = True
            return [Paused(self._now, self._begun + speech.last * speech.frame)]
        return []

    def _end(self, speech: Speech) -> Boundary:
        last_speech = self._begun + speech.last * speech.frame
        self._free_from = min(self._now, last_speech + _samples(self._settings.post_roll_ms))
        self.reset()
        if speech.ms(speech.spoken) < self._settings.minimum_speech_ms or not speech.words:
            return Misfire(self._now)
        return Ended(self._now, last_speech, self._free_from)


def _samples(milliseconds: float) -> int:
    return round(milliseconds * RATE / 1000)
