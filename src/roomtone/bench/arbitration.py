"""Who answers when several rooms hear one call: what that costs the winner, and how soon the others are silent.

The rooms are whole ones on devices without hardware, in real time, joined by a real broker. Beside them many more
calls are simulated, with networks as bad as a home's may be.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from pathlib import Path

from roomtone import engines
from roomtone.bench import Figure, p
from roomtone.conversation import SAME_BREATH_S
from roomtone.core.arbitration import Arbiter, Kind, Standing
from roomtone.core.dialog import Source
from roomtone.core.signals import Call, Dismiss, Wake
from roomtone.edges.claims import GRACE_S
from roomtone.engines import lacking
from roomtone.flow import Event, beside, task_group
from roomtone.hub.own_broker import MOSQUITTO, OwnBroker
from roomtone.joining import Joined, joined
from roomtone.rehearsal import rehearsing
from roomtone.settings import Settings

CALLS, ROOMS = 50, ("kitchen", "hall", "bedroom")
SIMULATED = 5000

HEARD_LATE_S = 0.25
"""How much later than the first another room may notice a call: an idle room's block is 120 ms, and the models of two
rooms are not sure of a word in the same frame."""

APART_S = 0.1
"""How far the rooms may disagree on when the word was over."""

WAY_S, RETRIED, RETRY_S = (0.001, 0.04), 0.02, 0.25
"""Seconds that a message takes to or from the broker; the share that the wireless network loses comes later."""

UP_BOUND_S = 30.0
SETTLED_S = SAME_BREATH_S + GRACE_S + 0.15

PAUSE_S = 1.2
"""From one call to the next: nobody says a wake word again in the time within which two claims mean one call."""


async def measure() -> list[Figure]:
    """Measure it; about a minute. Only what is simulated where there is no broker, or the extra hub is missing."""
    simulated = _simulate(random.Random(1))
    figures = [
        Figure("wake_simulated_wrong", simulated.wrong, "answers", "<= 0", SIMULATED),
        Figure("wake_simulated_chimes", simulated.chimes, "by losers", "", SIMULATED),
    ]
    if MOSQUITTO is None or lacking("aiomqtt", "hub") or lacking("cryptography", "hub"):
        return figures
    heard = await _call_the_house()
    return [
        Figure("wake_added_ms_p95", p(95, heard.added_ms), "ms", "<= 0", len(heard.added_ms)),
        Figure("wake_silenced_ms_p50", p(50, heard.silenced_ms), "ms", "", len(heard.silenced_ms)),
        Figure("wake_silenced_ms_p95", p(95, heard.silenced_ms), "ms", "<= 150", len(heard.silenced_ms)),
        Figure("wake_wrong_room", heard.wrong, "answers", "<= 0", CALLS),
        *figures,
    ]


# ---------------------------------------------------------------------------------------- whole rooms


@dataclass(slots=True)
class _Heard:
    """``added_ms``: what a winner's chime waited. ``silenced_ms``: from what a loser heard until it stood down."""

    added_ms: list[float] = field(default_factory=list)
    silenced_ms: list[float] = field(default_factory=list)
    wrong: int = 0


async def _call_the_house() -> _Heard:
    heard, chance = _Heard(), random.Random(2)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roomtone-bench-")))
        broker = await stack.enter_async_context(OwnBroker(folder / "broker"))
        rooms = [await stack.enter_async_context(_room(name, folder, broker, heard)) for name in ROOMS]
        async with asyncio.timeout(UP_BOUND_S):
            while not all(sum(each.online for each in one.house.rooms()) == 2 for one in rooms):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for _ in range(CALLS):
            await _call(rooms, chance, heard)
    return heard


@asynccontextmanager
async def _room(name: str, folder: Path, broker: OwnBroker, heard: _Heard) -> AsyncIterator[Joined]:
    settings = Settings.model_validate({"device": {"id": name, "room": name}, "listen": {"mode": "button"}})
    settings = settings.model_copy(update={"hub": broker.hub(name)})
    audio = ("wav", engines.load("audio", "wav").Settings())
    async with rehearsing(settings, folder / name, audio) as rehearsal, joined(rehearsal.room) as place:
        _time_the_wait(place, heard)
        yield place


