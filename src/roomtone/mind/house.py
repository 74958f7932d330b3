"""The other rooms, as skills and tools see them: who is where, and what can be brought there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from roomtone.core.dialog import Timer
from roomtone.core.errors import (
    BrokerUnreachable,
    DeviceNotFound,
    DeviceOffline,
    EgressRefused,
    HubGone,
    PersonaNotFound,
)
from roomtone.core.wire import Code


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another room: its device, whether it can be reached, and how it stands where that is known."""

    id: str
    room: str
    name: str = ""
    online: bool = True
    state: str = ""
    persona: str = ""
    idle_s: float | None = None
    muted: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class ElsewhereTimer:
    """What is to ring in another room."""

    room: str
    timer: Timer


@dataclass(frozen=True, slots=True)
class Delivered:
    """Where an announcement was said (``rooms``), and where it was not, or not yet, with the code of why."""

    rooms: tuple[str, ...] = ()
    missed: tuple[tuple[str, str], ...] = ()


class House(Protocol):
    """What a room may ask of the house. Every call ends within a time that a person waits; raises HouseError."""

    @property
    def room(self) -> str:
        """What this room is called."""

    @property
    def cut_off(self) -> bool:
        """Whether there is a house that cannot be reached now."""

    def rooms(self) -> Sequence[Neighbour]:
        """List the other rooms that were ever heard of, those that are off too. Never waits."""

    def find(self, spoken: str) -> Neighbour:
        """Return the room, or the device, that somebody means. Raises DeviceNotFound."""

    async def hand_off(self, to: Neighbour, why: str = "") -> None:
        """Let this conversation go on in another room: returns once the hub has agreed, before it has moved.

        Raises HandoffRefused, DeviceOffline, HubGone: it goes on here.
        """

    async def announce(self, text: str, to: Neighbour | None = None, *, urgent: bool = False) -> Delivered:
        """Say a text in another room, or in all others."""

    def record_for(self, to: Neighbour | None) -> None:
        """Carry what is said here next to another room (None: to all others), as it is said."""

    def answer_to(self) -> Neighbour | None:
        """Return who is to get an answer to what was announced here last; None where nobody waits for one."""

    async def who_is_where(self) -> Sequence[Neighbour]:
        """List what goes on in the other rooms."""

    async def timers(self) -> Sequence[ElsewhereTimer]:
        """List what is to ring in the other rooms, the next first; none where the hub is not there."""

    async def cancel_timers(self, timers: Sequence[ElsewhereTimer]) -> None:
        """Cancel what is to ring in other rooms."""


class Alone:
    """The house of a room without a hub: there is no other."""

    cut_off = False

    def __init__(self, room: str) -> None:
        self.room = room

    def rooms(self) -> Sequence[Neighbour]:
        """List none."""
        return ()

    def find(self, spoken: str) -> Neighbour:
        """Raise DeviceNotFound."""
        raise DeviceNotFound(f"there is no room called {spoken}: Roomtone runs in this one alone")

    async def hand_off(self, *_: Any, **__: Any) -> None:
        """Raise HubGone."""
        raise _alone()

    async def announce(self, *_: Any, **__: Any) -> Delivered:
        """Raise HubGone."""
        raise _alone()

    def record_for(self, *_: Any) -> None:
        """Raise HubGone."""
        raise _alone()

    def answer_to(self) -> Neighbour | None:
        """Return None."""
        return None

    async def who_is_where(self) -> Sequence[Neighbour]:
        """List none."""
        return ()

    async def timers(self) -> Sequence[ElsewhereTimer]:
        """List none."""
        return ()

    async def cancel_timers(self, *_: Any) -> None:
        """Raise HubGone."""
        raise _alone()


def lonely_phrase(house: House) -> str:
    """Return the key of the phrase that says why no other room is known."""
    return "house_gone" if house.cut_off else "house_alone"


def refusal_phrase(code: str, *, back: bool = False) -> str:
    """Return the key of the phrase that says why a conversation stays here, or (``back``) why it came back."""
    known = {
        DeviceOffline.code: "offline",
        DeviceNotFound.code: "unknown",
        HubGone.code: "hub_gone",
        BrokerUnreachable.code: "hub_gone",
        Code.MUTED: "muted",
        Code.BUSY: "busy",
        Code.ITSELF: "itself",
        Code.PRIVATE: "private",
        EgressRefused.code: "private",
        PersonaNotFound.code: "persona",
        Code.VERSION: "version",
    }
    told = known.get(code, "refused")
    return (
        f"handoff_{'back_' if back else ''}{told if not back or told in ('offline', 'muted', 'busy') else 'refused'}"
    )


def _alone() -> HubGone:
    return HubGone("there is no other room here: Roomtone runs in this one alone")
