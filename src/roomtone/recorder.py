"""Keeps what is said: the session, the rows of its turns, and the graph of its messages.

A turn's row is written when it may answer, when it is understood, when its answer begins to be heard, again as its
sentences are heard, and closed when it has ended, so that a power cut leaves what was heard, said and spoken until
then. Writing hardly makes the conversation wait, and never ends it; what a full disk refused is kept once it can be.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from roomtone.clock import utc_now
from roomtone.core.dialog import Ended, Message, Role, Session, Stage, Turn, new_id
from roomtone.core.errors import RoomtoneError, SessionExpired, SessionNotFound
from roomtone.core.persona import Context, Persona, may_know
from roomtone.flow import Feed
from roomtone.handoff.bundling import CutOff
from roomtone.handoff.ownership import Ownership
from roomtone.mind import Answer
from roomtone.store import Standing, Store
from roomtone.turn.live import LiveTurn
from roomtone.writing import Closed, Said, Spawn, Writing

log = logging.getLogger(__name__)

PATIENCE_S = 0.25
"""A disk that takes longer than this to write a sentence does not keep an answer waiting."""


@dataclass(slots=True)
class _Open:
    """A turn being written: what the person said in it, once that is known; ``erased``: nothing of it stays.

    ``answer`` is the id that the message will have which answers it.
    """

    live: LiveTurn
    asked: Said | None = None
    answer: str = field(default_factory=new_id)
    erased: bool = False
    written: asyncio.Task[None] | None = None


class _Place(NamedTuple):
    """Where a conversation was left when another persona took over; ``last_at`` is the loop's time."""

    session: Session
    turns: int
    tips: tuple[str, ...]
    last_at: float


