"""What device and hub say to each other over MQTT: the topics, and the payload of each as a model.

A payload is JSON and carries ``v``, the version of this wire. Who reads one ignores fields that it does not know, and
refuses a payload whose ``v`` is higher than its own, by a code and not by silence. No payload tells a time that
another clock has to agree with: what matters is an age, in milliseconds, when it was sent.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from roomtone.core.arbitration import Kind
from roomtone.core.dialog import Message, Session, Timer, Turn, new_id, now
from roomtone.core.errors import NewerVersion, PayloadError

VERSION = 1

LONGEST = 256 * 1024
"""Bytes of the longest payload, that of a session which is handed over; the broker takes no longer one either."""

PIECE = 16 * 1024
"""Bytes of sound in one piece of a recorded message."""

LONGEST_MESSAGE_S = 30.0
"""A recorded message is no longer than this."""

Id = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]
Room = Annotated[str, Field(min_length=1, max_length=60)]
Words = Annotated[str, Field(max_length=10_000)]


# -------------------------------------------------------------------------------------------- topics


class Topics:
    """The topics of one home. ``device(id, what)`` and ``hub(what)``; ``+`` as an id subscribes to all."""

    def __init__(self, home: str) -> None:
        self.home = home
        self._root = f"roomtone/v1/{home}"

    def device(self, id_: str, what: str) -> str:
        """Return a device's topic: presence, state, turn, command, request, wake, reply or audio."""
        return f"{self._root}/device/{id_}/{what}"

    def hub(self, what: str = "presence") -> str:
        """Return a topic of the hub's own."""
        return f"{self._root}/hub/{what}"

    def shared(self, id_: str, what: str, group: str = "hub") -> str:
        """Return the filter under which several hub processes share what devices send: each gets its part.

        Who knows the ``group`` can join it and take a part away, even where the broker then lets nobody read that.
        """
        return f"$share/{group}/{self.device(id_, what)}"

    def device_of(self, topic: str) -> str | None:
        """Return whose topic it is; None for one that is no device's."""
        rest = topic.removeprefix(f"{self._root}/device/")
        return None if rest == topic else rest.partition("/")[0]


# ------------------------------------------------------------------------------------------ payloads


class Payload(BaseModel):
    """Base of every payload: frozen; fields of a later minor version are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: int = VERSION


class Presence(Payload):
    """A device, or with ``room`` None the hub: retained, and as its last will with ``online`` False.

    ``instance`` is one run of its program: two devices with one id are told apart by it. ``capabilities`` are what a
    device can take part in: ``handoff``, ``announce``, ``intercom``, ``timers``. ``personas`` are those it can speak
    as.
    """

    id: Id
    online: bool
    instance: str = ""
    room: Room | None = None
    name: str = Field("", max_length=60)
    version: str = Field("", max_length=40)
    capabilities: tuple[str, ...] = ()
    personas: tuple[str, ...] = Field((), max_length=200)


class LetGo(BaseModel):
    """A conversation that a device let go of in an epoch, for another device, in a handoff."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    session: str
    epoch: int = Field(ge=0)
    target: Id
    handoff: str = Field("", max_length=64)


class State(Payload):
    """How a device stands; retained. ``at`` is its clock when it was sent, by which its timers are read.

    ``session`` and ``epoch``: the conversation that it goes on with and the epoch it has seen of that. ``idle_s``:
    seconds since somebody was last answered here (None: nobody in this run). ``quiet``: quiet hours, or do not
    disturb. ``released``: what it let go of lately, so that a hub that lost its file gets it to one of the two rooms.
    ``heard`` and ``said`` are empty unless the household shares texts.
    """

    at: datetime = Field(default_factory=now)
    state: str = "idle"
    persona: str = ""
    volume: float = Field(0.5, ge=0, le=1)
    muted: bool = False
    listens: bool = True
    quiet: bool = False
    serves: bool = True
    session: str | None = None
    epoch: int = Field(0, ge=0)
    idle_s: float | None = None
    timers: tuple[Timer, ...] = Field((), max_length=100)
    released: tuple[LetGo, ...] = Field((), max_length=20)
    heard: Words = ""
    said: Words = ""