def _time_the_wait(place: Joined, heard: _Heard) -> None:
    """Note how long the conversation waits, when it would chime, for the house to say that the call is its own."""
    loop, housed = asyncio.get_running_loop(), place.room.parts.housed
    asked = housed.answers

    async def timed(call: int) -> bool:
        began = loop.time()
        ours = await asked(call)
        if ours:
            heard.added_ms.append((loop.time() - began) * 1000)
        return ours

    housed.answers = timed


async def _call(rooms: list[Joined], chance: random.Random, heard: _Heard) -> None:
    """Let all rooms hear one call, each a little later than another, and see who answers."""
    loop = asyncio.get_running_loop()
    said, order = loop.time(), chance.sample(rooms, len(rooms))
    late = [0.0, *(chance.uniform(0, HEARD_LATE_S) for _ in order[1:])]
    async with task_group() as group:
        outcomes = [
            group.create_task(_hear(each, said + chance.uniform(-APART_S, 0), late_s, heard))
            for each, late_s in zip(order, late, strict=True)
        ]
    answering = [task.result() for task in outcomes]
    heard.wrong += answering.count(True) - answering[0] + (not any(answering))
    for each in rooms:
        each.room.conversation.post(Dismiss(Source.CLI))
    await asyncio.sleep(said + PAUSE_S - loop.time())


async def _hear(place: Joined, at: float, late_s: float, heard: _Heard) -> bool:
    """Let a room hear the word; say whether it still listens when its chime has sounded."""
    loop, conversation = asyncio.get_running_loop(), place.room.conversation
    await asyncio.sleep(late_s)
    began = loop.time()

    async def silenced(_: Event) -> None:
        heard.silenced_ms.append((loop.time() - began) * 1000)

    async with beside(place.room.feed.attend("bench", "wake.lost", silenced), "silenced"):
        conversation.post(Wake(Source.VOICE, call=Call(at, "okay nabu", 0.9)))
        await asyncio.sleep(SETTLED_S)
    return conversation.state.called


# ------------------------------------------------------------------------------------------ simulated


@dataclass(slots=True)
class _Simulated:
    """``wrong``: calls that no room, or more than one, answers. ``chimes``: of losers that learn it too late."""

    wrong: int = 0
    chimes: int = 0


def _simulate(chance: random.Random) -> _Simulated:
    result = _Simulated()
    for _ in range(SIMULATED):
        house = _House(chance, chance.randint(2, 6))
        house.settle()
        result.wrong += sum(each.standing(1) is Standing.WON for each in house.arbiters) != 1
        result.chimes += house.chimes
    return result


class _House:
    """Rooms that hear one call, and a broker that has the messages of each in order, and gives them out in order."""

    def __init__(self, chance: random.Random, rooms: int) -> None:
        self.arbiters = [Arbiter() for _ in range(rooms)]
        self.chimes = 0
        self._chance = chance
        self._at = [chance.uniform(-APART_S, 0) for _ in range(rooms)]
        self._heard = [chance.uniform(0, HEARD_LATE_S) for _ in range(rooms)]
        self._last = [0.0] * rooms
        self._numbers = count()
        self._events: list[tuple[float, int, int, int]] = []

    def settle(self) -> None:
        """Let the call be heard and every claim arrive everywhere; -1 stands for hearing it, and for the broker."""
        for room, at in enumerate(self._heard):
            self._add(at, -1, room)
        while self._events:
            now, _, reader, room = heappop(self._events)
            if reader >= 0:
                self._read(now, reader, room)
            elif now == self._heard[room]:
                if self.arbiters[room].hear(1, Kind.WAKE, self._at[room]) is Standing.CLAIMED:
                    self._add(now + self._way(), -1, room)
            else:
                self._give_out(now, room)

    def _give_out(self, now: float, room: int) -> None:
        for reader in range(len(self.arbiters)):
            self._last[reader] = max(now + self._way(), self._last[reader])
            self._add(self._last[reader], reader, room)

    def _read(self, now: float, reader: int, room: int) -> None:
        if reader == room:
            self.arbiters[reader].win(1)
            return
        age_s = self._heard[room] - self._at[room]
        if self.arbiters[reader].lose(Kind.WAKE, now - age_s, str(room)):
            self.chimes += now - self._heard[reader] > SAME_BREATH_S + GRACE_S

    def _add(self, at: float, reader: int, room: int) -> None:
        heappush(self._events, (at, next(self._numbers), reader, room))

    def _way(self) -> float:
        retried = self._chance.random() < RETRIED
        return self._chance.uniform(*WAY_S) + (RETRY_S if retried else 0.0)
