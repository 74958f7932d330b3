"""Who the room speaks as, and how that changes: known after a power cut, recorded with its cause, and quick."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from roomtone.core.dialog import Source
from roomtone.core.effects import Become
from roomtone.core.errors import RoomtoneError, StoreError
from roomtone.core.persona import Persona
from roomtone.flow import Feed
from roomtone.personas import versions as persona_versions
from roomtone.personas.cast import Cast, News, ReadyPersona
from roomtone.recorder import Recorder
from roomtone.store import Store
from roomtone.writing import Spawn

log = logging.getLogger(__name__)

BUDGET_MS = 50.0
"""A switch that takes longer is told in the log, with the stage that cost it."""


@dataclass(slots=True)
class Stages:
    """What a switch spent its time on, in milliseconds."""

    spent: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.perf_counter)

    def note(self, stage: str) -> None:
        """End a stage."""
        now = time.perf_counter()
        self.spent[stage] = (now - self._since) * 1000
        self._since = now

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.spent.values())


@dataclass(frozen=True, slots=True)
class Switched:
    """A switch on the feed: from whom to whom, what asked for it, and what it took in milliseconds, by stage."""

    persona: str
    earlier: str
    source: Source
    cause: str
    took_ms: dict[str, float]


class Switcher:
    """Holds who speaks. ``speaker`` is ready; ``pending`` is a switch that was ordered and is not over yet."""

    def __init__(
        self,
        cast: Cast,
        speaker: ReadyPersona,
        recorder: Recorder,
        store: Store,
        feed: Feed,
        room: str,
        spawn: Spawn,
        on_lost: Callable[[str], None],
    ) -> None:
        self.speaker = speaker
        self.pending: asyncio.Task[None] | None = None
        self._cast = cast
        self._recorder = recorder
        self._store = store
        self._feed = feed
        self._room = room
        self._spawn = spawn
        self._on_lost = on_lost

    def become(self, effect: Become, answers: Callable[[int], Awaitable[bool]]) -> None:
        """Switch beside the conversation, one after the other; where it cannot be done, ``on_lost`` is told.

        A call that ``answers`` says another room answers changes nobody here.
        """
        self.pending = task = self._spawn(self._become(effect, answers, self.pending), f"switch to {effect.persona}")
        task.add_done_callback(self._over)

    async def _become(
        self, effect: Become, answers: Callable[[int], Awaitable[bool]], before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        if effect.call and not await answers(effect.call):
            return
        try:
            await self.switch(effect.persona, effect.source, effect.cause)
        except RoomtoneError as error:
            log.error("no switch to %s: %s", effect.persona, error.message)
            self._on_lost(effect.persona)

    def _over(self, task: asyncio.Task[None]) -> None:
        if self.pending is task:
            self.pending = None

    async def switch(self, persona: str, source: Source, cause: str = "") -> Persona:
        """Speak as another persona from here on; what follows belongs to a conversation with that one.

        A persona whose files changed is taken as they are now. Raises PersonaError where it is not there or was never
        whole: all stays as it was.
        """
        stages = Stages()
        ready = await self._cast.ready(persona)
        if ready is self.speaker:
            return ready.persona
        stages.note("reading its files")
        earlier, self.speaker = self.speaker.persona, ready
        await self._recorder.change(ready.persona)
        stages.note("taking up its conversation")
        await self._keep(ready.persona, earlier.id, source, cause, stages)
        self._spawn(self._cast.expect(ready), f"expecting what is said to {persona}")
        return ready.persona

    async def reload(self) -> list[News]:
        """Take up what became of personas' files: who speaks is from the next turn on as its files are now.

        Where those are broken or gone, it goes on as it was. What changed is told on the feed, and returned.
        """
        news = await self._cast.news()
        id_ = self.speaker.persona.id
        await self._cast.warm([id_])
        ready = await self._cast.ready(id_)
        earlier = self.speaker.persona
        if earlier.id == id_ and ready is not self.speaker:
            self.speaker = ready
            await self._recorder.change(ready.persona)
            if ready.persona.content != earlier.content:
                log.info("%s goes on as its files are now (version %s)", ready.persona.name, ready.persona.version)
                await self._keep_version(ready.persona)
        for each in news:
            kind = "persona.reloaded" if each.mistake is None else "persona.refused"
            self._feed.publish(kind, each, source="conversation")
        return news

    async def _keep_version(self, persona: Persona) -> None:
        try:
            await persona_versions.keep_version(self._store, self._cast.library, persona)
        except StoreError as error:
            log.error("the version of %s is not kept: %s", persona.id, error.message)

    async def _keep(self, persona: Persona, earlier: str, source: Source, cause: str, stages: Stages) -> None:
        switch = persona_versions.Switch(self._room, earlier, persona, source, cause, stages.total)
        try:
            await persona_versions.keep_switch(self._store, self._cast.library, switch)
        except StoreError as error:
            log.error("the switch to %s is not kept: %s", persona.id, error.message)
        stages.note("writing it down")
        if stages.total > BUDGET_MS:
            slowest = max(stages.spent, key=lambda stage: stages.spent[stage])
            told = f"{slowest} ({stages.spent[slowest]:.0f} ms)"
            log.warning("the switch to %s took %.0f ms; most of it went into %s", persona.id, stages.total, told)
        switched = Switched(persona.id, earlier, source, cause, stages.spent)
        self._feed.publish("persona.switched", switched, source="conversation")
