"""A room joins the house: its link, its edge and its neighbours, for as long as it runs.

Whatever is wrong with the house, the room goes on by itself: nothing in here ends the voice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from roomtone.app import Room
from roomtone.core.errors import ConfigError, RoomtoneError
from roomtone.core.wire import Topics
from roomtone.edges.claims import Claims
from roomtone.edges.following import Following
from roomtone.edges.home_assistant import HomeAssistant
from roomtone.edges.mqtt import Edge, Identity
from roomtone.edges.neighbourhood import Neighbourhood
from roomtone.edges.reach import Reach
from roomtone.edges.renewal import keep_renewed
from roomtone.enrolling import known, membership
from roomtone.flow import beside
from roomtone.intercom import Intercom, can_carry
from roomtone.link import Link
from roomtone.link.outbox import Outbox
from roomtone.mind.house import Alone
from roomtone.parts import at_once
from roomtone.settings import Hub

log = logging.getLogger(__name__)

LONGEST_ID = 64
"""Characters of a device's id, as the wire has it."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A room in its house.

    ``hub`` is what the configuration says of the house, and else what joining it left. ``identity`` is what its
    presence tells (``identity.capabilities`` may be added to before the link is up),
    ``edge.mover`` and ``edge.intercom`` take commands, ``house`` is what skills see, ``on_link`` is who is told when
    the link is up, and when it is gone.
    """

    room: Room
    hub: Hub
    identity: Identity
    link: Link
    edge: Edge
    house: Neighbourhood
    on_link: list[Callable[[bool], None]]


Member = Callable[[Joined], Coroutine[Any, Any, None] | None]
"""Takes part in the house: it is called before the link is up; what it returns runs for as long as the room is in."""


def _intercom(whole: Joined) -> Coroutine[Any, Any, None]:
    """Let messages be carried as they are said."""
    device, house = whole.room.settings.device.id, whole.house
    member = Intercom(whole.room.parts, device, whole.link, lambda: house, house.deliver)
    house.messages = whole.edge.intercom = member
    if can_carry():
        whole.identity.capabilities.add("intercom")
    return member.run()


def _home_assistant(whole: Joined) -> Coroutine[Any, Any, None]:
    """Let Home Assistant find the room."""
    member = HomeAssistant(whole.link, whole.hub, whole.identity.presence)
    whole.on_link.append(member.link_changed)
    return member.run()


def _moving(whole: Joined) -> None:
    """Let conversations go to other rooms, and come from them."""
    mover = whole.room.conversation.mover(whole.identity.id, lambda: whole.link.host)
    whole.edge.mover = mover
    whole.on_link.append(mover.link_changed)
    whole.identity.capabilities.add("handoff")
    whole.room.parts.minds.tools.rooms_there = lambda: bool(whole.house.rooms())


def _claims(whole: Joined) -> Coroutine[Any, Any, None]:
    """Let only one room answer whom several heard."""
    room = whole.room
    claims = Claims(
        whole.link,
        room.settings.device.id,
        room.parts.room,
        room.feed,
        room.conversation.post,
        can_serve=lambda: can_serve(room),
        others_online=whole.house.others_online,
    )
    room.parts.housed.answers = claims.answers
    return claims.run()


def _following(whole: Joined) -> Coroutine[Any, Any, None] | None:
    """Bring the conversation of another room to whoever calls here soon after leaving that one."""
    if not whole.hub.follow_s:
        return None
    return Following(whole.room.feed, whole.hub.follow_s, whole.house.follow, whole.edge.idle_s).run()


def _renewing(whole: Joined) -> Coroutine[Any, Any, None] | None:
    """Renew the certificate that joining left, where that is the one in use."""
    folder = whole.room.store.path.parent / "hub"
    if whole.hub.cert != folder / "cert.pem":
        return None
    return keep_renewed(whole.link, whole.identity.id, folder)


MEMBERS: tuple[tuple[str, Member], ...] = (
    ("moving", _moving),
    ("intercom", _intercom),
    ("home assistant", _home_assistant),
    ("claims", _claims),
    ("following", _following),
    ("renewing", _renewing),
)
"""Who takes part, by the name of its task."""


@asynccontextmanager
async def joined(
    room: Room, *, link_of: Callable[..., Link] = Link, members: tuple[tuple[str, Member], ...] = MEMBERS
) -> AsyncIterator[Joined]:
    """Be in the house for as long as the context lasts; ``room.parts.housed.house`` is it.

    Raises ConfigError where what joining it left cannot be read, or the device's id is too long.
    """
    whole = _compose(room, link_of)
    await whole.edge.prepare()
    await whole.house.recall()
    async with AsyncExitStack() as stack:
        for name, member in (("mqtt", _edge), *members):
            work = member(whole)
            if work is not None:
                await stack.enter_async_context(beside(_harmless(work, name), name))
        stack.enter_context(_housed(room, whole))
        await stack.enter_async_context(beside(_harmless(whole.link.run(), "link"), "link"))
        yield whole


def _edge(whole: Joined) -> Coroutine[Any, Any, None]:
    return whole.edge.run()


@contextmanager
def _housed(room: Room, whole: Joined) -> Iterator[None]:
    """Let skills see the other rooms, and who asks for the room's health that of its link."""
    housed = room.parts.housed
    housed.house, housed.health = whole.house, lambda: _health(whole)
    try:
        yield
    finally:
        housed.house, housed.health, housed.answers = Alone(room.parts.room), None, at_once


