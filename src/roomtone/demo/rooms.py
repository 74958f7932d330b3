"""Three simulated rooms, a hub and a broker, and two people who walk through them.

Ben calls in the kitchen, and the living room hears it too; he walks over in the middle of an answer, and the
conversation comes along; the broker is stopped while he talks; a timer of the kitchen's is known in the bedroom; and
dinner is announced. Broker and hub are processes of their own; who does not stand in a room is heard there from afar.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from roomtone.control import SOCKET_NAME, ask_daemon
from roomtone.core.dialog import Source, Turn, Voice
from roomtone.core.errors import EngineUnavailable
from roomtone.core.sound import RATE, Audio, join, to_int16
from roomtone.demo.visits import BEN, COMPLETED, Visitor, spoken_by
from roomtone.engines import lacking
from roomtone.flow import Event
from roomtone.hub.own_broker import OwnBroker, own_hub
from roomtone.joining import Joined, joined
from roomtone.rehearsal import Rehearsal
from roomtone.settings import Settings

KITCHEN, LIVING_ROOM, BEDROOM = "kitchen", "living room", "bedroom"
ROOMS = (KITCHEN, LIVING_ROOM, BEDROOM)

TOM = Visitor("Tom", Voice(engine="espeak", voice_id="en-us+m1"), 1.1)

FAR_M = 7.0
"""Through an open door somebody is heard as from so far away."""

CALL, CHIME_S = "okay nabu", 1.0
"""What somebody calls, and so long they wait for the chime before they go on."""

INTO_ANSWER_S = 4.0
"""Ben walks so long after the answer has begun."""

BEFORE_S = 1.0
"""Somebody speaks so long after all has come to rest."""

BOUND_S = 30.0
"""What does not happen within this time does not happen."""

DINNER = "Dinner is ready."

Opens = Callable[[Path, Settings, str], AbstractAsyncContextManager[Rehearsal]]
"""Opens a room that keeps its state in a folder; the text is what it is called."""

Show = Callable[[str, str], None]


@dataclass(slots=True)
class Place:
    """A room of the house, with all that has happened in it."""

    rehearsal: Rehearsal
    house: Joined
    events: list[Event]

    def times(self, kind: str) -> int:
        """Return how often something has happened here."""
        return sum(event.kind == kind for event in self.events)


class Walk:
    """Plays the scene; ``wrong`` has what did not go as expected, a line each."""

    def __init__(self, settings: Settings, opens: Opens, show: Show) -> None:
        self.wrong: list[str] = []
        self.turns: list[Turn] = []
        self._settings = settings
        self._opens = opens
        self._show = show
        self._recordings: list[Audio] = []

    async def play(self, folder: Path) -> None:
        """Play it, all state within ``folder``. Raises HouseError where broker or hub do not come up."""
        async with AsyncExitStack() as stack:
            broker = await stack.enter_async_context(OwnBroker(folder / "broker"))
            await stack.enter_async_context(own_hub(broker))
            house = {room: await stack.enter_async_context(self._room(room, folder, broker)) for room in ROOMS}
            await _until(
                lambda: all(place.house.link.up and place.house.house.hub_online for place in house.values())
            )
            await self._walk_in_mid_answer(house)
            await self._restart_broker(house, broker)
            await self._timer_elsewhere(house)
            await self._announce(house, broker)
            for place in house.values():
                self._recordings.append(place.rehearsal.device.recording)

    @asynccontextmanager
    async def _room(self, room: str, folder: Path, broker: OwnBroker) -> AsyncIterator[Place]:
        id_ = room.replace(" ", "-")
        settings = settings_for(self._settings, id_, room, broker)
        async with self._opens(folder / id_, settings, room) as rehearsal, joined(rehearsal.room) as house:
            events: list[Event] = []
            shown = rehearsal.show

            def show(event: Event) -> None:
                events.append(event)
                shown(event)

            rehearsal.show = show
            yield Place(rehearsal, house, events)

    # ------------------------------------------------------------------------------------------ the scene

    async def _walk_in_mid_answer(self, house: Mapping[str, Place]) -> None:
        """Let Ben ask in the kitchen, and walk to the living room while he is answered."""
        kitchen, living_room = house[KITCHEN], house[LIVING_ROOM]
        await self._says(house, BEN, KITCHEN, "what can you do")
        await _until(lambda: kitchen.times("turn.first_sound") == 1)
        await asyncio.sleep(INTO_ANSWER_S)
        await self._says(house, BEN, KITCHEN, "continue in the living room")
        await _until(lambda: living_room.times("turn.first_sound") == 1)
        turns = await self._at_rest(house)
        asked = [turn for turn in turns[KITCHEN] if turn.spoken]
        rest = [turn for turn in turns[LIVING_ROOM] if turn.source is Source.HUB]
        if len(asked) != 1 or len(rest) != 1 or turns[BEDROOM]:
            self.wrong.append(f"one question, one answer in two rooms were expected, not {_told(turns)}")
        elif f"{asked[0].spoken} {rest[0].spoken}".split() != asked[0].said.split():
            self.wrong.append(f"'{asked[0].spoken}' and '{rest[0].spoken}' are not '{asked[0].said}'")
        if not living_room.times("wake.lost"):
            self.wrong.append("the living room did not hear Ben call in the kitchen")

    async def _restart_broker(self, house: Mapping[str, Place], broker: OwnBroker) -> None:
        """Let Ben ask while the broker is gone, behind a closed door, and in another room once it is back."""
        self._show("the broker", "is stopped")
        broker.stop()
        await _until(lambda: not any(place.house.link.up for place in house.values()))
        await self._says(house, BEN, LIVING_ROOM, "what time is it", open_door=False)
        self._judge(await self._at_rest(house), LIVING_ROOM, {"intent": "clock.time", **COMPLETED})
        broker.start()
        await _until(lambda: all(place.house.link.up and place.house.house.hub_online for place in house.values()))
        self._show("the broker", "is back")

    async def _timer_elsewhere(self, house: Mapping[str, Place]) -> None:
        """Let Ben set a timer in the kitchen, and Tom ask for it in the bedroom."""
        await self._says(house, BEN, KITCHEN, "set a tea timer for two minutes")
        self._judge(await self._at_rest(house), KITCHEN, {"intent": "timer.set", **COMPLETED})
        await self._says(house, TOM, BEDROOM, "how long is left on the tea timer")
        turns = await self._at_rest(house)
        self._judge(turns, BEDROOM, {"intent": "timer.left", **COMPLETED})
        if not any("kitchen" in turn.spoken for turn in turns[BEDROOM]):
            self.wrong.append(f"the bedroom does not know of the kitchen's timer: {_told(turns)}")

    async def _announce(self, house: Mapping[str, Place], broker: OwnBroker) -> None:
        """Let the hub's command line announce something in all rooms."""
        self._show("somebody", f"roomtone hub announce '{DINNER}'")
        request = {"command": "announce", "text": DINNER}
        async for _ in ask_daemon(broker.folder / "hub" / "hub" / SOCKET_NAME, request):
            pass
        turns = await self._at_rest(house)
        for room in ROOMS:
            if not any(DINNER in turn.spoken for turn in turns[room]):
                self.wrong.append(f"dinner was not announced in the {room}: {_told(turns)}")

    # ------------------------------------------------------------------------------------------- machinery

    async def _says(
        self, house: Mapping[str, Place], who: Visitor, room: str, text: str, *, open_door: bool = True
    ) -> None:
        """Let somebody call, wait for the chime, and speak; in earshot, through an open door, it is heard as well."""
        await asyncio.sleep(BEFORE_S)
        voices = house[room].rehearsal.room.synthesiser
        words = [await spoken_by(who, each, voices) for each in (CALL, text)]
        sound = join([words[0], Audio.silence(CHIME_S, words[0].rate), words[1]])
        self._show(f"{who.name}, in the {room}", f"{CALL} ... {text}")
        for name, place in house.items():
            if name == room:
                place.rehearsal.device.visit(sound, who.distance_m)
            elif open_door and {name, room} <= {KITCHEN, LIVING_ROOM}:
                place.rehearsal.device.visit(sound, FAR_M)

    async def _at_rest(self, house: Mapping[str, Place]) -> dict[str, list[Turn]]:
        """Wait until nothing goes on in any room; return the turns that ended since, by room."""
        turns: dict[str, list[Turn]] = {room: [] for room in house}
        while True:
            fresh = {room: await place.rehearsal.at_rest() for room, place in house.items()}
            for room, ended in fresh.items():
                turns[room] += ended
                self.turns += ended
            if not any(fresh.values()):
                return turns

    def _judge(self, turns: Mapping[str, list[Turn]], room: str, expects: dict[str, Any]) -> None:
        """Expect one turn in one room, and none in the others."""
        if [name for name, ended in turns.items() for _ in ended] != [room]:
            self.wrong.append(f"one answer in the {room} was expected, not {_told(turns)}")
            return
        [turn] = turns[room]
        self.wrong += [
            f"in the {room}: {key} is {getattr(turn, key)!r}, not {value!r}"
            for key, value in expects.items()
            if getattr(turn, key) != value
        ]

    def recording(self) -> Audio:
        """Return all that was heard in all rooms, together."""
        length = max(len(each) for each in self._recordings)
        together = np.zeros(length)
        for each in self._recordings:
            together[: len(each)] += each.samples
        return Audio(to_int16(together), RATE)


