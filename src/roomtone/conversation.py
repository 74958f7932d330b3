"""The conversation of one room: facts come in, the machine says what follows, and it is carried out here.

It owns the one turn task (and, in doubt, its rival's), the session and the waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from roomtone.core.dialog import Message, Persona, Role, Session, Source, Turn, new_id
from roomtone.core.endpoint import Completeness
from roomtone.core.errors import RoomtoneError
from roomtone.core.machine import (
    Acted,
    Anticipate,
    Await,
    Begin,
    Chime,
    Commit,
    Drop,
    Duck,
    Effect,
    Hold,
    Mode,
    Patience,
    Prompt,
    Record,
    Resume,
    Signal,
    State,
    Stop,
    Timeout,
    TurnEnded,
    step,
)
from roomtone.ears import Ears
from roomtone.engines.audio import Loudspeaker
from roomtone.engines.stt import Hints, Stt
from roomtone.flow import Feed, Inbox
from roomtone.household import RoomHousehold
from roomtone.mind.phrases import Phrases
from roomtone.mind.sentences import Skills
from roomtone.mind.thinking import Mind
from roomtone.mouth import Mouth
from roomtone.store import Store
from roomtone.turn import Chain, LiveTurn, take

log = logging.getLogger(__name__)

SOURCE = "conversation"

SESSION_GAP_S = 600.0
"""Silence after which what is said next belongs to another conversation."""

VOICED_WORTH_AN_ANSWER_S = 0.4
"""Voiced sound from which not understanding is admitted aloud; less is a cough or a chair."""

PARKED_S = 1.0
"""Quiet that someone who said "stop" gets before a waiting alarm speaks."""


@dataclass(frozen=True, slots=True)
class Manners:
    """How a room behaves: who may begin, and how long it listens (seconds)."""

    open: bool = True
    follow_up_s: float = 6.0
    called_s: float = 8.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a conversation is made of."""

    ears: Ears
    stt: Stt
    mind: Mind
    skills: Skills
    phrases: Phrases
    mouth: Mouth
    household: RoomHousehold
    store: Store
    feed: Feed
    inbox: Inbox[Signal]
    persona: Persona
    room: str
    language: str


