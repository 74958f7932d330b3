"""Facts that come in: what the machine may be told. Those that belong to a turn carry its number."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from roomtone.core.dialog import Ended, Source


@dataclass(frozen=True, slots=True)
class Call:
    """A voice that another room may have heard too: since when, and of a wake word which, and how surely (0 to 1).

    ``at`` is the loop's time at which the word was over or, where no word was needed, somebody began to speak.
    ``dbfs``: how loud the word was.
    """

    at: float
    word: str = ""
    score: float = 0.0
    dbfs: float | None = None


@dataclass(frozen=True, slots=True)
class Wake:
    """Roomtone was called: by wake word, button, web or hub; with ``persona``, as that one.

    ``held``: by a button that is down still. Until ``LetGo``, nobody's pause for thought ends what they say.
    ``call``: by a voice.
    """

    source: Source = Source.BUTTON
    persona: str | None = None
    held: bool = False
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class StandDown:
    """Another room answers the call with this number."""

    call: int


@dataclass(frozen=True, slots=True)
class LetGo:
    """The button that called was let go; ``talked``: it was held to talk, so what was said is over."""

    talked: bool = False


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Someone wants silence: "stop", a button, the hub.

    With ``how`` MOVED another room goes on: what nobody has answered yet leaves no trace, it is asked again there.
    """

    source: Source = Source.VOICE
    how: Ended = Ended.DISMISSED


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to answer as if it had been heard, or, with ``verbatim``, to say as it is.

    ``ticket`` is the asker's own mark, by which it finds the turn again; ``alarm`` is the id of a ring: the turn
    rings until it is over. Without ``kept`` it is no part of what was said here: a word about a button, or an
    answer once more. ``routine`` is the name of one to run instead. ``chime``: it comes unasked, so a chime goes
    before it. ``sound`` is the id of a recorded message that is played after the text, ``persona`` who says a text
    that is said as it is, where that is not who speaks here. ``goes_on`` is the trace of the turn whose answer goes
    on with this text, or that is asked again: it came from another room with the conversation, and leaves with it.
    ``broken``: its model had not finished, and is asked for what follows on the text.
    """

    text: str
    source: Source
    verbatim: bool = False
    ticket: str | None = None
    alarm: str | None = None
    kept: bool = True
    routine: str | None = None
    chime: bool = False
    sound: str | None = None
    persona: str | None = None
    goes_on: str = ""
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Switch:
    """The room shall speak as another persona once it is free; ``cause`` says for the record what asked for it."""

    persona: str
    source: Source
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Repeat:
    """Someone did not catch what was said last."""

    source: Source = Source.BUTTON


@dataclass(frozen=True, slots=True)
class VolumeTurned:
    """A knob was turned, by so many of its steps: louder, or (below zero) quieter."""

    steps: int


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Someone has begun to speak. ``utterance`` is opaque here: it is handed to the turn."""

    utterance: Any
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class SpeechPaused:
    """The person paused; more may follow."""


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The utterance is over."""


@dataclass(frozen=True, slots=True)
class Misfired:
    """What had begun as speech was none: a tap, a click, the end of a cough."""


@dataclass(frozen=True, slots=True)
class SoundWentOn:
    """While Roomtone is ducked, the sound that made it doubt goes on and is not its own."""


@dataclass(frozen=True, slots=True)
class Timeout:
    """The wait with this number is over."""

    wait: int


@dataclass(frozen=True, slots=True)
class FirstSound:
    """The first sound of a turn's answer was handed to the loudspeaker."""

    turn: int


@dataclass(frozen=True, slots=True)
class Acted:
    """A turn has done something that cannot be unsaid: set a timer, changed the volume."""

    turn: int


@dataclass(frozen=True, slots=True)
class FloorTaken:
    """A rival's utterance holds real words."""

    turn: int


@dataclass(frozen=True, slots=True)
class FloorKept:
    """A rival's utterance was a cough, the television or a "mhm"."""

    turn: int


@dataclass(frozen=True, slots=True)
class Overheard:
    """What was said before anybody listened has been recognised: a skill can answer it, or not."""

    turn: int
    understood: bool


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """A turn's task is over, however it ended."""

    turn: int


class Muter(StrEnum):
    """Who can switch the microphone off: the household in any way there is, or the switch in the hardware."""

    HOUSEHOLD = "household"
    SWITCH = "switch"


@dataclass(frozen=True, slots=True)
class MuteSet:
    """The microphone was switched off or on. While the switch has it off, nobody else can switch it on."""

    muted: bool
    by: Muter = Muter.HOUSEHOLD


@dataclass(frozen=True, slots=True)
class MuteToggled:
    """A button wants the microphone off, or on again, and wants to hear which."""


@dataclass(frozen=True, slots=True)
class Beat:
    """Somebody wants to know that facts are still taken in. ``taken`` is opaque here: it is called when they are."""

    taken: Any


Signal = (
    Wake
    | StandDown
    | LetGo
    | Repeat
    | VolumeTurned
    | MuteToggled
    | Dismiss
    | Prompt
    | Switch
    | SpeechStarted
    | SpeechPaused
    | SpeechEnded
    | Misfired
    | SoundWentOn
    | Timeout
    | FirstSound
    | Acted
    | FloorTaken
    | FloorKept
    | Overheard
    | TurnEnded
    | MuteSet
    | Beat
)
