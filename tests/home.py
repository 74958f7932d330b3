"""A household in memory, for skills to act on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from roomtone.core.dialog import Item, Persona, Timer, Turn

BERLIN = ZoneInfo("Europe/Berlin")


@dataclass
class Home:
    """A household in memory."""

    persona: Persona = field(default_factory=lambda: Persona(id="companion", name="Companion"))
    clock: datetime = datetime(2026, 11, 21, 16, 20, tzinfo=BERLIN)
    loudness: float = 0.5
    running: list[Timer] = field(default_factory=list)
    listed: dict[str, Item] = field(default_factory=dict)
    last: Turn | None = None
    said_at: list[datetime] = field(default_factory=list)
    disk_full: bool = False

    def now(self) -> datetime:
        return self.clock

    def volume(self) -> float:
        return self.loudness

    async def set_volume(self, volume: float) -> None:
        self.loudness = volume

    async def set_timer(self, seconds: int, name: str) -> Timer:
        if self.disk_full:
            raise OSError("no space left on device")
        timer = Timer(name=name, seconds=seconds, set_at=self.clock, due=self.clock + timedelta(seconds=seconds))
        self.running = sorted([*self.running, timer], key=lambda timer: timer.due)
        return timer

    async def timers(self) -> list[Timer]:
        return list(self.running)

    async def cancel_timers(self, timers: list[Timer]) -> None:
        self.running = [timer for timer in self.running if timer not in timers]

    async def items(self) -> list[Item]:
        return list(self.listed.values())

    async def save_items(self, items: list[Item]) -> None:
        if self.disk_full:
            raise OSError("no space left on device")
        emptied = {item.list for item in items if item.removed}
        gone = [item for item in self.listed.values() if item.removed and item.list in emptied]
        self.listed = {key: item for key, item in self.listed.items() if item not in gone}
        self.listed |= {item.id: item for item in items}

    async def last_turn(self) -> Turn | None:
        return self.last

    async def forget(self, since: datetime) -> int:
        gone = [at for at in self.said_at if at >= since]
        self.said_at = [at for at in self.said_at if at < since]
        return len(gone)

    def pass_time(self, **time: float) -> None:
        self.clock += timedelta(**time)


async def whole(deltas: AsyncIterator[str]) -> str:
    return "".join([delta async for delta in deltas])
