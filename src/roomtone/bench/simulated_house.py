"""Many simulated devices on one broker and one hub: what a house of so many rooms costs, and how soon things move.

Broker and hub are the real ones, each in a process of its own; the devices share this one. They say every second how
they stand and hand conversations over to each other by the rules of real ones, but nobody speaks in them, and they do
not follow each other's presence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise

from roomtone.bench import Figure, p
from roomtone.bench.processes import cpu_s, pss_mb
from roomtone.core import handoff
from roomtone.core.dialog import Message, Role, Session
from roomtone.core.errors import HouseError
from roomtone.core.handoff import Decision, Does, Hold
from roomtone.core.wire import COMMAND, Adopt, Bundle, HandOff, Offer, Presence, Release, Reply, State, Topics, read
from roomtone.flow import beside
from roomtone.hub.own_broker import OwnBroker, own_hub
from roomtone.link import Inbound, Link
from roomtone.settings import Hub

log = logging.getLogger(__name__)

STATE_S = 1.0
"""Every device says so often how it stands."""

HANDOFFS_PER_DEVICE_S = 0.01
"""Each device hands its conversation over once in so many seconds' inverse: five a second among 500."""

UP_BOUND_S = 120.0
SETTLE_S = 3.0
MOVED_BOUND_S = 10.0

MESSAGES = 20
"""Of a conversation that moves."""


@dataclass(slots=True)
class SimulatedDevice:
    """A device without a room: it keeps to the wire's rules in memory. ``session`` is its own conversation.

    ``arrivals``, by session, are told the moment from which a real one would speak.
    """

    number: int
    hub: Hub
    arrivals: dict[str, asyncio.Future[float]]
    id: str = field(init=False)
    link: Link = field(init=False)
    session: Session = field(init=False)
    holds: dict[str, Hold] = field(default_factory=dict)
    bundles: dict[str, Bundle] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.id = f"room-{self.number}"
        self.session = Session(room=self.id, persona="companion")
        topic = Topics(self.hub.home).device(self.id, "presence")
        self.link = Link(self.hub, self.id, self._presence, topic)
        self.link.on(self.link.topics.device(self.id, "command"), self._take)

    async def run(self) -> None:
        """Be a device for as long as this runs."""
        async with beside(self.link.run(), f"link of {self.id}"):
            await asyncio.sleep(STATE_S * (self.number % 100) / 100)
            topic = self.link.topics.device(self.id, "state")
            for tick in count():
                if self.link.up:
                    state = State(persona="companion", session=self.session.id, volume=(tick % 10) / 10, idle_s=1.0)
                    try:
                        await self.link.publish(topic, state, retain=True)
                    except HouseError as error:
                        log.warning("%s: %s", self.id, error.message)
                await asyncio.sleep(STATE_S)

    async def hand_off(self, to: SimulatedDevice) -> float | None:
        """Let the conversation go on at another device; return the seconds that took, None where it did not move."""
        loop = asyncio.get_running_loop()
        session, topics = self.session.id, self.link.topics
        arrival: asyncio.Future[float] = loop.create_future()
        self.arrivals[session] = arrival
        began = loop.time()
        try:
            hold = self.holds.get(session)
            request = HandOff(to=to.id, session=session, epoch=hold.epoch if hold else 0)
            reply = await self.link.ask(
                topics.device(self.id, "request"),
                request,
                response_topic=topics.device(self.id, "reply"),
                within_s=MOVED_BOUND_S,
            )
            if not reply.ok:
                log.warning("%s to %s: %s", self.id, to.id, reply.message)
                return None
            async with asyncio.timeout(MOVED_BOUND_S):
                return await arrival - began
        except (HouseError, TimeoutError) as error:
            log.warning("%s to %s: %s", self.id, to.id, error)
            return None
        finally:
            del self.arrivals[session]

    def _presence(self) -> Presence:
        return Presence(
            id=self.id,
            online=True,
            instance="simulated",
            room=self.id,
            capabilities=("handoff",),
            personas=("companion",),
        )

    async def _take(self, message: Inbound) -> None:
        order = read(COMMAND, message.payload)
        if not isinstance(order, Release | Offer | Adopt):
            return
        reply = self._obey(order)
        await self.link.answer(message, reply, self.link.topics.device(self.id, "reply"))

    def _obey(self, order: Release | Offer | Adopt) -> Reply:
        hold, here = self.holds.get(order.session), order.session == self.session.id
        if isinstance(order, Release):
            decision = handoff.on_release(hold, order, here=here)
        elif isinstance(order, Offer):
            decision = handoff.on_offer(hold, order)
        else:
            decision = handoff.on_adopt(hold, order, here=here)
        if decision.does is Does.REFUSE:
            return Reply(of=order.id, ok=False, code=decision.code)
        assert decision.hold is not None
        self.holds[order.session] = decision.hold
        return Reply(of=order.id, data=self._follow(order, decision))

    def _follow(self, order: Release | Offer | Adopt, decision: Decision) -> dict[str, object]:
        match decision.does:
            case Does.LET_GO | Does.SAME_BUNDLE:
                if decision.does is Does.LET_GO:
                    self.bundles[order.session] = _bundle(self.session)
                    self.session = Session(room=self.id, persona="companion")
                return {"bundle": self.bundles[order.session].model_dump(mode="json")}
            case Does.KEEP if isinstance(order, Offer):
                self.bundles[order.session] = order.bundle
            case Does.TAKE | Does.BACK:
                self.session = self.bundles[order.session].session
                if order.session in self.arrivals and decision.does is Does.TAKE:
                    self.arrivals[order.session].set_result(asyncio.get_running_loop().time())
        return {}


