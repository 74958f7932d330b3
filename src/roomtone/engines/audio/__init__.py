"""The audio seam: a microphone and a loudspeaker on one clock.

An audio engine's ``open`` yields a ``SoundDevice``. Its two halves share a clock, so that every block from the
microphone comes with the far end, what the loudspeaker was given during the same samples.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from roomtone.core.sound import Audio

AUTO = ("sounddevice",)


@dataclass(frozen=True, slots=True)
class Capture:
    """One block from the microphone.

    ``near`` and ``far`` (what the loudspeaker was given, after volume and duck, before the room) are 16 kHz and
    of one length, a multiple of 160 samples. ``at`` is the event loop's time in seconds at which the last
    sample of ``near`` was taken.
    """

    near: Audio
    far: Audio
    at: float


class Microphone(Protocol):
    """Yields what the room sounds like, without gaps; ends when there will be no more."""

    def __aiter__(self) -> AsyncIterator[Capture]:
        """Iterate over blocks."""

    def pace(self, block_ms: int) -> None:
        """Ask for blocks of about ``block_ms`` from now on: large while idle, small while someone speaks."""


class Loudspeaker(Protocol):
    """Plays a queue of sounds; every change takes effect within 20 ms, without a click.

    Nothing here blocks except ``play``, which waits while more than about a second is queued.
    """

    @property
    def heard(self) -> int:
        """Samples (at 16 kHz) of what was given to ``play`` that have left the loudspeaker since it opened."""

    @property
    def queued(self) -> int:
        """Samples (at 16 kHz) given to ``play`` since it opened, dropped ones (see ``stop``) not counted."""

    @property
    def trouble(self) -> str | None:
        """Why ``play`` would raise AudioError, None where it would not."""

    @property
    def volume(self) -> float:
        """Loudness, 0 to 1; the amplitude is its square."""

    async def play(self, audio: Audio) -> None:
        """Queue a sound of any rate behind what is queued; return once there is room for more.

        Raises AudioError where the device is lost and has not come back within 5 s or so; what was queued is then
        dropped.
        """

    async def drained(self) -> None:
        """Return once all that is queued has left the loudspeaker (at once when stopped).

        Raises AudioError where the device is lost and has not come back within 5 s or so.
        """

    def duck(self) -> None:
        """Lower what plays by 18 dB."""

    def pause(self) -> None:
        """Hold what is queued; it is silent within 20 ms and nothing is lost."""

    def resume(self) -> None:
        """End ducking and pausing: go on where it was."""

    def stop(self) -> None:
        """Fade out and drop what is queued, and end ducking and pausing."""

    def set_volume(self, volume: float) -> None:
        """Set loudness, 0 to 1; kept between sounds."""


class SoundDevice(Protocol):
    """What an audio engine's ``open`` yields."""

    @property
    def microphone(self) -> Microphone:
        """The near end."""

    @property
    def loudspeaker(self) -> Loudspeaker:
        """The far end."""

    @property
    def health(self) -> str:
        """``ok``, or what is wrong in a few words (``microphone lost, reopening``)."""


class VisitedDevice(SoundDevice, Protocol):
    """A device without hardware (``wav``, ``sim``), which programs can send people to."""

    def visit(self, audio: Audio) -> float:
        """Let somebody speak now, beside who speaks already; return the loop's time of their first sample."""

    @property
    def recording(self) -> Audio:
        """What somebody in the room has heard since it was opened: people and the loudspeaker."""
