"""A conversation walks while anything may die: hub, rooms and broker, between any two messages, on real files."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hub_rooms import Disk, Mover
from roomtone.clock import SkippingLoop
from roomtone.core.dialog import new_id
from roomtone.core.handoff import EXPIRES_S, Send, may_act
from roomtone.core.wire import Announce, Command, HandOff, Presence, Reply, State, write
from roomtone.hub.database import open_database
from roomtone.hub.handoffs import Handoffs
from roomtone.hub.registry import Registry
from roomtone.hub.requests import Requests

ROOMS = ("bedroom", "kitchen", "study")

SEES_A_CUT_S = 9.0
"""A device sees that it is cut off up to two keep-alives later than the broker, which may see it at once."""

some_room = st.sampled_from(ROOMS)


class Nobody:
    """Brings no words anywhere."""

    async def announce(self, request: Announce, sender: str | None = None) -> Reply:
        raise AssertionError(request, sender)


@dataclass(frozen=True)
class Message:
    """Something on its way: a command to a room, a reply or a state to the hub."""

    what: str
    room: str
    payload: Any
    at: float


class Place:
    """A room: its disk outlives it, its program does not. ``cut_at``: since when nothing reaches it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.disk = Disk()
        self.program: Mover | None = Mover(self.disk, name)
        self.cut_at: float | None = None
        self.instance = new_id()

    @property
    def reachable(self) -> bool:
        return self.program is not None and self.cut_at is None

    def acts(self, session: str, now: float) -> bool:
        """Say whether whoever speaks here now is answered in this session."""
        if self.program is None or not self.program.has(session):
            return False
        lost = 0.0 if self.cut_at is None else max(0.0, now - self.cut_at - SEES_A_CUT_S)
        confirmed = session in self.program.confirmed
        return may_act(self.disk.holds.get(session), confirmed=confirmed, link_lost_s=lost)

    def presence(self) -> bytes:
        return write(
            Presence(
                id=self.name, online=self.reachable, instance=self.instance, room=self.name, capabilities=("handoff",)
            )
        )


class Hub:
    """A hub process on the house's file."""

    def __init__(self, deliver: Callable[[Send], None]) -> None:
        self._deliver = deliver
        self._stack = AsyncExitStack()

    async def start(self, file: Path) -> None:
        database = await self._stack.enter_async_context(open_database(file))
        self.registry = Registry(database)
        await self.registry.load()
        self.handoffs = Handoffs(database, self.registry, self._send)
        self.requests = Requests(database, self.registry, self.handoffs, Nobody(), self._ask)
        self.database = database

    async def _send(self, send: Send) -> None:
        self._deliver(send)

    async def _ask(self, _: str, command: Command) -> Reply:
        raise AssertionError(command)

    async def end(self) -> None:
        """End as by a power cut: what was committed stays, nothing else."""
        await self._stack.aclose()


