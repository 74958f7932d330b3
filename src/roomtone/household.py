"""What skills may know and do in this room."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from roomtone.clock import utc_now
from roomtone.core.dialog import HandStopwatch, Item, Timer, Turn
from roomtone.core.errors import HubGone, PersonaError, ToolError
from roomtone.core.persona import Persona, may_know
from roomtone.core.routine import Routine
from roomtone.engines.audio import Loudspeaker
from roomtone.mind import Answer
from roomtone.mind.context import Past
from roomtone.mind.house import House, Neighbour
from roomtone.mind.memory import Memory
from roomtone.mind.talking import Talking
from roomtone.mind.thinking import Mind
from roomtone.minds import Minds
from roomtone.outbound import Sent
from roomtone.outbound.receipt import sent_since
from roomtone.quiet import Quiet
from roomtone.routines.runs import RoutineRunner, Whose
from roomtone.store import Store
from roomtone.timers import Timers

log = logging.getLogger(__name__)

LEAVES_S = 5.0
"""A hub that has agreed to a handoff and orders nothing for so long is gone: it gives up after four itself."""


class Somebody(Protocol):
    """A persona that is ready."""

    persona: Persona
    mind: Mind


async def _nothing() -> Past:
    return Past()


async def _stays(_: str) -> Persona:
    raise PersonaError("who speaks is changed by who is spoken to alone")


@dataclass(frozen=True, slots=True)
class TurnHousehold:
    """Implements ``mind.Household`` for one turn; ``on_act`` is called before anything is changed."""

    persona: Persona
    time_zone: ZoneInfo
    loudspeaker: Loudspeaker
    all_timers: Timers
    store: Store
    session: str | None
    on_act: Callable[[], None]
    erase: Callable[[datetime], Awaitable[int]]
    cast: Callable[[], Awaitable[list[Persona]]]
    switch: Callable[[str], Awaitable[Persona]]
    minds: Minds
    before: Callable[[], Awaitable[Past]]
    runner: RoutineRunner
    whose: Callable[[], Whose]
    somebody: Callable[[str], Awaitable[Somebody]]
    follow: Callable[[Iterable[str]], None]
    house: House
    quiet: Quiet
    leaves: Callable[[bool], None]
    cut_off: Callable[[], str]
    person: Callable[[], Awaitable[str]]

    @property
    def memory(self) -> Memory:
        """What is known beyond this conversation."""
        return self.minds.memory

    def acts(self) -> None:
        """Note that something is about to be done that cannot be unsaid."""
        self.on_act()

    async def past(self) -> Past:
        """Return what was said in this conversation before this turn. Raises StoreError."""
        return await self.before()

    async def sent_out(self, since: datetime) -> list[Sent]:
        """List what has left this machine since a moment. Raises StoreError."""
        return await sent_since(self.minds.ledger, since)

    async def undo(self) -> str | None:
        """Take back what a tool did last; return what to say of it, None where there is nothing to take back."""
        whose = self.whose()
        outcome = await self.minds.tools.undo(self, trace=whose.trace, session=whose.session)
        return outcome.text if outcome is not None else None

    async def routines(self) -> list[str]:
        """List the routines that can be started, by name."""
        return list(self.runner.routines.all())

    async def run_routine(self, name: str) -> Answer:
        """Begin to run a routine, told by the persona that it names if that can speak. Raises ToolError."""
        routine = self.runner.routines.all().get(name)
        house, by = self, None
        if routine is not None and routine.persona not in (None, self.persona.id):
            try:
                by, _, house = await self.as_persona(routine.persona)
            except PersonaError as error:
                log.warning("%s tells the routine %s instead: %s", self.persona.id, name, error.message)
        answer = self.runner.run(name, self.whose(), house.as_persona)
        answer.by = by
        return answer

    def tools(self) -> list[str]:
        """List the tools that the present persona may use, by name."""
        return [spec.name for spec in self.minds.tools.specs(self.persona)]

    def agents(self) -> list[Persona]:
        """List who does tasks for the present persona: nobody who keeps more to themselves."""
        mine = self.persona
        return [each for each in self.minds.abilities.agents() if each.id != mine.id and may_know(mine, each)]

    async def run_steps(self, routine: Routine) -> str:
        """Run a routine of the moment, unsaid; return what its steps came to. Raises ToolError where none worked."""
        run = await self.runner.finish(routine, self.whose(), self.as_persona, self.follow)
        told = "\n".join(f"{id_}: {doing.told}" for id_, doing in run.steps.items())
        if not any(doing.status.useful for doing in run.steps.values()):
            raise ToolError(f"nothing worked: {told}")
        return told

    async def as_persona(self, persona: str | None) -> tuple[Persona, Talking | None, TurnHousehold]:
        """Return a persona (None: this one) with what it talks with, and the household as it sees it.

        It knows nothing of what was said before. Raises PersonaError.
        """
        somebody = await self.somebody(persona or self.persona.id)
        house = replace(self, persona=somebody.persona, before=_nothing, switch=_stays)
        return somebody.persona, somebody.mind.talking, house

    def now(self) -> datetime:
        """Return the present in the household's time zone."""
        return utc_now().astimezone(self.time_zone)

    def volume(self) -> float:
        """Return loudness, 0 to 1."""
        return self.loudspeaker.volume

    async def set_volume(self, volume: float) -> None:
        """Set loudness, 0 to 1."""
        self.on_act()
        self.loudspeaker.set_volume(volume)

    async def hand_off(self, to: Neighbour) -> None:
        """Let this conversation go on in another room, with what this turn cut short. Raises HouseError: it stays."""
        self.on_act()
        self.leaves(True)  # before it is agreed: the hub's order to let go may be here sooner than its word
        try:
            await self.house.hand_off(to)
            await asyncio.sleep(LEAVES_S)  # the order to let go ends this turn
            raise HubGone("the hub agreed, and was not heard of again")
        except BaseException as error:
            self.leaves(isinstance(error, asyncio.CancelledError))
            raise

    def cut_short(self) -> str:
        """Return what is left of the answer that this turn cut short, "" where it cut none."""
        return self.cut_off()

    def is_quiet(self) -> bool:
        """Say whether what nobody asked for waits: in quiet hours, or while somebody wants not to be disturbed."""
        return self.quiet.now()

    async def keep_quiet(self, seconds: int) -> None:
        """Let nobody be disturbed for a while; 0 ends it. Raises StoreError."""
        self.on_act()
        await self.quiet.keep_for(seconds)

    async def timers(self) -> list[Timer]:
        """List what is still to ring, the next first. Raises StoreError."""
        return await self.all_timers.running()

    async def save_timers(self, timers: list[Timer]) -> None:
        """Keep timers, new or changed; they have reached the disk when this returns. Raises StoreError."""
        self.on_act()
        session = self.whose().session
        ours = {"session": session, "person": await self.person()}
        await self.all_timers.save([each if each.session else each.model_copy(update=ours) for each in timers])

    async def cancel_timers(self, timers: list[Timer]) -> None:
        """Cancel timers. Raises StoreError."""
        self.on_act()
        await self.all_timers.cancel(timers)

    def rang(self) -> list[Timer]:
        """List what rings now, or did until a moment ago."""
        return self.all_timers.rang()

    async def snooze(self, seconds: int) -> list[Timer]:
        """Let what rings, or has just rung, ring again after some seconds. Raises StoreError."""
        self.on_act()
        return await self.all_timers.snooze(seconds)

    def clock_is_right(self) -> bool:
        """Say whether the clock may be believed."""
        return self.all_timers.clock_is_right()

    async def stopwatch(self) -> HandStopwatch:
        """Return the household's stopwatch. Raises StoreError."""
        return await self.store.stopwatch()

    async def save_stopwatch(self, stopwatch: HandStopwatch) -> None:
        """Keep the stopwatch as it is now. Raises StoreError."""
        self.on_act()
        await self.store.save_stopwatch(stopwatch)

    async def items(self) -> list[Item]:
        """List what is on all lists, and of each list what was removed last. Raises StoreError."""
        return await self.store.items()

    async def save_items(self, items: list[Item]) -> None:
        """Keep items, new or changed; they have reached the disk when this returns. Raises StoreError."""
        self.on_act()
        await self.store.save_items(items)

    async def times_asked(self, intent: str) -> int:
        """Return how often an intent was asked for before, of this persona. Raises StoreError."""
        return await self.store.times_asked(intent, self.persona.id)

    async def personas(self) -> list[Persona]:
        """List whom the room can speak as: those that can be loaded."""
        return await self.cast()

    async def become(self, persona: str) -> Persona:
        """Speak as another persona from here on, this answer included. Raises PersonaError."""
        self.on_act()
        return await self.switch(persona)

    async def remember(self, key: str, value: Any) -> None:
        """Keep a value (JSON; None forgets it) in the present persona's own notebook. Raises StoreError."""
        self.on_act()
        await self.store.keep(f"persona/{self.persona.id}/{key}", value)

    async def remembered(self, key: str) -> Any:
        """Return what the present persona keeps under a key, None where it keeps nothing. Raises StoreError."""
        return await self.store.kept(f"persona/{self.persona.id}/{key}")

    async def last_turn(self) -> Turn | None:
        """Return the last finished turn of the session in which something was heard. Raises StoreError."""
        return await self.store.last_turn(self.session) if self.session else None

    async def last_answer(self, skill: str) -> Turn | None:
        """Return the last finished turn in which the present persona answered by a skill. Raises StoreError."""
        return await self.store.last_answer(skill, self.persona.id)

    async def forget(self, since: datetime) -> int:
        """Erase what was said since a moment but for this turn; return how many turns. Raises StoreError."""
        self.on_act()
        return await self.erase(since)
