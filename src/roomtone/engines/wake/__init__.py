"""The wake word seam: was Roomtone called, and as whom?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from roomtone.core.sound import Audio

AUTO = ("microwakeword", "none")


@dataclass(frozen=True, slots=True)
class Detection:
    """A word was heard: which, and how surely (0 to 1).

    ``persona`` is who was called, where the word is one persona's own. ``stops``: it is not a call, it asks for
    silence. ``since`` is how many samples of what was fed came after the word's end: the beginning of what else is
    said. Not ``sure``: it was nearly the word, and calls nobody.
    """

    word: str
    score: float
    persona: str | None = None
    stops: bool = False
    since: int = 0
    sure: bool = True


class Wake(Protocol):
    """Stateful, cheap and synchronous."""

    def feed(self, audio: Audio) -> Detection | None:
        """Take the next stretch of 16 kHz sound; return a detection where a word ended in it.

        What is fed may have gaps where nobody spoke, if half a second of what came before speech is fed with it.
        """