def settings_for(settings: Settings, id_: str, room: str, broker: OwnBroker) -> Settings:
    """Return the settings of a room that waits for its wake word. Raises EngineUnavailable where that cannot be."""
    for module, extra in (("pymicro_wakeword", "wake"), ("aiomqtt", "hub"), ("cryptography", "hub")):
        if (reason := lacking(module, extra)) is not None:
            raise EngineUnavailable(f"--rooms: {reason}")
    changes = {
        "device": {"id": id_, "name": room.title(), "room": room},
        "listen": {"mode": "wake_word"},
        "wake": {"engine": "microwakeword", "words": ["okay_nabu"]},
    }
    of_the_house = Settings.model_validate(changes)
    return settings.model_copy(
        update={"hub": broker.hub(id_), **{key: getattr(of_the_house, key) for key in changes}}
    )


async def _until(there: Callable[[], bool]) -> None:
    """Wait until something is so, or long enough: what is missing then is told by what follows."""
    loop = asyncio.get_running_loop()
    end = loop.time() + BOUND_S
    while not there() and loop.time() < end:  # noqa: ASYNC110  # nobody tells of all of it
        await asyncio.sleep(0.05)


def _told(turns: Mapping[str, list[Turn]]) -> str:
    told = [f"{room}: {turn.heard!r} -> {turn.spoken!r}" for room, ended in turns.items() for turn in ended]
    return "; ".join(told) or "nothing"
