"""The echo seam: tell the person at the near end from the loudspeaker's own sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from roomtone.core.sound import Audio

AUTO = ("gate",)


@dataclass(frozen=True, slots=True)
class EchoFrame:
    """One 10 ms frame of the near end after echo processing.

    ``near`` is what is left to listen to (160 samples, 16 kHz; while ``playing`` it may come up to 10 ms late).
    ``person`` is how likely it is, 0 to 1, that someone other than the loudspeaker makes a sound. ``playing`` says
    whether the loudspeaker's sound or its tail in the room can be in this frame at all: where it is False, the plain
    voice detector decides.
    """

    near: Audio
    person: float
    playing: bool


class Echo(Protocol):
    """Stateful and synchronous: called a hundred times a second on the loop."""

    def process(self, near: Audio, far: Audio) -> EchoFrame:
        """Take 10 ms of microphone and of what the loudspeaker was given in them.

        Raises ValueError for frames of another length than 160 samples.
        """

    def rest(self, near: Audio) -> bool:
        """Take a block of microphone (a multiple of 160 samples) in which the loudspeaker was given nothing.

        Return False, having taken nothing, where its sound may still be heard: then ``process`` it by 10 ms.
        True means that ``process`` would have left every frame as it is, with nothing playing: it is what most of a
        day consists of, and costs a fraction.
        """

    def relearn(self) -> None:
        """A person was reported and it was echo: the volume or the room has changed, learn again."""
