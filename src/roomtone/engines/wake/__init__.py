"""The wake word seam: was Roomtone called?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from roomtone.core.sound import Audio

AUTO = ("none",)


@dataclass(frozen=True, slots=True)
class Detection:
    """A wake word was heard: which, and how surely (0 to 1)."""

    word: str
    score: float


class Wake(Protocol):
    """Stateful, cheap and synchronous."""

    def feed(self, audio: Audio) -> Detection | None:
        """Take the next stretch of 16 kHz sound; return a detection where a word ended in it."""
