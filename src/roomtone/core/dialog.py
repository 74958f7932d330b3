"""What was said, by whom, and what was really heard: the nouns of a conversation."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class Noun(BaseModel):
    """Base of everything here: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Role(StrEnum):
    """Who a message is from."""

    PERSON = "user"
    ROOMTONE = "assistant"
    TOOL = "tool"
    SYSTEM = "system"


class Source(StrEnum):
    """What started a turn."""

    VOICE = "voice"
    BUTTON = "button"
    SCHEDULE = "schedule"
    WEB = "web"
    HUB = "hub"
    CLI = "cli"


class Ended(StrEnum):
    """How a turn ended; ``moved``: the rest of its answer is for another room to say."""

    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    DISMISSED = "dismissed"
    FAILED = "failed"
    MOVED = "moved"


class Stage(StrEnum):
    """How far a turn came: to hearing, to thinking about what was heard, or to speaking."""

    HEARING = "hearing"
    THINKING = "thinking"
    SPEAKING = "speaking"


def new_id() -> str:
    """Return a fresh identifier (random, 32 hexadecimal digits)."""
    return uuid.uuid4().hex


def now() -> datetime:
    """Return the present, in UTC."""
    return datetime.now(UTC)


class Message(Noun):
    """One node of the graph of what was said; its parents stand in the store's table of edges."""

    id: str = Field(default_factory=new_id)
    session: str
    role: Role
    text: str
    at: datetime = Field(default_factory=now)
    persona: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)


class Session(Noun):
    """A stretch of conversation in one room: turns are numbered within it."""

    id: str = Field(default_factory=new_id)
    room: str
    persona: str
    started: datetime = Field(default_factory=now)
    ended: datetime | None = None


class Voice(Noun):
    """How a persona sounds. ``speed``, ``pitch`` and ``volume`` are factors, 1 being the voice's and the room's own.

    ``stability`` and ``similarity_boost``, 0 to 1, are for cloud voices that know them.
    """

    engine: str | None = None
    voice_id: str | None = None
    speed: float = Field(1.0, ge=0.5, le=2.0)
    pitch: float = Field(1.0, ge=0.5, le=2.0)
    volume: float = Field(1.0, ge=0.1, le=1.0)
    stability: float | None = Field(None, ge=0.0, le=1.0)
    similarity_boost: float | None = Field(None, ge=0.0, le=1.0)


class TurnError(Noun):
    """Why a turn failed: a stable code, and the sentence a person was told."""

    code: str
    message: str


class Latency(Noun):
    """Milliseconds of one turn; what did not happen is None.

    ``endpoint``: last sample of speech to the decision that it was the last. ``stt``, ``think``, ``tts``: that
    decision to the text, the text to the first word of the answer, that to its first sound. ``first_sound``:
    last sample of speech to the first sample of the reply handed to the loudspeaker. ``total``: to the turn's
    end. ``overhead``: ``first_sound`` less the union of the endpoint wait, every interval inside an engine, and
    the time in which the person went on speaking. ``saved``: how much earlier the answer came because work on it
    had begun in a pause of the person's.
    """

    endpoint: float | None = None
    stt: float | None = None
    think: float | None = None
    tts: float | None = None
    first_sound: float | None = None
    total: float | None = None
    overhead: float | None = None
    saved: float | None = None


class Tokens(Noun):
    """What language models took for something, in tokens, and in US dollars where their price is known."""

    read: int = 0
    cached: int = 0
    written: int = 0
    cost: float = 0.0

    def __add__(self, other: Tokens) -> Tokens:
        """Return both together."""
        cost = self.cost + other.cost
        return Tokens(
            read=self.read + other.read,
            cached=self.cached + other.cached,
            written=self.written + other.written,
            cost=cost,
        )


class Offer(Noun):
    """What a yes to the question that a turn ended in asks for: an intent of a skill, with its slots.

    With ``text`` instead: what that text asks for. With ``tool``: a run of that tool, ``slots`` its arguments.
    """

    skill: str = ""
    intent: str = ""
    tool: str = ""
    slots: dict[str, Any] = Field(default_factory=dict)
    text: str = ""


class Turn(Noun):
    """A finished turn: at once the store's row, the MQTT payload, the API's answer and the metric's sample."""

    turn: int
    trace: str
    session: str
    room: str
    persona: str
    source: Source
    heard: str = ""
    confidence: float | None = None
    intent: str | None = None
    recalled: list[str] = Field(default_factory=list)
    answered_by: str = "none"
    tokens: Tokens | None = None
    said: str = ""
    spoken: str = ""
    offers: Offer | None = None
    stage: Stage = Stage.HEARING
    ended: Ended = Ended.COMPLETED
    error: TurnError | None = None
    reply_wav: str | None = None
    latency_ms: Latency = Latency()
    at: datetime = Field(default_factory=now)


class TimerKind(StrEnum):
    """What a timer is to the household."""

    TIMER = "timer"
    ALARM = "alarm"
    REMINDER = "reminder"


class Timer(Noun):
    """What rings in the room at ``due``: a countdown, an alarm, a reminder (``name`` is then its text).

    ``seconds`` is the length of a countdown; 0 is for what was set to a time of day. ``repeat`` is a cron expression
    of five fields in the household's time zone. ``paused_s``: seconds left since it was paused. ``missed``: it has
    rung and nobody heard it. Times are UTC. ``session``: the conversation it was set in, with which it moves to
    another room; ``person``: who said their name in it, or empty for the household.
    """

    id: str = Field(default_factory=new_id)
    kind: TimerKind = TimerKind.TIMER
    name: str = ""
    seconds: int = Field(0, ge=0)
    set_at: AwareDatetime = Field(default_factory=now)
    due: AwareDatetime
    repeat: str | None = None
    paused_s: int | None = Field(None, ge=0)
    missed: bool = False
    session: str = ""
    person: str = ""

    def by_clock(self, ahead: timedelta) -> Timer:
        """Return it by a clock that is so much ahead: a countdown has as much left, a time of day stays as it is."""
        later = {"due": self.due + ahead, "set_at": self.set_at + ahead} if self.seconds else {}
        return self.model_copy(update=later)


class HandStopwatch(Noun):
    """The household's stopwatch: ``run_s`` seconds until it was last stopped, and since ``started`` (UTC) it runs.

    ``laps`` are the seconds at which each was taken.
    """

    started: datetime | None = None
    run_s: float = Field(0.0, ge=0)
    laps: list[float] = Field(default_factory=list)

    def reading(self, at: datetime) -> float:
        """Return the seconds it shows at a moment; a clock that was set back in between takes nothing away."""
        return self.run_s + (max(0.0, (at - self.started).total_seconds()) if self.started else 0.0)


class Item(Noun):
    """One line of a household's list. ``removed``: it is off the list since then, and can be put back."""

    id: str = Field(default_factory=new_id)
    list: str
    text: str
    added: datetime = Field(default_factory=now)
    removed: datetime | None = None
