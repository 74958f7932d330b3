"""The hub as a process: its link to the broker, what comes over it, and the socket on which commands ask.

Several may run beside one broker and one database: each hears how every device stands, and of what devices ask each
hub gets a part.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from roomtone import __version__
from roomtone.clock import elapsed
from roomtone.core.dialog import new_id
from roomtone.core.errors import (
    ConfigError,
    DeviceOffline,
    HouseError,
    HubGone,
    RegistrationError,
    StateBusy,
    StoreError,
)
from roomtone.core.handoff import EXPIRES_S, Send
from roomtone.core.rate import Bucket
from roomtone.core.wire import REQUEST, Code, Command, Presence, Reply, State, Topics, read
from roomtone.discovery import announce_hub
from roomtone.edges import control, service
from roomtone.flow import beside, cancelling_group, keep_trying
from roomtone.hub.announcements import Announcements
from roomtone.hub.answers import Answers
from roomtone.hub.database import HubDatabase, open_database
from roomtone.hub.folder import database_path, socket_of
from roomtone.hub.handoffs import Handoffs
from roomtone.hub.registry import Registry
from roomtone.hub.renewal import renew
from roomtone.hub.requests import Requests
from roomtone.hub.setting_up import own_link, read_setup, share_group
from roomtone.link import Inbound, Link
from roomtone.settings import Settings
from roomtone.state_swap import finish

log = logging.getLogger(__name__)

SETTLE_S = 1.0
"""So long after the link is there nothing is sent by itself: what the broker keeps comes first."""

FLUSH_S = 1.0
"""How often what has changed about devices is written down."""

ASK_S = 1.5
"""How long a device may take to do what it is told."""

A_SECOND = 10.0
BURST = 30.0
"""Requests that a device may make: so many a second, and so many at once after a rest."""

AT_ONCE = 64
"""Requests that are worked on at once; further ones are refused."""

SESSION_S = 0
"""The broker keeps nothing for a hub that is away: another one is to have what comes meanwhile."""

SOCKET_AGAIN_S = 10.0

SETUP_LOOK_S = 3.0
"""How often it is looked whether this machine has been set up as the hub."""


class Hub:
    """One hub process. ``link`` is its way to the broker; the other parts do its work."""

    def __init__(self, settings: Settings, database: HubDatabase) -> None:
        instance, way = new_id(), own_link(settings.hub, settings.state_dir)
        self.presence = Presence(id="hub", online=True, instance=instance, version=__version__)
        self.link = link = Link(
            way,
            f"hub-{instance[:12]}",
            lambda: self.presence,
            Topics(way.home).hub(),
            on_change=self._on_link,
            session_s=SESSION_S,
        )
        self.registry = Registry(database)
        self.handoffs = Handoffs(database, self.registry, self._deliver)
        announcements = Announcements(link, self.registry)
        self.requests = Requests(
            database, self.registry, self.handoffs, announcements, self._ask, partial(renew, settings.state_dir)
        )
        self.answers = Answers(database, self.registry, self.requests, link)
        self.settled = False
        self._connected = asyncio.Event()
        self._allowed: dict[str, Bucket] = {}
        self._refused: dict[str, Bucket] = {}
        self._under_way = 0
        self._group: asyncio.TaskGroup | None = None
        topics = link.topics
        link.on(topics.device("+", "presence"), self._on_presence)
        link.on(topics.device("+", "state"), self._on_state)
        link.on(topics.device("+", "reply"), self._on_reply, no_local=True)
        self.incoming = link.on(topics.shared("+", "request", share_group(way)), self._on_request)
        link.on(topics.hub(), self._on_other_hub, no_local=True)

    async def run(self) -> None:
        """Do the hub's work for as long as this runs. Raises ConfigError where the link can never be."""
        await self.registry.load()
        async with cancelling_group() as group:
            self._group = group
            group.create_task(self.handoffs.run(lambda: self.settled), name="handoffs")
            group.create_task(self._settle(), name="settling")
            group.create_task(self._flush(), name="devices to disk")
            await self.link.run()
        raise ConfigError(self.link.health)

    def status(self) -> str:
        """Say in a line how the hub stands."""
        return "Connected to the broker" if self.link.up else f"Without the broker: {self.link.health}"

    def _on_link(self, up: bool) -> None:
        self.settled = False
        if up:
            self._connected.set()

    # ------------------------------------------------------------------------------------- what comes

    async def _on_presence(self, message: Inbound) -> None:
        id_ = self.link.topics.device_of(message.topic) or ""
        if not message.payload:
            return  # somebody took back what the broker kept
        device = self.registry.on_presence(id_, message.payload, elapsed())
        # One that the broker had not even missed may have been cut off for long all the same, and waits for a word.
        if device.online and not message.retained and self.settled:
            self._spawn(self.handoffs.on_online(id_), "telling a device what is its own")

    async def _on_state(self, message: Inbound) -> None:
        id_ = self.link.topics.device_of(message.topic) or ""
        if not message.payload:
            return
        state = read(State, message.payload)
        self.registry.on_state(id_, state, elapsed(), retained=message.retained)
        await self.handoffs.on_state(id_, state)

    async def _on_reply(self, message: Inbound) -> None:
        id_ = self.link.topics.device_of(message.topic) or ""
        await self.handoffs.on_reply(id_, read(Reply, message.payload))

    async def _on_request(self, message: Inbound) -> None:
        """Work on a request beside the others; what cannot be read or is too much gets an answer as well."""
        id_ = self.link.topics.device_of(message.topic) or ""
        now = elapsed()
        allowed = self._allowed.setdefault(id_, Bucket(A_SECOND, BURST, now)).take(now)
        if not allowed or self._under_way >= AT_ONCE:
            if self._refused.setdefault(id_, Bucket(A_SECOND, BURST, now)).take(now):  # no flood is answered by one
                why = "the hub is asked too much at once; try again in a moment"
                await self._answer(message, Reply(of=_id_of(message), ok=False, code=Code.TOO_MANY, message=why))
            return
        self._under_way += 1
        self._spawn(self._serve(message, id_), "a request")

    async def _serve(self, message: Inbound, asking: str) -> None:
        try:
            request = read(REQUEST, message.payload)
            reply = await self.requests.answer(request, asking)
        except (HouseError, StoreError) as error:
            reply = Reply(of=_id_of(message), ok=False, code=error.code, message=error.message)
        except Exception as error:
            log.exception("the hub failed at what %s asked", asking)
            text = f"the hub failed at this ({type(error).__name__}); its log says why"
            reply = Reply(of=_id_of(message), ok=False, code="INTERNAL_ERROR", message=text)
        finally:
            self._under_way -= 1
        if reply is not None:
            await self._answer(message, reply)

    async def _answer(self, message: Inbound, reply: Reply) -> None:
        asking = self.link.topics.device_of(message.topic) or ""
        await self.link.answer(message, reply, self.link.topics.device(asking, "reply"))

    async def _on_other_hub(self, message: Inbound) -> None:
        """Contradict another hub that says that there is none, because it has gone."""
        if self.link.up and message.payload and not read(Presence, message.payload).online:
            await self.link.publish(self.link.topics.hub(), self.presence, retain=True)

    # ------------------------------------------------------------------------------------- what goes

    async def _deliver(self, send: Send) -> None:
        """Send a command of a handoff; where it cannot be sent, it is sent again when it is due."""
        topics = self.link.topics
        try:
            await self.link.publish(
                topics.device(send.to, "command"),
                send.command,
                expires_s=EXPIRES_S,
                response_topic=topics.device(send.to, "reply"),
                correlation=send.command.id.encode(),
            )
        except HouseError as error:
            log.info("%s was not told to %s: %s", send.to, send.command.do, error.message)

    async def _ask(self, device: str, command: Command) -> Reply:
        """Send a command to a device and wait for its reply. Raises DeviceOffline."""
        topics = self.link.topics
        to, back = topics.device(device, "command"), topics.device(device, "reply")
        try:
            return await self.link.ask(to, command, response_topic=back, within_s=ASK_S)
        except HubGone:
            raise DeviceOffline(f"{device} does not answer; is it on?") from None

    # ------------------------------------------------------------------------------------- what goes on

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        assert self._group is not None
        self._group.create_task(self._guarded(work), name=name)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except HouseError as error:
            log.warning("%s", error.message)
        except Exception:
            log.exception("the hub failed at something it was asked")

    async def _settle(self) -> None:
        """Once the link is there, and what the broker keeps has come, go on with what was left."""
        while True:
            await self._connected.wait()
            self._connected.clear()
            await asyncio.sleep(SETTLE_S)
            if not self.link.up or self._connected.is_set():
                continue
            self.registry.count_absences_from(elapsed())
            self.settled = True
            for device in self.registry.all():
                if device.online:
                    self._spawn(self.handoffs.on_online(device.id), "telling a device what is its own")

    async def _flush(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self.registry.flush()
                await self.registry.look_up_admissions()
            except StoreError as error:
                if error.message != told:
                    log.warning("%s", error.message)
                told = error.message
            else:
                told = ""


def _id_of(message: Inbound) -> str:
    """Return the id of what cannot be read as a whole, as far as it can be found."""
    return (message.correlation or b"").decode("ascii", "replace")[:64]


@asynccontextmanager
async def open_hub(settings: Settings) -> AsyncIterator[Hub]:
    """Run a hub for as long as the context lasts. Raises ConfigError and StoreError."""
    finish(settings.state_dir)
    async with open_database(database_path(settings.state_dir)) as database:
        if database.mended:
            log.warning("%s", database.mended)
        hub = Hub(settings, database)
        async with beside(hub.run(), "hub"):
            yield hub


def await_setup(settings: Settings, env: Mapping[str, str] = os.environ) -> None:
    """Wait, as a service, until this machine is set up as the hub: it is enabled before, and nobody starts it again.

    Else it would end and be begun anew every minute, for as long as nobody sets it up.
    """
    told = False
    while env.get("NOTIFY_SOCKET"):
        try:
            own_link(settings.hub, settings.state_dir)
        except RegistrationError as error:
            if not told:
                log.warning("waiting: %s", error.message)
            service.tell("WATCHDOG=1" if told else f"READY=1\nSTATUS=Waiting: {error.message}", env)
            told = True
            time.sleep(SETUP_LOOK_S)
        else:
            return


async def serve(settings: Settings, on_ready: Callable[[], None] = lambda: None) -> None:
    """Run the hub until SIGTERM or SIGINT. Raises ConfigError and StoreError."""
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stopping())
        hub = await stack.enter_async_context(open_hub(settings))
        await stack.enter_async_context(beside(_be_asked(hub, socket_of(settings.state_dir)), "control"))
        await stack.enter_async_context(beside(_be_found(settings.state_dir), "announcing the broker"))
        await hub.link.tried.wait()
        await stack.enter_async_context(beside(service.run(hub.incoming.ask, hub.status), "service"))
        on_ready()
        log.info("the hub runs, for the home %s", hub.link.topics.home)
        await stop.wait()
        log.info("stopping")


async def _be_asked(hub: Hub, path: Path) -> None:
    """Answer the control socket, or wait until the hub process that does so has ended."""

    def notice(_: Exception, wait: float) -> None:
        log.debug("another hub process answers at %s; tried again in %.0f s", path, wait)

    await keep_trying(
        lambda: control.serve(path, hub.answers.answer), on=StateBusy, first_s=SOCKET_AGAIN_S, notice=notice
    )


async def _be_found(state_dir: Path) -> None:
    """Let new devices find the broker without an address, where this machine was set up as the hub."""
    try:
        setup = read_setup(state_dir)
    except RegistrationError:
        return  # the broker is the household's own, and so is how it is found
    await announce_hub(setup.home, "0.0.0.0", setup.port)  # noqa: S104  # told to the network, not listened on


@contextmanager
def stopping() -> Iterator[asyncio.Event]:
    """Give an event that SIGTERM and SIGINT set."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
