"""Other rooms in memory, for skills to speak to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from roomtone.core.errors import DeviceNotFound, HouseError
from roomtone.mind.house import Delivered, ElsewhereTimer, Neighbour


@dataclass
class Neighbours:
    """A kitchen and a bedroom beside this room. ``broken`` is what every request comes to."""

    room: str = "office"
    known: list[Neighbour] = field(
        default_factory=lambda: [Neighbour("kitchen-1", "kitchen"), Neighbour("bedroom-1", "bedroom")]
    )
    said: list[tuple[str, str | None]] = field(default_factory=list)
    missed: tuple[tuple[str, str], ...] = ()
    recording: list[str | None] = field(default_factory=list)
    asker: Neighbour | None = None
    ringing: list[ElsewhereTimer] = field(default_factory=list)
    broken: HouseError | None = None
    cut_off: bool = False

    def rooms(self) -> Sequence[Neighbour]:
        return self.known

    def find(self, spoken: str) -> Neighbour:
        found = [each for each in self.known if each.room == spoken.lower()]
        if not found:
            raise DeviceNotFound(f"there is no room called {spoken}")
        return found[0]

    async def hand_off(self, to: Neighbour, why: str = "") -> None:
        raise NotImplementedError

    async def announce(self, text: str, to: Neighbour | None = None, *, urgent: bool = False) -> Delivered:
        self._check()
        self.said.append((text, to.room if to else None))
        late = {room for room, _ in self.missed}
        meant = [to] if to else self.known
        return Delivered(tuple(each.room for each in meant if each.room not in late), self.missed)

    def record_for(self, to: Neighbour | None) -> None:
        self._check()
        self.recording.append(to.room if to else None)

    def answer_to(self) -> Neighbour | None:
        return self.asker

    async def who_is_where(self) -> Sequence[Neighbour]:
        self._check()
        return self.known

    async def timers(self) -> Sequence[ElsewhereTimer]:
        return self.ringing

    async def cancel_timers(self, timers: Sequence[ElsewhereTimer]) -> None:
        self._check()
        self.ringing = [each for each in self.ringing if each not in timers]

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken
