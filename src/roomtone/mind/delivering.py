"""What the room says of what it sent to other rooms: where it was said, where it waits, and where nobody heard it."""

from __future__ import annotations

from collections.abc import Sequence

from roomtone.core.errors import (
    BrokerUnreachable,
    DeviceNotFound,
    DeviceOffline,
    EgressRefused,
    HubGone,
    RoomtoneError,
)
from roomtone.core.speakable import in_words
from roomtone.core.wire import Code
from roomtone.mind.house import Delivered
from roomtone.mind.phrases import Phrases


def delivered(outcome: Delivered, phrases: Phrases) -> str:
    """Return what became of something that was sent, ``phrases`` being the room's own."""
    quiet = [room for room, code in outcome.missed if code == Code.QUIET]
    off = [room for room, code in outcome.missed if code == DeviceOffline.code]
    other = [room for room, code in outcome.missed if code not in (Code.QUIET, DeviceOffline.code)]
    ways = (("house_said", outcome.rooms), ("house_quiet", quiet), ("house_off", off), ("house_not_said", other))
    told = [phrases.say(_key(key, rooms), rooms=the_rooms(rooms, phrases)) for key, rooms in ways if rooms]
    return " ".join(told) or phrases.say("house_nobody")


def refused(error: RoomtoneError, phrases: Phrases) -> str:
    """Return why nothing was sent, ``phrases`` being the room's own."""
    if isinstance(error, EgressRefused):
        return phrases.say("house_private")
    if isinstance(error, DeviceNotFound):
        return phrases.say("house_unknown")
    if isinstance(error, DeviceOffline):
        return phrases.say("house_nobody")
    gone = isinstance(error, BrokerUnreachable | HubGone)
    return phrases.say("house_gone" if gone else "house_failed")


def the_rooms(rooms: Sequence[str], phrases: Phrases) -> str:
    """Return rooms as they are spoken of (the kitchen and the bedroom), each once."""
    named = [phrases.say("the_room", room=in_words(room)) for room in dict.fromkeys(rooms)]
    return phrases.joined([name[:1].lower() + name[1:] for name in named])


def _key(key: str, rooms: Sequence[str]) -> str:
    return key if key != "house_off" or len(set(rooms)) == 1 else "house_all_off"
