"""A house for the protocol of handoffs: three rooms, a hub on real files, and a wire on which anything may happen."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub_rooms import Disk, Mover
from roomtone.clock import SkippingLoop
from roomtone.core.dialog import new_id
from roomtone.core.handoff import EXPIRES_S, LINK_LOST_S, Send, may_act
from roomtone.core.wire import Announce, Command, HandOff, Presence, Reply, Rest, State, write
from roomtone.hub.database import open_database
from roomtone.hub.handoffs import Handoffs
from roomtone.hub.registry import Registry
from roomtone.hub.requests import Requests

ROOMS = ("bedroom", "kitchen", "study")

SESSIONS = 3

SEES_A_CUT_S = 9.0
"""A device sees that it is cut off up to two keep-alives later than the broker, which may see it at once."""


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


class House:
    """Three rooms, one hub, and what is under way between them; only ``wait`` lets time pass."""

    def __init__(self) -> None:
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
        self.start_hub()
        for place in self.places.values():
            self._tell_state(place)

    def close(self) -> None:
        self.stop_hub()
        self.runner.close()
        self.folder.cleanup()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @property
    def now(self) -> float:
        return self.loop.time()

    # ------------------------------------------------------------------------------------ what happens

    def speak(self, name: str, *, rest: bool) -> None:
        """Let somebody speak in a room; with ``rest`` the answer is not said to its end."""
        place = self.places[name]
        session = place.disk.present
        if place.program is None:
            return
        text = f"word {sum(map(len, self.said.values()))}"
        unsaid = f"rest of {text}" if rest else ""
        if session is None or not place.acts(session, self.now):
            if len(self.said) >= SESSIONS:
                return
            session = place.program.begin(text, rest=unsaid)
        else:
            place.program.hear(session, text)
            place.disk.rests[session] = place.disk.rests.get(session) or (
                Rest(trace="t", text=unsaid) if rest else None
            )
        self.said.setdefault(session, []).append(text)
        self._tell_state(place)

    def talking(self) -> list[str]:
        """List the rooms that could be asked to let their conversation go on elsewhere."""
        return [one.name for one in self.places.values() if one.reachable and one.disk.present is not None]

    def hand_off(self, name: str, to: str) -> None:
        """Ask the hub, which is there, to let the conversation of a room go on in another."""
        place = self.places[name]
        session = place.disk.present
        if self.hub is None or place.program is None or not place.reachable:
            return
        request = HandOff(to=to, session=session, epoch=place.program.epoch(session))
        self._do(self.hub.requests.answer(request, name))

    def arrive(self, index: int, *, twice: bool = False) -> None:
        """Let one of the messages under way arrive, or, with ``twice``, for the first of two times."""
        message = self.under_way[index]
        if message.what == "state":  # one topic, one sender: the broker keeps their order
            message = next(one for one in self.under_way if (one.what, one.room) == ("state", message.room))
        if not twice or message.what == "state":
            self.under_way.remove(message)
        self._arrive(message)

    def hear_states(self) -> None:
        """Let the hub hear how the rooms stand."""
        states = [one for one in self.under_way if one.what == "state"]
        self.under_way = [one for one in self.under_way if one.what != "state"]
        for message in states:
            self._arrive(message)

    def lose(self, index: int) -> None:
        """Let a message get lost; a state is kept by the broker."""
        if self.under_way[index].what != "state":
            del self.under_way[index]

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._do(asyncio.sleep(seconds))
        if self.hub is not None:
            self._do(self.hub.handoffs.find_lost())
            self._do(self.hub.handoffs.take_due())

    def kill(self, name: str) -> None:
        """End a room's program."""
        self.places[name].program = None
        self._tell_presence(self.places[name])

    def cut(self, name: str) -> None:
        """Let nothing reach a room."""
        if self.places[name].reachable:
            self.places[name].cut_at = self.now
            self._tell_presence(self.places[name])

    def bring_back(self, name: str) -> None:
        """Start a room's program, or mend its connection."""
        self._bring_back(self.places[name])

    def hinder(self, name: str, code: str) -> None:
        """Let a room take no conversation up, for a reason, or let it again."""
        program = self.places[name].program
        if program is not None:
            program.hindrance = code

    def stop_hub(self) -> None:
        """End the hub; what was on its way to it is lost."""
        if self.hub is not None:
            self._do(self.hub.end())
            self.hub = None
            self.under_way = [one for one in self.under_way if one.what == "command"]

    def lose_file(self) -> None:
        """End the hub, and start one with an empty file."""
        self.stop_hub()
        for file in Path(self.folder.name).glob("hub.db*"):
            file.unlink()
        self.start_hub()

    def start_hub(self) -> None:
        """Start a hub, where none is; the broker tells it what it keeps."""
        if self.hub is not None:
            return
        self.hub = Hub(self._deliver)
        self._do(self.hub.start(Path(self.folder.name) / "hub.db"))
        for place in self.places.values():
            self.hub.registry.on_presence(place.name, place.presence(), self.now)
            if place.name in self.retained:
                self._hear_state(place, self.retained[place.name], retained=True)
        for place in self.places.values():
            if place.reachable:
                self._do(self.hub.handoffs.on_online(place.name))

    def restart_broker(self) -> None:
        """Lose what is under way, and let everybody connect anew."""
        self.under_way.clear()
        for place in self.places.values():
            if place.reachable:
                place.cut_at = self.now
                self._bring_back(place)

    # ------------------------------------------------------------------------------------ what must be

    def check(self) -> None:
        """Look at what must be at any moment."""
        self.no_two_rooms_act_for_one_session()
        self.epochs_only_grow()
        self.nothing_is_said_twice()

    def no_two_rooms_act_for_one_session(self) -> None:
        for session in self.said:
            acting = [place.name for place in self.places.values() if place.acts(session, self.now)]
            assert len(acting) <= 1, acting

    def epochs_only_grow(self) -> None:
        for place in self.places.values():
            for session, hold in place.disk.holds.items():
                key = (place.name, session)
                assert hold.epoch >= self.epochs.get(key, 0)
                self.epochs[key] = hold.epoch

    def nothing_is_said_twice(self) -> None:
        assert all(times == 1 for times in self.rests.values()), self.rests

    def settle(self) -> None:
        """Everybody comes back, and what was left undone is done."""
        self.start_hub()
        for place in self.places.values():
            self._bring_back(place)
        for _ in range(18):  # more than the longest wait until something is sent again
            while self.under_way:
                self._arrive(self.under_way.pop(0))
            self.wait(1.0)
            self.check()
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
        epoch, released = place.program.epoch(present), place.program.released()
        state = State(session=present, epoch=epoch, idle_s=0.0, released=released)
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
        elif self.now - place.cut_at - SEES_A_CUT_S > LINK_LOST_S:
            place.program.confirmed.clear()
        place.cut_at = None
        self._tell_presence(place)
        self._tell_state(place)
