"""Endpointing: speech probabilities in; started, paused, ended out. Counted in samples, never by a clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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