class Claim(Payload):
    """Somebody called, and this device heard it: how (``kind``), how surely (``score``) and how loud (``dbfs``).

    ``age_ms``: since the end of the word or the beginning of the speech, when this was sent. ``call`` is the sender's
    own name for it, by which it knows its claim again.
    """

    id: Id
    room: Room
    call: str = Field("", max_length=64)
    kind: Kind = Kind.WAKE
    age_ms: float = Field(0.0, ge=0, le=60_000)
    score: float = Field(0.0, ge=0)
    dbfs: float | None = Field(None, ge=-200, le=20)


class Asked(Payload):
    """Base of what wants a reply. ``id``: it is done once, however often it comes."""

    id: str = Field(default_factory=new_id, min_length=1, max_length=64)


class Reply(Payload):
    """The answer to what has the id ``of``: done (``ok``), or not, with a code and a sentence for a person."""

    of: str
    ok: bool = True
    code: str = ""
    message: str = ""
    data: dict[str, Any] = Field(default_factory=dict)


# ------------------------------------------------------------------------------------------ sessions


class Rest(Payload):
    """The part of an answer that was not spoken yet, of the turn ``trace``.

    Without ``whole`` its model had not finished it.
    """

    trace: str
    text: Words
    whole: bool = True


class Move(Payload):
    """One handoff of a session: from device to device, in which epoch, when and why."""

    source: Id
    target: Id
    epoch: int
    at: datetime = Field(default_factory=now)
    why: str = ""


class Bundle(Payload):
    """A session on its way: all that the next room needs to go on with it.

    ``edges`` are (child, parent) of ``messages``, ``tips`` those that none follows yet, ``turns`` the last rows and
    ``turn`` the number of the last. ``persona_content`` tells which files the persona had. ``person``: who said
    their name, or empty for the household. Facts are named by their ids in the turns (``recalled``): references.
    ``at`` is the sender's clock, by which all its times are read. ``summary`` tells what was said up to the message
    ``summary_upto``. ``asked`` is what somebody said and was not answered at all: the next room answers it.
    """

    at: datetime = Field(default_factory=now)

    session: Session
    persona: str
    persona_version: str = ""
    persona_content: str = ""
    turn: int = 0
    turns: tuple[Turn, ...] = Field((), max_length=50)
    messages: tuple[Message, ...] = Field((), max_length=400)
    edges: tuple[tuple[str, str], ...] = Field((), max_length=2000)
    tips: tuple[str, ...] = Field((), max_length=50)
    summary: str = ""
    summary_upto: str = ""
    rest: Rest | None = None
    asked: Words = ""
    timers: tuple[Timer, ...] = Field((), max_length=100)
    person: str = ""
    idle_s: float = 0.0
    moves: tuple[Move, ...] = Field((), max_length=200)


# ------------------------------------------------------------------------------------------ commands


class Say(Asked):
    """Speak a text, or the recorded message with the id ``audio``, in this device's voice and after a chime.

    ``answer_to`` is the device that an answer goes back to. ``urgent``: in quiet hours too. ``persona``: as that one.
    """

    do: Literal["say"] = "say"
    text: Words = ""
    audio: str | None = None
    persona: str | None = None
    sender: str = ""
    answer_to: Id | None = None
    chime: bool = False
    urgent: bool = False


class Ask(Asked):
    """Answer a text as if it had been heard."""

    do: Literal["ask"] = "ask"
    text: Words


class UsePersona(Asked):
    """Speak as another persona."""

    do: Literal["persona"] = "persona"
    persona: Id


class Volume(Asked):
    """Be so loud, 0 to 1."""

    do: Literal["volume"] = "volume"
    volume: float = Field(ge=0, le=1)


class Mute(Asked):
    """Switch the microphone off or on."""

    do: Literal["mute"] = "mute"
    muted: bool


