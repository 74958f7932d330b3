"""A household in memory, for skills to act on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from roomtone.core.dialog import HandStopwatch, Item, Timer, Turn
from roomtone.core.errors import PersonaNotFound, StoreError, ToolError
from roomtone.core.persona import Persona
from roomtone.core.routine import Routine
from roomtone.mind import Answer, relevance
from roomtone.mind.context import Past
from roomtone.mind.house import Alone, House, Neighbour
from roomtone.mind.memory import Fact, Level, Recalled
from roomtone.mind.phrases import load_language
from roomtone.mind.relevance import telling_words
from roomtone.outbound import Sent

BERLIN = ZoneInfo("Europe/Berlin")


@dataclass
class HomeMemory:
    """A memory in memory: it finds by words, and every word counts alike."""

    known: dict[str, Fact] = field(default_factory=dict)

    async def recall(self, text: str, persona: str, limit: int = 5) -> list[Recalled]:
        found = [Recalled(fact, fits) for fact in await self.facts(persona) if (fits := self._fits(fact, text)) > 0.2]
        return sorted(found, key=lambda each: each.score, reverse=True)[:limit]

    async def preferences(self, persona: str) -> list[Fact]:
        return [fact for fact in await self.facts(persona) if fact.level is Level.PREFERENCE]

    async def facts(self, persona: str | None = None, text: str = "", limit: int = 100) -> list[Fact]:
        mine = [fact for fact in self.known.values() if persona is None or fact.persona in (None, persona)]
        meant = [fact for fact in mine if not text or self._fits(fact, text) >= 0.6]
        return meant[::-1][:limit]

    async def keep(self, fact: Fact) -> Fact:
        for known in list(self.known.values()):
            if (known.text.casefold(), known.persona) == (fact.text.casefold(), fact.persona):
                fact = fact.model_copy(update={"id": self.known.pop(known.id).id})
        self.known[fact.id] = fact
        return fact

    async def forget(self, ids: Sequence[str]) -> list[Fact]:
        return [self.known.pop(id_) for id_ in ids if id_ in self.known]

    def _fits(self, fact: Fact, text: str) -> float:
        words = telling_words(text, load_language("en").small_words, 12)
        held = set(telling_words(fact.text, frozenset(), 100))
        return relevance.in_words([1.0 for word in words if word in held], [1.0 for _ in words])


@dataclass
class Home:
    """A household in memory."""

    persona: Persona = field(default_factory=lambda: Persona(id="companion", name="Companion"))
    clock: datetime = datetime(2026, 11, 21, 16, 20, tzinfo=BERLIN)
    loudness: float = 0.5
    running: list[Timer] = field(default_factory=list)
    ringing: list[Timer] = field(default_factory=list)
    watch: HandStopwatch = field(default_factory=HandStopwatch)
    clock_set: bool = True
    listed: dict[str, Item] = field(default_factory=dict)
    last: Turn | None = None
    turns: list[Turn] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    said_at: list[datetime] = field(default_factory=list)
    disk_full: bool = False
    cast: dict[str, Persona] = field(default_factory=dict)
    notebook: dict[tuple[str, str], Any] = field(default_factory=dict)
    acted: int = 0
    before: Past = field(default_factory=Past)
    memory: HomeMemory = field(default_factory=HomeMemory)
    sent: list[Sent] = field(default_factory=list)
    taken_back: list[str] = field(default_factory=list)
    can: list[str] = field(default_factory=list)
    planned: list[Routine] = field(default_factory=list)
    house: House = field(default_factory=lambda: Alone("kitchen"))
    undisturbed_s: int = 0
    rest: str = ""
    quiet_hours: bool = False

    def now(self) -> datetime:
        return self.clock

    def volume(self) -> float:
        return self.loudness

    async def set_volume(self, volume: float) -> None:
        self.loudness = volume

    async def hand_off(self, to: Neighbour) -> None:
        self.acts()
        await self.house.hand_off(to)

    def cut_short(self) -> str:
        return self.rest

    def is_quiet(self) -> bool:
        return self.quiet_hours or self.undisturbed_s > 0

    async def keep_quiet(self, seconds: int) -> None:
        self.undisturbed_s = seconds

    async def timers(self) -> list[Timer]:
        return list(self.running)

    async def save_timers(self, timers: list[Timer]) -> None:
        if self.disk_full:
            raise OSError("no space left on device")
        changed = {timer.id for timer in timers}
        kept = [timer for timer in self.running if timer.id not in changed]
        self.running = sorted([*kept, *timers], key=lambda timer: timer.due)

    async def cancel_timers(self, timers: list[Timer]) -> None:
        self.running = [timer for timer in self.running if timer not in timers]

    def rang(self) -> list[Timer]:
        return list(self.ringing)

    async def snooze(self, seconds: int) -> list[Timer]:
        due = self.clock + timedelta(seconds=seconds)
        later = [timer.model_copy(update={"due": due, "repeat": None}) for timer in self.ringing]
        self.ringing = []
        await self.save_timers(later)
        return later

    def clock_is_right(self) -> bool:
        return self.clock_set

    async def stopwatch(self) -> HandStopwatch:
        return self.watch

    async def save_stopwatch(self, stopwatch: HandStopwatch) -> None:
        self.watch = stopwatch

    async def items(self) -> list[Item]:
        return list(self.listed.values())

    async def save_items(self, items: list[Item]) -> None:
        if self.disk_full:
            raise OSError("no space left on device")
        emptied = {item.list for item in items if item.removed}
        gone = [item for item in self.listed.values() if item.removed and item.list in emptied]
        self.listed = {key: item for key, item in self.listed.items() if item not in gone}
        self.listed |= {item.id: item for item in items}

    async def times_asked(self, intent: str) -> int:
        return self.asked.count(intent)

    async def personas(self) -> list[Persona]:
        return [self.persona, *(each for each in self.cast.values() if each != self.persona)]

    async def become(self, persona: str) -> Persona:
        if persona not in self.cast:
            raise PersonaNotFound(f"there is no persona '{persona}'")
        self.persona = self.cast[persona]
        return self.persona

    async def remember(self, key: str, value: Any) -> None:
        self.notebook[self.persona.id, key] = value

    async def remembered(self, key: str) -> Any:
        return self.notebook.get((self.persona.id, key))

    async def last_turn(self) -> Turn | None:
        return self.last

    async def last_answer(self, skill: str) -> Turn | None:
        return next((turn for turn in reversed(self.turns) if (turn.intent or "").startswith(f"{skill}.")), None)

    async def forget(self, since: datetime) -> int:
        gone = [at for at in self.said_at if at >= since]
        self.said_at = [at for at in self.said_at if at < since]
        return len(gone)

    def acts(self) -> None:
        self.acted += 1

    async def sent_out(self, since: datetime) -> list[Sent]:
        if self.disk_full:
            raise StoreError("the disk is full")
        return [sent for sent in self.sent if sent.at >= since]

    async def undo(self) -> str | None:
        return self.taken_back.pop(0) if self.taken_back else None

    async def past(self) -> Past:
        return self.before

    async def routines(self) -> list[str]:
        return []

    async def run_routine(self, name: str) -> Answer:
        raise ToolError(f"there is no routine {name}")

    def tools(self) -> list[str]:
        return self.can

    def agents(self) -> list[Persona]:
        return [each for each in self.cast.values() if each.purpose and each.id != self.persona.id]

    async def run_steps(self, routine: Routine) -> str:
        self.planned.append(routine)
        return "\n".join(f"{id_}: done" for id_ in routine.steps)

    def pass_time(self, **time: float) -> None:
        self.clock += timedelta(**time)


async def whole(deltas: AsyncIterator[str]) -> str:
    return "".join([delta async for delta in deltas])