class Recorder:
    """Writes through ``spawn``, which runs a coroutine beside the conversation. ``health`` is ``ok`` or the trouble.

    A session belongs to a room and a persona, and what is said after its persona's retention has passed in silence
    belongs to another; with ``one_session`` nothing does. ``tips`` are its messages that none follows yet. ``owned``
    says which of those that were handed over may be gone on with. ``cut_off`` is the answer that nothing followed.
    """

    def __init__(
        self, store: Store, feed: Feed, room: str, persona: Persona, spawn: Spawn, *, one_session: bool = False
    ) -> None:
        self._session: Session | None = None
        self.tips: tuple[str, ...] = ()
        self.owned = Ownership(store)
        self.cut_off: CutOff | None = None
        self.closed = asyncio.Event()
        self.closed.set()
        self._store = store
        self._feed = feed
        self._room = room
        self._persona = persona
        self._one_session = one_session
        self._left: dict[str, _Place] = {}
        self._turns = 0
        self._last_at = 0.0
        self._open: dict[int, _Open] = {}
        self._writing = Writing(store, feed, spawn)
        self.write = self._writing.write

    @property
    def health(self) -> str:
        """``ok``, or why what is said is not kept."""
        return self._writing.health

    # ------------------------------------------------------------------------------------------ sessions

    @property
    def session(self) -> Session | None:
        """The session that goes on here; None before the first turn, and once it has expired."""
        return None if self._over() else self._session

    @property
    def _retention_s(self) -> float:
        return math.inf if self._one_session else self._persona.context_retention_hours * 3600

    async def change(self, persona: Persona) -> None:
        """Go on as another persona: in its own last conversation, in a fresh one, or behind what was just said."""
        if persona.id == self._persona.id:
            self._persona = persona
            return
        session = self.session
        if session is not None:
            self._left[self._persona.id] = _Place(session, self._turns, self.tips, self._last_at)
        tips = self.tips if session is not None and persona.context is Context.SHARED else ()
        self._persona, self._session, self.tips = persona, None, ()
        if persona.context is Context.OWN:
            await self._return(persona)
        elif tips:
            self._current_session()
            self.tips = tips

    async def _return(self, persona: Persona) -> None:
        """Take up a persona's last conversation: as it was left, or, in a new run, as it stands in the store."""
        left = self._left.pop(persona.id, None)
        if left is not None and self.owned.acts(left.session.id):
            self._session, self._turns, self.tips, self._last_at = left
        elif not self._one_session:
            await self.resume()

    async def resume(self) -> None:
        """Go on with the session in which this room last spoke as this persona; end those that have expired.

        What went to another room, or may have, is not this room's to go on with or to end; the one before it is not
        gone on with in its stead.
        """
        try:
            await self.owned.recall()
            found = await self._store.open_sessions(self._room, self._persona.id)
            ours = [each for each in found if self.owned.acts(each.id) or self.owned.waits(each.id)]
            standings = [await self._store.standing(session) for session in ours]
            for standing in filter(self._expired, standings):
                if not self.owned.acts(standing.session.id):
                    continue
                over = standing.last_at + timedelta(seconds=self._retention_s)
                await self._store.save_session(standing.session.model_copy(update={"ended": over}))
            live = [standing for standing in standings if not self._expired(standing)]
            last = max(live, key=lambda standing: standing.last_at, default=None)
            if last is not None and self._session is None and self.owned.acts(last.session.id):
                self._enter(last)
        except RoomtoneError as error:
            log.error("the last session is not gone on with: %s", error.message)

    async def go_on(self, session: str) -> None:
        """Go on with the session of an id. Raises SessionNotFound, SessionExpired, StoreError."""
        known = self.session
        if known is not None and session and known.id.startswith(session):
            return
        standing = await self._store.standing(await self._store.session(session))
        found = standing.session
        if (found.room, found.persona) != (self._room, self._persona.id):
            where = f"{found.room} with {found.persona}"
            raise SessionNotFound(f"session {session} is one of {where}; ask there", session=session)
        if not self.owned.acts(found.id):
            raise SessionNotFound(f"session {session} has gone to another room; ask there", session=session)
        if found.ended is not None or self._expired(standing):
            at = f"{standing.last_at.astimezone():%Y-%m-%d %H:%M}"
            raise SessionExpired(f"session {session} is over since {at}; ask without --session", session=session)
        self._enter(standing)

    def _expired(self, standing: Standing) -> bool:
        return (utc_now() - standing.last_at).total_seconds() > self._retention_s

    def _enter(self, standing: Standing) -> None:
        """Continue a session; how long ago its last turn was is told by the time of day, from here on by the loop."""
        ago = max(0.0, (utc_now() - standing.last_at).total_seconds())  # a clock that was set back counts as no time
        self._last_at = asyncio.get_running_loop().time() - ago
        self._session, self._turns, self.tips = standing.session, standing.turns, standing.tips

    def place(self) -> tuple[Session, int, tuple[str, ...], float] | None:
        """Return the session that goes on here, the number of its last turn, its tips, and its silence in seconds."""
        session = self.session
        if session is None:
            return None
        return session, self._turns, self.tips, asyncio.get_running_loop().time() - self._last_at

    def enter(self, standing: Standing) -> None:
        """Go on with a session that came from another room; what is being said belongs to the one before."""
        self._enter(standing)
        self._feed.publish("session.changed", standing.session.id, source="recorder")

    def leave(self, session: str) -> None:
        """Go on with a session no more: another room does. What is said next begins another."""
        self._left = {who: left for who, left in self._left.items() if left.session.id != session}
        if self._session is not None and self._session.id == session:
            self._session, self.tips, self.cut_off = None, (), None
        self._feed.publish("session.changed", None, source="recorder")

    async def settled(self, within_s: float) -> None:
        """Wait until every turn has ended and is written, as far as it can be, but no longer than that."""
        try:
            async with asyncio.timeout(within_s):
                await self.closed.wait()
                await self._writing.over()
        except TimeoutError:
            log.warning("what was said last is not written after %g s", within_s)

    def _over(self) -> bool:
        """Whether what comes is another conversation: so much silence has passed, or another room may go on."""
        return not self._open and (self._silent_too_long() or not self._is_ours())

    def _silent_too_long(self) -> bool:
        return asyncio.get_running_loop().time() - self._last_at > self._retention_s

    def _is_ours(self) -> bool:
        return self._session is None or self.owned.acts(self._session.id)

    def _current_session(self) -> Session:
        now = asyncio.get_running_loop().time()
        if self._session is not None and self._over():
            if self._is_ours():
                over = utc_now() - timedelta(seconds=now - self._last_at - self._retention_s)
                self.write(self._store.save_session(self._session.model_copy(update={"ended": over})))
            self._session = None
        if self._session is None:
            self._session = Session(room=self._room, persona=self._persona.id, started=utc_now())
            self.tips, self._turns, self._last_at = (), 0, now
        return self._session

    # --------------------------------------------------------------------------------------------- turns

    def begin(self, live: LiveTurn, heard: int) -> None:
        """Number a turn within its session and write its row; ``heard`` samples have left the loudspeaker."""
        live.session = self._current_session()
        self._turns += 1
        live.in_session = self._turns
        self._open[live.number] = _Open(live)
        self.closed.clear()
        if live.prompt is None:  # what was written rather than spoken is understood, and kept, in a moment
            self.keep(live, heard)

    def keep(self, live: LiveTurn, heard: int) -> None:
        """Write a turn as far as it is; at its first sound to the disk itself, with all that was written before.

        What a skill promises went there before that, and took the question with it: one file, in order.
        """
        entry = self._open.get(live.number)
        if entry is None or entry.erased:
            return
        said = [] if entry.asked is not None else self._asked(entry)
        durable = live.stage is Stage.SPEAKING and not live.speech.pieces
        turn = live.record(heard)
        entry.written = self.write(self._writing.keep(turn, said, live.session, durable), proves=True)

    async def kept(self, live: LiveTurn) -> None:
        """Wait until what a turn came to so far is written, or could not be; not longer than ``PATIENCE_S``."""
        entry = self._open.get(live.number)
        if entry is not None and entry.written is not None:
            await asyncio.wait([entry.written], timeout=PATIENCE_S)

    def close(self, live: LiveTurn, heard: int) -> Turn:
        """Write a turn for the last time, with what was said in it; return it."""
        turn = live.record(heard)
        self._last_at = asyncio.get_running_loop().time()
        entry = self._open.pop(live.number)
        self._note_end(live, turn, erased=entry.erased)
        if not entry.erased:
            asked = [entry.asked] if entry.asked is not None else self._asked(entry, turn)
            said = (*asked, *self._answered(entry, turn))
            assert live.session is not None
            self._writing.owed.append(Closed(turn, live.session, said))
            self.write(self._writing.settle(), proves=True)
        return turn

    def _note_end(self, live: LiveTurn, turn: Turn, *, erased: bool) -> None:
        if not live.leaving:  # who wanted to go to another room wants to hear the rest there
            cut = turn.ended in (Ended.INTERRUPTED, Ended.MOVED) and bool(turn.said) and not erased
            self.cut_off = CutOff(turn, live.whole) if cut else None
        if not self._open:
            self.closed.set()

    def before(self, live: LiveTurn) -> tuple[str, ...]:
        """Return the messages after which a turn answers: what its question follows, and what was answered since.

        A reply that the question cut short is kept after the question, as a branch beside it.
        """
        entry = self._open.get(live.number)
        if entry is None or entry.asked is None:
            return () if self._over() else self.tips
        message, parents = entry.asked
        cut_short = [reply.id for reply, _ in self._cut_short() if live.session is self._session]
        return (*parents, *_without(self.tips, message.id), *cut_short)

    @property
    def unkept(self) -> tuple[Said, ...]:
        """What was said and may not be in the store yet: a full disk may have refused it."""
        asked = [entry.asked for entry in self._open.values() if entry.asked is not None and not entry.erased]
        return (*(said for closed in self._writing.owed for said in closed.messages), *asked, *self._cut_short())

    def _cut_short(self) -> list[Said]:
        """Return the replies of this session that were stopped a moment ago, in turns that have not ended yet."""
        said: list[Said] = []
        for entry in self._open.values():
            live, stopped = entry.live, entry.live.speech.stopped_at
            if stopped is None or entry.asked is None or entry.erased or live.session is not self._session:
                continue
            turn = live.record(stopped)
            if turn.spoken:
                said.append((self._reply(entry, turn), (entry.asked[0].id,)))
        return said

    def forget(self, live: LiveTurn) -> None:
        """Take a turn back that was heard as part of another."""
        entry = self._open.pop(live.number, None)
        if not self._open:
            self.closed.set()
        if entry is None or live.session is None:
            return
        if live.session is self._session:
            self._turns -= live.in_session == self._turns
            if entry.asked is not None:
                message, parents = entry.asked
                self.tips = parents if self.tips == (message.id,) else _without(self.tips, message.id)
        self.write(self._store.drop_turn(live.record(0)))
        live.session = None

    async def erase(self, since: datetime | None = None, asking: LiveTurn | None = None) -> int:
        """Forget what was said since a moment, or ever, but for the turn that asks; return how many turns.

        Raises StoreError.
        """
        for entry in self._open.values():
            entry.erased = entry.erased or entry.live is not asking
        await self._writing.over()
        erased = await self._store.erase(since, asking.trace if asking else "", whole=asking is None)
        kept = [closed for closed in self._writing.owed if since is not None and closed.turn.at < since]
        self._writing.owed.clear()
        self._writing.owed.extend(kept)
        self._left.clear()
        self.cut_off = None
        if self._session is not None and (since is None or self._session.started >= since):
            self._session = None
        elif self._session is not None:
            self.tips = await self._store.tips(self._session.id)
        if asking is not None:
            self.write(self._store.shrink())  # who asked aloud is answered meanwhile
        return erased

    # ------------------------------------------------------------------------------------------ messages

    def _asked(self, entry: _Open, turn: Turn | None = None) -> list[Said]:
        """Return what the person said, once it is understood, as the next node of the graph."""
        live = entry.live
        if not live.heard or (live.stage is Stage.HEARING and turn is None):
            return []
        message = self._message(live, Role.PERSON, live.heard)
        entry.asked = (message, self.tips if live.session is self._session else ())
        if live.session is self._session:
            self.tips = (message.id,)
        return [entry.asked]

    def _answered(self, entry: _Open, turn: Turn) -> list[Said]:
        """Return what was said to it: behind the question, and behind all else that was said since.

        Where the question is no tip any more, somebody has already spoken on: the answer is a branch beside that.
        """
        if not turn.spoken:
            return []
        message = self._reply(entry, turn)
        asked = entry.asked[0].id if entry.asked is not None else None
        if entry.live.session is not self._session:
            self._answer_left(entry.live.session, message.id, asked)
            return [(message, (asked,) if asked else ())]
        if asked is None or asked in self.tips:
            parents, self.tips = self.tips, (message.id,)
        else:
            parents, self.tips = (asked,), (*self.tips, message.id)
        answer = entry.live.answer
        made_of = (*(answer.follows.values() if answer is not None else ()), *entry.live.nodes)
        return [(message, (*parents, *made_of))]

    def _answer_left(self, session: Session | None, message: str, asked: str | None) -> None:
        """Let a conversation that was left in mid-turn go on behind the answer, once somebody returns to it."""
        for persona, left in self._left.items():
            if left.session is session:
                tips = _without(left.tips, asked) if asked else left.tips
                self._left[persona] = left._replace(tips=(*tips, message))

    def _reply(self, entry: _Open, turn: Turn) -> Message:
        message = self._message(entry.live, Role.ROOMTONE, turn.spoken)
        more = _as_meant(turn, entry.live.answer)
        by = (entry.live.answer and entry.live.answer.by) or self._persona
        whose = message.persona if may_know(self._persona, by) else by.id  # nor is who speaks told of it later
        return message.model_copy(update={"id": entry.answer, "persona": whose, "data": {**message.data, **more}})

    def _message(self, live: LiveTurn, role: Role, text: str) -> Message:
        assert live.session is not None
        where = {"session": live.session.id, "persona": live.session.persona, "data": {"trace": live.trace}}
        return Message(role=role, text=text, at=utc_now(), **where)


def _as_meant(turn: Turn, answer: Answer | None) -> dict[str, Any]:
    """Return what a model is to know of an answer beside the words that were heard (see ``mind.context.Past``)."""
    data: dict[str, Any] = {}
    if turn.ended in (Ended.INTERRUPTED, Ended.DISMISSED, Ended.MOVED):
        data["cut"] = True
    elif turn.ended is Ended.COMPLETED and turn.said != turn.spoken:
        data["meant"] = turn.said
    if answer is not None and answer.told is not None:
        data["told"] = answer.told.model_dump(mode="json")
    return data


def _without(tips: tuple[str, ...], message: str) -> tuple[str, ...]:
    return tuple(tip for tip in tips if tip != message)
