"""Announcements: a text, or a message as it was said, carried to one room or to all others, and what became of it.

Recorded messages are in memory alone, a few at a time, for as long as they are of use. Every hub process keeps those
that are on their way, since any of them may get the request that goes with one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from roomtone.core.errors import DeviceOffline, HouseError, HubGone, PayloadError
from roomtone.core.recorded import Recording, Recordings
from roomtone.core.wire import Announce, Code, Heard, Piece, Reply, Say, read
from roomtone.flow import task_group
from roomtone.hub.registry import Device, Registry
from roomtone.link import Inbound, Link

log = logging.getLogger(__name__)

KEPT_S = 120.0
"""So long a recorded message is kept for the request that carries it on."""

EACH = 2
"""Recorded messages of one device that are on their way at once."""

ARRIVES_S = 1.0
"""So long a request waits for the last piece of its message."""

REPLY_S = 1.2
"""So long a room may take to say that it will say something: who sent it waits for the answer to all of it."""

TEXT, SOUND = "announce", "intercom"
"""What a device can take, as its presence says."""


class Announcements:
    """Carries announcements over ``link`` to the devices of ``registry``."""

    def __init__(self, link: Link, registry: Registry) -> None:
        self._link = link
        self._registry = registry
        self._recordings = Recordings(KEPT_S, EACH)
        self._news = asyncio.Event()
        link.on(link.topics.device("+", "audio"), self.take, no_local=True)

    async def take(self, message: Inbound) -> None:
        """Take a piece of a recorded message. Raises PayloadError for one that fits nowhere."""
        sender = self._link.topics.device_of(message.topic) or ""
        self._recordings.add(read(Piece, message.payload), _now(), sender)
        self._news.set()

    async def announce(self, request: Announce, sender: str | None = None) -> Reply:
        """Let rooms say a text or play a message; the reply's data is ``wire.Heard``.

        ``sender`` is the device that asks, None for the house itself. A refusal is a reply too.
        """
        try:
            recording = await self._recorded(request, sender)
            targets = self._targets(request, sender)
            codes = await self._tell_all(request, recording, sender, targets)
        except HouseError as error:
            return Reply(of=request.id, ok=False, code=error.code, message=error.message)
        said = tuple(each.room for each, code in zip(targets, codes, strict=True) if not code)
        missed = tuple((each.room, code) for each, code in zip(targets, codes, strict=True) if code)
        return Reply(of=request.id, data=Heard(rooms=said, missed=missed).model_dump(mode="json"))

    def _targets(self, request: Announce, sender: str | None) -> list[Device]:
        """List one device of each room that is meant: two in one room would speak at once. Raises HouseError."""
        own = self._registry.get(sender) if sender is not None else None
        if request.to:
            target = self._registry.find(request.to)
            if own is not None and target.id == own.id:
                raise HouseError(f"{own.room} is where it was said", why=Code.ITSELF)
            return [target if target.id == request.to else self._speaker(target.room)]
        rooms = dict.fromkeys(each.room for each in self._registry.all() if own is None or each.room != own.room)
        return [self._speaker(room) for room in rooms]

    def _speaker(self, room: str) -> Device:
        """Return the device that speaks for a room: one that can, that is there, and that is free."""
        there = [each for each in self._registry.all() if each.room == room]
        return min(there, key=lambda each: (TEXT not in each.presence.capabilities, not each.online, _is_busy(each)))

    async def _recorded(self, request: Announce, sender: str | None) -> Recording | None:
        """Return the message of a request; None for a text. Raises PayloadError where it is not there in time."""
        if request.audio is None:
            if not request.text.strip():
                raise PayloadError("there is nothing to say: give a text, or a recorded message")
            return None
        try:
            async with asyncio.timeout(ARRIVES_S):
                while (found := self._recordings.get(request.audio, _now(), sender or "")) is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise PayloadError("the recorded message did not arrive as a whole; say it again") from None
        return found

    async def _tell_all(
        self, request: Announce, recording: Recording | None, sender: str | None, targets: Sequence[Device]
    ) -> list[str]:
        async with task_group() as group:
            tasks = [group.create_task(self._tell(request, recording, sender, each)) for each in targets]
        return [task.result() for task in tasks]

    async def _tell(self, request: Announce, recording: Recording | None, sender: str | None, target: Device) -> str:
        """Let one device say it; return "" where it does, else the code of why not, or not yet."""
        topics, can = self._link.topics, target.presence.capabilities
        if not target.online:
            return DeviceOffline.code
        if TEXT not in can or (recording is not None and SOUND not in can):
            return Code.UNKNOWN
        for piece in recording.in_order() if recording is not None else ():
            await self._link.publish(topics.device(target.id, "audio"), piece, expires_s=round(KEPT_S))
        order, reply_to = self._order(request, sender, target), topics.device(target.id, "reply")
        try:
            reply = await self._link.ask(
                topics.device(target.id, "command"), order, response_topic=reply_to, within_s=REPLY_S
            )
        except HubGone:  # nobody there: its last will is not here yet
            return DeviceOffline.code
        if not reply.ok:
            log.warning("%s does not say it: %s %s", target.id, reply.code, reply.message)
        return reply.code if reply.code or reply.ok else HouseError.code

    def _order(self, request: Announce, sender: str | None, target: Device) -> Say:
        """Return the command for one device. The same request makes the same command, which is done once."""
        own = self._registry.get(sender) if sender is not None else None
        able = request.persona in target.presence.personas
        return Say(
            id=f"{request.id[:31]}-{target.id[:32]}",
            text=request.text,
            audio=request.audio,
            persona=request.persona if able else None,
            sender=own.room if own is not None else "",
            answer_to=sender if request.answers else None,
            chime=True,
            urgent=request.urgent,
        )


def _is_busy(device: Device) -> bool:
    return device.state.state not in ("idle", "listening")


def _now() -> float:
    return asyncio.get_running_loop().time()