class AHouse(RuleBasedStateMachine):
    """Three rooms, one hub, messages in between that are late, doubled, lost or out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner(loop_factory=lambda: SkippingLoop(counts_work=False))
        self.loop = self.runner.get_loop()
        self.places = {name: Place(name) for name in ROOMS}
        self.under_way: list[Message] = []
        self.retained: dict[str, State] = {}
        self.said: dict[str, list[str]] = {}
        self.rests: dict[str, int] = {}
        self.epochs: dict[tuple[str, str], int] = {}
        self.hub: Hub | None = None
        self._start_hub()

    def teardown(self) -> None:
        if self.hub is not None:
            self._do(self.hub.end())
        self.runner.close()
        self.folder.cleanup()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @property
    def now(self) -> float:
        return self.loop.time()

    # ------------------------------------------------------------------------------------ what happens

    @rule(name=some_room, rest=st.booleans())
    def somebody_speaks(self, name: str, rest: bool) -> None:
        place = self.places[name]
        session = place.disk.present
        if place.program is None:
            return
        text = f"word {sum(map(len, self.said.values()))}"
        unsaid = f"rest of {text}" if rest else ""
        if session is None or not place.acts(session, self.now):
            if len(self.said) >= 3:
                return
            session = place.program.begin(text, rest=unsaid)
        else:
            place.program.hear(session, text)
            left = place.disk.rests.get(session)
            place.disk.rests[session] = left or _rest(unsaid)
        self.said.setdefault(session, []).append(text)
        self._tell_state(place)

    @rule(name=some_room, to=some_room)
    def somebody_wants_to_go_on_elsewhere(self, name: str, to: str) -> None:
        place = self.places[name]
        session = place.disk.present
        if self.hub is None or not place.reachable or session is None or place.program is None:
            return
        request = HandOff(to=to, session=session, epoch=place.program.epoch(session))
        self._do(self.hub.requests.answer(request, name))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), twice=st.booleans())
    def a_message_arrives(self, data: st.DataObject, twice: bool) -> None:
        index = data.draw(st.integers(0, len(self.under_way) - 1))
        message = self.under_way[index]
        if message.what == "state":  # one topic, one sender: the broker keeps their order
            message = next(one for one in self.under_way if (one.what, one.room) == ("state", message.room))
            twice = False
        if not twice:
            self.under_way.remove(message)
        self._arrive(message)

    @precondition(lambda self: self.under_way)
    @rule()
    def all_messages_arrive(self) -> None:
        for _ in range(20):
            if self.under_way:
                self._arrive(self.under_way.pop(0))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def a_message_is_lost(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.under_way) - 1))
        if self.under_way[index].what != "state":
            del self.under_way[index]

    @rule(seconds=st.sampled_from((0.5, 1.0, 2.5, 6.0, 11.0, 21.0)))
    def time_passes(self, seconds: float) -> None:
        self._do(asyncio.sleep(seconds))
        if self.hub is not None:
            self._do(self.hub.handoffs.take_due())

    @rule(name=some_room)
    def a_room_dies(self, name: str) -> None:
        place = self.places[name]
        place.program = None
        self._tell_presence(place)

    @rule(name=some_room)
    def a_room_is_cut_off(self, name: str) -> None:
        place = self.places[name]
        if place.reachable:
            place.cut_at = self.now
            self._tell_presence(place)

    @rule(name=some_room)
    def a_room_is_back(self, name: str) -> None:
        self._bring_back(self.places[name])

    @rule(name=some_room, hindrance=st.sampled_from(("", "", "DEVICE_MUTED", "DEVICE_BUSY")))
    def a_room_takes_nothing_up(self, name: str, hindrance: str) -> None:
        program = self.places[name].program
        if program is not None:
            program.hindrance = hindrance

    @rule()
    def the_hub_dies(self) -> None:
        if self.hub is not None:
            self._do(self.hub.end())
            self.hub = None
            self.under_way = [one for one in self.under_way if one.what == "command"]

    @precondition(lambda self: self.hub is None)
    @rule()
    def the_hub_is_back(self) -> None:
        self._start_hub()

    @rule()
    def the_broker_is_started_anew(self) -> None:
        self.under_way.clear()
        for place in self.places.values():
            if place.reachable:
                place.cut_at = self.now
                self._bring_back(place)

    # ------------------------------------------------------------------------------------ what must be

    @invariant()
    def no_two_rooms_act_for_one_session(self) -> None:
        for session in self.said:
            acting = [place.name for place in self.places.values() if place.acts(session, self.now)]
            assert len(acting) <= 1, acting

    @invariant()
    def epochs_only_grow(self) -> None:
        for place in self.places.values():
            for session, hold in place.disk.holds.items():
                key = (place.name, session)
                assert hold.epoch >= self.epochs.get(key, 0)
                self.epochs[key] = hold.epoch

    @invariant()
    def nothing_is_said_twice(self) -> None:
        assert all(times == 1 for times in self.rests.values()), self.rests

    @rule()
    def in_the_end_everything_is_in_one_room(self) -> None:
        """Everybody comes back, and what was left undone is done."""
        if self.hub is None:
            self._start_hub()
        for place in self.places.values():
            self._bring_back(place)
        for _ in range(30):
            while self.under_way:
                self._arrive(self.under_way.pop(0))
            self.time_passes(1.0)
        for session, texts in self.said.items():
            [place] = [place for place in self.places.values() if place.acts(session, self.now)]
            assert [message.text for message in place.disk.messages[session]] == texts
        if not self._gave_up_a_rest():
            self._all_rests_were_said()

    def _all_rests_were_said(self) -> None:
        for place in self.places.values():
            for bundle in place.disk.bundles.values():
                assert bundle.rest is None or self.rests.get(bundle.rest.text) == 1, bundle.rest

    def _gave_up_a_rest(self) -> bool:
        """Say whether a room was gone for so long after an Adopt that nobody knows whether it has spoken."""
        assert self.hub is not None
        rows = self._do(
            self.hub.database.read(
                lambda db: db.execute("SELECT data FROM handoffs WHERE source != target").fetchall()
            )
        )
        return any(not json.loads(row["data"])["speaks"] for row in rows)

    # ------------------------------------------------------------------------------------------- how

    def _arrive(self, message: Message) -> None:
        place = self.places[message.room]
        if message.what == "command":
            if place.reachable and place.program is not None and self.now - message.at < EXPIRES_S:
                before = len(place.program.said)
                reply = place.program.obey(message.payload)
                self._count(place.program.said[before:])
                self.under_way.append(Message("reply", place.name, reply, self.now))
                self._tell_state(place)
        elif self.hub is not None and message.what == "reply":
            self._do(self.hub.handoffs.on_reply(place.name, message.payload))
        elif self.hub is not None:
            self._hear_state(place, message.payload, retained=False)

    def _count(self, said: list[str]) -> None:
        for text in said:
            if text.startswith("rest"):
                self.rests[text] = self.rests.get(text, 0) + 1

    def _deliver(self, send: Send) -> None:
        self.under_way.append(Message("command", send.to, send.command, self.now))

    def _tell_state(self, place: Place) -> None:
        if not place.reachable or place.program is None:
            return
        present = place.disk.present
        state = State(session=present, epoch=place.program.epoch(present), idle_s=0.0)
        self.retained[place.name] = state
        self.under_way.append(Message("state", place.name, state, self.now))

    def _hear_state(self, place: Place, state: State, *, retained: bool) -> None:
        assert self.hub is not None
        self.hub.registry.on_state(place.name, state, self.now, retained=retained)
        self._do(self.hub.handoffs.on_state(place.name, state))

    def _tell_presence(self, place: Place) -> None:
        if self.hub is None:
            return
        self.hub.registry.on_presence(place.name, place.presence(), self.now)
        if place.reachable:
            self._do(self.hub.handoffs.on_online(place.name))

    def _bring_back(self, place: Place) -> None:
        if place.program is None:
            place.program = Mover(place.disk, place.name)
            place.instance = new_id()
        elif place.cut_at is None:
            return
        place.cut_at = None
        self._tell_presence(place)
        self._tell_state(place)

    def _start_hub(self) -> None:
        self.hub = Hub(self._deliver)
        self._do(self.hub.start(Path(self.folder.name) / "hub.db"))
        for place in self.places.values():
            self._tell_presence(place)
            if place.name in self.retained:
                self._hear_state(place, self.retained[place.name], retained=True)


def _rest(text: str) -> Any:
    from roomtone.core.wire import Rest

    return Rest(trace="t", text=text) if text else None


TestAHouse = AHouse.TestCase
TestAHouse.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