def _bundle(session: Session) -> Bundle:
    messages = [
        Message(
            session=session.id, role=Role.PERSON if n % 2 else Role.ROOMTONE, text="Some words of a conversation."
        )
        for n in range(MESSAGES)
    ]
    edges = [(later.id, earlier.id) for earlier, later in pairwise(messages)]
    return Bundle(
        session=session, persona="companion", messages=tuple(messages), edges=tuple(edges), tips=(messages[-1].id,)
    )


# ------------------------------------------------------------------------------------------ the house


@dataclass(frozen=True, slots=True)
class Load:
    """What so many ``devices`` cost for ``seconds``: CPU seconds a second, megabytes, and milliseconds of handoffs.

    ``refused`` handoffs did not come about, ``states`` were sent in all.
    """

    devices: int
    seconds: float
    hub_cpu: float
    broker_cpu: float
    hub_mb: float
    hub_kb_each: float
    broker_kb_each: float
    handoffs_ms: tuple[float, ...]
    refused: int

    def figures(self) -> list[Figure]:
        """Return it as figures."""
        house, n = f"house_{self.devices}", round(self.seconds)
        moved = len(self.handoffs_ms)
        return [
            Figure(f"{house}_hub_cpu", round(self.hub_cpu, 3), "CPU s/s", "<= 0.5", n),
            Figure(f"{house}_broker_cpu", round(self.broker_cpu, 3), "CPU s/s", "", n),
            Figure(f"{house}_hub_cpu_each_us", round(self.hub_cpu / self.devices * 1e6, 1), "us/s", "", n),
            Figure(f"{house}_handoff_ms_p50", p(50, self.handoffs_ms), "ms", "", moved),
            Figure(f"{house}_handoff_ms_p99", p(99, self.handoffs_ms), "ms", "<= 500", moved),
            Figure(f"{house}_handoffs_failed", float(self.refused), "handoffs", "<= 0", moved + self.refused),
            Figure(f"{house}_hub_mb", round(self.hub_mb, 1), "MB", "", 1),
            Figure(f"{house}_hub_kb_each", round(self.hub_kb_each, 1), "kB", "", self.devices),
            Figure(f"{house}_broker_kb_each", round(self.broker_kb_each, 1), "kB", "", self.devices),
        ]


async def simulate(devices: int, seconds: float) -> Load:
    """Run a house of so many devices for a while; say what it cost. Raises HouseError where it does not come up."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(OwnBroker())
        hub = (await stack.enter_async_context(own_hub(broker))).pid
        assert broker.pid is not None
        empty = pss_mb(hub), pss_mb(broker.pid)
        house = await stack.enter_async_context(_devices(broker, devices))
        await asyncio.sleep(SETTLE_S)
        began, cpu = asyncio.get_running_loop().time(), (cpu_s([hub]), cpu_s([broker.pid]))
        moved = await _hand_over(house, seconds)
        took = asyncio.get_running_loop().time() - began
        full = pss_mb(hub), pss_mb(broker.pid)
        return Load(
            devices,
            took,
            hub_cpu=(cpu_s([hub]) - cpu[0]) / took,
            broker_cpu=(cpu_s([broker.pid]) - cpu[1]) / took,
            hub_mb=full[0],
            hub_kb_each=(full[0] - empty[0]) * 1024 / devices,
            broker_kb_each=(full[1] - empty[1]) * 1024 / devices,
            handoffs_ms=tuple(each * 1000 for each in moved if each is not None),
            refused=moved.count(None),
        )


@asynccontextmanager
async def _devices(broker: OwnBroker, number: int) -> AsyncIterator[list[SimulatedDevice]]:
    """Connect so many devices, and let them run for as long as the context lasts."""
    arrivals: dict[str, asyncio.Future[float]] = {}
    house = [SimulatedDevice(each, broker.hub(f"room-{each}"), arrivals) for each in range(number)]
    async with AsyncExitStack() as stack:
        for device in house:
            await stack.enter_async_context(beside(device.run(), device.id))
        try:
            async with asyncio.timeout(UP_BOUND_S):
                while not all(device.link.up for device in house):  # noqa: ASYNC110  # a bench: nobody tells of all
                    await asyncio.sleep(0.1)
        except TimeoutError:
            down = next(device for device in house if not device.link.up)
            raise HouseError(f"not all devices came up within {UP_BOUND_S:g} s: {down.link.health}") from None
        yield house


async def _hand_over(house: list[SimulatedDevice], seconds: float) -> list[float | None]:
    """Hand conversations over from device to device for a while, evenly; return the seconds each took."""
    loop, moved = asyncio.get_running_loop(), list[float | None]()

    async def one(source: SimulatedDevice, target: SimulatedDevice) -> None:
        moved.append(await source.hand_off(target))

    apart = 1 / (len(house) * HANDOFFS_PER_DEVICE_S)
    end = loop.time() + seconds
    async with asyncio.TaskGroup() as group:
        for turn in count():
            source = house[turn * 7 % len(house)]
            target = house[(turn * 7 + len(house) // 2) % len(house)]
            group.create_task(one(source, target), name=f"handoff {turn}")
            await asyncio.sleep(apart)
            if loop.time() >= end:
                break
    return moved
