"""All that the house may do with a room over MQTT: what the edge, and the commands it takes, are handed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from roomtone import outbound
from roomtone.core import machine
from roomtone.core.dialog import Timer
from roomtone.core.persona import Persona
from roomtone.core.signals import Signal
from roomtone.flow import Feed
from roomtone.quiet import Quiet


class HasVolume(Protocol):
    """What is loud."""

    @property
    def volume(self) -> float:
        """Loudness, 0 to 1."""

    def set_volume(self, volume: float) -> None:
        """Set loudness, 0 to 1."""


class HasTimers(Protocol):
    """What is to ring here."""

    async def running(self) -> list[Timer]:
        """List what is still to ring, the next first. Raises StoreError."""

    async def save(self, timers: Sequence[Timer]) -> None:
        """Keep timers, new or changed. Raises StoreError."""

    async def cancel(self, timers: Sequence[Timer]) -> None:
        """Cancel timers. Raises StoreError."""


@dataclass(frozen=True, slots=True)
class Reach:
    """All that the edge may do: post facts, watch the feed, and read or set what the house may see and set.

    ``note`` returns what is told of everything that is sent for a turn (its trace) as a persona (its id).
    """

    post: Callable[[Signal], None]
    feed: Feed
    state: Callable[[], machine.State]
    speaker: Callable[[], Persona]
    personas: Callable[[], Awaitable[list[Persona]]]
    loudspeaker: HasVolume
    quiet: Quiet
    timers: HasTimers
    serves: Callable[[], bool]
    note: Callable[[str, str], outbound.Note]
