"""The speech to text seam: an utterance streams in; partials and one final text come out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # a recogniser's child process goes without numpy's 10 MB
    from roomtone.core.sound import Audio

AUTO = ("whisper", "pocketsphinx")


@dataclass(frozen=True, slots=True)
class Pause:
    """The person has paused: a good moment for a recogniser of whole utterances to give a partial."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What helps a recogniser.

    ``language``: what is spoken here. ``grammar``: all that can be understood, as JSGF. ``words``: not to be missed.
    ``names``: what is said here and no recogniser can guess (rooms, personas), the most telling first. ``besides``:
    what can be understood only just now, a few sentences as JSGF; so ``grammar`` stays the same from turn to turn.
    """

    language: str = "en"
    grammar: str = ""
    words: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    besides: str = ""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was heard, lower case, no punctuation needed.

    ``text`` is "" where nothing was understood; ``confidence`` is 0 to 1 and comparable only within one engine;
    exactly one transcript of an utterance, the last, has ``final`` set. ``growing`` is a partial that was made
    while the person spoke: only the sure beginning of what they say, which tells nothing of where it will end.
    ``sure`` is False for a text that the engine also makes of coughs and chairs, if it is a short one.
    """

    text: str
    confidence: float = 1.0
    language: str = "en"
    final: bool = True
    growing: bool = False
    sure: bool = True


class Stt(Protocol):
    """A recogniser."""

    def transcribe(self, utterance: AsyncIterator[Audio | Pause], hints: Hints) -> AsyncIterator[Transcript]:
        """Recognise one utterance (16 kHz; the first and the last 0.3 s or so are not speech).

        Yields any number of partials, then exactly one final, also for an empty utterance. Raises EngineError
        where the engine failed; the next call works.
        """
