"""The way to the other rooms: certificates, the broker, the hub, and whether this device's id is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from roomtone import installed
from roomtone.core.errors import HouseError, PayloadError, RoomtoneError
from roomtone.core.wire import Presence, Topics, read
from roomtone.credentials import expires, holder
from roomtone.doctor.findings import Finding, split
from roomtone.enrolling import known
from roomtone.link.trouble import JOIN, Trouble
from roomtone.link.wayfinding import Wayfinder
from roomtone.settings import Hub, Settings

BOUND_S = 20.0
"""Longest that the house is looked for: a name, a connection and a TLS handshake may take 12 s."""

KEPT_S = 1.0
"""So long the broker may take to send what it keeps."""

SOON = timedelta(days=30)
"""A certificate that is good for less is to be renewed."""

ENROLL = "at the hub, run: roomtone hub enroll"
HUB_OFF = "at the hub, run: sudo systemctl start roomtone-hub"


async def look(settings: Settings, *, running: bool) -> list[Finding]:
    """Tell what is between this room and the others; nothing of a room that is on its own.

    A daemon that is ``running`` tells of its connection itself: another of the same device would end that one. Where
    none runs, what the broker keeps for this device meanwhile is not kept any longer. Never raises RoomtoneError.
    """
    try:
        hub = known(settings.hub, settings.state_dir)
    except RoomtoneError as error:
        return [split("house", "warn", error.message)]
    if hub.url is None:
        waits = Finding("house", "warn", "it has a code and has not joined yet", ENROLL)
        return [waits] if hub.code is not None else []
    own = settings.state_dir / "hub" / "cert.pem"
    found = list(certificate(hub.cert or own, datetime.now(UTC)))
    if hub.cert in (None, own) and (other := _of_another(own, settings.device.id)):
        return [*found, other]  # the broker goes by the certificate: to connect would end that device's connection
    return found if running else found + await _connection(hub, settings)


async def _connection(hub: Hub, settings: Settings) -> list[Finding]:
    try:
        async with asyncio.timeout(BOUND_S):
            return await _broker(hub, settings)
    except TimeoutError:
        return [Finding("house", "warn", f"nothing was heard of the broker within {BOUND_S:.0f} s")]
    except ImportError as error:
        said = f"the Python package {error.name} is not installed"
        return [Finding("house", "warn", said, f"run: {installed.bringing('hub')}")]
    except (Trouble, HouseError) as error:
        return [split("house", "warn", str(error))]


def certificate(path: Path, now: datetime) -> Iterator[Finding]:
    """Tell how long this room's certificate is good."""
    try:
        until = expires(path)
    except FileNotFoundError:
        return  # without one the broker may want none, and says so otherwise
    except ImportError:
        return  # the broker cannot be asked either, which is told
    except (OSError, ValueError) as error:
        yield Finding("house", "warn", f"the certificate {path} cannot be read: {error}", JOIN)
        return
    if until < now:
        yield Finding("house", "warn", f"this room's certificate has expired on {until:%d %B %Y}", JOIN)
    elif until - now < SOON:
        yield Finding("house", "warn", f"this room's certificate expires on {until:%d %B %Y}", JOIN)
    else:
        yield Finding("house", "ok", f"this room's certificate is good until {until:%d %B %Y}")


def _of_another(path: Path, id_: str) -> Finding | None:
    """Tell that the certificate which joining left is another device's: the id was changed since then."""
    try:
        name = holder(path)
    except (OSError, ValueError, ImportError):
        return None  # told already
    if name == id_:
        return None
    said = f"this room's certificate is for {name}, and its device.id is {id_}"
    return Finding("house", "warn", said, f"set device.id: {name}, or at the hub, run: roomtone hub enroll")


async def _broker(hub: Hub, settings: Settings) -> list[Finding]:
    """Connect as the daemon does, and read what the broker keeps. Raises Trouble."""
    from roomtone.link.connection import LastWill, connected

    topics, id_ = Topics(hub.home), settings.device.id
    ours, hubs = topics.device(id_, "presence"), topics.hub()
    way = await Wayfinder(hub, settings.state_dir / "hub").find()
    kept = _Kept()
    nothing = LastWill(topics.device(id_, "reply"), b"")
    async with connected(way, id_, nothing, kept.take, 0) as connection:
        refused = await connection.listen([(ours, False), (hubs, False)])
        await kept.wait()
    found = [Finding("house", "ok", f"the broker at {way} lets {id_} in")]
    found += [Finding("house", "warn", f"the broker does not let {id_} read {topic}", JOIN) for topic in refused]
    there = Finding("house", "ok", "the hub is there")
    found.append(there if kept.online(hubs) else Finding("house", "warn", "the hub is off", HUB_OFF))
    if kept.online(ours):
        said = f"a device called {id_} is there, and no daemon runs here"
        found.append(Finding("house", "warn", said, "give each device its own device.id"))
    return found


class _Kept:
    """What the broker keeps of the presence of this device and of the hub."""

    def __init__(self) -> None:
        self._payloads: dict[str, bytes] = {}
        self._both = asyncio.Event()

    def take(self, message: Any) -> None:
        """Take a message of paho's."""
        self._payloads[message.topic] = message.payload
        if len(self._payloads) > 1:
            self._both.set()

    async def wait(self) -> None:
        """Wait for both, and no longer than a broker needs that keeps only one."""
        try:
            async with asyncio.timeout(KEPT_S):
                await self._both.wait()
        except TimeoutError:
            return

    def online(self, topic: str) -> bool:
        """Say whether who has this presence is there."""
        try:
            return topic in self._payloads and read(Presence, self._payloads[topic]).online
        except PayloadError:
            return False
