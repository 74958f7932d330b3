"""Orders that go out: what the machine wants to be done."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from roomtone.core.arbitration import Kind
from roomtone.core.dialog import Ended, Source
from roomtone.core.signals import Call, Prompt


@dataclass(frozen=True, slots=True)
class Begin:
    """Start a turn's task. With ``joined`` its utterance goes on from that turn's, which said and did nothing."""

    turn: int
    utterance: Any = None
    prompt: Prompt | None = None
    joined: int | None = None


@dataclass(frozen=True, slots=True)
class Anticipate:
    """The person paused: work ahead on what was said; nothing audible, no tool runs."""

    turn: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The turn may answer."""

    turn: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Cancel a turn's task and silence it."""

    turn: int
    how: Ended


@dataclass(frozen=True, slots=True)
class Drop:
    """Cancel a turn that never held the floor; it leaves no record.

    ``heard_out``: who goes on speaking meant another room, and begins no other turn until they pause.
    """

    turn: int
    heard_out: bool = False


@dataclass(frozen=True, slots=True)
class Called:
    """Tell the house of a voice that is answered here unless another room answers it: ``StandDown(number)``."""

    number: int
    kind: Kind
    call: Call


@dataclass(frozen=True, slots=True)
class Become:
    """Speak as another persona from the next turn on; with ``call``, once it is this room that answers that one."""

    persona: str
    source: Source
    cause: str = ""
    call: int = 0


@dataclass(frozen=True, slots=True)
class Duck:
    """Lower the loudspeaker."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Hold what the loudspeaker plays, or its first sound."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Let the loudspeaker go on where it was."""


@dataclass(frozen=True, slots=True)
class Chime:
    """Tell the room, without words, that Roomtone listens; with ``waits``, only whoever does not speak on.

    With ``call``, once it is this room that answers that one.
    """

    waits: bool = False
    call: int = 0


@dataclass(frozen=True, slots=True)
class Rescue:
    """Hear what was just said in vain, if anything was."""


@dataclass(frozen=True, slots=True)
class Release:
    """Let pauses end what is being said again; ``ends``: it is over now."""

    ends: bool


class Notice(StrEnum):
    """What the room says of its microphone, by the key of the phrase."""

    MUTED = "microphone_off"
    UNMUTED = "microphone_on"
    IS_MUTED = "microphone_is_off"
    SWITCHED_OFF = "microphone_switched_off"


@dataclass(frozen=True, slots=True)
class Tell:
    """Say one of the room's own phrases."""

    notice: Notice


@dataclass(frozen=True, slots=True)
class SayAgain:
    """Say what was said last once more, in the voice it had."""

    source: Source


@dataclass(frozen=True, slots=True)
class ChangeVolume:
    """Be louder or quieter by so many steps of a knob; ``audibly``: with a sound, as nothing else is heard."""

    steps: int
    audibly: bool


class Patience(StrEnum):
    """How long a wait is; the config has the seconds."""

    CALLED = "called"
    LET_GO = "let_go"
    FOLLOW_UP = "follow_up"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class Await:
    """Post ``Timeout(wait)`` when this much patience is over."""

    wait: int
    patience: Patience


@dataclass(frozen=True, slots=True)
class Record:
    """Close the turn's row and publish it."""

    turn: int


@dataclass(frozen=True, slots=True)
class Alive:
    """Tell whoever asked with a Beat that facts are taken in: call ``taken``."""

    taken: Any


Effect = (
    Begin
    | Anticipate
    | Commit
    | Stop
    | Drop
    | Called
    | Become
    | Duck
    | Hold
    | Resume
    | Release
    | Chime
    | Rescue
    | Tell
    | SayAgain
    | ChangeVolume
    | Await
    | Record
    | Alive
)
