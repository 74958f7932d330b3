"""Commands to this room over the link: each is done once, however often it comes, and each is answered.

What is refused is answered too, with a code and a sentence. What the broker has kept is no command: it would be
obeyed at every start. Nor is what waited there while the room was off: nobody wants to be woken by the "say" of an
hour ago.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, get_args

from pydantic import BaseModel

from roomtone.clock import utc_now
from roomtone.core.dialog import Source
from roomtone.core.errors import NewerVersion, PayloadError, PersonaNotFound, RoomtoneError, UsageError
from roomtone.core.rate import Bucket
from roomtone.core.signals import Dismiss, Muter, MuteSet, Prompt, Switch, Wake
from roomtone.core.wire import (
    COMMAND,
    Adopt,
    Ask,
    Code,
    Command,
    LetGo,
    Listen,
    Mute,
    Offer,
    Quieten,
    Release,
    Reply,
    Say,
    SetTimers,
    Stop,
    UsePersona,
    Volume,
    read,
)
from roomtone.edges.reach import Reach
from roomtone.link import Inbound, Link

log = logging.getLogger(__name__)

REMEMBERED = 200
"""Commands of which the reply is kept, should they come again."""

OF_USE_LATER = (Release, Offer, Adopt, SetTimers)
"""Commands that are obeyed however long they waited: they say by themselves what they are still good for."""

A_SECOND = 20.0
AT_ONCE = 40.0
"""Commands that a room takes: so many a second, and so many at once after a rest."""


class Mover(Protocol):
    """Lets conversations go and come. What it does is durable, and done once however often it is asked for."""

    def standing(self) -> tuple[str | None, int]:
        """Return the session that goes on here, and the epoch that is known of it."""

    @property
    def released(self) -> Sequence[LetGo]:
        """What was let go of lately, and for whom."""

    async def release(self, order: Release) -> Reply:
        """Let go of a session."""

    async def offer(self, order: Offer) -> Reply:
        """Keep a session without acting for it."""

    async def adopt(self, order: Adopt) -> Reply:
        """Go on with a session."""


class Unmoved:
    """A room whose conversations stay."""

    released: Sequence[LetGo] = ()

    def standing(self) -> tuple[str | None, int]:
        """Return that nothing is known."""
        return None, 0

    async def release(self, order: Release | Offer | Adopt) -> Reply:
        """Refuse."""
        return _refusal(order.id, Code.UNKNOWN, "conversations do not move from or to this room")

    offer = adopt = release


class Intercom(Protocol):
    """Says what comes from elsewhere in the house, and takes the answer back."""

    async def say(self, order: Say) -> Reply:
        """Say a text or a recorded message, now or when quiet hours are over; the reply's code tells."""


class Surroundings(Protocol):
    """The edge that commands belong to."""

    mover: Mover
    intercom: Intercom | None

    def look(self) -> None:
        """Tell the house soon where something has changed."""