class Conversation:
    """Reads the inbox for as long as it runs; everything it does comes out of ``machine.step``."""

    def __init__(self, parts: Parts, manners: Manners) -> None:
        self._parts = parts
        self._manners = manners
        self.state = State(open=manners.open, follows_up=manners.follow_up_s > 0)
        self.session: Session | None = None
        self._group: asyncio.TaskGroup | None = None
        self._turns: dict[int, LiveTurn] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._turns_in_session = 0
        self._last_ended = 0.0
        self._not_understood = 0
        self.last_message: str | None = None
        self.step_times: list[float] = []
        self.running = False
        self.health = {"stt": "ok", "tts": "ok", "store": "ok"}
        self.hints = Hints(parts.language, parts.skills.grammar(), ())
        parts.household.session = lambda: self.session.id if self.session else None
        parts.household.on_act = lambda: self.post(Acted(self.state.turn or 0))

    @property
    def _loudspeaker(self) -> Loudspeaker:
        return self._parts.mouth.loudspeaker

    def post(self, signal: Signal) -> None:
        """Add a fact to the inbox."""
        self._parts.inbox.post(signal)

    async def run(self) -> None:
        """Be the conversation until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._attend(self.state)
            self.running = True
            try:
                while True:
                    self.take_in(await self._parts.inbox.next())
            finally:
                self.running = False

    def take_in(self, signal: Signal) -> None:
        """Let one fact have its effects."""
        begun = time.perf_counter()
        before = self.state
        self.state, effects = step(before, signal)
        for effect in effects:
            self._carry_out(effect)
        self._attend(before)
        self.step_times.append(time.perf_counter() - begun)
        del self.step_times[:-10_000]

    def _attend(self, before: State) -> None:
        """Tell ears and feed where things stand now."""
        state = self.state
        ears = self._parts.ears
        ears.muted = state.muted
        ears.listens = not state.muted and (state.mode is not Mode.IDLE or state.open)
        ears.alert = state.mode is not Mode.IDLE
        if state.mode is not before.mode or state.muted is not before.muted:
            live = self._turns.get(state.turn or 0)
            trace, cause = (live.trace, live.last_event) if live else (None, None)
            self._parts.feed.publish("state.changed", state, source=SOURCE, trace=trace, cause=cause)

    # ------------------------------------------------------------------------------------ effects

    def _carry_out(self, effect: Effect) -> None:
        orders: dict[type, Callable[[Any], object]] = {
            Begin: self._begin,
            Anticipate: self._anticipate,
            Commit: self._commit,
            Stop: self._stop,
            Drop: self._drop,
            Record: self._record,
            Await: self._await,
            Chime: lambda _: self._spawn(self._parts.mouth.chime(), "chime"),
            Duck: lambda _: self._loudspeaker.duck(),
            Hold: lambda _: self._loudspeaker.pause(),
            Resume: lambda _: self._loudspeaker.resume(),
        }
        orders[type(effect)](effect)

    def _begin(self, effect: Begin) -> None:
        live = LiveTurn(effect.turn, effect.utterance, effect.prompt, rival=self.state.rival == effect.turn)
        if effect.joined is not None:
            self._join(live, effect.joined)
        self._turns[effect.turn] = live
        self._tasks[effect.turn] = self._spawn(self._run_turn(live), f"turn {effect.turn}")
        self._tell(live, "turn.begun")

    def _join(self, live: LiveTurn, earlier: int) -> None:
        before = self._turns.get(earlier)
        if before is not None and before.utterance is not None and live.utterance is not None:
            live.utterance.continued_from(before.utterance)
            live.joined_text = before.heard

    async def _run_turn(self, live: LiveTurn) -> None:
        try:
            await take(live, self._chain())
        finally:
            live.watch.ended = asyncio.get_running_loop().time()
            self.post(TurnEnded(live.number))

    def _chain(self) -> Chain:
        parts = self._parts
        return Chain(
            stt=parts.stt,
            mind=parts.mind,
            skills=parts.skills,
            phrases=parts.phrases,
            mouth=parts.mouth,
            household=parts.household,
            hints=self.hints,
            voice=parts.persona.voice,
            post=self.post,
            expect=self._expect,
            admits=self._admits,
            tell=self._tell,
            keep=self._keep_open,
            note_health=self.health.__setitem__,
        )

    def _anticipate(self, effect: Anticipate) -> None:
        live = self._turns.get(effect.turn)
        if live is not None and live.utterance is not None:
            live.utterance.pause()

    def _expect(self, live: LiveTurn, completeness: Completeness) -> None:
        if live.number in (self.state.turn, self.state.rival):
            self._parts.ears.expect(completeness)

    def _commit(self, effect: Commit) -> None:
        live = self._turns.get(effect.turn)
        if live is None:
            return
        session = self.current_session()
        self._turns_in_session += 1
        live.in_session = self._turns_in_session
        live.watch.committed = asyncio.get_running_loop().time()
        if live.utterance is not None:
            live.watch.last_speech = live.utterance.last_speech_at
        live.session = session
        self._keep_open(live)
        live.committed.set()

    def _keep_open(self, live: LiveTurn) -> None:
        """Write a turn's row as far as it is: a power cut must not take what was said."""
        if live.session is not None:
            turn = live.record(self._loudspeaker.heard)
            self._spawn(self._keep(lambda: self._parts.store.save_turn(turn, closed=False)), "keep turn")

    def _stop(self, effect: Stop) -> None:
        live = self._turns.get(effect.turn)
        if live is None:
            return
        live.ended = effect.how
        live.speech.stopped_at = self._loudspeaker.heard
        self._loudspeaker.stop()
        self._cancel(effect.turn)

    def _drop(self, effect: Drop) -> None:
        self._turns.pop(effect.turn, None)
        self._cancel(effect.turn)

    def _cancel(self, number: int) -> None:
        task = self._tasks.pop(number, None)
        if task is not None:
            task.cancel()

    def _record(self, effect: Record) -> None:
        self._tasks.pop(effect.turn, None)
        live = self._turns.pop(effect.turn, None)
        if live is None or live.session is None:
            return
        turn = live.record(self._loudspeaker.heard)
        self._last_ended = asyncio.get_running_loop().time()
        self._not_understood = self._not_understood + 1 if not turn.heard and turn.source is Source.VOICE else 0
        messages = self._messages(turn)
        self._spawn(
            self._keep(lambda: self._parts.store.save_turn(turn, closed=True, messages=messages)), "keep turn"
        )
        ticket = live.prompt.ticket if live.prompt else None
        outcome = Outcome(turn, ticket)
        self._parts.feed.publish("turn.ended", outcome, source=SOURCE, trace=turn.trace, cause=live.last_event)

    def _keep_closed(self, turn: Turn) -> None:
        messages = self._messages(turn)
        write = partial(self._parts.store.save_turn, turn, closed=True, messages=messages)
        self._spawn(self._keep(write), "keep turn")

    def _messages(self, turn: Turn) -> list[tuple[Message, list[str]]]:
        """Return what was said in a turn as nodes of the graph, each behind the one before it."""
        messages: list[tuple[Message, list[str]]] = []
        for role, text in ((Role.PERSON, turn.heard), (Role.ROOMTONE, turn.spoken)):
            if text:
                parents = [self.last_message] if self.last_message else []
                message = Message(session=turn.session, role=role, text=text, persona=turn.persona)
                messages.append((message, parents))
                self.last_message = message.id
        return messages

    def _await(self, effect: Await) -> None:
        seconds = {
            Patience.CALLED: self._manners.called_s,
            Patience.FOLLOW_UP: self._manners.follow_up_s,
            Patience.PARKED: PARKED_S,
        }[effect.patience]
        asyncio.get_running_loop().call_later(seconds, self.post, Timeout(effect.wait))

    # -------------------------------------------------------------------------------------- rest

    def _admits(self, live: LiveTurn) -> bool:
        """Whether not having understood is worth saying: to someone who spoke, and not twice running."""
        voiced = live.utterance.voiced_s if live.utterance else 0.0
        return voiced >= VOICED_WORTH_AN_ANSWER_S and self._not_understood == 0

    def current_session(self) -> Session:
        """Return the session that what is said now belongs to, beginning one where need be."""
        now = asyncio.get_running_loop().time()
        if self.session is None or now - self._last_ended > SESSION_GAP_S:
            self.session = Session(room=self._parts.room, persona=self._parts.persona.id)
            self._turns_in_session = 0
            self.last_message = None
            self._last_ended = now
            session = self.session
            self._spawn(self._keep(lambda: self._parts.store.begin_session(session)), "keep session")
        return self.session

    def _tell(self, live: LiveTurn, kind: str) -> None:
        snapshot = replace(live)
        event = self._parts.feed.publish(kind, snapshot, source=SOURCE, trace=live.trace, cause=live.last_event)
        live.last_event = event.id

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        assert self._group is not None
        return self._group.create_task(work, name=name)

    async def _keep(self, write: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Write to the store; what cannot be kept is said in the log and does not end the conversation."""
        try:
            await write()
            self.health["store"] = "ok"
        except RoomtoneError as error:
            log.error("%s", error.message)
            self.health["store"] = error.message
            self._parts.feed.publish("store.failed", error, source=SOURCE)

    # ------------------------------------------------------------------------------------- asking

    async def answer(self, prompt: Prompt) -> Turn:
        """Post a prompt and return the turn that answered it."""
        ticket = new_id()
        with self._parts.feed.watch("turn.ended") as ended:
            self.post(replace(prompt, ticket=ticket))
            async for event in ended:
                if event.data.ticket == ticket:
                    turn: Turn = event.data.turn
                    return turn
        raise RoomtoneError("the conversation ended before it answered")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished turn on the feed, with the mark of whoever asked for it."""

    turn: Turn
    ticket: str | None