class Quieten(Asked):
    """Do not disturb, for so many minutes (0 ends it)."""

    do: Literal["quiet"] = "quiet"
    minutes: int = Field(ge=0, le=24 * 60)


class Stop(Asked):
    """Be silent."""

    do: Literal["stop"] = "stop"


class Listen(Asked):
    """Listen, as if the button had been pressed."""

    do: Literal["listen"] = "listen"


class SetTimers(Asked):
    """Take over timers (``save``, new or changed), or cancel some by their ids.

    ``at`` is the sender's clock, by which countdowns are read: what they have left counts, not when they are due.
    """

    do: Literal["timer"] = "timer"
    at: datetime = Field(default_factory=now)
    save: tuple[Timer, ...] = Field((), max_length=100)
    cancel: tuple[str, ...] = Field((), max_length=100)


class Release(Asked):
    """Let go of a session: stop, write that down durably, and reply with the bundle (``data["bundle"]``)."""

    do: Literal["release"] = "release"
    handoff: str
    session: str
    epoch: int
    target: Id
    target_room: Room
    following: bool = False


class Offer(Asked):
    """Keep a session durably without acting for it yet; refuse where this room cannot serve it now.

    ``at`` is the hub's clock, as is that of the bundle's last move: what lies between is how long the hub had it.
    """

    do: Literal["offer"] = "offer"
    at: datetime = Field(default_factory=now)
    handoff: str
    session: str
    epoch: int
    bundle: Bundle
    following: bool = False


class Adopt(Asked):
    """Go on with a session that was offered, or that comes back: from now on this device acts for it.

    ``speaks``: say what the answer still lacks. ``bundle`` is there where it comes back, should the disk have
    lost it. ``why`` is a code where it comes back because the other room did not take it.
    """

    do: Literal["adopt"] = "adopt"
    handoff: str
    session: str
    epoch: int
    speaks: bool = True
    bundle: Bundle | None = None
    why: str = ""
    room: str = ""


Command = Annotated[
    Say | Ask | UsePersona | Volume | Mute | Quieten | Stop | Listen | SetTimers | Release | Offer | Adopt,
    Field(discriminator="do"),
]


# ------------------------------------------------------------------------------------------ requests


class HandOff(Asked):
    """Let a device's session go on in another room.

    ``to`` is a room or a device; ``session`` None is the present one.

    ``source`` is whose session it is, where that is not the device that asks.
    """

    ask: Literal["handoff"] = "handoff"
    to: Room
    session: str | None = None
    epoch: int = 0
    source: Id | None = None
    why: str = Field("", max_length=200)


class Follow(Asked):
    """Somebody called here: bring the conversation that another room had at most ``within_s`` ago, if one did."""

    ask: Literal["follow"] = "follow"
    within_s: float = Field(30.0, gt=0, le=600)


class Announce(Asked):
    """Say a text, or carry the recorded message ``audio``, to a room, or to every other one (``to`` empty)."""

    ask: Literal["announce"] = "announce"
    to: str = Field("", max_length=60)
    text: Words = ""
    audio: str | None = None
    persona: str | None = None
    urgent: bool = False
    answers: bool = True


class Where(Asked):
    """Tell which rooms there are and what goes on in each."""

    ask: Literal["where"] = "where"


class HouseTimers(Asked):
    """Tell what is to ring in the other rooms."""

    ask: Literal["timers"] = "timers"


class CancelTimers(Asked):
    """Cancel timers of other rooms by their ids."""

    ask: Literal["cancel_timers"] = "cancel_timers"
    timers: tuple[str, ...] = Field(max_length=100)


class Renew(Asked):
    """Renew this device's certificate, by a request (CSR, PEM) of the key that it has."""

    ask: Literal["renew"] = "renew"
    csr: str = Field(max_length=4000)


Request = Annotated[
    HandOff | Follow | Announce | Where | HouseTimers | CancelTimers | Renew,
    Field(discriminator="ask"),
]


# ------------------------------------------------------------------------------------------- answers