class Commands:
    """Takes commands in the order in which they come."""

    def __init__(self, edge: Surroundings, device: str, link: Link, reach: Reach) -> None:
        self._edge = edge
        self._link = link
        self._reach = reach
        self._otherwise = link.topics.device(device, "reply")
        now = asyncio.get_running_loop().time()
        self._allowed, self._refused = Bucket(A_SECOND, AT_ONCE, now), Bucket(A_SECOND, A_SECOND, now)
        self._replies: OrderedDict[str, Reply] = OrderedDict()
        self._ways: dict[type, Callable[[Any], Awaitable[Reply | None]]] = {
            Say: self._say,
            Ask: self._ask,
            UsePersona: self._use,
            Volume: self._volume,
            Mute: self._mute,
            Quieten: self._quieten,
            Stop: self._stop,
            Listen: self._listen,
            SetTimers: self._timers,
            Release: lambda order: edge.mover.release(order),
            Offer: lambda order: edge.mover.offer(order),
            Adopt: lambda order: edge.mover.adopt(order),
        }

    async def take(self, message: Inbound) -> None:
        """Do what a message asks for, and answer it."""
        if message.retained:
            log.warning("a command that the broker kept is not obeyed; whoever sent it must not retain it")
            return
        now = asyncio.get_running_loop().time()
        if not self._allowed.take(now):
            if self._refused.take(now):  # a flood is not answered by another
                many = f"more than {A_SECOND:.0f} commands a second came; send them slower"
                await self._answer(message, _refusal(_id_of(message.payload), Code.TOO_MANY, many))
            return
        await self._answer(message, await self._reply(message.payload, waited=message.waited))
        self._edge.look()

    async def _answer(self, message: Inbound, reply: Reply) -> None:
        if not reply.ok:
            log.warning("a command is refused: %s %s", reply.code, reply.message)
        await self._link.answer(message, reply, self._otherwise)

    async def _reply(self, payload: bytes, *, waited: bool) -> Reply:
        try:
            command = parse(payload)
        except RoomtoneError as error:
            unknown = isinstance(error, PayloadError) and error.details.get("unknown")
            return _refusal(_id_of(payload), Code.UNKNOWN if unknown else error.code, error.message)
        known = self._replies.get(command.id)
        if known is not None:
            return known
        if waited and not isinstance(command, OF_USE_LATER):
            return _refusal(command.id, Code.TOO_LATE, "it waited while this room was away; send it again")
        reply = await self._do(command)
        if not isinstance(command, Release | Offer | Adopt):  # the mover's own disk knows of those
            self._replies[command.id] = reply
            if len(self._replies) > REMEMBERED:
                self._replies.popitem(last=False)
        return reply

    async def _do(self, command: Command) -> Reply:
        try:
            return await self._ways[type(command)](command) or Reply(of=command.id)
        except RoomtoneError as error:
            return _refusal(command.id, error.code, error.message)
        except Exception as error:
            log.exception("the command %s failed", command.do)
            text = f"the room failed at this ({type(error).__name__}); its log says why"
            return _refusal(command.id, "INTERNAL_ERROR", text)

    # ------------------------------------------------------------------------------------------- words

    async def _say(self, order: Say) -> Reply:
        if order.audio is None:
            _words(order.text)
        if self._edge.intercom is None:
            return _refusal(order.id, Code.UNKNOWN, "this room says nothing for others")
        return await self._edge.intercom.say(order)

    async def _ask(self, order: Ask) -> None:
        self._reach.post(Prompt(_words(order.text), Source.HUB))

    async def _use(self, order: UsePersona) -> None:
        known = [each.id for each in await self._reach.personas()]
        if order.persona not in known:
            raise PersonaNotFound(f"there is no persona '{order.persona}' here; choose one of {', '.join(known)}")
        self._reach.post(Switch(order.persona, Source.HUB, "asked for by the house"))

    # ------------------------------------------------------------------------------------------- knobs

    async def _volume(self, order: Volume) -> None:
        self._reach.loudspeaker.set_volume(order.volume)

    async def _mute(self, order: Mute) -> Reply | None:
        if not order.muted and Muter.SWITCH in self._reach.state().mutes:
            return _refusal(order.id, Code.MUTED, "the switch on the device has the microphone off")
        self._reach.post(MuteSet(order.muted))
        return None

    async def _quieten(self, order: Quieten) -> None:
        await self._reach.quiet.keep_for(order.minutes * 60)

    async def _stop(self, _: Stop) -> None:
        self._reach.post(Dismiss(Source.HUB))

    async def _listen(self, order: Listen) -> Reply | None:
        if self._reach.state().muted:
            return _refusal(order.id, Code.MUTED, "the microphone is off; switch it on first")
        self._reach.post(Wake(Source.HUB))
        return None

    async def _timers(self, order: SetTimers) -> None:
        timers = self._reach.timers
        if order.save:
            await timers.save([timer.by_clock(utc_now() - order.at) for timer in order.save])
        if order.cancel:
            await timers.cancel([timer for timer in await timers.running() if timer.id in order.cancel])


# ------------------------------------------------------------------------------------------------ parsing


class _Head(BaseModel):
    id: str = ""
    do: str | None = None


KINDS = {kind.model_fields["do"].default for kind in get_args(get_args(Command)[0])}


def parse(payload: bytes) -> Command:
    """Read a command. Raises PayloadError (``unknown`` among its details where only its kind is), NewerVersion."""
    try:
        return read(COMMAND, payload)
    except NewerVersion:
        raise
    except PayloadError:
        do = _head(payload).do
        if do is None or do in KINDS:
            raise
        known = ", ".join(sorted(KINDS))
        raise PayloadError(f"there is no command '{do[:40]}'; choose one of {known}", unknown=True) from None


def _head(payload: bytes) -> _Head:
    try:
        return read(_Head, payload)
    except PayloadError:
        return _Head()


def _id_of(payload: bytes) -> str:
    return _head(payload).id[:64]


def _refusal(of: str, code: str, message: str) -> Reply:
    return Reply(of=of, ok=False, code=code, message=message)


def _words(text: str) -> str:
    """Return a text that can be said. Raises UsageError for none."""
    if not text.strip():
        raise UsageError("there is no text to say")
    return text
