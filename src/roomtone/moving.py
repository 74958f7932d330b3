"""A conversation goes to another room, or comes from one: the device's side of a handoff (``core.handoff``).

What the hub is told was written down before; what it is not told may be asked for again, and is done once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from roomtone import outbound
from roomtone.clock import utc_now
from roomtone.core.dialog import Ended, Session, Source, Stage, Timer
from roomtone.core.errors import HandoffRefused, RoomtoneError, SessionNotFound
from roomtone.core.handoff import Does, Hold, on_adopt, on_offer, on_release
from roomtone.core.machine import Mode
from roomtone.core.persona import Egress, Persona
from roomtone.core.signals import Acted, Dismiss, Prompt
from roomtone.core.speakable import speakable
from roomtone.core.wire import Adopt, Asked, Bundle, Code, LetGo, Move, Offer, Release, Reply, Rest
from roomtone.handoff.bundling import (
    Place,
    Unsaid,
    bundled,
    by_our_clock,
    called,
    came_back,
    cut_before_a_restart,
    keeping,
    letting_go,
    rest_of,
    under_way,
)
from roomtone.handoff.ownership import keeping_moves
from roomtone.mind.house import refusal_phrase
from roomtone.parts import Parts
from roomtone.recorder import Recorder
from roomtone.store import Standing
from roomtone.switching import Switcher
from roomtone.turn.live import Floor

log = logging.getLogger(__name__)

SETTLES_S = 1.2
"""So long a turn that was stopped may take to be written; the hub waits two seconds for all of it."""

WAITED_FOR_S = 120.0
"""So long after a conversation was let go of somebody may still stand there and wait for the rest."""

AT_REST = (Mode.IDLE, Mode.LISTENING)

Ordered = TypeVar("Ordered", bound=Asked)


class Mover:
    """Takes the commands of handoffs, one after the other.

    ``device`` is this one's id, ``host`` returns the broker's.
    """

    def __init__(
        self,
        floor: Floor,
        parts: Parts,
        recorder: Recorder,
        switcher: Switcher,
        device: str,
        host: Callable[[], str | None],
    ) -> None:
        self._floor = floor
        self._parts = parts
        self._recorder = recorder
        self._owned = recorder.owned
        self._switcher = switcher
        self._device = device
        self._host = host
        self._turnstile = asyncio.Lock()

    def link_changed(self, up: bool) -> None:
        """Note that the broker was reached, or lost."""
        self._owned.link_changed(up)

    def standing(self) -> tuple[str | None, int]:
        """Return the session that goes on here, or that would if the hub said so, and the epoch known of it."""
        session = self._recorder.session
        hold = self._owned.of(session.id) if session is not None else self._owned.unconfirmed()
        if session is not None:
            return session.id, hold.epoch if hold is not None else 0
        return (hold.session, hold.epoch) if hold is not None else (None, 0)

    @property
    def released(self) -> tuple[LetGo, ...]:
        """What was let go of lately, and for whom."""
        return self._owned.released

    async def release(self, order: Release) -> Reply:
        """Let go of a session and return it; what is being said in it stops."""
        return await self._answered(order, self._release)

    async def offer(self, order: Offer) -> Reply:
        """Keep a session without acting for it, or refuse it."""
        return await self._answered(order, self._offer)

    async def adopt(self, order: Adopt) -> Reply:
        """Go on with a session that was offered, or that comes back."""
        return await self._answered(order, self._adopt)

    async def _answered(self, order: Ordered, does: Callable[[Ordered], Awaitable[Reply]]) -> Reply:
        """Do what is ordered; whatever comes in between is the reply, with its code."""
        async with self._turnstile:
            try:
                await self._owned.recall()
                return await does(order)
            except RoomtoneError as error:
                code = error.reason
                log.warning("a conversation does not move: %s (%s)", error.message, code)
                return Reply(of=order.id, ok=False, code=code, message=error.message)

    # --------------------------------------------------------------------------------------------- it goes

    async def _release(self, order: Release) -> Reply:
        hold = self._owned.of(order.session)
        decision = on_release(hold, order, here=hold is None and await self._find(order.session) is not None)
        if decision.does is Does.SAME_BUNDLE:
            kept = await self._owned.bundle(order.session)
            if kept is None:
                raise _refused(Code.NOT_HERE)
            return self._sent(order, kept[0], await self._persona(kept[0].persona))
        if decision.does is Does.REFUSE or decision.hold is None:
            raise _refused(decision.code)
        session = await self._session(order.session)
        persona = await self._persona(session.persona)
        self._may_go(order, persona)
        return await self._let_go(order, decision.hold, session, persona)

    def _may_go(self, order: Release, persona: Persona) -> None:
        """Raise why the conversation cannot go now: nothing has been stopped yet."""
        if persona.egress is Egress.NONE:
            raise _refused(Code.PRIVATE, f"what is said to {persona.name} does not leave this room")
        with outbound.within(persona.egress):
            if not outbound.allows(self._host()):
                raise _refused(Code.PRIVATE, f"what is said to {persona.name} may not travel to {self._host()}")
        live, mode = self._floor.live, self._floor.state.mode
        talked_to = mode in (Mode.THINKING, Mode.INTERRUPT) or (mode is Mode.LISTENING and live is not None)
        if order.following and talked_to:
            raise _refused(Code.BUSY, "somebody is talking in this room")
        begins = live is not None and live.prompt is not None and live.stage is not Stage.SPEAKING
        if live is not None and live.prompt is not None and begins and not (live.heard or live.prompt.goes_on):
            raise _refused(Code.BUSY, "this room is about to say something of its own")
        if live is not None and live.prompt is not None and live.prompt.alarm is not None:
            raise _refused(Code.BUSY, "this room rings")
        if live is not None and live.prompt is not None and not live.leaving and live.prompt.chime:
            raise _refused(Code.BUSY, "this room is saying something from another")

    async def _let_go(self, order: Release, hold: Hold, session: Session, persona: Persona) -> Reply:
        unsaid = await self._stop(session, persona)
        left = self._leave(session)
        try:
            bundle = await self._bundle(order, left or await self._kept(session), persona, unsaid)
            reply = self._sent(order, bundle, persona)
            moves = keeping_moves(session.id, bundle.moves)
            await self._owned.write(hold, bundle, *letting_go(bundle.timers), *moves)
        except RoomtoneError:
            self._go_on(left)
            self._say_rest(unsaid, session.id)
            raise
        self._timers_moved()
        return reply

    def _leave(self, session: Session) -> Place | None:
        """Leave a session before it is bundled: what is said meanwhile belongs to another. Return where it stands."""
        place = self._recorder.place()
        self._recorder.leave(session.id)
        if place is None or place[0].id != session.id:
            return None
        return Place(session, *place[1:])

    def _go_on(self, left: Place | None) -> None:
        """Go on with what does not leave after all, unless something else was said meanwhile."""
        if left is not None and self._recorder.session is None:
            last_at = utc_now() - timedelta(seconds=left.idle_s)
            self._recorder.enter(Standing(left.session, left.turn, last_at, left.tips))

    async def _kept(self, session: Session) -> Place:
        kept = await self._parts.store.standing(session)
        return Place(session, kept.turns, kept.tips, max(0.0, (utc_now() - kept.last_at).total_seconds()))

    async def _stop(self, session: Session, persona: Persona) -> Unsaid:
        """Silence what is being said, and return what was not heard of it, or what was not answered at all."""
        waiting = self._waiting()
        live, asked, begun = self._floor.live, "", ""
        if live is not None and live.stage is Stage.THINKING and not live.leaving:
            asked, begun = ("", live.heard) if live.acted else (live.heard, "")
        if live is not None and live.acted:
            self._floor.take_in(Acted(live.number))
        if self._floor.state.mode is not Mode.IDLE:
            self._floor.take_in(Dismiss(Source.HUB, Ended.MOVED))
        await self._recorder.settled(SETTLES_S)
        person = await called(self._parts.store, session.id, self._switcher.speaker.skills)
        if waiting is not None:
            return replace(waiting, person=person)
        cut = self._recorder.cut_off or await cut_before_a_restart(self._parts.store, session.id)
        if live is not None and begun and not live.said:
            told = self._switcher.speaker.phrases.say("cut_off_agreeing", heard=begun.rstrip(".?!"))
            return Unsaid(rest_of(live.trace, told, whole=True), person=person)
        if cut is None or cut.turn.session != session.id or cut.turn.persona != persona.id:
            return Unsaid(asked=asked, person=person)
        rest = cut.rest()
        if rest is not None and rest.whole and not speakable(rest.text, self._parts.language):
            rest = None
        return Unsaid(rest, asked, person)

    def _waiting(self) -> Unsaid | None:
        """Return what came with the conversation and was not begun here yet: it goes on to the next room as it is."""
        live = self._floor.live
        begins = live.prompt if live is not None and live.stage is not Stage.SPEAKING else None
        for prompt in (begins, *self._floor.state.parked):
            if isinstance(prompt, Prompt) and prompt.goes_on and not prompt.verbatim:
                return Unsaid(asked=prompt.text)
            if isinstance(prompt, Prompt) and prompt.goes_on:
                return Unsaid(Rest(trace=prompt.goes_on, text=prompt.text, whole=not prompt.broken))
        return None

    async def _bundle(self, order: Release, place: Place, persona: Persona, unsaid: Unsaid) -> Bundle:
        moves = await self._owned.moves(place.session.id)
        moves.append(Move(source=self._device, target=order.target, epoch=order.epoch + 1))
        bundle = await bundled(self._parts.store, place, unsaid, moves)
        timers = await self._going(order, bundle)
        of_persona = {"persona_version": persona.version, "persona_content": persona.content}
        return bundle.model_copy(update={"timers": timers, **of_persona})

    async def _going(self, order: Release, bundle: Bundle) -> tuple[Timer, ...]:
        """Return the timers that go along: what was set here since another room has the session stays and rings."""
        known = self._owned.of(order.session)
        since = await self._owned.since(order.session) if known is not None and order.epoch > known.epoch else None
        return tuple(timer for timer in bundle.timers if since is None or timer.set_at <= since)

    def _sent(self, order: Release, bundle: Bundle, persona: Persona) -> Reply:
        """Return the reply with the bundle; the receipt tells that it leaves this machine. Raises EgressRefused."""
        trace = bundle.turns[-1].trace if bundle.turns else ""
        with outbound.within(persona.egress, self._parts.minds.receipts.note(trace, persona.id)):
            data = {"bundle": bundle.model_dump(mode="json")}
            outbound.leaving(self._host(), len(bundle.model_dump_json()), "text", "handoff")
        return Reply(of=order.id, data=data)

    # -------------------------------------------------------------------------------------------- it comes

    async def _offer(self, order: Offer) -> Reply:
        decision = on_offer(self._owned.of(order.session), order, hindrance=await self._hindrance(order))
        if decision.does is Does.REFUSE or decision.hold is None:
            raise _refused(decision.code)
        if decision.does is Does.KEEP:
            await self._owned.write(decision.hold, by_our_clock(order.bundle, utc_now() - under_way(order)))
        return Reply(of=order.id)

    async def _hindrance(self, order: Offer) -> str:
        """Return the code of why a conversation cannot go on here now, "" where it can."""
        state = self._floor.state
        talks = state.mode not in AT_REST or (state.turn is not None and not order.following)
        others = order.bundle.persona != self._switcher.speaker.persona.id
        if state.muted:
            return Code.MUTED
        if talks or (others and state.turn is not None):
            return Code.BUSY
        nobody = await self._who_is_missing(order.bundle.persona)
        return nobody.code if nobody is not None else ""

    async def _adopt(self, order: Adopt) -> Reply:
        hold = self._owned.of(order.session)
        here = await self._find(order.session) if hold is None else None
        decision = on_adopt(hold, order, here=here is not None)
        if decision.does is Does.REFUSE or decision.hold is None:
            raise _refused(decision.code)
        if decision.does is Does.CONFIRM:
            await self._confirm(order, hold, decision.hold)
            return Reply(of=order.id)
        kept = await self._owned.bundle(order.session)
        bundle = kept[0] if kept else order.bundle and by_our_clock(order.bundle, utc_now())
        if bundle is None:
            raise _refused(Code.NOT_HERE)
        nobody = await self._who_is_missing(bundle.persona)
        if nobody is not None and decision.does is Does.TAKE:
            raise nobody
        moves = [came_back(bundle, order, self._device)] if order.why else []
        statements = keeping(bundle, self._parts.room) + keeping_moves(order.session, moves)
        await self._owned.write(decision.hold, None, *statements)
        if nobody is None:
            await self._enter(bundle)
            self._speak(order, bundle)
        else:  # it has come home, where nobody can go on with it any more: its timers ring, and that is all
            self._timers_moved(bundle)
        return Reply(of=order.id)

    async def _confirm(self, order: Adopt, known: Hold | None, hold: Hold) -> None:
        """Go on as before, now that the hub says so; of an answer that was cut off for nothing, with its rest."""
        await self._owned.confirm(hold)
        if (here := self._recorder.session) is None or await self._owned.gives_way(here.id):
            await self._take_up(order.session)
        if known is None or known.epoch != order.epoch:  # the first time that it is told
            session = await self._session(order.session)
            unsaid = Unsaid()
            live = self._floor.live
            if order.why and self._recorder.cut_off is not None and (live is None or live.leaving):
                unsaid = await self._stop(session, self._switcher.speaker.persona)
            self._say_why(order)
            if order.speaks:
                self._say_rest(unsaid, session.id)

    async def _take_up(self, session: str) -> None:
        """Go on with a session of this device's own store, if it is still the one of who speaks here."""
        try:
            await self._recorder.go_on(session)
        except RoomtoneError as error:
            log.info("session %s is not gone on with: %s", session, error.message)

    async def _enter(self, bundle: Bundle) -> None:
        session = bundle.session
        if self._switcher.speaker.persona.id != bundle.persona:
            await self._switcher.switch(bundle.persona, Source.HUB, f"handoff of session {session.id}")
        silence = timedelta(seconds=bundle.idle_s + max(0.0, (utc_now() - bundle.at).total_seconds()))
        ours = session.model_copy(update={"room": self._parts.room, "ended": None})
        self._recorder.enter(Standing(ours, bundle.turn, utc_now() - silence, bundle.tips))
        self._timers_moved(bundle)
        heard = [turn for turn in bundle.turns if turn.heard and (turn.ended is not Ended.MOVED or turn.said)]
        if heard and heard[-1].offers is not None:
            self._floor.expect_an_answer()

    def _timers_moved(self, bundle: Bundle | None = None) -> None:
        self._parts.timers.moved(bundle.timers if bundle is not None else ())
        self._parts.feed.publish("timers.changed", source="moving")

    # --------------------------------------------------------------------------------------------- aloud

    def _speak(self, order: Adopt, bundle: Bundle) -> None:
        """Say why it came back, and the rest; who has nothing to go on with says that they are here.

        What comes much later, because the hub was off for long, is nothing that anybody waits for.
        """
        if utc_now() - bundle.at > timedelta(seconds=WAITED_FOR_S):
            return
        self._say_why(order)
        if not order.speaks:
            return
        unsaid = Unsaid(bundle.rest, bundle.asked)
        if unsaid.rest is None and not unsaid.asked and not order.why:
            self._say("handoff_here")
        self._say_rest(unsaid, bundle.session.id)

    def _say_rest(self, unsaid: Unsaid, session: str) -> None:
        rest = unsaid.rest
        if rest is not None:
            prompt = Prompt(rest.text, Source.HUB, verbatim=True, goes_on=rest.trace, broken=not rest.whole)
            self._floor.post(prompt)
        if unsaid.asked:
            self._floor.post(Prompt(unsaid.asked, Source.HUB, goes_on=session))

    def _say_why(self, order: Adopt) -> None:
        if order.why and order.speaks:
            self._say(refusal_phrase(order.why, back=True), room=order.room)

    def _say(self, phrase: str, **values: object) -> None:
        text = self._switcher.speaker.phrases.say(phrase, **values)
        self._floor.post(Prompt(text, Source.HUB, verbatim=True, kept=False))

    # ---------------------------------------------------------------------------------------- what there is

    async def _find(self, session: str) -> Session | None:
        try:
            found = await self._parts.store.session(session)
        except SessionNotFound:
            return None
        return found if found.id == session else None

    async def _session(self, session: str) -> Session:
        found = await self._find(session)
        if found is None:
            raise _refused(Code.NOT_HERE)
        return found

    async def _who_is_missing(self, persona: str) -> RoomtoneError | None:
        """Return why a persona cannot speak here; None where it can."""
        try:
            await self._persona(persona)
        except RoomtoneError as error:
            return error
        return None

    async def _persona(self, persona: str) -> Persona:
        ready = await self._parts.cast.ready(persona)
        return ready.persona


def _refused(code: str, told: str = "") -> HandoffRefused:
    return HandoffRefused(told or f"the conversation stays where it is ({code})", why=str(code))