class Standing(Payload):
    """One room as the hub knows it."""

    id: Id
    room: Room
    name: str = ""
    online: bool = True
    state: str = ""
    persona: str = ""
    idle_s: float | None = None
    muted: bool = False
    quiet: bool = False


class Rooms(Payload):
    """The ``data`` of the reply to ``Where``: every room but the one that asks."""

    rooms: tuple[Standing, ...] = Field((), max_length=1000)


class Ringing(Payload):
    """A timer of another room. ``left_s``: seconds until it is due, by its own room's clock, when this was sent."""

    device: Id
    room: Room
    timer: Timer
    left_s: float


class Ringings(Payload):
    """The ``data`` of the reply to ``HouseTimers``."""

    timers: tuple[Ringing, ...] = Field((), max_length=1000)


class Heard(Payload):
    """The ``data`` of the reply to ``Announce``: rooms that say it now, and (room, code) of the others.

    The code ``DEVICE_QUIET`` is of a room that says it once it is quiet there no more.
    """

    rooms: tuple[str, ...] = ()
    missed: tuple[tuple[str, str], ...] = ()


class Piece(Payload):
    """One piece of a recorded message (Ogg Opus, mono): number ``n`` of ``of``, from 0."""

    id: str = Field(min_length=1, max_length=64)
    n: int = Field(ge=0, lt=64)
    of: int = Field(ge=1, le=64)
    seconds: float = Field(0.0, ge=0, le=LONGEST_MESSAGE_S + 1)
    sound: Base64Bytes


class Code(StrEnum):
    """Why something was not done, beside the codes of the error tree."""

    STALE = "STALE_EPOCH"
    NOT_HERE = "SESSION_NOT_HERE"
    MUTED = "DEVICE_MUTED"
    BUSY = "DEVICE_BUSY"
    QUIET = "DEVICE_QUIET"
    ITSELF = "SAME_DEVICE"
    VERSION = "NEWER_VERSION"
    PRIVATE = "EGRESS_REFUSED"
    UNKNOWN = "UNKNOWN_COMMAND"
    TOO_MANY = "TOO_MANY_COMMANDS"
    TOO_LATE = "COMMAND_TOO_LATE"


COMMAND: TypeAdapter[Command] = TypeAdapter(Command)
REQUEST: TypeAdapter[Request] = TypeAdapter(Request)


def plain(name: str) -> str:
    """Return a name as it would be said: lower case, words apart, no article."""
    words = re.sub(r"[^\w]+|_", " ", name.casefold()).split()
    articles = {"the", "a", "my", "our"}
    return " ".join(words[1:] if len(words) > 1 and words[0] in articles else words)


P = TypeVar("P")


def read(kind: type[P] | TypeAdapter[P], payload: bytes, longest: int = LONGEST) -> P:
    """Read a payload. Raises PayloadError for one that is too long or is none, NewerVersion for a later wire's."""
    if len(payload) > longest:
        raise PayloadError(f"a payload of {len(payload)} bytes is too long; at most {longest} are read")
    adapter = kind if isinstance(kind, TypeAdapter) else _adapter(kind)
    try:
        value = adapter.validate_json(payload)
    except ValidationError as error:
        version = _version(payload)
        if version > VERSION:
            raise _newer(version) from None
        detail = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, detail["loc"])) or "payload"
        raise PayloadError(f"{where}: {detail['msg'][:200]}") from None
    version = getattr(value, "v", VERSION)
    if version > VERSION:
        raise _newer(version)
    return value


def write(payload: Payload) -> bytes:
    """Write a payload as JSON."""
    return payload.model_dump_json().encode()


_adapters: dict[Any, TypeAdapter[Any]] = {}


def _adapter(kind: type[P]) -> TypeAdapter[P]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


class _Versioned(BaseModel):
    v: int = VERSION


def _version(payload: bytes) -> int:
    try:
        return _Versioned.model_validate_json(payload).v
    except ValidationError:
        return VERSION


def _newer(version: int) -> NewerVersion:
    return NewerVersion(f"a payload of version {version} came, this Roomtone reads up to {VERSION}; upgrade it")