def _health(whole: Joined) -> str:
    own = whole.edge.health
    return own if own != "ok" else whole.house.health


def _compose(room: Room, link_of: Callable[..., Link]) -> Joined:
    settings, folder = room.settings, room.store.path.parent
    hub, identity = known(settings.hub, folder), Identity(settings.device)
    if len(settings.device.id) > LONGEST_ID:
        raise ConfigError(
            f"device.id has more than {LONGEST_ID} characters, which the house does not take; shorten it"
        )
    on_link: list[Callable[[bool], None]] = []

    def change(up: bool) -> None:
        for tell in on_link:
            tell(up)

    link = link_of(
        hub,
        settings.device.id,
        identity.presence,
        Topics(hub.home).device(settings.device.id, "presence"),
        Outbox(room.store),
        on_change=change,
        folder=folder / "hub",
    )
    edge = Edge(identity, link, hub, reach_of(room))
    house = Neighbourhood(identity, link, room.store, edge.standing)
    on_link.append(edge.link_changed)
    return Joined(room, hub, identity, link, edge, house, on_link)


def reach_of(room: Room) -> Reach:
    """Return what the edge may do in a room."""
    parts, conversation = room.parts, room.conversation
    return Reach(
        post=conversation.post,
        feed=room.feed,
        state=lambda: conversation.state,
        speaker=lambda: conversation.speaker.persona,
        personas=parts.cast.all,
        loudspeaker=parts.mouth.loudspeaker,
        quiet=parts.quiet,
        timers=parts.timers,
        serves=lambda: can_serve(room),
        note=parts.minds.receipts.note,
    )


def can_serve(room: Room) -> bool:
    """Say whether a room can hear, understand and speak: an engine that failed twice counts again after its rest."""
    now = asyncio.get_running_loop().time()
    lines = (room.parts.stt.places, room.synthesiser.places)
    hears = room.device.health == "ok" and room.parts.ears.health == "ok"
    return hears and all(any(place.rests_until <= now for place in places) for places in lines)


async def join_the_house(room: Room) -> None:
    """Be in the house for as long as this runs; where the room neither joined one nor is to join, return at once."""
    try:
        if (await membership(room.settings)).url is None:
            return
        async with joined(room):
            await asyncio.Event().wait()
    except RoomtoneError as error:
        trouble = error.message
        log.error("this room is on its own: %s", trouble)
        room.parts.housed.health = lambda: trouble


async def _harmless(work: Coroutine[Any, Any, None], name: str) -> None:
    try:
        await work
    except Exception:  # the voice goes on without the house
        log.exception("%s is out of use until Roomtone is started again", name)
