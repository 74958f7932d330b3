"""A turn while it runs, and what it is made of: the nouns of ``turn``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from roomtone.clock import utc_now
from roomtone.core.dialog import Ended, Latency, Session, Source, Stage, Turn, TurnError, Voice, new_id
from roomtone.core.endpoint import Completeness
from roomtone.core.errors import RoomtoneError
from roomtone.core.machine import State
from roomtone.core.persona import Persona
from roomtone.core.signals import Prompt, Signal
from roomtone.engines.stt import Hints, Transcript
from roomtone.failover import SttLine
from roomtone.mind import Answer, Household
from roomtone.mind.phrases import Phrases
from roomtone.mind.sentences import Skills
from roomtone.mind.thinking import Mind
from roomtone.mouth import Mouth, Speech
from roomtone.stopwatch import Stopwatch
from roomtone.turn.carrying import Carrier
from roomtone.turn.choosing import Chosen
from roomtone.utterance import Utterance


@dataclass(slots=True)
class LiveTurn:
    """A turn while it runs. Everything that its record needs is here, outside the task that may be cancelled.

    ``committed``: it may answer. ``free``: nobody is going on with what they asked. ``acted``: it changed something.
    ``into_ring``: it is a rival of something that rings, where any word means that it was heard. ``stops_only``: it
    is a rival of speech in a room that wants to be called, where only "stop" and the like are meant for it. ``nodes``
    are the messages that were left on the way to its answer, by what a model planned. ``carries``: what is said in it
    is a message to another room. ``leaving``: the conversation goes to another room by it. ``whole``: its answer was
    made to the end, whether or not it was heard to it.
    """

    number: int
    utterance: Utterance | None = None
    prompt: Prompt | None = None
    rival: bool = False
    into_ring: bool = False
    stops_only: bool = False
    carries: bool = False
    leaving: bool = False
    whole: bool = False
    joined_text: str | None = None
    trace: str = field(default_factory=new_id)
    committed: asyncio.Event = field(default_factory=asyncio.Event)
    free: asyncio.Event = field(default_factory=asyncio.Event)
    acted: bool = False
    session: Session | None = None
    in_session: int = 0
    transcript: Transcript | None = None
    said: str = ""
    answer: Answer | None = None
    speech: Speech = field(default_factory=Speech)
    watch: Stopwatch = field(default_factory=Stopwatch)
    ended: Ended = Ended.COMPLETED
    error: TurnError | None = None
    last_event: int | None = None
    nodes: list[str] = field(default_factory=list)

    @property
    def heard(self) -> str:
        """What is being answered: the text understood so far, or the prompt's; nothing of what is for others."""
        if self.carries:
            return ""
        if self.prompt is not None:
            return "" if self.prompt.verbatim or self.prompt.routine else self.prompt.text
        return self.transcript.text if self.transcript else ""

    @property
    def source(self) -> Source:
        """What started it."""
        return self.prompt.source if self.prompt else Source.VOICE

    @property
    def stage(self) -> Stage:
        """How far it has come."""
        if self.watch.first_sound is not None:
            return Stage.SPEAKING
        return Stage.HEARING if self.watch.understood is None else Stage.THINKING

    def _latency(self) -> Latency:
        saved = self.answer.saved_s if self.answer else None
        measured = self.watch.latency()
        return measured if saved is None else measured.model_copy(update={"saved": round(saved * 1000, 3)})

    def fail(self, error: RoomtoneError) -> None:
        """Note why it failed."""
        self.ended = Ended.FAILED
        self.error = TurnError(code=error.code, message=error.message)

    def record(self, heard_samples: int) -> Turn:
        """Return the turn as it is stored and published, ``heard_samples`` having left the loudspeaker so far."""
        session = self.session
        assert session is not None, "only a committed turn is recorded"
        return Turn(
            turn=self.in_session,
            trace=self.trace,
            session=session.id,
            room=session.room,
            persona=session.persona,
            source=self.source,
            heard=self.heard,
            confidence=self.transcript.confidence if self.transcript and self.transcript.text else None,
            intent=self.answer.intent if self.answer else None,
            recalled=list(self.answer.recalled) if self.answer else [],
            answered_by=self.answer.answered_by if self.answer else "none",
            tokens=self.answer.tokens if self.answer else None,
            said=self.said.strip(),
            spoken=self.speech.spoken(heard_samples),
            offers=self.answer.offers if self.answer else None,
            stage=self.stage,
            ended=Ended.MOVED if self.leaving and self.ended is Ended.COMPLETED else self.ended,
            error=self.error,
            latency_ms=self._latency(),
            at=utc_now(),
        )


@dataclass(frozen=True, slots=True)
class Chain:
    """What a turn is made of: the parts it passes through, and where its facts go."""

    stt: SttLine
    mind: Mind
    skills: Skills
    phrases: Phrases
    mouth: Mouth
    household: Household
    hints: Hints
    voice: Callable[[], Voice]
    post: Callable[[Signal], None]
    expect: Callable[[LiveTurn, Completeness], None]
    admits: Callable[[LiveTurn], bool]
    tell: Callable[[LiveTurn, str], None]
    keep: Callable[[LiveTurn], None]
    kept: Callable[[LiveTurn], Awaitable[None]]
    note_health: Callable[[str, str], None]
    outgoing: Callable[[LiveTurn], AbstractContextManager[None]]
    choose: Callable[[LiveTurn], Awaitable[Chosen | None]]
    anticipates: bool
    ring_line: Callable[[str], str | None]
    only_tells: Callable[[str], bool]
    carrier: Carrier | None
    as_whom: Callable[[str | None], Awaitable[Persona | None]]


class Floor(Protocol):
    """The conversation, as far as one that moves needs it."""

    @property
    def state(self) -> State:
        """Where things stand."""

    @property
    def live(self) -> LiveTurn | None:
        """The turn that has the floor."""

    def take_in(self, signal: Signal) -> None:
        """Let a fact have its effects at once."""

    def post(self, signal: Signal) -> None:
        """Let a fact have its effects after those that came before it."""

    def expect_an_answer(self) -> None:
        """Listen for a yes or a no."""
