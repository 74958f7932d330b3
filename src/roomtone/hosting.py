"""What each turn has of the house: what it may know and do, what was said before, and who may answer instead."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from typing import Protocol

from roomtone import outbound
from roomtone.core.dialog import Source
from roomtone.core.errors import HouseError, RoomtoneError
from roomtone.core.persona import Context, Persona
from roomtone.core.signals import Acted, Signal
from roomtone.core.speakable import in_words
from roomtone.handoff.bundling import called
from roomtone.household import TurnHousehold
from roomtone.mind.context import Past
from roomtone.mind.house import lonely_phrase, refusal_phrase
from roomtone.parts import Manners, Parts
from roomtone.past import heard_by, past
from roomtone.recorder import Recorder
from roomtone.routines.runs import RoutineRunner, Spawn, Whose
from roomtone.switching import Switcher
from roomtone.turn.choosing import Chooser, Chosen
from roomtone.turn.live import LiveTurn

log = logging.getLogger(__name__)


class Erase(Protocol):
    """Forgets what was said since a moment, or ever, but for the turn that asks; returns how many turns."""

    async def __call__(self, since: datetime | None = None, asking: LiveTurn | None = None) -> int:
        """Forget it. Raises StoreError."""


class Host:
    """Gives turns what they have of the house. ``runner`` runs its routines."""

    def __init__(
        self,
        parts: Parts,
        recorder: Recorder,
        switcher: Switcher,
        manners: Manners,
        spawn: Spawn,
        post: Callable[[Signal], None],
        erase: Erase,
    ) -> None:
        minds = parts.minds
        self.runner = RoutineRunner(
            minds.routines,
            minds.tools,
            minds.max_parallel,
            lambda statements: recorder.write(parts.store.write(*statements)),
            minds.ledger.add,
            lambda kind, data: parts.feed.publish(kind, data, source="conversation"),
            spawn,
            lambda: switcher.speaker.phrases,
        )
        self._chooser = Chooser(parts.phrases.language.small_words, minds.embed) if manners.chooses else None
        self._parts = parts
        self._recorder = recorder
        self._switcher = switcher
        self._post = post
        self._erase = erase

    def outgoing(self, live: LiveTurn) -> AbstractContextManager[None]:
        """Hold back what the persona may not let travel, and keep a receipt of what does."""
        by = live.answer.by if live.answer is not None else None
        persona, minds = by or self._switcher.speaker.persona, self._parts.minds
        return outbound.within(persona.egress, minds.receipts.note(live.trace, persona.id))

    async def choose(self, live: LiveTurn) -> Chosen | None:
        """Return who should answer a turn instead of who speaks, where no skill of theirs does; None where nobody."""
        speaker, cast = self._switcher.speaker, self._parts.cast
        if self._chooser is None or speaker.skills.recognise(live.heard) is not None:
            return None
        wanted = await self._chooser.fitting(live.heard, cast.everybody, speaker.persona)
        if wanted is None:
            return None
        try:
            persona, talking, house = await self.household(live).as_persona(wanted.id)
        except RoomtoneError as error:
            log.warning("%s", error.message)
            return None
        with outbound.within(persona.egress):
            able = talking is not None and talking.can_answer
        return Chosen(persona, talking, house) if talking is not None and able else None

    async def hand_off(self, room: str) -> str | None:
        """Let the conversation go on in another room, whatever is being said; return why it does not, aloud."""
        house, phrases = self._parts.housed.house, self._switcher.speaker.phrases
        if not house.rooms():
            return phrases.say(lonely_phrase(house))
        try:
            await house.hand_off(house.find(room))
        except HouseError as error:
            log.warning("the conversation stays here: %s", error.message)
            return phrases.say(refusal_phrase(error.reason), room=in_words(room))
        return None

    async def as_whom(self, persona: str | None) -> Persona | None:
        """Return who says what comes from another room; None for who speaks here, also where nobody is called so."""
        if persona in (None, self._switcher.speaker.persona.id):
            return None
        try:
            return (await self._parts.cast.ready(str(persona))).persona
        except RoomtoneError as error:
            log.warning("said as who speaks here: %s", error.message)
            return None

    async def _past(self, live: LiveTurn) -> Past:
        """Return what was said before a turn, as far as who speaks now may know of it."""
        persona = self._switcher.speaker.persona
        whose = heard_by(persona, await self._parts.cast.all() if persona.context is Context.SHARED else ())
        tips, unkept = self._recorder.before(live), self._recorder.unkept
        return await past(self._parts.store, tips, self._parts.minds.window, whose=whose, unkept=unkept)

    def household(self, live: LiveTurn) -> TurnHousehold:
        """Return what a turn may know and do."""

        def on_act() -> None:
            live.acted = True  # at once: a rival that begins before the fact below is read must know
            self._post(Acted(live.number))

        parts, session = self._parts, self._recorder.session
        return TurnHousehold(
            self._switcher.speaker.persona,
            parts.time_zone,
            parts.mouth.loudspeaker,
            parts.timers,
            parts.store,
            session.id if session else None,
            on_act,
            partial(self._erase, asking=live),
            parts.cast.all,
            lambda persona: self._switcher.switch(persona, live.source, live.heard),
            parts.minds,
            partial(self._past, live),
            self.runner,
            lambda: self._whose(live),
            parts.cast.ready,
            live.nodes.extend,
            parts.housed.house,
            parts.quiet,
            partial(setattr, live, "leaving"),
            lambda: self._cut_short(live),
            partial(self.person, live),
        )

    def _cut_short(self, live: LiveTurn) -> str:
        cut = self._recorder.cut_off
        rest = cut.rest() if cut is not None and live.session and cut.turn.session == live.session.id else None
        return rest.text if rest is not None else ""

    async def person(self, live: LiveTurn) -> str:
        """Return who said in a turn's conversation what they are called, "" where nobody did. Raises StoreError."""
        session = live.session.id if live.session else ""
        return await called(self._parts.store, session, self._switcher.speaker.skills)

    def _whose(self, live: LiveTurn) -> Whose:
        session = live.session.id if live.session else ""
        waits = live.source is not Source.SCHEDULE
        return Whose(live.trace, session, self._recorder.tips, waits, live.watch.waiting)
