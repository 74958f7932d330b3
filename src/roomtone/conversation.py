"""The conversation of one room: facts come in, the machine says what follows, and it is carried out here.

It owns the one turn task (and, in doubt, its rival's) and the waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from roomtone import logs
from roomtone.core.dialog import Ended, Source, Turn, Voice, new_id
from roomtone.core.effects import (
    Alive,
    Anticipate,
    Await,
    Become,
    Begin,
    Called,
    ChangeVolume,
    Chime,
    Commit,
    Drop,
    Duck,
    Hold,
    Patience,
    Record,
    Release,
    Rescue,
    Resume,
    SayAgain,
    Stop,
    Tell,
)
from roomtone.core.endpoint import Completeness
from roomtone.core.errors import RoomtoneError, StoreError
from roomtone.core.machine import Mode, State, step
from roomtone.core.signals import Muter, MuteToggled, Prompt, Signal, Timeout, TurnEnded, Wake
from roomtone.core.speakable import in_words
from roomtone.engines.audio import Loudspeaker
from roomtone.engines.stt import Hints
from roomtone.hand import Hand
from roomtone.hosting import Host
from roomtone.moving import Mover
from roomtone.parts import Manners, Parts
from roomtone.personas.cast import News, ReadyPersona
from roomtone.recorder import Recorder
from roomtone.routines.runs import RoutineRun
from roomtone.switching import Switcher
from roomtone.turn import take
from roomtone.turn.live import Chain, LiveTurn

log = logging.getLogger(__name__)

SOURCE = "conversation"

VOICED_WORTH_AN_ANSWER_S = 0.5
"""Voiced sound from which not understanding is admitted aloud; less is a cough or a chair."""

MUTED = "muted"
"""The key under which the store keeps that the household has switched the microphone off."""

STEPS_KEPT = 10_000
"""Of the last steps through the machine, the times are kept for the bench."""

LET_GO_S = 0.5
"""Who lets the button go has spoken: a short word is noticed a little later."""

SAME_BREATH_S = 0.35
"""Silence after a wake word from which a chime asks for more: whoever speaks on at once would only be disturbed."""

PARKED_S = 1.0
"""Quiet that someone who said "stop" gets before a waiting alarm speaks."""


class Conversation:
    """Reads the inbox for as long as it runs; everything it does comes out of ``machine.step``."""

    def __init__(self, parts: Parts, speaker: ReadyPersona, manners: Manners) -> None:
        self.parts = parts
        self._manners = manners
        self.state = State(open=manners.open, follows_up=manners.follow_up_s > 0)
        self.running = False
        self.step_times: deque[float] = deque(maxlen=STEPS_KEPT)
        self.recorder = Recorder(
            parts.store, parts.feed, parts.room, speaker.persona, self._spawn, one_session=manners.one_session
        )
        self._switcher = Switcher(
            parts.cast, speaker, self.recorder, parts.store, parts.feed, parts.room, self._spawn, self._tell_lost
        )
        self._hand = Hand(
            lambda: self.recorder.session, parts.store, parts.mouth, lambda: self.speaker.phrases, self.post
        )
        self._host = Host(parts, self.recorder, self._switcher, manners, self._spawn, self.post, self.erase)
        parts.quiet.speaker = lambda: self.speaker.persona
        parts.quiet.hand_off = self._host.hand_off
        self._health = {"stt": "ok", "tts": "ok"}
        self._group: asyncio.TaskGroup | None = None
        self._turns: dict[int, LiveTurn] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._not_understood = 0
        self._asked = False
        self._orders: dict[type, Callable[[Any], object]] = {
            Begin: self._begin,
            Anticipate: self._anticipate,
            Commit: self._commit,
            Stop: self._stop,
            Drop: self._drop,
            Called: lambda effect: parts.feed.publish("wake.heard", effect, source=SOURCE),
            Become: lambda effect: self._switcher.become(effect, parts.housed.answers),
            Record: self._record,
            Await: self._await,
            Chime: lambda effect: self._spawn(_harmless(self._chime, effect), "chime"),
            Rescue: lambda _: parts.ears.rescue(),
            Duck: lambda _: self._loudspeaker.duck(),
            Hold: lambda _: self._loudspeaker.pause(),
            Resume: lambda _: self._loudspeaker.resume(),
            Release: lambda effect: parts.ears.release(ends=effect.ends),
            Tell: self._hand.tell,
            SayAgain: lambda effect: self._spawn(_harmless(self._hand.say_again, effect), "saying again"),
            ChangeVolume: lambda effect: self._spawn(_harmless(self._hand.change_volume, effect), "volume"),
            Alive: lambda effect: effect.taken(),
        }

    @property
    def health(self) -> dict[str, str]:
        """``ok``, or what is wrong, for each part that a turn passes through."""
        return {**self._health, "ears": self.parts.ears.health, "store": self.recorder.health}

    @property
    def speaker(self) -> ReadyPersona:
        """Who the room speaks as now."""
        return self._switcher.speaker

    @property
    def runs(self) -> Mapping[str, RoutineRun]:
        """The routines under way, by the id of their runs."""
        return self._host.runner.runs

    @property
    def _loudspeaker(self) -> Loudspeaker:
        return self.parts.mouth.loudspeaker

    @property
    def live(self) -> LiveTurn | None:
        """The turn that has the floor."""
        return self._turns.get(self.state.turn or 0)

    def mover(self, device: str, host: Callable[[], str | None]) -> Mover:
        """Return what lets this conversation go to other rooms, and come from them, by the broker at a ``host``."""
        return Mover(self, self.parts, self.recorder, self._switcher, device, host)

    def place(self, live: LiveTurn | None = None) -> dict[str, object]:
        """Say for the log which turn is on (the one that has the floor, unless given) and the state; {} without."""
        live = live or self._turns.get(self.state.turn or 0)
        if live is None:
            return {}
        session = live.session or self.recorder.session
        return {
            "turn": live.in_session or None,
            "session": session.id if session else None,
            "trace": live.trace,
            "state": self.state.mode.value,
        }

    async def erase(self, since: datetime | None = None, asking: LiveTurn | None = None) -> int:
        """Forget what was said since a moment (see ``Recorder.erase``), also what is noted to be written later."""
        await self.parts.minds.ledger.flush()
        erased = await self.recorder.erase(since, asking)
        self.parts.feed.publish("history.erased", since, source=SOURCE)
        return erased

    async def reload(self) -> list[News]:
        """Take up what became of personas' files (see ``Switcher.reload``)."""
        return await self._switcher.reload()

    def post(self, signal: Signal) -> None:
        """Add a fact to the inbox."""
        self.parts.inbox.post(signal)

    async def run(self) -> None:
        """Be the conversation until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            if not self._manners.one_session:
                await self.recorder.resume()
            self._attend(self.state)
            if not self._manners.one_session:
                await self._recall_mute()
            self.running = True
            try:
                while True:
                    self.take_in(await self.parts.inbox.next())
            finally:
                self.running = False

    async def _recall_mute(self) -> None:
        """Leave the microphone off where the household had switched it off before a restart, and say so."""
        try:
            if await self.parts.store.kept(MUTED):
                self.take_in(MuteToggled())
        except StoreError as error:
            log.error("whether the microphone was off is not known: %s", error.message)

    def take_in(self, signal: Signal) -> None:
        """Let one fact have its effects."""
        begun = time.perf_counter()
        before = self.state
        self.state, effects = step(before, signal)
        for effect in effects:
            self._orders[type(effect)](effect)
        self._attend(before)
        self.step_times.append(time.perf_counter() - begun)

    def _attend(self, before: State) -> None:
        """Tell ears and feed where things stand now."""
        state = self.state
        ears = self.parts.ears
        ears.listens = not state.muted and (state.mode is not Mode.IDLE or state.open)
        ears.alert = state.mode is not Mode.IDLE
        ears.muted, ears.stops = state.muted, state.mode in (Mode.SPEAKING, Mode.INTERRUPT)
        ears.held = state.held
        live = self._turns.get(state.turn or 0)
        if live is not None:
            # Who goes on speaking may change what is asked: nothing is done meanwhile, and no next round is rung.
            live.free.clear() if state.mode is Mode.INTERRUPT else live.free.set()
        off = Muter.HOUSEHOLD in state.mutes
        if off is not (Muter.HOUSEHOLD in before.mutes):
            self.recorder.write(self.parts.store.keep(MUTED, off or None))
        if state.mode is not before.mode or state.muted is not before.muted:
            trace, cause = (live.trace, live.last_event) if live else (None, None)
            self.parts.feed.publish("state.changed", state, source=SOURCE, trace=trace, cause=cause)

    # ------------------------------------------------------------------------------------ effects

    def _begin(self, effect: Begin) -> None:
        live = LiveTurn(effect.turn, effect.utterance, effect.prompt, rival=self.state.rival == effect.turn)
        live.into_ring = live.rival and self.state.prompt is not None and self.state.prompt.alarm is not None
        carrier = self.parts.housed.carrier
        live.carries = live.utterance is not None and carrier is not None and carrier.waits()
        meant = live.into_ring or live.carries or self.state.back is Mode.THINKING
        live.stops_only = live.rival and not (self.state.open or meant)
        if effect.joined is not None:
            self._join(live, effect.joined)
        self._turns[effect.turn] = live
        self._tasks[effect.turn] = self._run(live)
        self._tell(live, "turn.begun")

    def _join(self, live: LiveTurn, earlier: int) -> None:
        before = self._turns.get(earlier)
        if before is None or before.acted or before.utterance is None or live.utterance is None:
            return
        live.utterance.continued_from(before.utterance)
        live.joined_text = before.heard

    def _run(self, live: LiveTurn) -> asyncio.Task[None]:
        """Start a turn's task. Its end is told by its callback, since a task may be cancelled before it began."""
        with logs.during(lambda: self.place(live)):
            task = self._spawn(self._take(live), f"turn {live.number}")
        task.add_done_callback(lambda _: self._ended(live))
        return task

    async def _take(self, live: LiveTurn) -> None:
        if self._switcher.pending is not None:
            await asyncio.wait([self._switcher.pending])
        await take(live, self._chain(live))

    def _ended(self, live: LiveTurn) -> None:
        live.watch.ended = asyncio.get_running_loop().time()
        self.post(TurnEnded(live.number))

    def _chain(self, live: LiveTurn) -> Chain:
        parts, speaker = self.parts, self.speaker
        return Chain(
            stt=parts.stt,
            mind=speaker.mind,
            skills=speaker.skills,
            phrases=speaker.phrases,
            mouth=parts.mouth,
            household=self._host.household(live),
            hints=self._hints(live),
            voice=lambda: self._voice(speaker, live),
            post=self.post,
            expect=self._expect,
            admits=self._admits,
            tell=self._tell,
            keep=lambda live: self.recorder.keep(live, self._loudspeaker.heard),
            kept=self.recorder.kept,
            note_health=self._health.__setitem__,
            outgoing=self._host.outgoing,
            choose=self._host.choose,
            anticipates=parts.minds.anticipates,
            ring_line=parts.timers.line,
            only_tells=parts.timers.only_tells,
            carrier=parts.housed.carrier,
            as_whom=self._host.as_whom,
        )

    def _voice(self, began: ReadyPersona, live: LiveTurn) -> Voice:
        """Return how a turn sounds: as who gives its answer or was switched to, and softer in quiet hours.

        An edit of a persona waits for the next turn: a voice does not change in mid-sentence.
        """
        speaker = began if self.speaker.persona.id == began.persona.id else self.speaker
        by = live.answer.by if live.answer is not None else None
        voice = (by or speaker.persona).voice
        return voice.model_copy(update={"volume": voice.volume * self.parts.quiet.volume()})

    def _hints(self, live: LiveTurn) -> Hints:
        speaker = self.speaker
        if live.rival:
            few = live.into_ring or live.stops_only  # of a few sentences "stop" is missed less often
            return speaker.ring_hints if few else speaker.rival_hints
        return speaker.asked_hints if self._asked else speaker.hints

    async def _chime(self, effect: Chime) -> None:
        """Chime, but not in quiet hours; a lost loudspeaker has been told of, and must not end the conversation."""
        if effect.waits:
            await asyncio.sleep(SAME_BREATH_S)
        if effect.call:
            await self.parts.housed.answers(effect.call)
        state = self.state
        waits_still = state.called and state.turn is None and state.call == effect.call
        if (effect.waits and not waits_still) or self.parts.quiet.now():
            return
        try:
            await self.parts.mouth.chime()
        except RoomtoneError as error:
            log.warning("no chime: %s", error.message)

    def _anticipate(self, effect: Anticipate) -> None:
        live = self._turns.get(effect.turn)
        if live is not None and live.utterance is not None:
            live.utterance.pause()

    def _expect(self, live: LiveTurn, completeness: Completeness) -> None:
        if live.number in (self.state.turn, self.state.rival):
            self.parts.ears.expect(completeness)

    def _commit(self, effect: Commit) -> None:
        live = self._turns.get(effect.turn)
        if live is None:
            return
        if self._switcher.pending is not None:  # its row belongs to who speaks then
            self._switcher.pending.add_done_callback(lambda _: self._commit(effect))
            return
        live.watch.committed = asyncio.get_running_loop().time()
        if live.utterance is not None and live.utterance.ended_at is not None:
            live.watch.last_speech = live.utterance.last_speech_at
            live.watch.committed = live.utterance.ended_at
        if live.prompt is None or live.prompt.kept:
            self.recorder.begin(live, self._loudspeaker.heard)
        live.committed.set()

    def _stop(self, effect: Stop) -> None:
        live = self._turns.get(effect.turn)
        if live is None:
            return
        live.ended = effect.how
        live.speech.stopped_at = self._loudspeaker.heard
        self._loudspeaker.stop()
        self._cancel(live)

    def _drop(self, effect: Drop) -> None:
        live = self._turns.pop(effect.turn, None)
        if live is None:
            return
        if live.speech.pieces:
            self._loudspeaker.stop()
        self.recorder.forget(live)
        self._cancel(live, heard_out=effect.heard_out)

    def _cancel(self, live: LiveTurn, *, heard_out: bool = False) -> None:
        if live.utterance is not None and not heard_out:
            self.parts.ears.abandon(live.utterance)
        task = self._tasks.pop(live.number, None)
        if task is not None:
            task.cancel()

    def _record(self, effect: Record) -> None:
        self._tasks.pop(effect.turn, None)
        live = self._turns.pop(effect.turn, None)
        if live is None or live.session is None:
            return
        with logs.during(lambda: self.place(live)):
            turn = self.recorder.close(live, self._loudspeaker.heard)
        in_vain = not turn.heard and turn.answered_by == "none" and turn.source is Source.VOICE
        self._not_understood = self._not_understood + 1 if in_vain else 0
        self._asked = turn.offers is not None if turn.heard else self._asked
        self._end_ring(live, turn)
        self._listen_for_message()
        outcome = Outcome(turn, live.prompt.ticket if live.prompt else None)
        self.parts.feed.publish("turn.ended", outcome, source=SOURCE, trace=turn.trace, cause=live.last_event)

    def _end_ring(self, live: LiveTurn, turn: Turn) -> None:
        """Note what became of something that rang; to who was just answered, tell what nobody heard."""
        timers = self.parts.timers
        if live.prompt is not None and live.prompt.alarm is not None:
            ring = timers.over(live.prompt.alarm, turn.ended)
            if ring is not None:
                self.recorder.write(timers.settle(ring, turn.ended))
        elif turn.heard and turn.spoken and turn.ended is Ended.COMPLETED:
            self.recorder.write(timers.tell_missed())

    def _listen_for_message(self) -> None:
        """Listen to who was told to go ahead, also in a room that listens to nobody after an answer."""
        carrier = self.parts.housed.carrier
        if carrier is not None and carrier.waits() and self.state.mode is Mode.IDLE and not self.state.muted:
            self.post(Wake(Source.HUB))

    def _await(self, effect: Await) -> None:
        manners, carrier = self._manners, self.parts.housed.carrier
        message = carrier is not None and carrier.waits()
        seconds = {
            Patience.CALLED: manners.called_s,
            Patience.FOLLOW_UP: max(manners.follow_up_s, manners.called_s) if message else manners.follow_up_s,
            Patience.LET_GO: LET_GO_S,
            Patience.PARKED: PARKED_S,
        }[effect.patience]
        asyncio.get_running_loop().call_later(seconds, self.post, Timeout(effect.wait))

    # -------------------------------------------------------------------------------------- rest

    def expect_an_answer(self) -> None:
        """Listen for a yes or a no: the room asks somebody something by itself."""
        self._asked = True

    def _admits(self, live: LiveTurn) -> bool:
        """Whether not having understood is worth saying: to someone who spoke, and not twice running."""
        voiced = live.utterance.voiced_s if live.utterance else 0.0
        return voiced >= VOICED_WORTH_AN_ANSWER_S and self._not_understood == 0

    def _tell_lost(self, persona: str) -> None:
        text = self.speaker.phrases.say("persona_lost", persona=in_words(persona), present=self.speaker.persona.name)
        self.post(Prompt(text, Source.SCHEDULE, verbatim=True))

    def _tell(self, live: LiveTurn, kind: str) -> None:
        snapshot = replace(live)
        event = self.parts.feed.publish(kind, snapshot, source=SOURCE, trace=live.trace, cause=live.last_event)
        live.last_event = event.id

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        assert self._group is not None
        return self._group.create_task(work, name=name)

    # ------------------------------------------------------------------------------------- asking

    async def answer(self, prompt: Prompt) -> Turn:
        """Post a prompt and return the turn that answered it."""
        ticket = new_id()
        with self.parts.feed.watch("turn.ended") as ended:
            self.post(replace(prompt, ticket=ticket))
            async for event in ended:
                if event.data.ticket == ticket:
                    turn: Turn = event.data.turn
                    return turn
        raise RoomtoneError("the conversation ended before it answered")


async def _harmless(work: Callable[[Any], Coroutine[Any, Any, None]], effect: Any) -> None:
    """Do what a turn can do without: where that fails the log has it, and the conversation goes on."""
    try:
        await work(effect)
    except Exception:
        log.exception("not done: %s", effect)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished turn on the feed, with the mark of whoever asked for it."""

    turn: Turn
    ticket: str | None
