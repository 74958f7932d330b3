"""What it takes to move a conversation between rooms, and what a house of many rooms costs: real broker, real hub.

Handoffs are those of two whole rooms on devices without hardware, in real time: an answer is being spoken in the one,
and what is measured is the time from the wish to the first sound of its rest in the other.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from roomtone import engines
from roomtone.bench import Figure, p
from roomtone.bench.simulated_house import Load, simulate
from roomtone.core.dialog import Source
from roomtone.core.signals import Dismiss, Prompt
from roomtone.engines import lacking
from roomtone.hub.own_broker import MOSQUITTO, OwnBroker, own_hub
from roomtone.joining import Joined, joined
from roomtone.rehearsal import Rehearsal, rehearsing
from roomtone.settings import Settings

ROUNDS = 30
ROOMS = ("kitchen", "bedroom")

STORY = " ".join(f"This is sentence number {number} of a long story." for number in range(1, 30))

INTO_STORY_S = 0.7
"""So long after it has begun the story walks on."""

UP_BOUND_S = 30.0
MOVED_BOUND_S = 10.0

FEW, MANY, LOAD_S = 50, 500, 15.0


async def measure() -> list[Figure]:
    """Measure it all; about two and a half minutes. Nothing where there is no broker, or the extra hub is missing."""
    if MOSQUITTO is None or lacking("aiomqtt", "hub") or lacking("cryptography", "hub"):
        return []
    moved = await _handoffs()
    few, many = await simulate(FEW, LOAD_S), await simulate(MANY, LOAD_S)
    return [
        Figure("handoff_ms_p50", p(50, moved), "ms", "", len(moved)),
        Figure("handoff_ms_p95", p(95, moved), "ms", "<= 300", ROUNDS),
        *few.figures(),
        *many.figures(),
        Figure("house_cpu_each_growth", _growth(few, many), "ratio", "<= 1", MANY),
    ]


def _growth(few: Load, many: Load) -> float:
    """Return what a device costs the hub among many, as a share of what it costs among few."""
    return round((many.hub_cpu / many.devices) / (few.hub_cpu / few.devices), 2)


async def _handoffs() -> list[float]:
    """Let a story walk to and fro between two rooms; return the milliseconds each walk took."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roomtone-bench-")))
        broker = await stack.enter_async_context(OwnBroker(folder / "broker"))
        await stack.enter_async_context(own_hub(broker))
        here, there = [await stack.enter_async_context(_room(room, folder, broker)) for room in ROOMS]
        async with asyncio.timeout(UP_BOUND_S):
            while not (_sees(here[1], there[1]) and _sees(there[1], here[1])):  # noqa: ASYNC110  # nobody tells of both
                await asyncio.sleep(0.05)
        took = []
        for _ in range(ROUNDS):
            took.append(await _walk(here, there))
            here, there = there, here
        return took


def _sees(one: Joined, other: Joined) -> bool:
    return one.house.hub_online and any(each.online and each.id == other.identity.id for each in one.house.rooms())


@asynccontextmanager
async def _room(room: str, folder: Path, broker: OwnBroker) -> AsyncIterator[tuple[Rehearsal, Joined]]:
    settings = Settings.model_validate({"device": {"id": room, "room": room}, "listen": {"mode": "button"}})
    settings = settings.model_copy(update={"hub": broker.hub(room)})
    audio = ("wav", engines.load("audio", "wav").Settings())
    async with (
        rehearsing(settings, folder / room, audio, one_session=False) as rehearsal,
        joined(rehearsal.room) as house,
    ):
        yield rehearsal, house


async def _walk(here: tuple[Rehearsal, Joined], there: tuple[Rehearsal, Joined]) -> float:
    loop = asyncio.get_running_loop()
    (source, house), (target, _) = here, there
    source.room.conversation.post(Prompt(STORY, Source.CLI, verbatim=True))
    with source.room.feed.watch("turn.first_sound") as sounds:
        await anext(sounds)
    await asyncio.sleep(INTO_STORY_S)
    with target.room.feed.watch("turn.first_sound") as sounds:
        began = loop.time()
        await house.house.hand_off(house.house.find(target.room.settings.device.room))
        async with asyncio.timeout(MOVED_BOUND_S):
            await anext(sounds)
        took = loop.time() - began
    target.room.conversation.post(Dismiss(Source.CLI))
    await source.at_rest()
    await target.at_rest()
    return took * 1000
